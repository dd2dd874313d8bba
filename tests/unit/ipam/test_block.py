from __future__ import annotations

import json
import sys
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from routed.errors import RoutedError
from routed.ipam.block import (
    AddressTakenError,
    Allocation,
    Block,
    BlockFormatError,
    BlockFullError,
    decode,
    encode,
)

SMALL = Block(IPv4Network("10.1.0.8/29"), "node-a")


def filled(block: Block, count: int) -> Block:
    for number in range(count):
        block, _ = block.assign(f"h{number}")
    return block


def test_never_used_addresses_are_given_in_ascending_order_without_network_and_broadcast():
    block, given_out = SMALL, list[str]()
    for number in range(6):
        block, address = block.assign(f"h{number}")
        given_out.append(str(address))
    assert given_out == [f"10.1.0.{last}" for last in range(9, 15)]


@pytest.mark.parametrize(("cidr", "count"), [("10.0.0.4/31", 2), ("10.0.0.4/32", 1)])
def test_every_address_of_a_tiny_block_is_usable(cidr: str, count: int):
    block = filled(Block(IPv4Network(cidr), "n"), count)
    assert sorted(block.address(ordinal) for ordinal in block.allocations) == list(IPv4Network(cidr))


def test_a_released_address_waits_until_all_others_were_used():
    block = filled(SMALL, 2)
    block, released = block.release("h0")
    seen = list[IPv4Address | None]()
    for number in range(5):
        block, address = block.assign(f"new{number}")
        seen.append(address)
    assert seen.index(released) == 4


def test_released_addresses_return_in_the_order_of_their_release():
    block = filled(SMALL, 6)
    back = list[IPv4Address | None]()
    for handle in ("h3", "h0", "h5"):
        block, address = block.release(handle)
        back.append(address)
    again = list[IPv4Address | None]()
    for handle in ("a", "b", "c"):
        block, address = block.assign(handle)
        again.append(address)
    assert again == back


def test_a_handle_that_asks_again_gets_what_it_holds_and_the_block_is_the_same():
    block, first = SMALL.assign("h", {"pod": "p"})
    after, second = block.assign("h")
    assert (after is block, second) == (True, first)


def test_releasing_an_unknown_handle_changes_nothing():
    block = filled(SMALL, 1)
    assert block.release("stranger") == (block, None)


def test_a_full_block_says_which_and_how_many_are_in_use():
    with pytest.raises(BlockFullError, match=r"10\.1\.0\.8/29 is full: all 6 usable addresses"):
        filled(SMALL, 6).assign("more")


def test_an_address_asked_for_by_name_is_given_and_skipped_later():
    block, asked = SMALL.assign("tunnel", address=IPv4Address("10.1.0.10"))
    given_out = list[str]()
    for handle in "abc":
        block, address = block.assign(handle)
        given_out.append(str(address))
    assert (str(asked), given_out) == ("10.1.0.10", ["10.1.0.9", "10.1.0.11", "10.1.0.12"])


def test_an_address_asked_for_by_name_and_given_back_goes_behind_the_never_used():
    block, asked = SMALL.assign("named", address=IPv4Address("10.1.0.9"))
    block, _ = block.release("named")
    block, next_given = block.assign("h")
    assert next_given == asked + 1


@pytest.mark.parametrize("address", ["10.1.0.8", "10.1.0.15", "10.1.1.9", "10.0.255.255"])
def test_an_address_that_no_pod_may_hold_is_refused_by_name(address: str):
    with pytest.raises(AddressTakenError, match=address.replace(".", r"\.")):
        SMALL.assign("h", address=IPv4Address(address))


def test_an_address_of_another_handle_is_refused_and_its_holder_named():
    block, address = SMALL.assign("first")
    with pytest.raises(AddressTakenError, match="held by first"):
        block.assign("second", address=address)


def test_a_handle_cannot_hold_a_second_address():
    block, _ = SMALL.assign("h")
    with pytest.raises(AddressTakenError, match=r"already holds 10\.1\.0\.9"):
        block.assign("h", address=IPv4Address("10.1.0.12"))


def test_a_fresh_block_of_65536_addresses_is_a_few_bytes():
    assert len(encode(Block(IPv4Network("10.1.0.0/16"), "n"))) < 200


def test_a_block_of_65536_addresses_that_were_all_given_back_stays_below_a_megabyte():
    size = 65534
    text = json.dumps(
        {"cidr": "10.1.0.0/16", "node": "n", "fresh": size + 1, "released": list(range(1, size + 1)), "allocations": {}}
    )
    block = decode(text.encode())
    assert sys.getsizeof(block.released) < 400_000
    assert len(encode(block)) < 500_000


WRONG: list[tuple[str, Callable[[dict[str, object]], object]]] = [
    ("unknown field", lambda stored: stored.update(more=1)),
    ("missing field", lambda stored: stored.pop("fresh")),
    ("twice", lambda stored: stored.update(released=[1])),
    ("handle occurs twice", lambda stored: stored.update(allocations={"1": {"handle": "h"}, "2": {"handle": "h"}})),
    ("outside the block", lambda stored: stored.update(released=[7])),
    ("outside the block", lambda stored: stored.update(released=[-1])),
    ("neither held nor given back", lambda stored: stored.update(fresh=4)),
    (">= 0", lambda stored: stored.update(fresh=-1)),
    ("10.1.0.9/29", lambda stored: stored.update(cidr="10.1.0.9/29")),
    ("Expected `int`", lambda stored: stored.update(fresh="3")),
]


@pytest.mark.parametrize(("reason", "damage"), WRONG, ids=[f"{number}-{case[0]}" for number, case in enumerate(WRONG)])
def test_a_damaged_block_is_refused_with_its_reason(reason: str, damage: Callable[[dict[str, object]], object]):
    stored = json.loads(encode(filled(SMALL, 2)))
    damage(stored)
    with pytest.raises(BlockFormatError) as caught:
        decode(json.dumps(stored).encode())
    assert reason.split()[-1] in str(caught.value)
    assert caught.value.hint


@given(st.binary(max_size=200))
def test_no_bytes_make_the_decoder_fail_otherwise_than_with_its_own_error(data: bytes):
    try:
        block = decode(data)
    except BlockFormatError:
        return
    assert decode(encode(block)) == block


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    stored = msgspec.json.decode(encode(filled(SMALL, 3)), type=dict[str, object])
    stored[draw(st.sampled_from(sorted(stored)))] = draw(
        st.one_of(st.integers(), st.text(), st.lists(st.integers()), st.dictionaries(st.text(), st.integers()))
    )
    return json.dumps(stored).encode()


@given(damaged())
def test_no_json_makes_the_decoder_fail_otherwise_than_with_its_own_error(data: bytes):
    try:
        block = decode(data)
    except BlockFormatError:
        return
    assert decode(encode(block)) == block


HANDLES = st.sampled_from([f"h{number}" for number in range(10)])
CIDRS = st.sampled_from(["10.1.0.8/29", "10.1.0.0/30", "10.1.0.0/31", "10.1.0.1/32"])


class AnyHistory(RuleBasedStateMachine):
    """A block beside the plainest model of it: a dict of holders, and a list of free addresses in order."""

    def __init__(self) -> None:
        super().__init__()
        network = IPv4Network("10.1.0.8/29")
        self.block = Block(network, "n")
        self.free = list(network.hosts())
        self.held: dict[str, IPv4Address] = {}

    @rule(handle=HANDLES)
    def assign(self, handle: str) -> None:
        if handle not in self.held and not self.free:
            with pytest.raises(BlockFullError):
                self.block.assign(handle)
            return
        if handle not in self.held:
            self.held[handle] = self.free.pop(0)
        self.block, address = self.block.assign(handle, {"of": handle})
        assert address == self.held[handle]

    @precondition(lambda self: self.free)
    @rule(handle=HANDLES, data=st.data())
    def assign_by_name(self, handle: str, data: st.DataObject) -> None:
        wanted = data.draw(st.sampled_from(sorted(self.free)))
        try:
            self.block, address = self.block.assign(handle, {"of": handle}, wanted)
        except RoutedError:
            assert handle in self.held
            return
        assert handle not in self.held
        assert address == wanted
        self.free.remove(wanted)
        self.held[handle] = wanted

    @rule(handle=HANDLES)
    def release(self, handle: str) -> None:
        self.block, address = self.block.release(handle)
        assert address == self.held.pop(handle, None)
        if address is not None:
            self.free.append(address)

    @rule()
    def restart(self) -> None:
        self.block = decode(encode(self.block))

    @invariant()
    def no_address_is_held_twice_or_lost(self) -> None:
        assert {self.block.address(ordinal): held for ordinal, held in self.block.allocations.items()} == {
            address: Allocation(handle, {"of": handle}) for handle, address in self.held.items()
        }
        assert self.block.free == len(self.free)

    @invariant()
    def decoding_undoes_encoding(self) -> None:
        assert decode(encode(self.block)) == self.block


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(CIDRS, st.lists(HANDLES, unique=True, max_size=8))
def test_assigning_until_full_gives_each_usable_address_once(cidr: str, handles: list[str]):
    block, seen = Block(IPv4Network(cidr), "n"), list[IPv4Address]()
    for handle in handles:
        try:
            block, address = block.assign(handle)
        except BlockFullError:
            break
        seen.append(address)
    assert seen == [block.address(ordinal) for ordinal in block.usable][: len(handles)]


@pytest.mark.parametrize(
    ("cidr", "first", "last"),
    [
        ("fd00::/120", "fd00::1", "fd00::ff"),  # no broadcast, but the routers' anycast address
        ("fd00::/127", "fd00::", "fd00::1"),
        ("fd00::5/128", "fd00::5", "fd00::5"),
        ("fd00::/64", "fd00::1", "fd00::ffff:ffff"),
    ],
)
def test_what_an_ipv6_block_gives(cidr: str, first: str, last: str):
    block = Block(IPv6Network(cidr), "node-a")
    assert block.address(block.usable[0]) == IPv6Address(first)
    assert block.address(block.usable[-1]) == IPv6Address(last)
    block, given = block.assign("h")
    assert given == IPv6Address(first)
    assert decode(encode(block)) == block
    if len(block.usable) > 1:
        block, asked = block.assign("last", address=IPv6Address(last))
        assert (asked, decode(encode(block))) == (IPv6Address(last), block)
    with pytest.raises(AddressTakenError):
        block.assign("other", address=IPv6Address(last) + 1)

"""When an address may be given again, and what is never given."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from routed.ipam.block import AddressTakenError, Block, BlockFullError, Rules, decode, encode

BLOCK = Block(IPv4Network("10.1.0.8/29"), "a")


def at(now: float, *reserved: str, hot: bool = False) -> Rules:
    return Rules(now, 30.0, tuple(map(IPv4Network, reserved)), hot)


def filled(rules: Rules) -> Block:
    block = BLOCK
    for number in range(6):
        block, _ = block.assign(f"h{number}", rules=rules)
    return block


def test_an_address_that_came_back_is_given_again_once_it_has_cooled():
    block, released = filled(at(100)).release("h3", now=100.0)
    with pytest.raises(BlockFullError, match="came back within 30 s"):
        block.assign("new", rules=at(129))
    assert block.assign("new", rules=at(130))[1] == released


def test_where_one_that_cools_will_do_it_is_the_one_that_came_back_first():
    block, first = filled(at(100)).release("h3", now=100.0)
    block, _ = block.release("h0", now=110.0)
    assert block.assign("new", rules=at(111, hot=True))[1] == first


def test_what_cools_survives_a_restart():
    block, _ = filled(at(100)).release("h3", now=100.0)
    again = decode(encode(block))
    assert again == block
    with pytest.raises(BlockFullError):
        again.assign("new", rules=at(101))


def test_asking_by_name_does_not_wait_and_leaves_the_others_cooling():
    block = filled(at(100))
    for handle in ("h0", "h1", "h2"):
        block, _ = block.release(handle, now=100.0)
    block, address = block.assign("named", address=IPv4Address("10.1.0.10"), rules=at(101))
    assert str(address) == "10.1.0.10"
    with pytest.raises(BlockFullError):
        block.assign("new", rules=at(129))
    assert [str(block.assign("new", rules=at(130))[1]), len(block.cooling)] == ["10.1.0.9", 2]


def test_a_clock_that_went_back_gives_nothing_early_and_loses_nothing():
    block, released = filled(at(1000)).release("h3", now=1000.0)
    with pytest.raises(BlockFullError):
        block.assign("new", rules=at(10))
    assert block.assign("new", rules=at(10, hot=True))[1] == released


def test_what_came_back_while_the_clock_was_ahead_cools_from_the_next_that_comes_back():
    block, first = filled(at(9e8)).release("h3", now=9e8)
    block, second = block.release("h0", now=100.0)
    with pytest.raises(BlockFullError):
        block.assign("new", rules=at(129))
    block, given = block.assign("new", rules=at(130))
    assert (given, block.assign("newer", rules=at(130))[1]) == (first, second)


@pytest.mark.parametrize("now", [-1e12, -1.0, 0.0, 2.0**32, 1e12])
def test_a_clock_of_any_year_leaves_a_block_that_can_be_stored_and_read(now: float):
    block, _ = filled(at(now)).release("h3", now=now)
    assert decode(encode(block)) == block


def test_a_reserved_address_is_passed_over_and_given_when_it_is_no_longer_reserved():
    reserving = at(100, "10.1.0.9/32", "10.1.0.10/32")
    block, first = BLOCK.assign("h", rules=reserving)
    assert str(first) == "10.1.0.11"
    for number in range(3):
        block, _ = block.assign(f"h{number}", rules=reserving)
    with pytest.raises(BlockFullError, match="2 reserved"):
        block.assign("more", rules=reserving)
    assert decode(encode(block)) == block
    assert str(block.assign("more", rules=at(100))[1]) == "10.1.0.9"


def test_a_reserved_address_is_refused_by_name_too():
    with pytest.raises(AddressTakenError, match="reserved"):
        BLOCK.assign("h", address=IPv4Address("10.1.0.9"), rules=at(0, "10.1.0.0/24"))


def test_a_block_that_changes_hands_keeps_who_has_its_addresses():
    block, _ = BLOCK.assign("own")
    block, _ = block.assign("lent", node="b")
    orphan = block.given_to("")
    assert {held.handle: held.node for held in orphan.allocations.values()} == {"own": "a", "lent": "b"}
    theirs = orphan.given_to("b")
    assert {theirs.allocations[number].handle: theirs.node_of(number) for number in theirs.allocations} == {
        "own": "a",
        "lent": "b",
    }
    assert theirs.given_to("a").given_to("b") == theirs

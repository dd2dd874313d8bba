"""Which block a node claims, and which it gives back."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.ipam.block import Block, Rules
from routed.ipam.claims import FreeBlocks, to_give_back
from routed.model.address import AnyPrefix

POOL = IPv4Network("10.1.0.0/24")


def test_every_block_that_nobody_has_is_offered_once_from_the_nodes_own_place_on():
    offered = list(FreeBlocks(POOL, 26, [ip_network("10.1.0.64/26")]).around("a"))
    assert sorted(map(str, offered)) == ["10.1.0.0/26", "10.1.0.128/26", "10.1.0.192/26"]
    assert list(FreeBlocks(POOL, 26, [ip_network("10.1.0.64/26")]).around("a")) == offered


def test_two_nodes_start_from_different_places():
    free = FreeBlocks(IPv4Network("10.0.0.0/8"), 26, [])
    assert len({next(free.around(f"n{number}")) for number in range(50)}) == 50


def test_what_became_known_meanwhile_is_passed_over():
    free = FreeBlocks(POOL, 26, [])
    every = list(free.around("a"))
    assert list(free.around("a", but=every[:2])) == every[2:]


def test_a_pool_of_two_to_the_58_blocks_with_most_of_it_taken_is_walked_at_once():
    pool = IPv6Network("fd00::/64")
    free = FreeBlocks(pool, 122, [ip_network("fd00::/65"), ip_network("fd00::8000:0:0:0/66")])
    assert ip_network("fd00::c000:0:0:0/66").supernet_of(next(free.around("a")))


@pytest.mark.parametrize("taken", ["10.0.0.0/8", "10.1.0.0/24"])
def test_a_pool_inside_what_is_taken_has_none(taken: str):
    assert list(FreeBlocks(POOL, 26, [ip_network(taken)]).around("a")) == []


PARTS = st.builds(
    lambda address, length: IPv4Network((address, length), strict=False),
    st.integers(0x0A010000, 0x0A0101FF),
    st.integers(22, 32),
)


@given(st.lists(PARTS, max_size=8), st.integers(24, 30), st.text(max_size=3))
def test_exactly_the_blocks_that_touch_nothing_taken_are_offered(taken: list[AnyPrefix], length: int, node: str):
    expected = {each for each in POOL.subnets(new_prefix=length) if not any(each.overlaps(other) for other in taken)}
    offered = list(FreeBlocks(POOL, length, taken).around(node))
    assert len(offered) == len(expected)
    assert set(offered) == expected


def block(cidr: str, *handles: str) -> Block:
    made = Block(ip_network(cidr), "a")
    for handle in handles:
        made, _ = made.assign(handle)
    return made


def test_of_empty_blocks_one_of_each_family_is_kept():
    blocks = [block("10.1.0.0/26"), block("10.1.0.64/26"), block("fd00::/122")]
    assert list(map(str, to_give_back(blocks, [each.cidr for each in blocks]))) == ["10.1.0.64/26"]


def test_none_is_kept_while_another_has_room():
    blocks = [block("10.1.0.0/26"), block("10.1.0.64/26", "h")]
    assert list(map(str, to_give_back(blocks, [each.cidr for each in blocks]))) == ["10.1.0.0/26"]


def test_a_block_from_which_nothing_may_be_given_is_not_kept():
    assert to_give_back([block("10.1.0.0/26")], []) == [ip_network("10.1.0.0/26")]


def test_a_block_stays_until_its_last_address_has_cooled():
    used, _ = block("10.1.0.0/26", "h").release("h", now=100.0)
    assert to_give_back([used.cooled(Rules(129, 30.0))], []) == []
    assert to_give_back([used.cooled(Rules(130, 30.0))], []) == [used.cidr]


def test_a_block_of_which_another_node_borrows_stays():
    lent, _ = replace(block("10.1.0.0/26")).assign("h", node="b")
    assert to_give_back([lent], []) == []

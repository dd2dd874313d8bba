from __future__ import annotations

from ipaddress import IPv4Network

from hypothesis import given
from hypothesis import strategies as st

from routed.ipam.block import Block
from routed.ipam.listing import Listing

CIDRS = [IPv4Network("10.1.0.0/29"), IPv4Network("10.1.0.8/29")]
NODES = ["a", "b", ""]
CHANGES = st.one_of(
    st.tuples(st.just("assign"), st.integers(0, 1), st.sampled_from("uvwxyz"), st.sampled_from("ab")),
    st.tuples(st.just("release"), st.integers(0, 1), st.sampled_from("uvwxyz"), st.just("")),
    st.tuples(st.just("belong"), st.integers(0, 1), st.just(""), st.sampled_from(NODES)),
    st.tuples(st.just("leave"), st.integers(0, 1), st.just(""), st.just("")),
)


def changed(block: Block, verb: str, handle: str, node: str) -> Block:
    match verb:
        case "assign":
            return block.assign(handle, node=node)[0] if block.free else block
        case "release":
            return block.release(handle)[0]
        case "belong":
            return block.given_to(node)
        case _:
            return Block(block.cidr, "a")


@given(st.lists(st.tuples(CHANGES, st.booleans())))
def test_after_any_changes_it_is_what_the_blocks_say(changes: list[tuple[tuple[str, int, str, str], bool]]):
    listing, blocks = Listing("a"), [Block(cidr, "a") for cidr in CIDRS]
    for (verb, at, handle, node), looked in changes:
        blocks[at] = changed(blocks[at], verb, handle, node)
        if looked:
            there = [block for block in blocks if verb != "leave" or block is not blocks[at]]
            assert listing.of(there) == {
                block.address(ordinal): held
                for block in there
                for ordinal, held in block.allocations.items()
                if block.node_of(ordinal) == "a"
            }


def test_what_was_listed_before_stays_as_it_was():
    listing, block = Listing("a"), Block(CIDRS[0], "a")
    block, address = block.assign("h")
    before = listing.of([block])
    assert listing.of([block.release("h")[0]]) == {}
    assert [held.handle for held in before.values()] == ["h"]
    assert list(before) == [address]

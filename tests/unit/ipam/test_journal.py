"""The journal by itself: what it says of blocks, how it is played upon others, and its file."""

from __future__ import annotations

from array import array
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.errors import EnvironmentFault
from routed.ipam.block import Block, Rules
from routed.ipam.journal import Entry, JournalFormatError, decode, encode, entries, last_words, replay
from routed.ipam.journal_file import JournalFile

CIDR = ip_network("10.1.0.0/28")
OTHER = ip_network("10.2.0.0/28")
BLOCK = Block(CIDR, "a")
NOW = Rules(now=100)


def took(address: str, handle: str, at: int = 100, cidr: str = "10.1.0.0/28") -> Entry:
    return Entry(ip_network(cidr), ip_address(address), handle, taken=True, at=at)


def gave(address: str, handle: str, at: int = 100, cidr: str = "10.1.0.0/28") -> Entry:
    return Entry(ip_network(cidr), ip_address(address), handle, taken=False, at=at)


def holding(block: Block, **held: str) -> Block:
    """`block` with these handles' addresses."""
    for handle, address in held.items():
        block, _ = block.assign(handle, address=ip_address(address), rules=NOW)
    return block


def held(block: Block) -> dict[str, str]:
    return {str(block.address(ordinal)): each.handle for ordinal, each in block.allocations.items()}


def test_an_assignment_is_an_entry_with_all_that_the_store_would_have_kept():
    after, address = BLOCK.assign("h", {"pod": "p"}, node="a", rules=NOW)
    assert list(entries(BLOCK, after, "a", 107)) == [Entry(CIDR, address, "h", True, 100, {"pod": "p"})]


def test_an_address_that_changes_hands_is_two_entries_the_return_first():
    before = holding(BLOCK, one="10.1.0.1")
    after = holding(before.release("one", now=105)[0], two="10.1.0.1")
    found = [(entry.handle, entry.taken) for entry in entries(before, after, "a", 105)]
    assert found == [("one", False), ("two", True)]


def test_what_other_nodes_do_in_the_block_is_no_entry():
    after, _ = BLOCK.assign("h", node="b")
    assert list(entries(BLOCK, after, "a", 100)) == []


def test_of_each_address_the_last_word_counts():
    written = [took("10.1.0.1", "one"), gave("10.1.0.1", "one"), took("10.1.0.2", "two"), took("10.1.0.1", "three")]
    assert [(str(each.address), each.handle) for each in last_words(written)] == [
        ("10.1.0.2", "two"), ("10.1.0.1", "three"),
    ]  # fmt: skip


def test_an_address_that_another_node_borrowed_meanwhile_stays_that_nodes_and_the_entry_is_lost():
    block, _ = BLOCK.assign("theirs", address=ip_address("10.1.0.1"), node="b")
    done = replay([took("10.1.0.1", "ours"), took("10.1.0.2", "more")], {CIDR: block}, "a")
    assert held(done.blocks[CIDR]) == {"10.1.0.1": "theirs", "10.1.0.2": "more"}
    assert [each.entry.handle for each in done.lost] == ["ours"]
    assert "node b has borrowed it meanwhile, for theirs" in str(done.lost[0])


def test_a_block_that_is_not_the_nodes_any_more_takes_nothing():
    written = [took("10.1.0.1", "h"), took("10.2.0.1", "i", cidr="10.2.0.0/28")]
    done = replay(written, {CIDR: replace(BLOCK, node="b")}, "a")
    assert not done.blocks
    assert [each.reason for each in done.lost] == [
        "the block 10.1.0.0/28 is node a's no longer", "the block 10.2.0.0/28 is node a's no longer",
    ]  # fmt: skip


def test_a_transaction_whose_answer_was_lost_yields_to_what_was_answered_afterwards():
    """The store gave 10.1.0.1 to an ADD that was given up, and 10.1.0.2 to one that the journal answered otherwise."""
    block = holding(BLOCK, gone="10.1.0.1", h="10.1.0.2")
    done = replay([took("10.1.0.1", "h")], {CIDR: block}, "a")
    assert held(done.blocks[CIDR]) == {"10.1.0.1": "h"}
    assert not done.lost


def test_a_handle_keeps_its_address_of_the_other_family():
    six = holding(Block(ip_network("fd00::/122"), "a"), h="fd00::5")
    done = replay([took("10.1.0.1", "h")], {CIDR: BLOCK, six.cidr: six}, "a")
    assert list(done.blocks) == [CIDR]


def test_an_address_given_and_taken_back_meanwhile_cools_as_if_the_store_had_seen_it():
    done = replay([took("10.1.0.1", "h"), gave("10.1.0.1", "h", 120)], {CIDR: BLOCK}, "a")
    after = done.blocks[CIDR]
    assert (after.released, after.cooling, dict(after.allocations)) == (array("I", [1]), array("I", [120]), {})


def test_a_borrowed_address_that_came_back_is_given_back_to_its_block():
    block, _ = Block(OTHER, "b").assign("h", address=ip_address("10.2.0.3"), node="a")
    done = replay([gave("10.2.0.3", "h", cidr="10.2.0.0/28")], {OTHER: block}, "a")
    assert not done.blocks[OTHER].allocations


HANDLES = st.sampled_from(["h1", "h2", "h3", "h4"])
STEPS = st.lists(st.tuples(HANDLES, st.booleans()), max_size=14)


def walked(block: Block, steps: list[tuple[str, bool]], now: int) -> tuple[Block, list[Entry]]:
    """The block after pods came and went while the store was away, and the journal of that."""
    written: list[Entry] = []
    for handle, comes in steps:
        now += 1
        if comes and block.free:
            after, _ = block.assign(handle, node="a", rules=Rules(now, hot=True, far=True))
        else:
            after, _ = block.release(handle, now=now)
        written += entries(block, after, "a", now)
        block = after
    return block, written


@given(STEPS, STEPS)
def test_what_was_done_by_the_journal_is_what_the_store_has_afterwards(before, meanwhile):
    start, _ = walked(Block(ip_network("10.1.0.0/29"), "a"), before, 100)
    after, written = walked(start, meanwhile, 200)
    done = replay(written, {start.cidr: start}, "a")
    assert not done.lost
    assert dict(done.blocks.get(start.cidr, start).allocations) == dict(after.allocations)


@given(STEPS, STEPS)
def test_a_journal_that_is_played_twice_changes_nothing_the_second_time(before, meanwhile):
    start, _ = walked(Block(ip_network("10.1.0.0/29"), "a"), before, 100)
    _, written = walked(start, meanwhile, 200)
    once = {start.cidr: start, **replay(written, {start.cidr: start}, "a").blocks}
    assert not replay(written, once, "a").blocks


@given(STEPS, STEPS, st.lists(st.integers(1, 6), max_size=4, unique=True))
def test_whatever_others_borrowed_meanwhile_no_address_has_two_holders_and_none_of_theirs_is_touched(
    before, meanwhile, borrowed
):
    start, _ = walked(Block(ip_network("10.1.0.0/29"), "a"), before, 100)
    after, written = walked(start, meanwhile, 200)
    there, theirs = start, dict[str, str]()
    for ordinal in borrowed:
        if ordinal not in there.allocations:
            there, address = there.assign(f"b{ordinal}", address=there.address(ordinal), node="b")
            theirs[str(address)] = f"b{ordinal}"
    done = replay(written, {start.cidr: there}, "a")
    result = held(done.blocks.get(start.cidr, there))
    lost = {str(each.entry.address) for each in done.lost}
    assert lost == theirs.keys() & held(after).keys()
    assert result == {address: handle for address, handle in held(after).items() if address not in lost} | theirs


@given(STEPS)
def test_a_journal_is_read_as_it_was_written_and_what_was_cut_off_was_never_answered(steps):
    _, written = walked(BLOCK, steps, 100)
    data = encode(written)
    assert decode(data) == written
    assert decode(data[:-1]) == written[:-1]


# ---- the file


def test_the_file_outlasts_its_writer_and_goes_when_it_is_empty(tmp_path: Path):
    path = tmp_path / "state/a.journal"
    JournalFile(path).append([took("10.1.0.1", "h")])
    again = JournalFile(path)
    assert again.entries == [took("10.1.0.1", "h")]
    again.clear()
    assert not path.exists()
    assert not JournalFile(path).entries


def test_half_a_line_of_a_writer_that_was_killed_is_overwritten(tmp_path: Path):
    path = tmp_path / "a.journal"
    path.write_bytes(encode([took("10.1.0.1", "h")]) + b'{"block":"10.1')
    JournalFile(path).append([took("10.1.0.2", "i")])
    assert [entry.handle for entry in JournalFile(path).entries] == ["h", "i"]


@pytest.mark.parametrize(
    "line",
    [b"{}", b"\xff", b'{"block":"10.1.0.0/28","address":"10.9.0.1","handle":"h","taken":true,"at":1}', b"[" * 5000],
)
def test_a_line_that_is_no_entry_is_named(tmp_path: Path, line: bytes):
    path = tmp_path / "a.journal"
    path.write_bytes(encode([took("10.1.0.1", "h")]) + line + b"\n")
    with pytest.raises(JournalFormatError, match=r"a\.journal:2: is no entry"):
        JournalFile(path)


def test_a_state_directory_that_cannot_be_written_to_is_named_and_nothing_is_written_down(tmp_path: Path):
    (tmp_path / "file").write_text("")
    journal = JournalFile.__new__(JournalFile)
    with pytest.raises(EnvironmentFault, match="Not a directory"):
        journal.__init__(tmp_path / "file/a.journal")  # type: ignore[misc]

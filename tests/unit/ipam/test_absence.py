"""The allocator while the store is away, and when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path

import pytest

from routed.errors import EnvironmentFault
from routed.ipam import absence
from routed.ipam.allocator import Allocator
from routed.ipam.block import BlockFullError
from routed.ipam.journal import Entry
from routed.ipam.journal_file import JournalFile
from routed.ipam.wish import Wish
from routed.model.address import Family

from .cluster import MemoryStore, World, node, pool
from .partition import CutOff, JournallingNode


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(absence, "AGAIN_SECONDS", 0.001)


Case = Callable[[World, JournallingNode], Awaitable[None]]


def of_two_nodes(path: Path, case: Case) -> None:
    """Run `case` in a cluster of nodes a, which has a journal and its block, and b."""

    async def main() -> None:
        world = await World(pool("10.1.0.0/28", blockSize=29), node("a"), node("b")).start()
        one = await JournallingNode(world, "a", path / "a.journal").start()
        assert await one.allocator.assign("first") in ip_network("10.1.0.0/28")
        await world.hear()
        await case(world, one)
        await one.stop()

    asyncio.run(main())


def test_an_address_is_given_while_the_store_is_away_and_is_the_stores_when_it_is_back(tmp_path: Path):
    async def case(world: World, one: JournallingNode) -> None:
        one.store.away = True
        given = await one.allocator.assign("h", {"pod": "p"})
        seen = one.allocator.journal()
        assert (seen.away, seen.waiting, seen.written) == (True, 1, 1)
        assert "1 changes wait in its journal: store: unreachable" in seen.problems()[0]
        assert str(given) not in world.holders
        one.store.away = False
        await one.back()
        assert world.holders[str(given)] == ("a", "h")
        assert one.allocator.journal().problems() == ()

    of_two_nodes(tmp_path, case)


def test_who_asks_again_while_the_store_is_away_gets_the_same_address(tmp_path: Path):
    async def case(_: World, one: JournallingNode) -> None:
        before = await one.allocator.assign("h")
        one.store.away = True
        assert await one.allocator.assign("h") == before
        assert await one.allocator.assign("i") == await one.allocator.assign("i")
        assert one.allocator.journal().waiting == 1

    of_two_nodes(tmp_path, case)


def test_an_address_taken_back_while_the_store_is_away_is_free_in_the_store_when_it_is_back(tmp_path: Path):
    async def case(world: World, one: JournallingNode) -> None:
        one.store.away = True
        (given,) = await one.allocator.release("first")
        assert str(given) in world.holders
        one.store.away = False
        await one.back()
        assert str(given) not in world.holders

    of_two_nodes(tmp_path, case)


def test_a_full_node_says_that_it_claims_nothing_while_the_store_is_away(tmp_path: Path):
    async def case(_: World, one: JournallingNode) -> None:
        one.store.away = True
        for number in range(5):
            await one.allocator.assign(f"h{number}")
        with pytest.raises(BlockFullError, match="no block can be claimed while the store is away"):
            await one.allocator.assign("more")

    of_two_nodes(tmp_path, case)


def test_an_address_by_name_of_another_nodes_block_is_refused_while_the_store_is_away(tmp_path: Path):
    async def case(world: World, one: JournallingNode) -> None:
        theirs = await world.nodes["b"].assign("h")
        await one.hear()
        one.store.away = True
        await one.allocator.assign("h")  # from now on it is known to be away
        with pytest.raises(EnvironmentFault, match="in no block of node a, and the store is away"):
            await one.allocator.assign_each("i", wish=Wish({Family.IPV4: theirs + 1}))

    of_two_nodes(tmp_path, case)


def test_an_agent_that_was_killed_while_the_store_was_away_reads_its_journal_before_anything_else(tmp_path: Path):
    async def case(world: World, one: JournallingNode) -> None:
        one.store.away = True
        given = await one.allocator.assign("h")
        await one.allocator.release("first")
        await one.stop()
        again = JournallingNode(world, "a", one.path)
        again.store.away = False
        await again.start()
        assert [held.handle for held in again.allocator.allocations().values()] == ["h"]
        assert world.holders == {str(given): ("a", "h")}
        assert not one.path.exists()

    of_two_nodes(tmp_path, case)


def test_without_having_read_the_store_once_nothing_is_given(tmp_path: Path):
    async def main() -> None:
        world = World(pool("10.1.0.0/28"), node("a"))
        store = CutOff(world.store)
        store.away = True
        allocator = Allocator(store, [ip_network("10.1.0.0/28")], node="a", journal=JournalFile(tmp_path / "j"))
        with pytest.raises(EnvironmentFault, match="unreachable"):
            await allocator.assign("h")

    asyncio.run(main())


def test_what_a_borrower_and_the_cut_off_owner_give_at_once_meets_only_when_the_block_is_full(tmp_path: Path):
    async def case(world: World, one: JournallingNode) -> None:
        for number in range(6):  # b's own block is full then
            await world.nodes["b"].assign(f"b{number}")
        one.store.away = True
        ours = {await one.allocator.assign(f"a{number}") for number in range(2)}
        theirs = {await world.nodes["b"].assign(f"borrowed{number}") for number in range(3)}
        assert not ours & theirs
        one.store.away = False
        await one.back()
        assert one.allocator.journal().lost == ()
        assert len(world.holders) == 12

    of_two_nodes(tmp_path, case)


def test_an_address_that_was_borrowed_meanwhile_is_the_borrowers_and_the_pod_that_lost_it_is_named(tmp_path: Path):
    async def case(world: World, one: JournallingNode) -> None:
        for number in range(6):
            await world.nodes["b"].assign(f"b{number}")
        one.store.away = True
        for number in range(5):
            await one.allocator.assign(f"a{number}", {"namespace": "shop", "pod": f"web-{number}"})
        taken = await world.nodes["b"].assign("borrowed")
        loser = one.allocator.allocations()[taken].attributes["pod"]
        one.store.away = False
        await one.back()
        assert world.holders[str(taken)] == ("b", "borrowed")
        assert taken not in one.allocator.allocations()
        (told,) = one.allocator.journal().problems()
        assert told.startswith(f"shop/{loser} lost its address {taken}")
        one.allocator.forget_lost(f"a{loser.removeprefix('web-')}")
        assert one.allocator.journal().problems() == ()

    of_two_nodes(tmp_path, case)


def test_pods_keep_their_addresses_in_the_record_at_every_moment_of_the_stores_return(tmp_path: Path):
    async def case(_: World, one: JournallingNode) -> None:
        one.store.away = True
        given = await one.allocator.assign("h")
        seen: list[bool] = []
        one.store.each_call = lambda: seen.append(given in one.allocator.allocations())
        one.store.away = False
        await one.back()
        assert len(seen) > 3
        assert all(seen)

    of_two_nodes(tmp_path, case)


def test_a_store_that_goes_again_while_it_is_told_is_told_later(tmp_path: Path):
    async def case(world: World, one: JournallingNode) -> None:
        one.store.away = True
        given = await one.allocator.assign("h")
        world.store.breaks_after = 0  # the answer to the first transaction is lost
        one.store.away = False
        broken = asyncio.Event()
        one.store.each_call = lambda: broken.set() if world.store.away else None
        await broken.wait()
        assert one.allocator.journal().waiting == 1
        await one.allocator.assign("i")
        world.store.away = False
        await one.back()
        assert world.holders[str(given)] == ("a", "h")
        assert len(world.holders) == 3

    of_two_nodes(tmp_path, case)


def test_a_transaction_that_was_done_although_its_answer_was_lost_gives_one_address(tmp_path: Path):
    async def case(world: World, one: JournallingNode) -> None:
        world.store.breaks_after = 0
        given = await one.allocator.assign("h")  # by the journal
        assert one.allocator.journal().away
        world.store.away = False
        await one.back()
        assert [address for address, owner in world.holders.items() if owner == ("a", "h")] == [str(given)]

    of_two_nodes(tmp_path, case)


def test_a_store_that_does_not_answer_at_all_is_waited_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(absence, "AGAIN_SECONDS", 3600)  # nobody looks for its return meanwhile

    async def main() -> None:
        world = await World(pool("10.1.0.0/28", blockSize=29), node("a")).start()
        one = await JournallingNode(world, "a", tmp_path / "a.journal", patience=0.2).start()
        await one.allocator.assign("first")
        one.store.silent = True
        assert isinstance(await one.allocator.assign("h"), IPv4Address)
        await one.allocator.load()
        await one.allocator.assign("i")
        assert one.store.waiting == 1
        await one.stop()

    asyncio.run(main())


def test_a_journal_that_cannot_be_written_gives_nothing(tmp_path: Path):
    async def case(_: World, one: JournallingNode) -> None:
        one.path.mkdir()
        one.store.away = True
        with pytest.raises(EnvironmentFault, match=r"journal of addresses .*: Is a directory"):
            await one.allocator.assign("h")
        assert "h" not in {held.handle for held in one.allocator.allocations().values()}
        one.path.rmdir()

    of_two_nodes(tmp_path, case)


def test_a_journal_of_more_blocks_than_one_transaction_takes_is_the_stores_all_the_same(tmp_path: Path):
    async def main() -> None:
        cut = CutOff(MemoryStore())
        blocks = [ip_network(f"10.1.{number}.0/30") for number in range(70)]
        allocator = Allocator(cut, blocks, node="a", journal=JournalFile(tmp_path / "j"))
        await allocator.load()
        cut.away = True
        for number in range(140):
            await allocator.assign(f"h{number}")
        cut.away = False
        back = asyncio.Event()
        allocator.when_back(back.set)
        await asyncio.wait_for(back.wait(), 30)
        assert (allocator.journal().away, allocator.journal().waiting) == (False, 0)
        again = Allocator(cut, blocks, node="a", journal=JournalFile(tmp_path / "j"))
        await again.load()
        assert len(again.allocations()) == 140

    asyncio.run(main())


def test_callers_whose_part_of_a_large_change_finds_no_store_get_their_addresses_by_the_journal(tmp_path: Path):
    async def main() -> None:
        store = MemoryStore()
        cut = CutOff(store)
        blocks = [ip_network(f"10.1.{number}.0/30") for number in range(100)]
        allocator = Allocator(cut, blocks, node="a", journal=JournalFile(tmp_path / "j"))
        await allocator.load()
        store.most_operations, store.breaks_after = 60, 1
        given = await asyncio.gather(*(allocator.assign(f"h{number}") for number in range(80)))
        assert len(set(given)) == 80
        assert allocator.journal().away

    asyncio.run(main())


def test_a_journal_that_could_not_be_cleared_whole_takes_nothing_more_until_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def entry(number: int) -> Entry:
        return Entry(ip_network("10.1.0.0/24"), ip_address(f"10.1.0.{number}"), f"h{number}", taken=True, at=1)

    def fails(_: JournalFile) -> None:
        raise OSError(5, "Input/output error")

    journal = JournalFile(tmp_path / "j")
    journal.append([entry(1)])
    with monkeypatch.context() as patch:
        patch.setattr(JournalFile, "_sync_directory", fails)
        with pytest.raises(EnvironmentFault, match="Input/output error"):
            journal.clear()
    with pytest.raises(EnvironmentFault, match="No such file"):
        journal.append([entry(2)])
    journal.clear()
    journal.append([entry(3)])
    assert JournalFile(tmp_path / "j").entries == [entry(3)]

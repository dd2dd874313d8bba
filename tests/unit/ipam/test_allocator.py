from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

import pytest

from routed.errors import ConflictError, EnvironmentFault
from routed.ipam.allocator import Allocator, key
from routed.ipam.block import Block, BlockFormatError, BlockFullError, decode, encode
from routed.store import Compare, Delete, Event, KeyValue, Put, Range, Store, Txn
from routed.store.sqlite import SqliteStore

BLOCK = IPv4Network("10.1.0.0/24")
OTHER = IPv4Network("10.1.1.0/30")


class Moody:
    """The real store, that can be away, or lose the answer to a transaction it carried out."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.away = False
        self.lose_next_answer = False
        self.slow = 0.0  # so many seconds a transaction takes
        self.writing = asyncio.Event()
        self.transactions = 0
        self.reads = 0

    def _reach(self) -> None:
        if self.away:
            raise EnvironmentFault("store: unreachable")

    async def get(self, key: str) -> KeyValue | None:
        self._reach()
        return await self._store.get(key)

    async def range(self, prefix: str) -> Range:
        self._reach()
        self.reads += 1
        return await self._store.range(prefix)

    async def txn(self, compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> Txn:
        self._reach()
        self.transactions += 1
        self.writing.set()
        await asyncio.sleep(self.slow)
        done = await self._store.txn(compares, operations)
        if self.lose_next_answer:
            self.lose_next_answer = False
            raise EnvironmentFault("store: connection lost")
        return done

    def watch(self, prefix: str, from_revision: int) -> AsyncIterator[Sequence[Event]]:
        return self._store.watch(prefix, from_revision)

    async def close(self) -> None:
        await self._store.close()


def run(tmp_path: Path, story: Callable[[Moody], Awaitable[None]]) -> None:
    async def told() -> None:
        store = Moody(SqliteStore(tmp_path / "store.db"))
        try:
            await story(store)
        finally:
            await store.close()

    asyncio.run(told())


def test_an_address_is_durable_before_it_is_given(tmp_path: Path):
    async def story(store: Moody) -> None:
        address = await Allocator(store, [BLOCK], node="a").assign("h", {"pod": "p"})
        stored = await store.get("/routed/v1/ipam/blocks/10.1.0.0-24")
        assert stored is not None
        block = decode(stored.value)
        assert block.allocations[int(address) - int(BLOCK.network_address)].attributes == {"pod": "p"}

    run(tmp_path, story)


def test_one_change_is_one_transaction_and_no_read(tmp_path: Path):
    async def story(store: Moody) -> None:
        allocator = Allocator(store, [BLOCK], node="a")
        await allocator.load()
        before = store.reads
        await allocator.assign("h")
        await allocator.release("h")
        assert (store.transactions, store.reads - before) == (2, 0)

    run(tmp_path, story)


def test_callers_that_each_do_one_thing_after_the_other_share_their_transactions(tmp_path: Path):
    async def story(store: Moody) -> None:
        store.slow = 0.05
        allocator = Allocator(store, [BLOCK], node="a")

        async def caller(name: str) -> None:
            for _ in range(5):
                await allocator.assign(name)
                await allocator.release(name)

        late = asyncio.create_task(caller("one"))
        await store.writing.wait()  # the second asks for its first while the first's is being written
        await asyncio.gather(late, caller("two"))
        assert store.transactions < 15  # of 20 changes; in step they are 11

    run(tmp_path, story)


def test_a_retried_assignment_gets_the_same_address_without_a_write(tmp_path: Path):
    async def story(store: Moody) -> None:
        allocator = Allocator(store, [BLOCK], node="a")
        assert await allocator.assign("h") == await allocator.assign("h")
        assert store.transactions == 1

    run(tmp_path, story)


def test_a_restarted_agent_finds_all_allocations_and_goes_on_where_it_was(tmp_path: Path):
    async def story(store: Moody) -> None:
        first = Allocator(store, [BLOCK], node="a")
        kept = await first.assign("kept", {"pod": "p"})
        released = await first.assign("released")
        await first.release("released")
        second = Allocator(store, [BLOCK], node="a")
        await second.load()
        assert second.allocations() == first.allocations()
        assert await second.assign("kept") == kept
        assert await second.assign("new") == released + 1

    run(tmp_path, story)


def test_parallel_assignments_get_different_addresses(tmp_path: Path):
    async def story(store: Moody) -> None:
        allocator = Allocator(store, [BLOCK], node="a")
        addresses = await asyncio.gather(*(allocator.assign(f"h{number}") for number in range(50)))
        assert len(set(addresses)) == 50
        assert set(allocator.allocations()) == set(addresses)

    run(tmp_path, story)


def test_two_writers_of_one_block_never_give_one_address_twice(tmp_path: Path):
    async def story(store: Moody) -> None:
        one, two = Allocator(store, [BLOCK], node="a"), Allocator(store, [BLOCK], node="a")
        seen = list[IPv4Address]()
        for number in range(5):
            seen.append(await one.assign(f"one{number}"))
            seen.append(await two.assign(f"two{number}"))
        assert len(set(seen)) == 10
        assert await one.release("two0") == (seen[1],)

    run(tmp_path, story)


def test_an_address_given_anew_meanwhile_is_not_freed_by_who_remembers_its_former_holder(tmp_path: Path):
    async def story(store: Moody) -> None:
        stale, fresh = (Allocator(store, [OTHER], node="a", cooldown=0) for _ in range(2))
        address = await stale.assign("former")
        await fresh.release("former")
        await fresh.assign("other")  # reuse is as late as possible, so that the block of two has to be full
        assert await fresh.assign("latter") == address
        assert await stale.release("former") == ()
        assert stale.held_by("latter") == (address,)

    run(tmp_path, story)


def test_a_block_that_is_again_as_it_was_read_is_read_anew_before_it_is_changed(tmp_path: Path):
    async def story(store: Moody) -> None:
        stale, fresh = (Allocator(store, [OTHER], node="a", cooldown=0, clock=lambda: 1.0) for _ in range(2))
        address = await stale.assign("h")
        before = await store.get(key(OTHER))
        await fresh.release("h")
        await fresh.assign("h", address=address)
        after = await store.get(key(OTHER))
        assert before is not None
        assert after is not None
        assert before.value == after.value
        reads = store.reads
        await stale.assign("other")
        assert store.reads > reads
        assert {held.handle for held in stale.allocations().values()} == {"h", "other"}

    run(tmp_path, story)


def test_an_unreachable_store_fails_the_call_and_changes_nothing(tmp_path: Path):
    async def story(store: Moody) -> None:
        allocator = Allocator(store, [BLOCK], node="a")
        held = await allocator.assign("h")
        before = dict(allocator.allocations())
        store.away = True
        with pytest.raises(EnvironmentFault):
            await allocator.assign("more")
        with pytest.raises(EnvironmentFault):
            await allocator.release("h")
        assert allocator.allocations() == before
        store.away = False
        assert await allocator.assign("more") == held + 1

    run(tmp_path, story)


def test_an_assignment_whose_answer_was_lost_is_found_by_its_release(tmp_path: Path):
    async def story(store: Moody) -> None:
        allocator = Allocator(store, [BLOCK], node="a")
        await allocator.load()
        store.lose_next_answer = True
        with pytest.raises(EnvironmentFault):
            await allocator.assign("h")
        assert await allocator.release("h") == (IPv4Address("10.1.0.1"),)

    run(tmp_path, story)


def test_the_second_block_is_used_when_the_first_is_full(tmp_path: Path):
    async def story(store: Moody) -> None:
        allocator = Allocator(store, [OTHER, BLOCK], node="a")
        addresses = [str(await allocator.assign(f"h{number}")) for number in range(3)]
        assert addresses == ["10.1.1.1", "10.1.1.2", "10.1.0.1"]

    run(tmp_path, story)


def test_when_all_blocks_are_full_the_error_names_node_blocks_and_count(tmp_path: Path):
    async def story(store: Moody) -> None:
        allocator = Allocator(store, [OTHER], node="a")
        for number in range(2):
            await allocator.assign(f"h{number}")
        with pytest.raises(BlockFullError, match=r"node a: all 2 usable addresses of 10\.1\.1\.0/30"):
            await allocator.assign("more")

    run(tmp_path, story)


def test_a_node_without_blocks_says_what_to_apply(tmp_path: Path):
    async def story(store: Moody) -> None:
        with pytest.raises(EnvironmentFault, match="podCIDRs"):
            await Allocator(store, node="a").assign("h")

    run(tmp_path, story)


def test_an_address_of_no_block_of_ours_is_refused(tmp_path: Path):
    async def story(store: Moody) -> None:
        allocator = Allocator(store, [BLOCK], node="a")
        with pytest.raises(ConflictError, match=r"10\.9\.9\.9 is in no block"):
            await allocator.assign("h", address=IPv4Address("10.9.9.9"))
        assert await allocator.assign("h", address=IPv4Address("10.1.0.77")) == IPv4Address("10.1.0.77")

    run(tmp_path, story)


def test_a_block_taken_from_the_node_gives_no_more_but_keeps_its_pods_over_a_restart(tmp_path: Path):
    async def story(store: Moody) -> None:
        allocator = Allocator(store, [BLOCK], node="a")
        old = await allocator.assign("old")
        await allocator.set_blocks([OTHER])
        assert await allocator.assign("new") in OTHER
        restarted = Allocator(store, [OTHER], node="a")
        await restarted.load()
        assert old in restarted.allocations()
        assert await restarted.release("old") == (old,)
        assert await store.get(key(BLOCK)) is None

    run(tmp_path, story)


def test_a_block_in_use_by_another_node_is_refused_and_the_node_named(tmp_path: Path):
    async def story(store: Moody) -> None:
        await Allocator(store, [BLOCK], node="a").assign("h")
        with pytest.raises(ConflictError, match="in use by node a"):
            await Allocator(store, [BLOCK], node="b").assign("h")

    run(tmp_path, story)


def test_an_empty_block_of_another_node_is_taken_over(tmp_path: Path):
    async def story(store: Moody) -> None:
        first = Allocator(store, [BLOCK], node="a")
        await first.assign("h")
        await first.release("h")
        assert await Allocator(store, [BLOCK], node="b").assign("h") in BLOCK

    run(tmp_path, story)


def test_the_damaged_block_of_another_node_does_not_stop_this_one(tmp_path: Path):
    async def story(store: Moody) -> None:
        await store.txn([], [Put(key(OTHER), b"no block")])
        assert await Allocator(store, [BLOCK], node="a").assign("h") in BLOCK
        with pytest.raises(BlockFormatError):
            await Allocator(store, [OTHER], node="a").assign("h")

    run(tmp_path, story)


def test_constant_interference_ends_in_an_error_that_says_so(tmp_path: Path):
    class Contended(Moody):
        async def txn(self, compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> Txn:
            await super().txn([], [Put(compares[0].key, encode(Block(BLOCK, "a")))])
            return await super().txn(compares, operations)

    async def story(store: Moody) -> None:
        with pytest.raises(EnvironmentFault, match="second agent"):
            await Allocator(Contended(store), [BLOCK], node="a").assign("h")

    run(tmp_path, story)


BLOCK6 = IPv6Network("fd00:1::/64")


def test_a_handle_gets_an_address_of_each_family_in_one_transaction(tmp_path: Path):
    async def story(store: Moody) -> None:
        allocator = Allocator(store, [BLOCK6, BLOCK], node="a")
        both = await allocator.assign_each("h", {"pod": "p"})
        assert both == (IPv4Address("10.1.0.1"), IPv6Address("fd00:1::1"))
        assert store.transactions == 1
        assert await allocator.assign_each("h") == both
        restarted = Allocator(store, [BLOCK, BLOCK6], node="a")
        await restarted.load()
        assert {held.handle for held in restarted.allocations().values()} == {"h"}
        assert await restarted.release("h") == both
        assert (restarted.allocations(), store.transactions) == ({}, 2)

    run(tmp_path, story)


def test_with_one_family_used_up_nothing_is_given_of_the_other(tmp_path: Path):
    async def story(store: Moody) -> None:
        tiny = IPv6Network("fd00:2::/128")
        allocator = Allocator(store, [BLOCK, tiny], node="a")
        await allocator.assign_each("first")
        with pytest.raises(BlockFullError, match="fd00:2::/128"):
            await allocator.assign_each("second")
        assert {held.handle for held in allocator.allocations().values()} == {"first"}

    run(tmp_path, story)


def test_a_pod_from_before_ipv6_gets_its_second_address_when_it_is_added_again(tmp_path: Path):
    async def story(store: Moody) -> None:
        allocator = Allocator(store, [BLOCK], node="a")
        (before,) = await allocator.assign_each("h")
        await allocator.set_blocks([BLOCK, BLOCK6])
        assert await allocator.assign_each("h") == (before, IPv6Address("fd00:1::1"))

    run(tmp_path, story)


def test_a_family_whose_blocks_went_away_keeps_what_was_given(tmp_path: Path):
    async def story(store: Moody) -> None:
        allocator = Allocator(store, [BLOCK, BLOCK6], node="a")
        both = await allocator.assign_each("h")
        await allocator.set_blocks([BLOCK])
        assert await allocator.assign_each("h") == both
        assert await allocator.assign_each("new") == (IPv4Address("10.1.0.2"),)
        assert await allocator.release("h") == both
        assert [item.key for item in (await store.range("/routed/v1/ipam/blocks/")).items] == [key(BLOCK)]

    run(tmp_path, story)

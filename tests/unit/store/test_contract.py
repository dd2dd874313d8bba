"""What every backend of `Store` does."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routed.errors import Bug, EnvironmentFault
from routed.store import CompactedError, Compare, Delete, Event, KeyValue, Put, Store

WORKER = Path(__file__).with_name("worker.py")


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, str(WORKER), *arguments], stdout=subprocess.PIPE, text=True)


async def take(watch: AsyncIterator[Sequence[Event]], count: int) -> list[list[Event]]:
    return [list(await anext(watch)) for _ in range(count)]


def test_an_absent_key_is_none(backend):
    async def scenario(store: Store) -> None:
        assert await store.get("/a") is None

    backend.run(scenario)


def test_a_key_remembers_the_revisions_of_its_creation_and_last_change(backend):
    async def scenario(store: Store) -> None:
        first = await store.txn([], [Put("/a", b"1")])
        await store.txn([], [Put("/other", b"")])
        last = await store.txn([], [Put("/a", b"2")])
        assert await store.get("/a") == KeyValue("/a", b"2", first.revision, last.revision)
        assert last.revision == first.revision + 2

    backend.run(scenario)


def test_a_key_made_again_has_a_new_creation(backend):
    async def scenario(store: Store) -> None:
        await store.txn([], [Put("/a", b"1")])
        await store.txn([], [Delete("/a")])
        again = await store.txn([], [Put("/a", b"2")])
        assert await store.get("/a") == KeyValue("/a", b"2", again.revision, again.revision)

    backend.run(scenario)


def test_a_range_holds_what_starts_with_the_prefix_sorted_by_key(backend):
    async def scenario(store: Store) -> None:
        keys = ["/p/b", "/p/a", "/p", "/p/é", "/q/a", "/p0"]
        result = await store.txn([], [Put(key, b"") for key in keys])
        seen = await store.range("/p/")
        assert [item.key for item in seen.items] == ["/p/a", "/p/b", "/p/é"]
        assert seen.revision == result.revision
        assert len((await store.range("")).items) == 6

    backend.run(scenario)


def test_a_transaction_whose_condition_fails_changes_nothing(backend):
    async def scenario(store: Store) -> None:
        put = await store.txn([], [Put("/a", b"1")])
        result = await store.txn(
            [Compare("/a", put.revision), Compare("/b", 7)], [Put("/a", b"2"), Put("/c", b""), Delete("/a")][:2]
        )
        assert (result.succeeded, result.revision) == (False, put.revision)
        assert [item.value for item in (await store.range("/")).items] == [b"1"]

    backend.run(scenario)


def test_revision_zero_compares_with_absence(backend):
    async def scenario(store: Store) -> None:
        assert (await store.txn([Compare("/a", 0)], [Put("/a", b"1")])).succeeded
        assert not (await store.txn([Compare("/a", 0)], [Put("/a", b"2")])).succeeded

    backend.run(scenario)


def test_deleting_what_is_not_there_is_no_change(backend):
    async def scenario(store: Store) -> None:
        before = await store.txn([], [Put("/a", b"")])
        after = await store.txn([], [Delete("/b")])
        assert (after.succeeded, after.revision) == (True, before.revision)

    backend.run(scenario)


def test_one_key_twice_in_a_transaction_is_refused(backend):
    async def scenario(store: Store) -> None:
        with pytest.raises(Bug, match="only once"):
            await store.txn([], [Put("/a", b""), Delete("/a")])

    backend.run(scenario)


def test_values_are_any_bytes(backend):
    async def scenario(store: Store) -> None:
        await store.txn([], [Put("/a", bytes(range(256))), Put("/empty", b"")])
        assert [item.value for item in (await store.range("/")).items] == [bytes(range(256)), b""]

    backend.run(scenario)


def test_a_watch_yields_past_and_coming_changes_grouped_by_transaction(backend):
    async def scenario(store: Store) -> None:
        first = await store.txn([], [Put("/p/a", b"1"), Put("/p/b", b"2"), Put("/q", b"")])
        await store.txn([], [Put("/q", b"not watched")])
        watch = store.watch("/p/", first.revision)
        assert await take(watch, 1) == [
            [Event("/p/a", b"1", first.revision), Event("/p/b", b"2", first.revision)],
        ]
        last = await store.txn([], [Delete("/p/a")])
        assert await take(watch, 1) == [[Event("/p/a", None, last.revision)]]

    backend.run(scenario)


def test_a_watch_from_a_range_misses_nothing_and_repeats_nothing(backend):
    async def scenario(store: Store) -> None:
        await store.txn([], [Put("/a", b"1")])
        seen = await store.range("/")
        later = [await store.txn([], [Put("/a", b"%d" % number)]) for number in range(3)]
        events = await take(store.watch("/", seen.revision + 1), 3)
        assert [event.mod_revision for [event] in events] == [result.revision for result in later]

    backend.run(scenario)


def test_a_watch_far_back_yields_everything_in_order(backend):
    async def scenario(store: Store) -> None:
        results = [await store.txn([], [Put(f"/{number % 7}", b"")]) for number in range(1500)]
        events = await take(store.watch("/", results[0].revision), len(results))
        assert [event.mod_revision for [event] in events] == [result.revision for result in results]

    backend.run(scenario)


def test_a_revision_that_is_no_longer_kept_is_compacted(backend):
    async def scenario(store: Store) -> None:
        results = [await store.txn([], [Put("/a", b"")]) for _ in range(200)]
        backend.forget(results[-20].revision)
        with pytest.raises(CompactedError):
            await anext(store.watch("/", results[0].revision))
        assert await take(store.watch("/", results[-10].revision), 1)

    backend.run(scenario, keep=10)


def test_closing_ends_watches_and_refuses_calls(backend):
    async def scenario(store: Store) -> None:
        async def follow() -> list[Sequence[Event]]:
            return [events async for events in store.watch("/", following)]

        following = (await store.range("/")).revision + 1
        task = asyncio.create_task(follow())
        await store.range("/")
        await store.close()
        assert await task == []
        with pytest.raises(EnvironmentFault, match="closed"):
            await store.get("/a")

    backend.run(scenario)


def test_concurrent_calls_of_one_process_all_count(backend):
    async def scenario(store: Store) -> None:
        async def one(number: int) -> None:
            assert (await store.txn([Compare(f"/{number}", 0)], [Put(f"/{number}", b"")])).succeeded

        await asyncio.gather(*(one(number) for number in range(50)))
        assert len((await store.range("/")).items) == 50

    backend.run(scenario)


def test_compare_and_swap_from_four_processes_loses_nothing(backend):
    workers = [start("increment", backend.url, "50") for _ in range(4)]
    try:
        for worker in workers:
            worker.communicate(timeout=60)
            assert worker.returncode == 0
    finally:
        for worker in workers:
            worker.kill()

    async def scenario(store: Store) -> None:
        counter = await store.get("/counter")
        assert counter is not None
        assert counter.value == b"200"
        assert counter.mod_revision == counter.create_revision + 199

    backend.run(scenario)


def test_a_killed_writer_loses_nothing_acknowledged(backend):
    with start("write", backend.url, "/w/", "1000000") as writer:
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline().strip() for _ in range(100)]
        writer.kill()
        acknowledged += [line.strip() for line in writer.stdout.read().splitlines(keepends=True) if line.endswith("\n")]

    async def scenario(store: Store) -> None:
        stored = [item.key for item in (await store.range("/w/")).items]
        assert stored[: len(acknowledged)] == acknowledged
        assert len(stored) - len(acknowledged) in (0, 1)  # the one whose acknowledgement died with the writer
        assert (await store.txn([], [Put("/after", b"")])).succeeded

    backend.run(scenario)


def test_a_watch_sees_every_write_of_other_processes_in_order(backend):
    async def scenario(store: Store) -> None:
        watch = store.watch("/w/", (await store.range("/w/")).revision + 1)
        writers = [start("write", backend.url, f"/w/{number}/", "100") for number in range(3)]
        try:
            events = [event for events in await take(watch, 300) for event in events]
        finally:
            for writer in writers:
                writer.kill()
                writer.communicate()
        revisions = [event.mod_revision for event in events]
        assert revisions == list(range(revisions[0], revisions[0] + 300))
        for number in range(3):
            mine = [event.key for event in events if event.key.startswith(f"/w/{number}/")]
            assert mine == [f"/w/{number}/{index:06}" for index in range(100)]

    backend.run(scenario)


def test_a_watch_is_woken_by_another_process_long_before_it_looks_by_itself(backend):
    async def scenario(store: Store) -> None:
        watch = store.watch("/w/", (await store.range("/w/")).revision + 1)
        first = asyncio.create_task(anext(watch))
        await asyncio.sleep(0)
        with start("write", backend.url, "/w/", "20") as writer:
            await first
            await take(watch, 19)
            assert writer.wait() == 0

    backend.run(scenario, poll_seconds=1000)  # the backend gives a scenario 60 s


MODEL_KEYS = st.sampled_from(["/a", "/a/b", "/b", "/é"])
OPERATION = st.one_of(st.builds(Put, MODEL_KEYS, st.binary(max_size=3)), st.builds(Delete, MODEL_KEYS))
TRANSACTION = st.tuples(
    st.lists(st.tuples(MODEL_KEYS, st.booleans()), max_size=2),
    st.lists(OPERATION, max_size=3, unique_by=lambda operation: operation.key),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(transactions=st.lists(TRANSACTION, max_size=12))
def test_any_transactions_do_what_a_dictionary_would_and_the_watch_replays_them(backend, transactions):
    async def scenario(store: Store) -> None:
        await store.txn([], [Delete(item.key) for item in (await store.range("")).items])
        base = (await store.range("")).revision
        model: dict[str, tuple[bytes, int]] = {}
        for guesses, operations in transactions:
            compares = [Compare(key, model.get(key, (b"", 0))[1] if right else 10**9) for key, right in guesses]
            result = await store.txn(compares, operations)
            assert result.succeeded == all(right for _, right in guesses)
            if result.succeeded:
                for operation in operations:
                    if isinstance(operation, Put):
                        model[operation.key] = (operation.value, result.revision)
                    else:
                        model.pop(operation.key, None)
        seen = await store.range("")
        assert {item.key: (item.value, item.mod_revision) for item in seen.items} == model

        replayed: dict[str, tuple[bytes, int]] = {}
        end = await store.txn([], [Put("/end", b"")])
        async for events in store.watch("", base + 1):
            if events[0].mod_revision == end.revision:
                break
            for event in events:
                if event.value is None:
                    del replayed[event.key]
                else:
                    replayed[event.key] = (event.value, event.mod_revision)
        assert replayed == model

    backend.run(scenario)

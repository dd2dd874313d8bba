"""etcd that goes away, comes back, forgets or is replaced, and what its users see of it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from tests.kernel.store.etcd import Member, free_ports

from routed.errors import EnvironmentFault, OperatorError
from routed.store import CompactedError, Compare, Event, Put, Txn
from routed.store.etcd import EtcdStore
from routed.store.etcd_links import Patience
from routed.store.etcd_url import parse
from routed.store.etcd_wire import Channel, Told

SHORT = Patience(call=1.0, attempt=0.5, connect=0.5)  # for what shall fail
LONG = Patience(call=40.0)  # for what shall be got over, on a busy machine


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Member]:
    with Member(tmp_path) as made:
        yield made


@pytest.fixture
def three(tmp_path: Path) -> Iterator[list[Member]]:
    made = [Member(tmp_path, name) for name in ("a", "b", "c")]
    try:
        for each in made:
            each.joins(made)
            each.start()
        for each in made:
            each.serves()
        yield made
    finally:
        for each in made:
            each.kill()


@asynccontextmanager
async def opened(*members: Member, patience: Patience = LONG, rest: str = "") -> AsyncIterator[EtcdStore]:
    store = EtcdStore(parse(f"etcd://{','.join(each.endpoint for each in members)}{rest}"), patience)
    try:
        yield store
    finally:
        await store.close()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(120):
            await scenario()

    asyncio.run(main())


async def written(store: EtcdStore, key: str, value: bytes = b"") -> Txn:
    """Put, until it is acknowledged; a put that is done twice does no harm."""
    while True:
        try:
            return await store.txn([], [Put(key, value)])
        except EnvironmentFault:
            continue


async def take(watch: AsyncIterator[Sequence[Event]], count: int) -> list[Event]:
    return [event for _ in range(count) for event in await anext(watch)]


def test_no_etcd_is_a_fault_that_names_who_was_asked_and_why():
    async def scenario() -> None:
        [port] = free_ports(1)
        store = EtcdStore(parse(f"etcd://127.0.0.1:{port}"), SHORT)
        with pytest.raises(EnvironmentFault, match=f"etcd at 127.0.0.1:{port}: Connection refused"):
            await store.get("/a")
        await store.close()

    run(scenario)


def test_a_member_is_reached_by_its_ipv6_address(tmp_path):
    async def scenario() -> None:
        async with opened(member) as store:
            assert (await store.txn([], [Put("/a", b"")])).succeeded

    with Member(tmp_path, address="[::1]") as member:
        run(scenario)


def test_a_host_without_an_address_is_a_fault_that_says_so():
    async def scenario() -> None:
        store = EtcdStore(parse("etcd://nowhere.invalid:2379"), SHORT)
        with pytest.raises(EnvironmentFault, match=r"nowhere\.invalid:2379: .*[Nn]ame"):
            await store.get("/a")
        await store.close()

    run(scenario)


def test_a_port_that_is_not_etcds_is_a_fault(tmp_path):
    async def scenario() -> None:
        async def other(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail.example ESMTP\r\n")
            writer.close()

        server = await asyncio.start_server(other, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        store = EtcdStore(parse(f"etcd://127.0.0.1:{port}"), SHORT)
        with pytest.raises(EnvironmentFault, match="is that port etcd's"):
            await store.get("/a")
        await store.close()
        server.close()
        await server.wait_closed()

    run(scenario)


def test_a_member_that_is_stopped_is_a_fault_in_time_and_serves_again_afterwards(member):
    async def scenario() -> None:
        async with opened(member, patience=SHORT) as store:
            await store.txn([], [Put("/a", b"1")])
            member.pause()
            try:
                with pytest.raises(EnvironmentFault):
                    await store.get("/a")
                with pytest.raises(EnvironmentFault):
                    await store.txn([], [Put("/b", b"")])
            finally:
                member.go_on()
            assert (await written(store, "/c")).succeeded
            found = await store.get("/a")
            assert found is not None

    run(scenario)


def test_a_transaction_that_was_cut_off_says_that_its_outcome_is_not_known(member):
    async def scenario() -> None:
        async with opened(member, patience=SHORT) as store:
            await store.txn([], [Put("/a", b"1")])
            member.pause()
            try:
                with pytest.raises(EnvironmentFault, match="whether the change was made is not known"):
                    await store.txn([], [Put("/a", b"2")])
            finally:
                member.go_on()

    run(scenario)


def test_a_watch_goes_on_after_a_restart_and_neither_misses_nor_repeats(member):
    async def scenario() -> None:
        async with opened(member) as store, opened(member) as other:
            first = await store.txn([], [Put("/w/0", b"")])
            watch = store.watch("/w/", first.revision)
            assert [event.key for event in await take(watch, 1)] == ["/w/0"]
            following = asyncio.ensure_future(take(watch, 6))
            for number in range(1, 7):
                if number in (2, 4):
                    member.kill()
                    member.up()
                while not (await other.txn([Compare(f"/w/{number}", 0)], [Put(f"/w/{number}", b"")])).succeeded:
                    pass
            assert [event.key for event in await following] == [f"/w/{number}" for number in range(1, 7)]

    run(scenario)


def test_a_watch_is_a_fault_when_no_member_comes_back(member):
    async def scenario() -> None:
        async with opened(member, patience=SHORT) as store:
            seen = await store.range("/")
            task = asyncio.ensure_future(take(store.watch("/", seen.revision + 1), 1))
            await store.txn([], [Put("/a", b"")])
            await task
            task = asyncio.ensure_future(take(store.watch("/", seen.revision + 2), 1))
            await store.range("/")
            member.kill()
            with pytest.raises(EnvironmentFault, match="etcd at"):
                await task

    run(scenario)


def test_a_watch_whose_place_is_compacted_while_it_is_away_says_so(member):
    async def scenario() -> None:
        async with opened(member, patience=LONG) as store:
            first = await store.txn([], [Put("/a", b"0")])
            watch = store.watch("/a", first.revision)
            await take(watch, 1)
            member.kill()
            member.up()
            async with opened(member) as other:
                last = [await written(other, "/a", b"%d" % number) for number in range(5)][-1]
            member.ctl("compact", str(last.revision))
            with pytest.raises(CompactedError):
                await take(watch, 1)
            again = await store.range("/a")
            assert [item.value for item in again.items] == [b"4"]

    run(scenario)


def test_a_quiet_watch_survives_the_compaction_of_what_others_did(tmp_path, monkeypatch):
    told_up_to: list[int] = []
    progress = asyncio.Event()
    watched = Channel.watch

    async def watch(channel: Channel, start: bytes, end: bytes, revision: int) -> AsyncIterator[Told]:
        async with aclosing(watched(channel, start, end, revision)) as stream:
            async for told in stream:
                if not (told.created or told.events):
                    told_up_to.append(told.head.revision)
                    progress.set()
                yield told

    monkeypatch.setattr(Channel, "watch", watch)
    member = Member(tmp_path, options=("--experimental-watch-progress-notify-interval", "100ms"))

    async def scenario() -> None:
        async with opened(member) as store:
            quiet = store.watch("/quiet", (await store.range("/")).revision + 1)
            waiting = asyncio.ensure_future(take(quiet, 1))
            last = [await store.txn([], [Put("/busy", b"%d" % number)]) for number in range(50)][-1]
            while not told_up_to or told_up_to[-1] < last.revision:
                progress.clear()
                await progress.wait()
            member.ctl("compact", str(last.revision))
            member.kill()
            member.up()
            done = await written(store, "/quiet")
            assert [event.mod_revision for event in await waiting] == [done.revision]

    with member:
        run(scenario)


def test_a_cluster_that_lost_its_data_is_never_taken_for_an_empty_one(member):
    async def scenario() -> None:
        async with opened(member) as store:
            for _ in range(5):
                await store.txn([], [Put("/a", b"")])
            watching = asyncio.ensure_future(take(store.watch("/a", (await store.range("/a")).revision + 1), 1))
            await store.range("/a")
            member.kill()
            shutil.rmtree(member.data)
            member.up()
            for call in (lambda: store.range("/"), lambda: store.get("/a"), lambda: store.txn([], [])):
                with pytest.raises(EnvironmentFault, match="lost data"):
                    await call()
            with pytest.raises(EnvironmentFault, match="lost data"):
                await watching

    run(scenario)


def test_another_cluster_in_the_place_of_the_first_is_refused(tmp_path, member):
    other = Member(tmp_path, "other", ports=(member.port, free_ports(1)[0]))

    async def scenario() -> None:
        async with opened(member) as store:
            await store.get("/a")
            member.kill()
            other.up()
            with pytest.raises(EnvironmentFault, match="is another cluster"):
                await store.range("/")

    try:
        run(scenario)
    finally:
        other.kill()


def test_more_than_etcd_takes_at_once_is_refused_whole_and_the_limit_is_named(member):
    async def scenario() -> None:
        async with opened(member) as store:
            with pytest.raises(OperatorError, match="too many operations") as caught:
                await store.txn([], [Put(f"/{number}", b"") for number in range(129)])
            assert "--max-txn-ops" in str(caught.value.hint)
            with pytest.raises(OperatorError, match="too large"):
                await store.txn([], [Put("/big", bytes(2_000_000))])
            assert (await store.range("/")).items == ()

    run(scenario)


def test_a_large_range_is_one_moment_though_it_is_read_in_parts(member):
    async def scenario() -> None:
        async with opened(member) as store, opened(member) as other:
            for start in range(0, 3000, 100):
                await store.txn([], [Put(f"/k/{number:05}", b"") for number in range(start, start + 100)])

            async def disturb() -> None:
                for number in range(3000, 3050):
                    await other.txn([], [Put(f"/k/{number:05}", b"")])

            disturbing = asyncio.ensure_future(disturb())
            while not disturbing.done():
                found = await store.range("/k/")
                assert [item.key for item in found.items] == [f"/k/{number:05}" for number in range(len(found.items))]
                assert found.revision == max(item.mod_revision for item in found.items)
            await disturbing

    run(scenario)


def test_a_prefix_keeps_a_store_to_itself(member):
    async def scenario() -> None:
        async with opened(member, rest="/p") as ours, opened(member, rest="/pp") as other, opened(member) as whole:
            await ours.txn([], [Put("/a", b"1")])
            await other.txn([], [Put("/a", b"2")])
            assert [(item.key, item.value) for item in (await ours.range("")).items] == [("/a", b"1")]
            assert [item.key for item in (await whole.range("")).items] == ["/p/a", "/pp/a"]

    run(scenario)


def test_killing_the_leader_of_three_loses_nothing_acknowledged_and_no_event(three):
    async def scenario() -> None:
        async with opened(*three) as store, opened(*three) as watcher:
            seen = await watcher.range("/w/")
            watch = watcher.watch("/w/", seen.revision + 1)
            following = asyncio.ensure_future(take(watch, 60))
            for number in range(60):
                if number in (20, 40):
                    leader = next(each for each in three if each.is_leader())
                    leader.kill()
                    # written while an election is on: acknowledged, or a fault and tried again
                    assert (await written(store, f"/w/{number:02}")).succeeded
                    leader.up()
                else:
                    await written(store, f"/w/{number:02}")
            events = await following
            keys = list(dict.fromkeys(event.key for event in events))  # one tried again may have been done twice
            assert keys == [f"/w/{number:02}" for number in range(len(keys))]
            revisions = [event.mod_revision for event in events]
            assert revisions == sorted(set(revisions))
            stored = [item.key for item in (await store.range("/w/")).items]
            assert stored == [f"/w/{number:02}" for number in range(60)]

    run(scenario)


def test_without_a_majority_calls_are_faults_and_with_it_again_they_are_answered(three):
    async def scenario() -> None:
        async with opened(*three, patience=SHORT) as store:
            await written(store, "/a", b"1")
            for each in three[:2]:
                each.kill()
            with pytest.raises(EnvironmentFault):
                await store.get("/a")  # one alone must not answer, it may be behind
            three[0].up()
            await written(store, "/b")
            found = await store.get("/a")
            assert found is not None
            assert found.value == b"1"

    run(scenario)

"""What the embedded backend does beyond the contract: its file, its errors, its bell."""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
import time
from pathlib import Path

import pytest

from routed.errors import EnvironmentFault, OperatorError
from routed.store import KeyValue, Put, Store
from routed.store.database import APPLICATION_ID, SCHEMA_VERSION
from routed.store.sqlite import SqliteStore


def put(path: Path, key: str, value: bytes = b"", **options: object) -> None:
    async def main() -> None:
        store = SqliteStore(path, **options)  # type: ignore[arg-type]
        try:
            await store.txn([], [Put(key, value)])
        finally:
            await store.close()

    asyncio.run(main())


def get(path: Path, key: str, **options: object) -> KeyValue | None:
    async def main() -> KeyValue | None:
        store = SqliteStore(path, **options)  # type: ignore[arg-type]
        try:
            return await store.get(key)
        finally:
            await store.close()

    return asyncio.run(main())


def test_the_file_and_its_directory_are_made_readable_by_their_owner_only(tmp_path):
    path = tmp_path / "deep" / "store.db"
    put(path, "/a")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["store.db"]


def test_what_was_written_is_there_after_reopening(tmp_path):
    put(tmp_path / "store.db", "/a", b"1")
    found = get(tmp_path / "store.db", "/a")
    assert found is not None
    assert found.value == b"1"


def test_writes_are_synced_to_the_disk(tmp_path):
    path = tmp_path / "store.db"

    async def main() -> None:
        store = SqliteStore(path)
        await store.txn([], [Put("/a", b"")])
        connection = store._database._open
        assert connection is not None
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        await store.close()

    asyncio.run(main())


def test_an_absent_file_is_not_made_when_it_has_to_be_there(tmp_path):
    path = tmp_path / "store.db"
    with pytest.raises(EnvironmentFault, match=r"there is no .*store\.db"):
        get(path, "/a", create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_named_and_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("shopping list\n" * 500)
    with pytest.raises(OperatorError, match=r"notes\.txt is not a SQLite database") as caught:
        put(path, "/a")
    assert caught.value.hint
    assert path.read_text() == "shopping list\n" * 500


def test_another_programs_database_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(OperatorError, match="another program's database"):
        put(path, "/a")
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused_with_both_versions(tmp_path):
    path = tmp_path / "store.db"
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(OperatorError, match=f"schema version {SCHEMA_VERSION + 1}; .* up to {SCHEMA_VERSION}"):
        put(path, "/a")


def test_a_damaged_file_is_reported_with_the_way_out(tmp_path):
    path = tmp_path / "store.db"
    for number in range(20):
        put(path, f"/{number}", os.urandom(2000))
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(EnvironmentFault, match="damaged") as caught:
        get(path, "/1")
    assert "routed apply" in str(caught.value.hint)


def test_a_directory_that_cannot_be_made_is_a_fault(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFault, match="file is not a directory") as caught:
        put(tmp_path / "file" / "store.db", "/a")
    assert "--store" in str(caught.value.hint)


def test_a_directory_in_the_files_place_is_a_fault(tmp_path):
    with pytest.raises(EnvironmentFault, match="unable to open"):
        put(tmp_path, "/a")


def test_a_read_only_file_system_is_a_fault():
    with pytest.raises(EnvironmentFault):
        put(Path("/proc/store.db"), "/a")


def test_a_writer_that_never_ends_is_a_fault_after_the_busy_time(tmp_path):
    path = tmp_path / "store.db"
    put(path, "/a")
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(EnvironmentFault, match="held by another process"):
            put(path, "/b", busy_seconds=0.05)
        assert get(path, "/a") is not None  # a reader never waits for a writer
    finally:
        holder.close()
    put(path, "/b")


def test_a_file_replaced_while_in_use_is_never_taken_for_an_empty_cluster(tmp_path):
    path = tmp_path / "store.db"

    async def main() -> None:
        store = SqliteStore(path)
        try:
            await store.txn([], [Put("/a", b"")])
            path.unlink()
            with pytest.raises(EnvironmentFault, match="removed or replaced"):
                await store.get("/a")
            path.write_bytes(b"")
            with pytest.raises(EnvironmentFault, match="removed or replaced"):
                await store.range("/")
        finally:
            await store.close()

    asyncio.run(main())


async def watching(store: Store) -> asyncio.Task[object]:
    """A task that waits for the next change, past its first look."""
    following = (await store.range("/")).revision + 1
    task: asyncio.Task[object] = asyncio.ensure_future(anext(store.watch("/", following)))  # type: ignore[arg-type]
    for _ in range(3):
        await store.range("/")
    return task


def test_the_bell_wakes_in_milliseconds_even_where_the_path_is_longer_than_a_socket_address(tmp_path):
    directory = tmp_path / ("long" * 30)
    delays = []

    async def main() -> None:
        watcher = SqliteStore(directory / "store.db", poll_seconds=1000)
        writer = SqliteStore(directory / "store.db")
        for _ in range(20):
            task = await watching(watcher)
            await writer.txn([], [Put("/a", b"")])
            begun = time.monotonic()
            await asyncio.wait_for(task, 10)
            delays.append(time.monotonic() - begun)
        await watcher.close()
        await writer.close()

    asyncio.run(main())
    assert sorted(delays)[10] < 0.02


def test_a_missed_bell_is_made_good_by_looking(tmp_path):
    path = tmp_path / "store.db"

    async def main() -> None:
        watcher = SqliteStore(path, poll_seconds=0.05)
        task = await watching(watcher)
        with sqlite3.connect(path) as killed_before_it_rang:
            killed_before_it_rang.execute("UPDATE head SET revision = revision + 1")
            killed_before_it_rang.execute("INSERT INTO event SELECT revision, 0, '/a', NULL FROM head")
        killed_before_it_rang.close()
        await asyncio.wait_for(task, 10)
        await watcher.close()

    asyncio.run(main())


def test_a_dead_watchers_socket_is_removed_by_the_next_writer_and_a_living_ones_stays(tmp_path):
    path = tmp_path / "store.db"
    bells = tmp_path / "store.db-bells"

    async def main() -> None:
        watcher = SqliteStore(path)
        task = await watching(watcher)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
            dead.bind(str(bells / "1-dead"))
        assert len(list(bells.iterdir())) == 2
        await watcher.txn([], [Put("/a", b"")])
        assert [entry.name.split("-")[0] for entry in bells.iterdir()] == [str(os.getpid())]
        await task
        await watcher.close()
        assert list(bells.iterdir()) == []

    asyncio.run(main())


def test_a_bell_that_cannot_be_rung_does_not_make_a_commit_a_failure(tmp_path):
    (tmp_path / "store.db-bells").write_text("a file where the directory of bells should be")
    put(tmp_path / "store.db", "/a", b"1")
    assert get(tmp_path / "store.db", "/a")


def test_a_watcher_that_never_listens_does_not_hold_up_writers(tmp_path):
    path = tmp_path / "store.db"
    bells = tmp_path / "store.db-bells"
    bells.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stuck:
        stuck.bind(str(bells / "1-stuck"))

        async def main() -> None:
            store = SqliteStore(path)
            for _ in range(1000):  # far more than a socket's queue holds
                await store.txn([], [Put("/a", b"")])
            await store.close()

        asyncio.run(main())


def test_the_event_loop_goes_on_while_the_disk_is_waited_for(tmp_path):
    path = tmp_path / "store.db"
    put(path, "/a")
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    async def main() -> None:
        store = SqliteStore(path)
        write = asyncio.create_task(store.txn([], [Put("/b", b"")]))
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert not write.done()
        holder.execute("ROLLBACK")
        assert (await write).succeeded
        await store.close()

    try:
        asyncio.run(main())
    finally:
        holder.close()

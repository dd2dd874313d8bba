"""The embedded backend: one SQLite file for all processes of one machine, a whole lab's agents included."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from routed.errors import EnvironmentFault
from routed.store import Compare, Delete, Event, KeyValue, Put, Range, Txn
from routed.store.bell import Bell, Listener
from routed.store.database import Database

T = TypeVar("T")


class SqliteStore:
    """`Store` over the file `path`, which the first use makes unless `create` is False.

    One worker thread owns the connection, so the event loop never waits for the disk. Watches are woken by writers
    (`bell`) and look by themselves every `poll_seconds`. The last `keep` revisions can be watched from. A call waits
    `busy_seconds` at most for another process' transaction. A call cancelled half-way may still take effect, as with
    any store behind a wire. To be used from one event loop.
    """

    def __init__(
        self,
        path: Path,
        *,
        create: bool = True,
        keep: int = 4096,
        poll_seconds: float = 1.0,
        busy_seconds: float = 10.0,
    ) -> None:
        self._database = Database(path, create=create, keep=keep, busy_seconds=busy_seconds)
        self._bell = Bell(path.with_name(f"{path.name}-bells"))
        self._listener: Listener | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wakes: set[asyncio.Event] = set()
        self._poll_seconds = poll_seconds
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="routed-store")
        self._closed = False

    async def get(self, key: str) -> KeyValue | None:
        """The key as of now, or None."""
        return await self._call(lambda: self._database.get(key))

    async def range(self, prefix: str) -> Range:
        """All keys that start with `prefix`."""
        return await self._call(lambda: self._database.range(prefix))

    async def txn(self, compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> Txn:
        """Apply all `operations` if all `compares` hold, else nothing. Durable when it returns.

        Raises Bug for two operations on one key.
        """

        def commit_and_ring() -> Txn:
            result = self._database.txn(compares, operations)
            if result.succeeded and operations:
                self._bell.ring()
            return result

        return await self._call(commit_and_ring)

    async def watch(self, prefix: str, from_revision: int) -> AsyncGenerator[Sequence[Event], None]:
        """Yield the changes below `prefix` from `from_revision` on, in order, those of one transaction together.

        Ends when the store is closed. Raises CompactedError when the revision, or the reader's place, is gone.
        """
        wake = asyncio.Event()
        self._wakes.add(wake)
        try:
            self._listen()
            position = from_revision
            while not self._closed:
                wake.clear()
                following, transactions = await self._call(lambda: self._database.events(prefix, position))  # noqa: B023  awaited at once
                for events in transactions:
                    yield events
                if following == position:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self._poll_seconds):
                            await wake.wait()
                position = following
        finally:
            self._wakes.discard(wake)

    async def check(self) -> Sequence[str]:
        """What SQLite finds wrong in the file."""
        return await self._call(self._database.check)

    async def close(self) -> None:
        """End every watch and close the file. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self._ring()
        if self._listener is not None and self._loop is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()

        def let_go() -> None:
            self._database.close()
            self._bell.close()

        await asyncio.get_running_loop().run_in_executor(self._worker, let_go)
        self._worker.shutdown(wait=False)

    async def _call(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise EnvironmentFault(f"store: {self._database.path} was closed by this process", hint="open it again")
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    def _listen(self) -> None:
        """Hear the bell from now on. Where no socket can be made, watches live by looking every `poll_seconds`."""
        if self._listener is not None:
            return
        with suppress(OSError):
            self._listener = self._bell.listen()
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._listener, self._heard)

    def _heard(self) -> None:
        assert self._listener is not None
        self._listener.drain()
        self._ring()

    def _ring(self) -> None:
        for wake in self._wakes:
            wake.set()

"""A store for those who cannot wait as long as its backend tries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

from routed.errors import EnvironmentFault
from routed.store import Compare, Delete, Event, KeyValue, Put, Range, Store, Txn


class PatientStore:
    """`store`, each of whose calls takes at most `seconds` and is an EnvironmentFault then. What was asked may be done
    all the same, as after any such fault.
    """

    def __init__(self, store: Store, seconds: float) -> None:
        self._store = store
        self._seconds = seconds

    async def get(self, key: str) -> KeyValue | None:
        """The key as of now, or None."""
        async with self._bounded():
            return await self._store.get(key)

    async def range(self, prefix: str) -> Range:
        """All keys that start with `prefix`."""
        async with self._bounded():
            return await self._store.range(prefix)

    async def txn(self, compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> Txn:
        """Apply all `operations` if all `compares` hold, else nothing."""
        async with self._bounded():
            return await self._store.txn(compares, operations)

    def watch(self, prefix: str, from_revision: int) -> AsyncIterator[Sequence[Event]]:
        """As `store`: who watches waits."""
        return self._store.watch(prefix, from_revision)

    async def check(self) -> Sequence[str]:
        """As `store`."""
        return await self._store.check()

    async def close(self) -> None:
        """Let go of the backend."""
        await self._store.close()

    @asynccontextmanager
    async def _bounded(self) -> AsyncGenerator[None]:
        try:
            async with asyncio.timeout(self._seconds):
                yield
        except TimeoutError:
            raise EnvironmentFault(
                f"store: no answer within {self._seconds:g} s", hint="is it running, and not cut off?"
            ) from None

"""A node with a journal, and what stands between it and the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from routed.errors import EnvironmentFault
from routed.ipam.allocator import Allocator
from routed.ipam.journal_file import JournalFile
from routed.store import Compare, Delete, Event, KeyValue, Put, Range, Txn
from routed.store.patient import PatientStore

from .cluster import MemoryStore, World


class CutOff:
    """The way of one node to the `store` of all: it can be `away`, or `silent`. `waiting`: calls without an answer."""

    def __init__(self, store: MemoryStore) -> None:
        self.away = self.silent = False
        self.waiting = 0
        self.each_call: Callable[[], None] = lambda: None
        self._store = store

    async def _call(self) -> None:
        self.each_call()
        if self.silent:
            self.waiting += 1
            await asyncio.Event().wait()
        if self.away:
            raise EnvironmentFault("store: unreachable")

    async def get(self, key: str) -> KeyValue | None:
        await self._call()
        return await self._store.get(key)

    async def range(self, prefix: str) -> Range:
        await self._call()
        return await self._store.range(prefix)

    async def txn(self, compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> Txn:
        await self._call()
        return await self._store.txn(compares, operations)

    def watch(self, prefix: str, from_revision: int) -> AsyncIterator[Sequence[Event]]:
        raise NotImplementedError

    async def check(self) -> Sequence[str]:
        return ()

    async def close(self) -> None:
        pass


class JournallingNode:
    """Node `name` of `world`, whose allocator has the journal at `path`."""

    def __init__(self, world: World, name: str, path: Path, patience: float = 5.0) -> None:
        self.path = path
        self.store = CutOff(world.store)
        self._world = world
        journal, store = JournalFile(path), PatientStore(self.store, patience)
        self.allocator = Allocator(store, node=name, clock=lambda: world.now, journal=journal)

    async def start(self) -> JournallingNode:
        await self.hear()
        await self.allocator.load()
        return self

    async def hear(self) -> None:
        await self.allocator.adopt(self._world.cluster)

    async def back(self) -> None:
        """Wait until the store has the journal."""
        returned = asyncio.Event()
        self.allocator.when_back(returned.set)
        if self.allocator.journal().away or self.allocator.journal().waiting:
            await returned.wait()

    async def stop(self) -> None:
        """As by a kill: nothing is told to anybody."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

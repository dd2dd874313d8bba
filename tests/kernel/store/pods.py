"""A node whose pods come and go, in a process of its own: `pods.py run URL NODE GENERATION SEED [HANDLE...]`.

Says what `ledger` hears. The HANDLEs are given back first: the runtime's DELs for what its killed predecessor did not
answer. SIGTERM ends it; what its pods hold then they keep.

`pods.py audit URL [HANDLE...]` gives back HANDLEs, then prints each address in the store with its node and its handle.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count

from routed.errors import EnvironmentFault
from routed.ipam.allocator import Allocator
from routed.ipam.survey import EVERYTHING, Survey
from routed.model.cluster import Cluster
from routed.store.resources import read_resources
from routed.store.url import open_store

PODS = 6  # at a time


def say(*words: object) -> None:
    os.write(1, f"{time.monotonic_ns()} {' '.join(map(str, words))}\n".encode())  # whole, or not at all


class Node:
    def __init__(self, url: str, name: str, generation: str, seed: str) -> None:
        self.name, self.generation = name, generation
        self.store = open_store(url)
        self.allocator = Allocator(self.store, node=name, cooldown=0)
        self.chance = random.Random(f"{seed} {name} {generation}")
        self.ending = asyncio.Event()

    async def pause(self, most: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self.chance.uniform(0, most)):
                await self.ending.wait()

    async def insist(self, call: Callable[[], Awaitable[object]]) -> None:
        """Until the store is there."""
        while True:
            with suppress(EnvironmentFault):
                await call()
                return
            await asyncio.sleep(0.05)

    async def follow(self) -> None:
        await self.allocator.adopt(Cluster.of(await read_resources(self.store)))

    async def give_back(self, handle: str) -> None:
        say("releasing", handle)
        await self.insist(lambda: self.allocator.release(handle))
        say("freed", handle)

    async def pod(self, place: int) -> None:
        for number in count():
            handle = f"{self.name}.{self.generation}.{place}.{number}"
            say("asking", handle)
            try:
                (address,) = await self.allocator.assign_each(handle)
            except EnvironmentFault:
                say("fault", handle)
            else:
                say("held", handle, address)
                await self.pause(0.2)
                if self.ending.is_set():
                    return
            await self.give_back(handle)
            await self.pause(0.05)
            if self.ending.is_set():
                return

    async def tend(self) -> None:
        while not self.ending.is_set():
            with suppress(EnvironmentFault):
                await self.follow()
                if self.chance.random() < 0.2:
                    await self.allocator.tend()
            await self.pause(0.6)

    async def run(self, unsure: list[str]) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.ending.set)
        await self.insist(self.follow)
        found = self.allocator.allocations()
        for address, held in found.items():
            say("found", held.handle, address)
        say("loaded", self.name)
        async with asyncio.TaskGroup() as group:
            for handle in {held.handle for held in found.values()} | set(unsure):
                group.create_task(self.give_back(handle))
            for place in range(PODS):
                group.create_task(self.pod(place))
            group.create_task(self.tend())
        await self.store.close()


async def audit(url: str, handles: list[str]) -> None:
    store = open_store(url)
    for handle in handles:
        await Allocator(store, node=handle.partition(".")[0]).release(handle)
    items = (await store.range(EVERYTHING)).items
    for address, node, handle in Survey.of([(each.key, each.value, each.mod_revision) for each in items]).holders():
        print(address, node, handle)
    await store.close()


async def main() -> None:
    verb, url, *rest = sys.argv[1:]
    if verb == "run":
        name, generation, seed, *unsure = rest
        await Node(url, name, generation, seed).run(unsure)
    else:
        await audit(url, rest)


asyncio.run(main())

"""A user of the store in a process of its own: `traffic.py URL KEY START`. Counts KEY up by compare-and-swap for ever.

Prints `ack N` for each number that was acknowledged, `fault` for each call that failed, and `saw N` for each that its
watch told of. START is the member to begin with.
"""

from __future__ import annotations

import asyncio
import sys

from routed.errors import EnvironmentFault
from routed.store import Compare, Put
from routed.store.etcd import EtcdStore
from routed.store.etcd_url import parse


def opened() -> EtcdStore:
    store = EtcdStore(parse(sys.argv[1]))
    store._links._next = int(sys.argv[3])
    return store


def say(*words: object) -> None:
    print(*words, flush=True)


async def count(key: str) -> None:
    store = opened()
    while True:
        try:
            now = await store.get(key)
            value, revision = (int(now.value), now.mod_revision) if now else (0, 0)
            if (await store.txn([Compare(key, revision)], [Put(key, b"%d" % (value + 1))])).succeeded:
                say("ack", value + 1)
        except EnvironmentFault:
            say("fault")
        await asyncio.sleep(0.02)


async def follow(key: str) -> None:
    store = opened()
    position = 1
    while True:
        try:
            async for events in store.watch(key, position):
                for event in events:
                    assert event.value is not None
                    say("saw", int(event.value))
                    position = event.mod_revision + 1
        except EnvironmentFault:
            say("watch fault")


async def main() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(count(sys.argv[2]))
        group.create_task(follow(sys.argv[2]))


asyncio.run(main())

"""What the tests run in other processes: `worker.py VERB URL ...`."""

from __future__ import annotations

import asyncio
import sys

from routed.store import Compare, Put, Store
from routed.store.url import open_store


async def increment(store: Store, times: str) -> None:
    """Add 1 to /counter, `times` times, by compare-and-swap."""
    done = 0
    while done < int(times):
        now = await store.get("/counter")
        value, revision = (int(now.value), now.mod_revision) if now else (0, 0)
        done += (await store.txn([Compare("/counter", revision)], [Put("/counter", b"%d" % (value + 1))])).succeeded


async def write(store: Store, prefix: str, times: str) -> None:
    """Write `times` keys below `prefix`, each printed once it was acknowledged."""
    for number in range(int(times)):
        key = f"{prefix}{number:06}"
        await store.txn([], [Put(key, b"x" * 100)])
        print(key, flush=True)


async def main() -> None:
    verb, url, *rest = sys.argv[1:]
    store = open_store(url)
    await {"increment": increment, "write": write}[verb](store, *rest)
    await store.close()


asyncio.run(main())

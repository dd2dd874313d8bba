"""The store's bell rings across network namespaces: a lab's agents share one store, each in a namespace of its own."""

from __future__ import annotations

import asyncio
import subprocess
import sys

from routed.store import Put
from routed.store.sqlite import SqliteStore

WATCHER = """
import asyncio, sys
from pathlib import Path
from routed.store.sqlite import SqliteStore

async def main():
    store = SqliteStore(Path(sys.argv[1]), poll_seconds=1000)
    watch = store.watch("/", (await store.range("/")).revision + 1)
    task = asyncio.ensure_future(anext(watch))
    while not list(Path(sys.argv[1] + "-bells").glob("*")):
        await asyncio.sleep(0.001)
    await store.range("/")
    print("listening", flush=True)
    print((await task)[0].key, flush=True)
    await store.close()

asyncio.run(main())
"""


def test_a_watch_in_another_network_namespace_is_woken(tmp_path):
    path = tmp_path / "store.db"
    command = ["unshare", "--net", sys.executable, "-c", WATCHER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watcher:
        try:
            assert watcher.stdout is not None
            assert watcher.stdout.readline() == "listening\n"

            async def write() -> None:
                store = SqliteStore(path)
                await store.txn([], [Put("/rung", b"")])
                await store.close()

            asyncio.run(write())
            assert watcher.communicate(timeout=60)[0] == "/rung\n"  # by itself it would look after 1000 s
        finally:
            watcher.kill()

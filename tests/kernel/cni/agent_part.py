"""What the agent does for the plugin, and nothing else of it: store, allocator, plugin, server. Run in a node."""

from __future__ import annotations

import asyncio
import signal
import sys
from ipaddress import ip_network
from pathlib import Path

from routed.ipam.allocator import Allocator
from routed.store.sqlite import SqliteStore
from routed_cni.plugin import Plugin
from routed_cni.server import Server


async def main(socket_path: Path, store_path: Path, cidrs: str, mtu: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    store = SqliteStore(store_path)
    plugin = Plugin(
        Allocator(store, [ip_network(cidr) for cidr in cidrs.split(",")], node="node"),
        mtu=lambda: mtu,
        on_change=lambda: None,
        ready=lambda: None,
    )
    server = Server(socket_path, plugin.handle)
    await plugin.repair()
    await server.start()
    await stop.wait()
    await server.close()
    plugin.close()
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])))

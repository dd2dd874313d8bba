"""One node for the tests that need RIBs: all of the agent's BGP, orders on stdin, what is known on stdout.

`Routing` is driven as the agent drives it, with the speaker, the node's own interfaces and a clock, and without a store
and routes. Each line of stdin is a JSON `Order`; each line of stdout is all that the node knows, one for each event.
End of stdin closes the speaker as SIGTERM to the agent does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from routed.agent.neighbourhood import Neighbourhood
from routed.agent.routing import Routing
from routed.config import AgentConfig
from routed.model.address import Address, Family
from routed.model.cluster import Cluster
from routed.model.codec import decode_hook
from routed.model.resources import AnyResource
from routed_bgp.bfd.client import Bfd
from routed_bgp.exabgp.speaker import ExaBGP
from routed_bgp.export import Drain
from routed_bgp.nlri import to_prefix
from routed_bgp.rib import PeerStatus
from routed_bgp.speaker import SessionDown, SpeakerFailed, SpeakerStarted
from routed_felix.dataplane import Dataplane
from routed_felix.monitor import Monitor
from routed_felix.state import Settings
from routed_felix.view import View

_MOST_TOLD = 100  # prefixes


class Order(msgspec.Struct):
    resources: list[AnyResource] | None = None
    reset: Address | None = None
    drain: str = ""
    sleep: float = 0.0


class Node:
    def __init__(self, run_dir: Path, name: str, *, stock: bool) -> None:
        self.speaker = ExaBGP(run_dir, stock=stock)
        self.routing = Routing(AgentConfig(node=name), self.speaker, Bfd(), time.monotonic)
        self.name = name
        self.cluster = Cluster()
        self.dataplane = Dataplane(Settings())
        self.monitor = Monitor(Settings())
        self.moved = asyncio.Event()  # something happened to the interfaces, or to what leads through them
        self.fault = ""
        self.changes = 0
        self.downs: dict[str, list[str]] = {}

    def tell(self) -> None:
        rib = self.routing.rib
        self.changes += len(self.routing.take_changes(Family.IPV4))
        best = {
            str(to_prefix(nlri, Family.IPV4)): {
                "via": str(paths[0].next_hop),
                "stale": paths[0].stale,
                "local_pref": paths[0].local_pref,
                "paths": len(paths),
            }
            for nlri, paths in islice(rib.best().items(), _MOST_TOLD)
        }
        known = {
            "best": best,
            "count": len(rib.best()),
            "peers": {str(status.peer): self.peer(status) for status in rib.status()},
            "synced": rib.synced(time.monotonic()),
            "pid": self.speaker.pid,
            "fault": self.fault,
            "changes": self.changes,
        }
        print(json.dumps(known), flush=True)

    def peer(self, status: PeerStatus) -> Mapping[str, Any]:
        return {
            "state": status.state,
            "error": status.last_error,
            "received": status.received,
            "stale": status.stale,
            "synced": status.synced,
            "told": self.routing.out.count(status.peer),
            "downs": self.downs.get(str(status.peer), [])[-10:],
        }

    async def obey(self) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=1 << 22)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        async for line in reader:
            order = msgspec.json.decode(line, type=Order, dec_hook=decode_hook)
            if order.sleep:
                time.sleep(order.sleep)  # noqa: ASYNC251  the whole agent sleeps, which is the point
            if order.reset:
                await self.speaker.reset(order.reset)
            if order.drain:
                self.routing.drain(Drain[order.drain])
            if order.resources is not None:
                self.cluster = Cluster.of(order.resources)
                await self.routing.adopt(self.cluster)
                self.moved.set()
            self.tell()

    async def listen(self) -> None:
        async for event in self.speaker.events():
            match event:
                case SpeakerFailed(fault):
                    self.fault = str(fault)
                case SpeakerStarted():
                    self.fault = ""
                case _:
                    if isinstance(event, SessionDown):
                        self.downs.setdefault(str(event.peer), []).append(f"{event.ending.name} {event.reason}")
                    hops = self.routing.rib.next_hops
                    await self.routing.handle(event)
                    if self.routing.rib.next_hops != hops:
                        self.moved.set()
            self.tell()

    async def look_around(self) -> None:
        asyncio.get_running_loop().add_reader(self.monitor.fileno(), self.read_monitor)
        while True:
            await self.moved.wait()
            self.moved.clear()
            kernel = self.dataplane.reread()
            view = View(
                node=self.name,
                cluster=self.cluster,
                peers=tuple(session.peer for session in self.routing.sessions),
                gateways=self.routing.gateways,
                interfaces=kernel.interfaces,
                underlay=kernel.underlay,
            )
            views = {Family.IPV4: view, Family.IPV6: replace(view, family=Family.IPV6, underlay=kernel.underlay6)}
            await self.routing.interfaces_changed(Neighbourhood(views))
            self.tell()

    def read_monitor(self) -> None:
        changes = self.monitor.read()
        self.dataplane.take(changes)
        if changes:
            self.moved.set()

    async def tick(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            if (deadline := self.routing.rib.next_deadline) is not None and deadline <= time.monotonic():
                await self.routing.expire(time.monotonic())
                self.tell()

    async def run(self) -> None:
        tasks = [asyncio.create_task(each) for each in (self.listen(), self.look_around(), self.tick(), self.obey())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await self.speaker.close()
            for task in tasks:
                task.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(relativeCreated)d %(name)s %(message)s")
    asyncio.run(Node(Path(sys.argv[1]), sys.argv[3], stock=sys.argv[2] == "stock").run())

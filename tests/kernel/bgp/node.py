"""One node for the tests: a speaker and a RIB in this process, wanted state on stdin, what is known on stdout.

Each line of stdin is JSON: `{"node": NAME, "resources": [...]}`, or `{"reset": ADDRESS}`. Each line of stdout is all
that the node knows. End of stdin closes the speaker as SIGTERM to the agent does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from pathlib import Path

import msgspec

from routed.model.address import Address
from routed.model.cluster import Cluster
from routed.model.resources import AnyResource
from routed_bgp.exabgp.speaker import ExaBGP
from routed_bgp.rib import Rib
from routed_bgp.sessions import wanted_advertisements, wanted_sessions
from routed_bgp.speaker import SpeakerFailed, SpeakerStarted


class Order(msgspec.Struct):
    node: str = ""
    resources: list[AnyResource] = []
    reset: Address | None = None
    hold: int = 90
    restart: int = 120


class Node:
    def __init__(self, run_dir: Path) -> None:
        self.rib = Rib()
        self.speaker = ExaBGP(run_dir)
        self.fault = ""
        self.changes = 0

    def tell(self) -> None:
        known = {
            "best": {str(p): {"via": str(b[0].next_hop), "stale": b[0].stale} for p, b in self.rib.best.items()},
            "peers": {
                str(s.peer): {
                    "state": s.state,
                    "error": s.last_error,
                    "received": s.received,
                    "stale": s.stale,
                    "synced": s.synced,
                }
                for s in self.rib.status()
            },
            "synced": self.rib.synced(time.monotonic()),
            "pid": self.speaker.pid,
            "fault": self.fault,
            "changes": self.changes,
        }
        print(json.dumps(known), flush=True)

    async def obey(self) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=1 << 22)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        async for line in reader:
            order = msgspec.json.decode(line, type=Order, dec_hook=lambda kind, value: kind(value))
            if order.reset:
                await self.speaker.reset(order.reset)
                continue
            cluster = Cluster.of(order.resources)
            sessions = wanted_sessions(cluster, order.node, hold_time=order.hold, restart_time=order.restart)
            self.changes += len(self.rib.set_policy(cluster, order.node))
            self.changes += len(self.rib.set_sessions(sessions, time.monotonic()))
            await self.speaker.set(sessions, wanted_advertisements(cluster, order.node))
            self.tell()

    async def listen(self) -> None:
        async for event in self.speaker.events():
            match event:
                case SpeakerFailed(fault):
                    self.fault = str(fault)
                case SpeakerStarted():
                    self.fault = ""
                case _:
                    self.changes += len(self.rib.handle(event, time.monotonic()))
            for peer in self.rib.faulty:
                await self.speaker.reset(peer)
            self.tell()

    async def tick(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            if (deadline := self.rib.next_deadline) is not None and deadline <= time.monotonic():
                self.changes += len(self.rib.expire(time.monotonic()))
                self.tell()

    async def run(self) -> None:
        tasks = [asyncio.create_task(self.listen()), asyncio.create_task(self.tick())]
        try:
            await self.obey()
        finally:
            await self.speaker.close()
            for task in tasks:
                task.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(relativeCreated)d %(name)s %(message)s")
    asyncio.run(Node(Path(sys.argv[1])).run())

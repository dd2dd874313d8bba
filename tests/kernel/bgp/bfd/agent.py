"""An agent that has nothing but BFD: orders come in as JSON lines, what it knows goes out as JSON lines."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from ipaddress import ip_address
from typing import Any

from routed_bgp.bfd.client import Bfd, BfdFault
from routed_bgp.bfd.messages import BfdSession


def wanted(fields: dict[str, Any]) -> BfdSession:
    return BfdSession(**{**fields, "peer": ip_address(fields["peer"]), "local": ip_address(fields["local"])})


class Agent:
    def __init__(self) -> None:
        self.bfd = Bfd()
        self.fault = ""
        self.changes: list[dict[str, Any]] = []

    def tell(self) -> None:
        sessions = {
            str(status.session.peer): {
                "up": status.up,
                "watched": status.watched,
                **(
                    {name: getattr(status.snapshot, name) for name in status.snapshot.__slots__}
                    if status.snapshot
                    else {}
                ),
            }
            for status in self.bfd.states()
        }
        known = {"pid": self.bfd.pid, "fault": self.fault, "changes": self.changes, "sessions": sessions}
        print(json.dumps(known), flush=True)

    async def listen(self) -> None:
        async for event in self.bfd.events():
            if isinstance(event, BfdFault):
                self.fault = str(event.fault or "")
                continue
            self.changes.append(
                {"peer": str(event.peer), "up": event.up, "failed": event.failed, "diagnostic": event.diagnostic}
            )

    async def show(self) -> None:
        while True:
            self.tell()
            await asyncio.sleep(0.05)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        tasks = [asyncio.create_task(self.listen()), asyncio.create_task(self.show())]
        try:
            async for line in reader:
                await self.bfd.set([wanted(fields) for fields in json.loads(line)])
        finally:
            await self.bfd.close()
            await tasks[0]
            tasks[1].cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(relativeCreated)d %(name)s %(message)s")
    asyncio.run(Agent().run())

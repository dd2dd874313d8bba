"""What goes on in a lab while a scenario runs: packets that leave a link, and what `ip monitor` tells of each node."""

from __future__ import annotations

import re
import selectors
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Final

from routed.netlink.socket import inside
from routed_lab.probe import packets, stamp
from routed_lab.runner.daemons import environment
from routed_lab.runner.process import Child
from routed_lab.runner.sandbox import Sandbox
from routed_lab.scenario import sieve
from routed_lab.scenario.pcapng import Packet
from routed_lab.topology import Topology

ROOM: Final = 32 << 20
"""Bytes of packets that are kept; what comes later is counted."""

_WHOLE = 1 << 16  # a veth carries segments of up to 64 KiB
_IDLE = 0.5  # seconds between looks at whether to end
_LINE = re.compile(r"\[(?P<time>[0-9T:.\-]+)\] (?P<text>.*)")


class Capture:
    """Keeps the packets that leave the links of a topology, in a thread of its own from `start` to `stop`."""

    def __init__(self, topology: Topology, namespaces: Mapping[str, Path]) -> None:
        """`namespaces` by node. Needs CAP_NET_RAW and CAP_SYS_ADMIN."""
        self.packets: list[Packet] = []
        self.dropped = 0
        self._links = {(node, name) for node in namespaces for name in topology.interfaces(node)}
        self._room = ROOM
        self._ending = threading.Event()
        self._selector = selectors.DefaultSelector()
        self._thread = threading.Thread(target=self._listen, name="capture", daemon=True)
        with ExitStack() as stack:
            stack.callback(self._selector.close)
            for node, namespace in namespaces.items():
                with inside(namespace):
                    listener = stack.enter_context(packets(sieve.conversation()))
                self._selector.register(listener, selectors.EVENT_READ, node)
            self._stack = stack.pop_all()

    def start(self) -> None:
        """Begin to listen; the sockets have been collecting since they were opened."""
        self._thread.start()

    def stop(self) -> None:
        """End; what had arrived until now is kept."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()
        self._stack.close()
        self.packets.sort(key=lambda packet: packet.time)

    def _listen(self) -> None:
        while not self._ending.is_set():
            self._collect(_IDLE)
        self._collect(0)

    def _collect(self, wait: float) -> None:
        for key, _ in self._selector.select(wait):
            listener = key.fileobj
            assert isinstance(listener, socket.socket)
            while True:
                try:
                    data, control, _, address = listener.recvmsg(_WHOLE, 64)
                except BlockingIOError:
                    break
                except OSError:  # ENETDOWN: an interface went down
                    continue
                if (key.data, address[0]) not in self._links:
                    continue
                if len(data) > self._room:
                    self.dropped += 1
                    continue
                self._room -= len(data)
                self.packets.append(Packet(stamp(control), key.data, address[0], data))


class Monitor:
    """`ip monitor` of one node, from its start until `stop`."""

    def __init__(self, node: str, sandbox: Sandbox | None, directory: Path) -> None:
        self.node = node
        self._out = directory / f"{node}.monitor"
        with self._out.open("wb") as out:
            self._child = Child(
                f"ip monitor of {node}",
                ["ip", "-ts", "-o", "monitor", "link", "route", "nexthop"],
                sandbox=sandbox,
                env=environment({"TZ": "UTC"}),
                stdout=out,
            )

    async def stop(self) -> None:
        """End it."""
        await self._child.stop(1.0)

    def lines(self) -> Iterator[tuple[float, str]]:
        """What it told: seconds since the epoch, and the line."""
        for line in self._out.read_text(encoding="utf-8", errors="replace").splitlines():
            if found := _LINE.match(line):
                time = datetime.fromisoformat(f"{found['time']}+00:00").timestamp()
                yield time, " ".join(found["text"].replace("\\", " ").split())

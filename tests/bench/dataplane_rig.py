"""A node between two ToRs, in fresh network namespaces, and witnesses of its kernel that share no code with ours.

    node  eth1 10.1.1.11/24 -- 10.1.1.1 tor1
          eth2 10.1.2.11/24 -- 10.1.2.1 tor2

Both ToRs take in whatever is sent to 20.0.0.0/6, where the benchmark's prefixes are: /26s in order.
"""

from __future__ import annotations

import itertools
import os
import random
import socket
import struct
import subprocess
import time
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import Self

from harness import in_namespace, sh

from routed.netlink.socket import inside

TOR1, TOR2 = "10.1.1.1", "10.1.2.1"
NODE = "10.1.1.11"
FIRST = 20 << 24
STEP = 64  # addresses of a /26
POOL = "20.0.0.0/6"
_HEADER = struct.Struct("=IHHII")
_RTMSG = struct.Struct("=BBBBBBBBI")
_NEWROUTE, _GETROUTE, _DST, _OIF, _GATEWAY = 24, 26, 1, 4, 5
_SO_RCVBUFFORCE = 33
_RTMGRP_IPV4_ROUTE = 0x40
_serial = itertools.count(1)


def nlri(number: int) -> bytes:
    """The prefix of that number, in wire form."""
    return b"\x1a" + struct.pack("!I", FIRST + number * STEP)


def prefix(number: int) -> str:
    """The same as text."""
    return f"{IPv4Address(FIRST + number * STEP)}/26"


class Rig:
    """The three namespaces; `with` it they go."""

    def __init__(self) -> None:
        name = f"rd{os.getpid()}x{next(_serial)}"
        self.node, self.tor1, self.tor2 = (f"{name}{part}" for part in ("n", "a", "b"))
        try:
            self._make()
        except BaseException:
            self._remove()
            raise

    def _make(self) -> None:
        for namespace in (self.node, self.tor1, self.tor2):
            sh("ip", "netns", "add", namespace)
            in_namespace(namespace, "ip", "link", "set", "lo", "up")
        for number, tor in ((1, self.tor1), (2, self.tor2)):
            device = f"eth{number}"
            in_namespace(self.node, "ip", "link", "add", device, "type", "veth", "peer", "name", "south", "netns", tor)
            in_namespace(self.node, "ip", "address", "add", f"10.1.{number}.11/24", "dev", device)
            in_namespace(self.node, "ip", "link", "set", device, "up")
            in_namespace(tor, "ip", "address", "add", f"10.1.{number}.1/24", "dev", "south")
            in_namespace(tor, "ip", "link", "set", "south", "up")
            in_namespace(tor, "sh", "-c", "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done")
            in_namespace(tor, "ip", "route", "add", "local", POOL, "dev", "lo")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._remove()

    def _remove(self) -> None:
        for namespace in (self.node, self.tor1, self.tor2):
            subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)

    def index(self, device: str) -> int:
        """The number of an interface of the node."""
        with inside(f"/run/netns/{self.node}"):
            return socket.if_nametoindex(device)

    def routes(self) -> int:
        """See `routes`."""
        with inside(f"/run/netns/{self.node}"):
            return routes()


def routes() -> int:
    """How many IPv4 prefixes are in the main table of this thread's namespace: some milliseconds at 100k, no lock."""
    text = Path("/proc/thread-self/net/fib_triestat").read_text()
    return int(text[text.index("Main:") :].split("Prefixes:")[1].split()[0])


class Witness:
    """Asks this thread's namespace how it forwards, one RTM_GETROUTE each."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._socket.settimeout(10)

    def ways(self, count: int, sample: int = 1000) -> set[tuple[int, str]]:
        """By which interfaces and gateways `sample` random prefixes of the first `count` are reached.

        (0, reason) where one is not.
        """
        return {self._way(number) for number in random.sample(range(count), min(sample, count))}

    def _way(self, number: int) -> tuple[int, str]:
        address = struct.pack("!I", FIRST + number * STEP + 1 + number % 60)
        body = _RTMSG.pack(socket.AF_INET, 32, 0, 0, 0, 0, 0, 0, 0) + struct.pack("=HH", 8, _DST) + address
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), _GETROUTE, 1, number + 1, 0) + body)
        answer = self._socket.recv(65536)
        if _HEADER.unpack_from(answer)[1] != _NEWROUTE:
            return 0, os.strerror(-struct.unpack_from("=i", answer, _HEADER.size)[0])
        found: dict[int, bytes] = {}
        at = _HEADER.size + _RTMSG.size
        while at + 4 <= len(answer):
            size, kind = struct.unpack_from("=HH", answer, at)
            found[kind] = answer[at + 4 : at + size]
            at += (size + 3) & ~3
        gateway = found.get(_GATEWAY)
        return struct.unpack("=I", found[_OIF])[0], socket.inet_ntoa(gateway) if gateway else ""


class Listener:
    """Counts the routes through one gateway that this thread's namespace is told of, without taking part in it."""

    def __init__(self, gateway: str) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 256 << 20)
        self._socket.bind((0, _RTMGRP_IPV4_ROUTE))
        self._socket.setblocking(False)
        self._attribute = struct.pack("=HH", 8, _GATEWAY) + socket.inet_aton(gateway)
        self.count = 0
        self.last_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def read(self) -> int:
        """Take in what is there; how many there were so far."""
        try:
            while True:
                data = self._socket.recv(1 << 16)
                if _HEADER.unpack_from(data)[1] == _NEWROUTE and self._attribute in data:
                    self.count += 1
                    self.last_at = time.monotonic()
        except BlockingIOError:
            return self.count


def percentile(values: Sequence[float], hundredths: int) -> float:
    """The value that so many of a hundred do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * hundredths // 100)]

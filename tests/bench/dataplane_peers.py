"""BIRD 2 and a C program as programmers of the same routes, to compare with.

BIRD has the routes as static ones in its table before the clock starts. What is measured is its kernel protocol: from
the command that enables it until the kernel's table has all, read from /proc/net/fib_triestat every 5 ms, which takes
no lock that BIRD needs and runs on another processor. For a repoint all routes are recursive through one address, and
that address gets a better route by a command, so no configuration is read meanwhile; the end is the last event that the
kernel sends, counted by a listener beside BIRD's own. In both BIRD is asked something every 5 ms: 2.0.12 goes to sleep
for 3 s with events of its own queued unless a socket wakes it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from bgp_peers import Bird
from dataplane_ours import require_way
from dataplane_rig import TOR1, TOR2, Listener, Rig, prefix, routes
from harness import in_namespace, sh

from routed.netlink.socket import inside

_NEXT_HOP = "10.9.9.9"
_SECONDS = 120


class KernelBird(Bird):
    """BIRD with static routes and its kernel protocol."""

    def hold(self, count: int, *, recursive: bool) -> None:
        """Run with `count` routes, none of them in the kernel yet."""
        way = f"recursive {_NEXT_HOP}" if recursive else f"via {TOR1}"
        table = "\n".join(f"route {prefix(number)} {way};" for number in range(count))
        self._run(
            f"""router id 10.1.1.11; protocol device {{}} protocol direct {{ ipv4; }}
            protocol static fixed {{ ipv4; {table} }}
            protocol static one {{ ipv4; route {_NEXT_HOP}/32 via {TOR1}; }}
            protocol static two {{ disabled; ipv4 {{ preference 250; }}; route {_NEXT_HOP}/32 via {TOR2}; }}
            protocol kernel fib {{ disabled; ipv4 {{ import none; export where net != {_NEXT_HOP}/32; }}; }}"""
        )

    def program(self, count: int) -> float:
        """Seconds until the kernel has all `count`; this thread is in BIRD's namespace."""
        wanted = routes() + count
        start = time.monotonic()
        self.ask("enable fib")
        while routes() < wanted:
            self._pause(start)
        return time.monotonic() - start

    def repoint(self, count: int) -> float:
        """Milliseconds until the kernel has said of all that they go by the second ToR."""
        with Listener(TOR2) as listener:
            start = time.monotonic()
            self.ask("enable two")
            while listener.read() < count:
                self._pause(start)
            milliseconds = (listener.last_at - start) * 1000
        require_way(count, "eth2", TOR2)
        return milliseconds

    def _pause(self, since: float) -> None:
        if time.monotonic() - since > _SECONDS:
            raise SystemExit(f"bench: BIRD did not do it within {_SECONDS} s")
        self.ask("show status")
        time.sleep(0.005)


@contextmanager
def bird(rig: Rig, count: int, *, recursive: bool = False) -> Iterator[KernelBird]:
    """BIRD on the node, holding a table; this thread is in its namespace meanwhile."""
    with tempfile.TemporaryDirectory(prefix="routed-bench-") as directory:
        made = KernelBird(rig.node, "10.1.1.11", Path(directory))
        try:
            made.hold(count, recursive=recursive)
            with inside(f"/run/netns/{rig.node}"):
                yield made
        finally:
            made.stop()


class Fib:
    """`fib.c`, compiled; `with` it the binary goes."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="routed-bench-")
        self._binary = str(Path(self._directory.name) / "fib")
        sh("gcc", "-O2", "-o", self._binary, str(Path(__file__).with_name("fib.c")))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._directory.cleanup()

    def program(self, rig: Rig, count: int, *, group: bool) -> float:
        """Seconds for `count` routes by one gateway, or by a nexthop group of one member as ours are."""
        if group:
            for words in (f"id 1 via {TOR1} dev eth1", "id 2 group 1"):
                in_namespace(rig.node, "ip", "nexthop", "add", *words.split())
            way = ["nhid", "2"]
        else:
            way = ["via", TOR1, str(rig.index("eth1"))]
        before = rig.routes()
        seconds, refused = in_namespace(rig.node, self._binary, str(count), "115", "1024", *way).split()
        if int(refused) or rig.routes() - before != count:
            raise SystemExit(f"bench: fib: {refused} routes were refused, {rig.routes() - before} are there")
        return float(seconds)

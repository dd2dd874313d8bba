"""Our code at work on the node of a `dataplane_rig.Rig`, in a process of its own: one job, its figures as JSON.

    dataplane_ours.py JOB COUNT [TOR1 TOR2]      run inside the node's namespace; the ToRs' namespaces for tor_death

It is the code that the agent runs, `Calculator` and `Dataplane`, called as `agent.programmer` calls them; what is not
there is the agent around it. A fresh process for each, so that memory is that of the job.
"""

from __future__ import annotations

import json
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path as File
from typing import Any

from dataplane_packets import PACKET, PORT
from dataplane_rig import NODE, POOL, TOR1, TOR2, Witness, nlri, routes

from routed.model.cluster import Cluster
from routed.model.nlri import Nlri
from routed.model.path import Origin, Path
from routed.model.resources import IPPool, IPPoolSpec, Metadata, Node, NodeBGPSpec, NodeSpec
from routed.netlink.socket import inside
from routed_felix.calc import Calculator
from routed_felix.dataplane import Dataplane, Kernel
from routed_felix.state import Change, Hop, Report, Settings, UnderlayRoute
from routed_felix.view import View

MEMBER = "10.2.2.21"  # of another subnet
_MEMBERS = IPv4Network("10.2.2.0/24")
_GET, _DUMP = 2, 0x300
_TURNS = 9
_SO_RCVBUFFORCE = 33
Json = dict[str, Any]


class Sends:
    """Counts the netlink messages of this process that are no question, by looking at every send."""

    count = 0


class CountingSocket(socket.socket):
    """A socket that is looked at by `Sends`."""

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        if self.family == socket.AF_NETLINK:
            view, at = memoryview(data).cast("B"), 0
            while at + 16 <= len(view):
                length = int.from_bytes(view[at : at + 4], "little")
                kind = int.from_bytes(view[at + 4 : at + 6], "little")
                Sends.count += kind & 3 != _GET  # rtnetlink numbers each kind of object NEW, DEL, GET
                at += (length + 3) & ~3
        super().sendall(data, flags)


# ---- the input


def path(next_hop: str, *, member: bool = False) -> Path:
    """A path of a ToR, or of a member."""
    peer = IPv4Address(next_hop)
    return Path(
        next_hop=peer, peer=peer, peer_as=64512 if member else 65000, peer_router_id=peer, ebgp=not member, as_path=(),
        origin=Origin.IGP, local_pref=90 if member else 100, member=member,
    )  # fmt: skip


def cluster() -> Cluster:
    """The node, a member in another subnet, and a pool that holds every prefix."""
    nodes = [
        Node(metadata=Metadata(name=name), spec=NodeSpec(bgp=NodeBGPSpec(ipv4_address=IPv4Interface(f"{address}/24"))))
        for name, address in (("a1", NODE), ("b1", MEMBER))
    ]
    return Cluster.of([*nodes, IPPool(metadata=Metadata(name="pods"), spec=IPPoolSpec(cidr=IPv4Network(POOL)))])


def table(count: int, *paths: Path) -> dict[Nlri, tuple[Path, ...]]:
    """The Loc-RIB: every prefix by the same paths."""
    return dict.fromkeys(map(nlri, range(count)), paths)


class Ours:
    """The programmer, and the view it acts on."""

    def __init__(self, best: dict[Nlri, tuple[Path, ...]]) -> None:
        self.dataplane = Dataplane(Settings())
        self.calculator = Calculator()
        self.view = View(node="a1", cluster=cluster(), best=best)
        self.see(self.dataplane.read())

    def see(self, kernel: Kernel, *underlay: UnderlayRoute) -> None:
        """Look at the kernel with `underlay` besides what it has."""
        self.view = replace(
            self.view, interfaces=kernel.interfaces, underlay=(*kernel.underlay, *underlay), tunnel=kernel.tunnel
        )

    def programme(self) -> float:
        """All of it, as a first start does; the seconds."""
        start = time.perf_counter()
        change = self.calculator.update(self.view)
        report = self.dataplane.sync(change.node, self.calculator)
        seconds = time.perf_counter() - start
        require(report)
        return seconds

    def act(self, change: Callable[[], Change]) -> tuple[float, float]:
        """From an event to the kernel's answer; milliseconds of calc, and of all."""
        start = time.perf_counter()
        found = change()
        decided = time.perf_counter()
        report = self.dataplane.change(found, self.calculator)
        done = time.perf_counter()
        require(report)
        return (decided - start) * 1000, (done - start) * 1000


def require(report: Report) -> None:
    """Nothing was refused."""
    if not report.complete:
        raise SystemExit(f"bench: {len(report.failures)} failures, {len(report.conflicts)} conflicts")


def require_way(count: int, device: str, gateway: str) -> None:
    """The kernel forwards random prefixes so, and only so."""
    ways = Witness().ways(count)
    if ways != {(socket.if_nametoindex(device), gateway)}:
        raise SystemExit(f"bench: the kernel forwards by {sorted(ways)}, not by {gateway} on {device} alone")


def require_all(before: int, count: int) -> None:
    """All are in the kernel."""
    if routes() - before != count:
        raise SystemExit(f"bench: {routes() - before} routes in the kernel instead of {count}")


def peak_mb() -> float:
    """The most memory that this process had resident since `reset_peak`, or since its start."""
    lines = File("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def resident_mb() -> float:
    """What it has now."""
    return int(File("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / (1 << 20)


def reset_peak() -> None:
    """Start to measure the peak anew."""
    File("/proc/self/clear_refs").write_text("5")


# ---- the jobs


def program(count: int) -> Json:
    """The desired list, handed to calc, until the kernel has acknowledged the last; peak memory of the process."""
    ours = Ours(table(count, path(TOR1)))
    before = routes()
    seconds = ours.programme()
    peak = peak_mb()
    require_all(before, count)
    require_way(count, "eth1", TOR1)
    return {"seconds": seconds, "peak_mb": peak}


def resync(count: int) -> Json:
    """The periodic resync of a node on which all is right: read everything, compare everything, write nothing."""
    ours = Ours(table(count, path(TOR1)))
    ours.programme()
    reset_peak()
    had, sent = resident_mb(), Sends.count
    start = time.perf_counter()
    ours.see(ours.dataplane.read())
    change = ours.calculator.update(ours.view, ())
    report = ours.dataplane.sync(change.node, ours.calculator)
    seconds = time.perf_counter() - start
    require(report)
    return {"ms": seconds * 1000, "writes": Sends.count - sent, "extra_mb": max(0.0, peak_mb() - had)}


def repoint(count: int) -> Json:
    """All prefixes of a member go another way, and back, and so on: the median, and the first, which finds all cold."""
    ours = Ours(table(count, path(MEMBER, member=True)))
    ways = {
        gateway: UnderlayRoute(_MEMBERS, (Hop(device, IPv4Address(gateway)),))
        for device, gateway in (("eth1", TOR1), ("eth2", TOR2))
    }
    kernel = ours.dataplane.reread()
    ours.see(kernel, ways[TOR1])
    ours.programme()
    require_way(count, "eth1", TOR1)
    found: list[tuple[float, float]] = []
    for turn in range(_TURNS):
        device, gateway = (("eth2", TOR2), ("eth1", TOR1))[turn % 2]
        ours.see(kernel, ways[gateway])
        found.append(ours.act(lambda: ours.calculator.update(ours.view, ())))
        require_way(count, device, gateway)
    return {
        "ms": statistics.median(both for _, both in found),
        "calc_ms": statistics.median(calc for calc, _ in found),
        "first_ms": found[0][1],
    }


def tor_death(count: int, tor1: str, tor2: str) -> Json:
    """A ToR goes on taking packets and forwards none; its session is down at that moment, and the RIB follows.

    `follow_ms`: what then is left, when the prefixes have other paths.
    """
    both, rest = (path(TOR1), path(TOR2)), (path(TOR2),)
    ours = Ours(table(count, *both))
    ours.programme()
    sinks = [_sink(tor1), _sink(tor2)]
    sender = subprocess.Popen(
        [sys.executable, str(File(__file__).with_name("dataplane_packets.py")), str(count)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    time.sleep(0.5)  # of traffic before
    after = dict.fromkeys(ours.view.best, rest)
    died_at = time.monotonic()
    sinks[0].close()
    ours.view = replace(ours.view, lost=frozenset({both[0].peer}))
    calc, ms = ours.act(lambda: ours.calculator.update(ours.view, ()))
    require_way(count, "eth2", TOR2)
    ours.view = replace(ours.view, lost=frozenset(), best=after)
    _, follow = ours.act(lambda: ours.calculator.update(ours.view, after))
    time.sleep(0.5)  # of traffic after
    times: list[float] = json.loads(sender.communicate(b"\n", timeout=10)[0])
    arrived = _arrived(sinks[1])
    since = [number for number, at in enumerate(times) if at >= died_at]
    lost = sum(number not in arrived for number in since)
    if lost == len(since):
        raise SystemExit("bench: no packet came through the ToR that lives")
    require_way(count, "eth2", TOR2)
    return {"ms": ms, "calc_ms": calc, "follow_ms": follow, "lost": lost, "of": len(since)}


def _sink(namespace: str) -> socket.socket:
    """Takes the packets in a ToR, and holds them until they are counted."""
    with inside(f"/run/netns/{namespace}"):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 << 20)
    sock.bind(("0.0.0.0", PORT))
    sock.setblocking(False)
    return sock


def _arrived(sink: socket.socket) -> set[int]:
    found: set[int] = set()
    try:
        while True:
            found.add(PACKET.unpack(sink.recv(2048))[0])
    except BlockingIOError:
        return found


def calc_one(count: int) -> Json:
    """One path of many changes until the change for the kernel is known."""
    best = table(count, path(TOR1))
    ours = Ours(best)
    ours.calculator.update(ours.view)
    other = path(TOR2)
    found: list[float] = []
    for number in range(100):
        changed = nlri(number * 997 % count)
        best[changed] = (other,)
        start = time.perf_counter()
        change = ours.calculator.update(ours.view, (changed,))
        found.append((time.perf_counter() - start) * 1000)
        if len(change.routes) != 1:
            raise SystemExit(f"bench: one path changed {len(change.routes)} routes")
    return {"ms": statistics.median(found), "worst_ms": max(found)}


JOBS: dict[str, Callable[..., Json]] = {
    "program": program, "resync": resync, "repoint": repoint, "tor_death": tor_death, "calc_one": calc_one,
}  # fmt: skip


def main() -> None:
    """One job."""
    job, count, *rest = sys.argv[1:]
    if job == "resync":
        socket.socket = CountingSocket  # type: ignore[misc]  # so that each netlink socket made from here on counts
    print(json.dumps(JOBS[job](int(count), *rest)))


if __name__ == "__main__":
    main()

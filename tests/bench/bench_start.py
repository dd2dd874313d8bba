"""./dev bench start: how soon a node serves, what one ADD costs beside Debian's ptp, and how much memory it takes."""

from __future__ import annotations

import json
import socket
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from harness import Figure, Json, Node, Pod, Subnet, cni, main, say, spread, subnet, wait_for

from routed.netlink.socket import inside
from routed_cni.install import write_plugin

PTP = Path("/usr/lib/cni/ptp")
OURS = {"cniVersion": "1.0.0", "name": "bench", "type": "routed-cni"}

FIGURES = (
    Figure("ready_seconds", "agent started until its pod answers a pod of the next node", "< 3", lambda v: v < 3),
    Figure("cni_add_vs_ptp", "ADD, wall time over ptp + host-local, medians", "<= 1.0", lambda v: v <= 1.0),
    Figure("agent_rss_mb", "agent and its ExaBGP, four-node mesh", "< 120", lambda v: v < 120),
)


def plugin_of(node: Node) -> Path:
    """The node's plugin, as `routed node install` writes it."""
    directory = node.directory / "bin"
    directory.mkdir(exist_ok=True)
    return write_plugin(directory, node.run_dir / "cni.sock", Path(sys.executable))


def add(node: Node, pod: Pod) -> None:
    """Wire `pod` by the node's plugin."""
    result, _ = cni(node, plugin_of(node), "ADD", json.dumps(OURS).encode(), pod.name, pod)
    pod.address = result["ips"][0]["address"].split("/")[0]


def ready_seconds(nodes: Subnet, peer: Pod, number: int) -> float:
    """Start the last node's agent on a kernel without our state; time until a new pod of it answers `peer`.

    The last is the slowest: its address is the highest, so it waits for the others to connect to it.
    """
    node = nodes.nodes[-1]
    node.stop()
    node.routed("node", "cleanup")
    pod = nodes.pod(f"ready{number}")
    start = time.monotonic()
    ready = node.start()
    wait_for("the CNI socket", (node.run_dir / "cni.sock").exists, 30)
    add(node, pod)
    if peer.ping(pod.address, 30) is None:
        raise SystemExit(f"bench: {peer.name} got no answer from {pod.address}\n{node.log.read_text()[-3000:]}")
    seconds = time.monotonic() - start
    node.wait_ready(ready)
    cni(node, plugin_of(node), "DEL", json.dumps(OURS).encode(), pod.name, pod)
    return seconds


def add_times(nodes: Subnet, count: int) -> tuple[list[float], list[float]]:
    """Wall milliseconds of ADD, ours and ptp's, in turn, each pod deleted again."""
    node = nodes.nodes[0]
    plugin = plugin_of(node)
    ours, theirs = [], []
    ptp = json.dumps({
        "cniVersion": "1.0.0", "name": "ptp", "type": "ptp", "mtu": 1500,
        "ipam": {"type": "host-local", "subnet": "10.77.0.0/24", "dataDir": str(nodes.directory / "host-local")},
    }).encode()  # fmt: skip
    pod = nodes.pod("timed")
    for number in range(count):
        for program, configuration, times in ((plugin, json.dumps(OURS).encode(), ours), (PTP, ptp, theirs)):
            container = f"timed{number}"
            _, seconds = cni(node, program, "ADD", configuration, container, pod)
            times.append(seconds * 1000)
            cni(node, program, "DEL", configuration, container, pod)
            wait_for("the link's end", lambda: not wired(pod), 10)  # ours goes after the answer
    return ours, theirs


def wired(pod: Pod) -> bool:
    """Whether the sandbox has its interface."""
    with inside(pod.path):
        return "eth0" in {name for _, name in socket.if_nameindex()}


def measure(quick: bool) -> tuple[Mapping[str, float], Json]:
    """All figures on one four-node mesh."""
    if not PTP.exists():
        raise SystemExit(f"bench: {PTP} is missing: install Debian's containernetworking-plugins")
    with subnet(4) as nodes:
        say("four nodes on one subnet")
        waiting = [(node, node.start()) for node in nodes.nodes]
        for node, ready in waiting:
            node.wait_ready(ready)
        peer = nodes.pod("peer")
        add(nodes.nodes[0], peer)
        say("agent started to first answer")
        starts = [ready_seconds(nodes, peer, number) for number in range(2 if quick else 5)]
        say("ADD beside ptp")
        ours, theirs = add_times(nodes, 5 if quick else 30)
        wait_for("the mesh", lambda: established(nodes.nodes[0]) == 3, 30)
        memory = nodes.nodes[0].memory()
    figures = {
        "ready_seconds": statistics.median(starts),
        "cni_add_vs_ptp": statistics.median(ours) / statistics.median(theirs),
        "agent_rss_mb": sum(memory.values()),
    }
    return figures, {
        "ready_seconds": spread(starts), "add_ms": spread(ours), "ptp_add_ms": spread(theirs), "rss_mb": memory,
    }  # fmt: skip


def established(node: Node) -> int:
    """How many sessions are up."""
    return sum(session["state"] == "established" for session in node.status()["sessions"])


if __name__ == "__main__":
    main("start", FIGURES, measure)

"""The CNI plugin beside Debian's `ptp` with `host-local`: what a call takes, and what of it is the agent's.

Programs are started with posix_spawn and files for stdin and stdout, so that what is measured is the plugin and not
Python's way of starting it. Each plugin has sandboxes of its own, which it uses in turn.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import struct
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cni_sandboxes import share
from harness import (
    Figure,
    Json,
    Node,
    Pod,
    Subnet,
    at_least,
    at_most,
    in_namespace,
    main,
    say,
    spread,
    subnet,
    under,
    wait_for,
)  # fmt: skip

from routed.netlink.socket import Netlink, inside
from routed_cni import veths
from routed_cni.install import write_plugin

PTP = Path("/usr/lib/cni/ptp")
THEIRS: Json = {
    "cniVersion": "1.0.0", "name": "ptp", "type": "ptp", "mtu": 1500,
    "ipam": {"type": "host-local", "subnet": "10.77.0.0/24"},
}  # fmt: skip
OURS: Json = {"cniVersion": "1.0.0", "name": "bench", "type": "routed-cni"}
PARALLEL = 8

FIGURES: tuple[Figure, ...] = (
    at_most("add_c_vs_ptp", 0.2, "ADD by the C program, wall time over ptp + host-local, medians"),
    at_most("add_python_vs_ptp", 0.8, "ADD by the Python script"),
    at_most("del_c_vs_ptp", 0.1, "DEL by the C program"),
    at_most("del_python_vs_ptp", 0.6, "DEL by the Python script"),
    under("del_gone_ms", 250, "DEL called until the link is gone"),
    at_least("parallel8_adds_vs_ptp", 5, "ADDs per second, eight at a time, C program"),
    under("agent_add_p50_ms", 3, "ADD inside the agent, durable store included, 250 pods on the node"),
    under("agent_add_p99_ms", 10, "the same"),
    under("sandbox_share_percent", 15, "the plugin's share of containerd's RunPodSandbox; to be below ptp's"),
    Figure("sandbox_share_ptp_percent", "the share of ptp + host-local", "beside", lambda _: True),
    under("first_packet_ms", 1, "a new pod's first packet to another local pod and back"),
)


@dataclass
class Plugin:
    """One executable, its configuration, and the sandboxes it is called for."""

    program: Path
    configuration: Path
    pods: Sequence[Pod]

    def call(self, node: Node, command: str, pod: Pod, container: str) -> float:
        """Call it as a runtime does; the milliseconds it took."""
        environment = {
            "CNI_COMMAND": command, "CNI_CONTAINERID": container, "CNI_NETNS": pod.path, "CNI_IFNAME": "eth0",
            "CNI_PATH": "/usr/lib/cni", "PATH": os.environ["PATH"],
        }  # fmt: skip
        out = node.directory / "out"
        files = [
            (os.POSIX_SPAWN_OPEN, 0, str(self.configuration), os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(out), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        ]
        with inside(f"/run/netns/{node.namespace}"):  # the child inherits it
            start = time.perf_counter()
            pid = os.posix_spawn(self.program, [str(self.program)], environment, file_actions=files)
            _, status = os.waitpid(pid, 0)
            milliseconds = (time.perf_counter() - start) * 1000
        if status:
            raise SystemExit(
                f"bench: {self.program} {command} failed: {out.read_text()}\n{node.log.read_text()[-2000:]}"
            )
        return milliseconds

    def many(self, node: Node, command: str) -> float:
        """Call it for every sandbox, `PARALLEL` at a time; calls per second."""
        script = f"CNI_CONTAINERID=m-$0 CNI_NETNS=/run/netns/$0 exec {self.program} <{self.configuration} >/dev/null"
        start = time.perf_counter()
        in_namespace(
            node.namespace, "env", f"CNI_COMMAND={command}", "CNI_IFNAME=eth0", "CNI_PATH=/usr/lib/cni",
            "sh", "-c", f'printf "%s\\n" "$@" | xargs -P {PARALLEL} -n 1 sh -c "$0"', script,
            *(pod.name for pod in self.pods),
        )  # fmt: skip
        return len(self.pods) / (time.perf_counter() - start)


def with_leases_in(directory: Path) -> Json:
    """ptp's configuration."""
    return {**THEIRS, "ipam": {**THEIRS["ipam"], "dataDir": str(directory / "host-local")}}


def plugins(nodes: Subnet, sandboxes: int) -> dict[str, Plugin]:
    """Both forms of ours, and ptp."""
    node = nodes.nodes[0]
    ours, theirs = nodes.directory / "ours.json", nodes.directory / "ptp.json"
    ours.write_text(json.dumps(OURS))
    theirs.write_text(json.dumps(with_leases_in(nodes.directory)))
    programs = {
        form: write_plugin(nodes.directory / form, node.run_dir / "cni.sock", Path(sys.executable).resolve(), form=form)
        for form in ("c", "python")
    }
    programs["ptp"] = PTP
    return {
        name: Plugin(program, theirs if name == "ptp" else ours, [nodes.pod(f"{name}{n}") for n in range(sandboxes)])
        for name, program in programs.items()
    }


def in_turn(node: Node, called: Mapping[str, Plugin], count: int) -> dict[str, list[float]]:
    """Milliseconds of ADD and DEL of each plugin, one after the other."""
    times: dict[str, list[float]] = {f"{command}_{name}": [] for command in ("add", "del") for name in called}
    for number in range(count):
        for name, plugin in called.items():
            pod = plugin.pods[number % len(plugin.pods)]
            for command in ("ADD", "DEL"):
                times[f"{command.lower()}_{name}"].append(plugin.call(node, command, pod, f"{name}{number}"))
    return times


def gone_times(node: Node, plugin: Plugin, count: int) -> list[float]:
    """Milliseconds from the call of DEL until the node's end of the link is no more."""
    times: list[float] = []
    with Netlink.open_in(f"/run/netns/{node.namespace}") as netlink:
        for number in range(count):
            name, pod = f"gone{number}", plugin.pods[number % len(plugin.pods)]
            plugin.call(node, "ADD", pod, name)
            start = time.perf_counter()
            plugin.call(node, "DEL", pod, name)
            link = veths.host_interface(name, "eth0")
            wait_for("the link's end", lambda link=link: veths.find(netlink, link) is None, 10)
            times.append((time.perf_counter() - start) * 1000)
    return times


def asked(node: Node, command: str, pod: Pod) -> tuple[float, str]:
    """Call the agent itself; the milliseconds until it answered, and the address of an ADD."""
    variables = f"CNI_COMMAND={command}\0CNI_CONTAINERID={pod.name}\0CNI_NETNS={pod.path}\0CNI_IFNAME=eth0\0\0"
    payload = variables.encode() + json.dumps(OURS).encode()
    with socket.socket(socket.AF_UNIX) as agent:
        start = time.perf_counter()
        agent.connect(str(node.run_dir / "cni.sock"))
        agent.sendall(len(payload).to_bytes(4, "big") + payload)
        answer = b"".join(iter(lambda: agent.recv(65536), b""))
        milliseconds = (time.perf_counter() - start) * 1000
    if answer[0]:
        raise SystemExit(f"bench: {command} failed: {answer[1:].decode()}")
    return milliseconds, json.loads(answer[1:])["ips"][0]["address"].split("/")[0] if command == "ADD" else ""


def agent_times(node: Node, pods: Sequence[Pod], rounds: int, each: int) -> list[float]:
    """Milliseconds of an ADD inside the agent while all of `pods` but a few are there."""
    for pod in pods:
        asked(node, "ADD", pod)
    times: list[float] = []
    for _ in range(rounds):
        for pod in pods[:each]:
            asked(node, "DEL", pod)
        wait_for("the links' end", lambda: links(node) == len(pods) - each, 10)
        times += [asked(node, "ADD", pod)[0] for pod in pods[:each]]
    return times


def links(node: Node) -> int:
    """How many pods' links the node has."""
    with inside(f"/run/netns/{node.namespace}"):
        return len(veths.survey())


def first_packets(node: Node, peer: Pod, pods: Sequence[Pod]) -> list[float]:
    """Milliseconds of a new pod's first packet to `peer` and back; one that is lost ends the benchmark."""
    times: list[float] = []
    _, address = asked(node, "ADD", peer)
    for number, pod in enumerate(pods):
        asked(node, "ADD", pod)
        header = struct.pack("!BBHHH", 8, 0, 0, 77, number)
        total = sum(struct.unpack("!4H", header))
        packet = struct.pack("!BBHHH", 8, 0, ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF, 77, number)
        with inside(pod.path):
            ping = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        with ping:
            ping.settimeout(1)
            start = time.perf_counter()
            ping.sendto(packet, (address, 0))
            try:
                ping.recv(1500)
            except TimeoutError:
                raise SystemExit("bench: a pod's first packet was lost") from None
            times.append((time.perf_counter() - start) * 1000)
    for pod in [peer, *pods]:
        asked(node, "DEL", pod)
    return times


def measure(quick: bool) -> tuple[Mapping[str, float], Json]:
    """All figures on one node."""
    if not PTP.exists():
        raise SystemExit(f"bench: {PTP} is missing: install Debian's containernetworking-plugins")
    with subnet(1) as nodes:
        node = nodes.nodes[0]
        node.wait_ready(node.start())
        called = plugins(nodes, PARALLEL if quick else 5 * PARALLEL)
        say("calls in turn")
        times = in_turn(node, called, 5 if quick else 40)
        gone = gone_times(node, called["c"], 3 if quick else 30)
        say("calls at once")
        rates: dict[str, list[float]] = {"c": [], "ptp": []}
        for _ in range(1 if quick else 3):
            for name, found in rates.items():
                found.append(called[name].many(node, "ADD"))
                called[name].many(node, "DEL")
                wait_for("the links' end", lambda: links(node) == 0, 10)
        say("first packets")
        packets = first_packets(node, called["c"].pods[0], called["c"].pods[1:])
        wait_for("the links' end", lambda: links(node) == 0, 10)
        say("sandboxes of containerd")
        repeats = 3 if quick else 30
        ours = share(nodes, node, called["c"].program, OURS, repeats)
        theirs = share(nodes, node, PTP, with_leases_in(nodes.directory), repeats)
        wait_for("the links' end", lambda: links(node) == 0, 10)
        say("the agent with many pods")
        inner = agent_times(node, [nodes.pod(f"m{n}") for n in range(20 if quick else 250)], 1 if quick else 8, 15)
    medians = {key: statistics.median(values) for key, values in times.items()}
    figures = {
        f"{command}_{form}_vs_ptp": medians[f"{command}_{form}"] / medians[f"{command}_ptp"]
        for command in ("add", "del")
        for form in ("c", "python")
    }
    figures |= {
        "del_gone_ms": statistics.median(gone),
        "parallel8_adds_vs_ptp": statistics.median(rates["c"]) / statistics.median(rates["ptp"]),
        "agent_add_p50_ms": statistics.median(inner),
        "agent_add_p99_ms": sorted(inner)[int(len(inner) * 0.99)],
        "first_packet_ms": statistics.median(packets),
        "sandbox_share_percent": ours.percent,
        "sandbox_share_ptp_percent": theirs.percent,
    }
    detail: Json = {f"{key}_ms": spread(values) for key, values in times.items()}
    detail |= {"del_gone_ms": spread(gone), "agent_add_ms": spread(inner), "first_packet_ms": spread(packets)}
    detail |= {"sandbox_ms": spread(ours.whole), "sandbox_ptp_ms": spread(theirs.whole)}
    detail |= {"sandbox_plugin_ms": spread(ours.plugin), "sandbox_plugin_ptp_ms": spread(theirs.plugin)}
    detail |= {f"parallel8_{name}_per_second": spread(found) for name, found in rates.items()}
    return figures, detail


if __name__ == "__main__":
    main("cni", FIGURES, measure)

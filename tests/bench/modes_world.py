"""Six ways for a packet between two hosts of one kernel, each between two hosts joined by one veth of the same MTU.

    bare          the two hosts' own addresses, no pods
    direct        pods of routed's agents, pool without encapsulation
    ipip, vxlan   pods of the same agents, pools that always encapsulate
    flannel       pods on a bridge, which routes to the other host's over VXLAN, as flannel does it
    macvlan       pods on macvlan devices over the host's interface

The first four share their hosts and so their veth; flannel's and macvlan's hosts are their own, so that no device of
theirs is in the others' way. Whatever the way, an interface's packets have at most `MTU` bytes: what VXLAN leaves of
Ethernet's 1500.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness import Node, Pod, cni, in_namespace, say, sh, wait_for

from routed_cni.install import write_plugin

MTU = 1450
MODES = ("bare", "direct", "ipip", "vxlan", "flannel", "macvlan")
_POOLS = {
    "direct": ("10.1.0.0/16", "Never", "Never"),
    "ipip": ("10.2.0.0/16", "Always", "Never"),
    "vxlan": ("10.3.0.0/16", "Never", "Always"),
}
"""CIDR, ipipMode, vxlanMode."""

_DEVICES = {"bare": "eth1", "direct": "eth1", "ipip": "tunl0", "vxlan": "vxlan.routed"}
_FLANNEL_VNI, _FLANNEL_PORT = "1", "8472"
_HOSTS = ("one", "two")
_READY = 120.0
_PAUSE = 0.2  # between two questions: each is a program, on the one processor that the agents work on


@dataclass(frozen=True)
class Way:
    """From the network namespace `client` to `address`, which `server` has."""

    client: str
    server: str
    address: str


class World:
    """All six ways at once; `close` takes them away."""

    def __init__(self) -> None:
        self.ways: dict[str, Way] = {}
        self._directory = Path(tempfile.mkdtemp(prefix="routed-modes-"))
        self._namespaces: list[str] = []
        self._nodes: list[Node] = []

    def __enter__(self) -> World:
        try:
            self._routed()
            self._flannel()
            self._macvlan()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the agents, remove the namespaces."""
        for node in self._nodes:
            node.stop()
        for name in self._namespaces:
            sh("ip", "netns", "del", name)
        shutil.rmtree(self._directory)

    def _routed(self) -> None:
        """Two nodes with their agents; `bare` by second addresses of theirs, whose route has the pods' MTU."""
        say("routed's two nodes")
        hosts = self._hosts("r", "10.99.0")
        for number, host in enumerate(hosts, 1):
            ip(host, "address", "add", f"10.98.0.{number}/24", "dev", "eth1", "noprefixroute")
            ip(host, "route", "add", "10.98.0.0/24", "dev", "eth1", "src", f"10.98.0.{number}", "mtu", str(MTU))
        self.ways["bare"] = Way(*hosts, "10.98.0.2")
        store = f"sqlite://{self._directory}/store.db"
        cluster = self._directory / "cluster.json"
        cluster.write_text("\n---\n".join(json.dumps(document) for document in _resources()))
        sh(sys.executable, "-m", "routed", "apply", "-f", str(cluster), "--store", store)
        waiting = []
        for name, host in zip(_HOSTS, hosts, strict=True):
            directory = self._directory / name
            directory.mkdir()
            run = directory / "run"
            (directory / "agent.toml").write_text(f'node = "{name}"\nstore = "{store}"\nrun_dir = "{run}"\n')
            node = Node(name, host, directory)
            self._nodes.append(node)
            waiting.append((node, node.start()))
        for node, ready in waiting:
            node.wait_ready(ready, _READY)
        say("their pods")
        for mode in _POOLS:
            self.ways[mode] = self._pods(mode)
        say("their routes")
        for mode, device in _DEVICES.items():
            way = self.ways[mode]
            wait_for(
                f"{mode} by {device}", lambda way=way, device=device: _goes_by(hosts[0], way, device), _READY, _PAUSE
            )

    def _pods(self, mode: str) -> Way:
        ends = []
        for node in self._nodes:
            pod = Pod(self._namespace(f"{mode}-{node.name}"))
            plugin = write_plugin(node.directory, node.run_dir / "cni.sock", Path(sys.executable))
            wanted = {"cniVersion": "1.0.0", "name": "bench", "type": "routed-cni", "mtu": MTU,
                      "ipam": {"type": "routed", "ipv4_pools": [mode]}}  # fmt: skip
            result, _ = cni(node, plugin, "ADD", json.dumps(wanted).encode(), pod.name, pod)
            pod.address = result["ips"][0]["address"].split("/")[0]
            ends.append(pod)
        return Way(ends[0].name, ends[1].name, ends[1].address)

    def _flannel(self) -> None:
        """What flanneld and the bridge plugin set up: a device without learning, one entry per peer in each table."""
        hosts = self._hosts("f", "10.97.0")
        pods = []
        macs = [f"02:00:00:00:0f:0{number}" for number in (1, 2)]
        for number, host in enumerate(hosts, 1):
            other = 3 - number
            sysctl(host, "net.ipv4.ip_forward", "1")
            ip(host, "link", "add", "flannel.1", "mtu", str(MTU), "address", macs[number - 1], "type", "vxlan",
               "id", _FLANNEL_VNI, "dev", "eth1", "local", f"10.97.0.{number}", "dstport", _FLANNEL_PORT,
               "nolearning")  # fmt: skip
            ip(host, "address", "add", f"10.4.{number}.0/32", "dev", "flannel.1")
            ip(host, "link", "set", "flannel.1", "up")
            ip(host, "neighbour", "add", f"10.4.{other}.0", "lladdr", macs[other - 1], "dev", "flannel.1")
            in_namespace(host, "bridge", "fdb", "add", macs[other - 1], "dev", "flannel.1", "dst", f"10.97.0.{other}")
            ip(host, "route", "add", f"10.4.{other}.0/24", "via", f"10.4.{other}.0", "dev", "flannel.1", "onlink")
            ip(host, "link", "add", "cni0", "mtu", str(MTU), "type", "bridge")
            ip(host, "address", "add", f"10.4.{number}.1/24", "dev", "cni0")
            ip(host, "link", "set", "cni0", "up")
            pod = self._namespace(f"flannel-{number}")
            ip(host, "link", "add", "pod", "mtu", str(MTU), "type", "veth", "peer", "name", "eth0", "mtu", str(MTU),
               "netns", pod)  # fmt: skip
            ip(host, "link", "set", "pod", "master", "cni0", "up")
            ip(pod, "address", "add", f"10.4.{number}.2/24", "dev", "eth0")
            ip(pod, "link", "set", "eth0", "up")
            ip(pod, "route", "add", "default", "via", f"10.4.{number}.1")
            pods.append(pod)
        self.ways["flannel"] = Way(pods[0], pods[1], "10.4.2.2")

    def _macvlan(self) -> None:
        pods = []
        for number, host in enumerate(self._hosts("m", "10.96.0"), 1):
            pod = self._namespace(f"macvlan-{number}")
            ip(host, "link", "add", "eth0", "link", "eth1", "mtu", str(MTU), "netns", pod, "type", "macvlan",
               "mode", "bridge")  # fmt: skip
            ip(pod, "address", "add", f"10.5.0.{number}/24", "dev", "eth0")
            ip(pod, "link", "set", "eth0", "up")
            pods.append(pod)
        self.ways["macvlan"] = Way(pods[0], pods[1], "10.5.0.2")

    def _hosts(self, letter: str, net: str) -> tuple[str, str]:
        """Two namespaces joined by a veth named eth1 in both, with the addresses `net`.1 and .2."""
        one, two = self._namespace(f"{letter}1"), self._namespace(f"{letter}2")
        ip(one, "link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", two)
        for number, host in enumerate((one, two), 1):
            ip(host, "address", "add", f"{net}.{number}/24", "dev", "eth1")
            ip(host, "link", "set", "eth1", "up")
        return one, two

    def _namespace(self, name: str) -> str:
        sh("ip", "netns", "add", name)
        self._namespaces.append(name)
        ip(name, "link", "set", "lo", "up")
        return name


def ip(namespace: str, *arguments: str) -> str:
    """iproute2's command in a network namespace."""
    return in_namespace(namespace, "ip", *arguments)


def sysctl(namespace: str, name: str, value: str) -> None:
    """Write a sysctl of a network namespace."""
    in_namespace(namespace, "sh", "-c", 'printf %s "$1" >"/proc/sys/$0"', name.replace(".", "/"), value)


def _resources() -> list[dict[str, object]]:
    def document(kind: str, name: str, spec: dict[str, object]) -> dict[str, object]:
        return {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": {"name": name}, "spec": spec}

    nodes = [
        document("Node", name, {"bgp": {"ipv4Address": f"10.99.0.{number}/24"}})
        for number, name in enumerate(_HOSTS, 1)
    ]
    pools = [
        document("IPPool", mode, {"cidr": cidr, "ipipMode": tunnel, "vxlanMode": vxlan})
        for mode, (cidr, tunnel, vxlan) in _POOLS.items()
    ]
    return nodes + pools


def _goes_by(host: str, way: Way, device: str) -> bool:
    """Whether the host's own route to the way's far end is by `device`: that the mode is what it is called."""
    found = json.loads(ip(host, "-j", "route", "get", way.address))
    return bool(found[0]["dev"] == device)

"""Nodes with a pod each, routes by VXLAN, and a witness on the wire between them."""

from __future__ import annotations

import select
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Self

from tests.kernel.felix.world import World
from tests.unit.felix import words

from routed.model.cluster import Cluster
from routed.model.endpoint import Endpoint
from routed.netlink.socket import inside
from routed_felix.calc import Calculator
from routed_felix.dataplane import Dataplane, Kernel
from routed_felix.monitor import Monitor
from routed_felix.state import Report, Settings

DEVICE = "vxlan.routed"
PORT = 4789


class Member:
    """A node of the words' cluster: calc, dataplane and monitor as the agent has them; its own tunnel address is .1."""

    def __init__(self, world: World, name: str, cluster: Cluster, settings: Settings | None = None) -> None:
        self.world, self.name = world, name
        self.settings = settings or Settings()
        block = IPv4Network(words.NODES[name][1])
        self.pod_address = str(block[5])
        self.pod = f"{world.name}p"
        self._view = words.view(
            node=name, cluster=cluster, blocks=(block,), tunnel_address=block[1], settings=self.settings, interfaces={}
        )
        self.born()

    def born(self) -> None:
        """A new life, without memory."""
        self.plane = Dataplane(self.settings, self.world.path)
        self.monitor = Monitor(self.settings, self.world.path, own_port=self.plane.port)
        self.report = Report()
        self._calculator = Calculator()

    def close(self) -> None:
        self.monitor.close()
        self.plane.close()
        subprocess.run(["ip", "netns", "del", self.pod], check=False, capture_output=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wire(self) -> None:
        """Give the node its pod."""
        self.world.ip("netns", "add", self.pod)
        self.world.ip("link", "add", "rtdpod", "type", "veth", "peer", "name", "eth0", "netns", self.pod)
        self.world.ip("link", "set", "rtdpod", "up")
        mac = self.world.link("rtdpod")["address"]
        for line in (
            "link set eth0 up",
            f"addr add {self.pod_address}/32 dev eth0",
            "route add 169.254.1.1 dev eth0",
            f"neigh add 169.254.1.1 lladdr {mac} dev eth0",
            "route add default via 169.254.1.1",
        ):
            subprocess.run(["nsenter", f"--net=/run/netns/{self.pod}", "ip", *line.split()], check=True)
        pod = Endpoint("c1", "eth0", IPv4Address(self.pod_address), "rtdpod")
        self._view = replace(self._view, endpoints=(pod,))

    def begin(self) -> Report:
        """Compare everything, as at a start and with every resync."""
        self._see(self.plane.read())
        change = self._calculator.update(self._view)
        self.report = self.plane.sync(change.node, self._calculator)
        return self.report

    def becomes(self, **view: Any) -> Report:
        """A round with another view."""
        self._view = replace(self._view, **view)
        return self.round()

    def learns(self, best: Mapping[str, str]) -> Report:
        """A round with these next hops."""
        return self.becomes(best=words.learned(best))

    def round(self) -> Report:
        """Act on what the monitor says."""
        self.plane.take(self.monitor.read())
        self._see(self.plane.reread())
        change = self._calculator.update(self._view)
        self.report = self.plane.change(change, self._calculator, retry=True)
        return self.report

    def settle(self, seconds: float = 20) -> None:
        """Rounds until nothing is left to do and nothing more is heard."""
        deadline = time.monotonic() + seconds
        while True:
            self.round()
            if self.report.complete and not self.plane.pending and not self.hears(0.05):
                return
            assert time.monotonic() < deadline, f"not settled: {self.report}"

    def hears(self, seconds: float = 5) -> bool:
        """Whether the monitor has something within that time."""
        return bool(select.select([self.monitor], [], [], seconds)[0])

    def _see(self, kernel: Kernel) -> None:
        self._view = replace(
            self._view,
            interfaces=kernel.interfaces,
            underlay=kernel.underlay,
            tunnel=kernel.tunnel,
            vxlan=kernel.vxlan,
        )

    # ---- what the kernel holds

    def neighbours(self) -> dict[str, str]:
        """MAC address by address, of the permanent ones."""
        told = self.world.look("neigh", "show", "dev", DEVICE, "nud", "permanent")
        return {entry["dst"]: entry["lladdr"] for entry in told if "." in entry["dst"]}

    def fdb(self) -> dict[str, str]:
        """Address by MAC address."""
        command = ["nsenter", f"--net={self.world.path}", "bridge", "fdb", "show", "dev", DEVICE]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        return {line.split()[0]: line.split()[2] for line in lines if line.split()[1] == "dst"}

    def bridge(self, *command: str) -> None:
        subprocess.run(["nsenter", f"--net={self.world.path}", "bridge", *command], check=True)

    def way(self, address: str) -> tuple[str, str]:
        """Device and gateway of what goes to `address`."""
        (route,) = self.world.look("route", "get", address)
        return route["dev"], route.get("gateway", "")

    def reaches(self, address: str) -> bool:
        """Whether the pod has an answer from there."""
        command = ["nsenter", f"--net=/run/netns/{self.pod}", "ping", "-nc1", "-W2", address]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0


class Wire:
    """All IPv4 packets that the router sees on the links to its nodes."""

    def __init__(self, world: World) -> None:
        with inside(f"/run/netns/{world.outside}"):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0003))
        self._socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def seen(self) -> set[tuple[str, str, str]]:
        """Source, destination, and "udp/PORT" or protocol number, of what passed since the last call."""
        found: set[tuple[str, str, str]] = set()
        while True:
            try:
                packet = self._socket.recv(2048)
            except BlockingIOError:
                return found
            if packet[0] >> 4 != 4:
                continue
            source, destination = (str(IPv4Address(packet[at : at + 4])) for at in (12, 16))
            header = 4 * (packet[0] & 0xF)
            kind = f"udp/{int.from_bytes(packet[header + 2 : header + 4])}" if packet[9] == 17 else str(packet[9])
            found.add((source, destination, kind))

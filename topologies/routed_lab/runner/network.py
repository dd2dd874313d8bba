"""The network namespaces of a lab and all interfaces in them, as the topology file has them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Final

from routed_lab.runner import links
from routed_lab.runner.directory import RunDirectory
from routed_lab.topology import HOST, MANAGEMENT, End, Kind, LabNode, Link, Management, Topology

_MACHINE: Final = Path("/proc/self/ns/net")
_ETH0: Final = "eth0"


class Network:
    """`namespaces` are the nodes' own by name; `places` says for every node where it is, HOST and MANAGEMENT too."""

    def __init__(self, topology: Topology, directory: RunDirectory) -> None:
        self.namespaces: dict[str, Path] = {}
        self.places: dict[str, Path] = {HOST: _MACHINE}
        self._topology = topology
        self._directory = directory

    def make(self) -> None:
        """Make all of it, the nodes' interfaces down; raises ConflictError, EnvironmentFault or OperatorError."""
        topology = self._topology
        for node in topology.nodes.values():
            if topology.holder(node.name) == node.name and node.kind is not Kind.HOST:
                made = self.namespaces[node.name] = self.places[node.name] = self._namespace(node.name)
                if node.kind is not Kind.BRIDGE:
                    links.forward(made)
        for node in topology.nodes.values():
            self.places[node.name] = self.places[topology.holder(node.name)]
            links.set_sysctls(self.places[node.name], node.name, node.sysctls)
        if topology.management is not None:
            self.places[MANAGEMENT] = self._namespace(MANAGEMENT)
        ends = [end for link in topology.links for end in link.ends] + [dummy.end for dummy in topology.dummies]
        for link in topology.links:
            links.connect([link], self.places)
            self._mark(link.ends)
        for dummy in topology.dummies:
            links.dummy(dummy, self.places[dummy.end.node])
            self._mark([dummy.end])
        links.up(_MACHINE, [end.interface for end in ends if end.node == HOST])
        for node in topology.nodes.values():
            if node.kind is Kind.BRIDGE:
                ports = [end.interface for link in topology.links for end in link.ends if end.node == node.name]
                links.bridge(node.bridge, ports, self.places[node.name])
        if topology.management is not None:
            self._manage(topology.management)

    def raise_links(self, node: LabNode) -> None:
        """Set the interfaces up that the file's links give `node`."""
        ends = (end for link in self._topology.links for end in link.ends)
        names = [
            end.interface for end in (*ends, *(dummy.end for dummy in self._topology.dummies)) if end.node == node.name
        ]
        links.up(self.places[node.name], names)

    def _mark(self, ends: Iterable[End]) -> None:
        """Note what was just made on the machine itself: nothing else would remove it."""
        for end in ends:
            if self._topology.holder(end.node) == HOST:
                self._directory.record_interface(end.interface)
                links.mark(_MACHINE, end.interface, self._directory.alias)

    def _namespace(self, name: str) -> Path:
        made = self._directory.make(self._topology.namespace(name))
        links.up(made, ["lo"])
        return made

    def _manage(self, management: Management) -> None:
        """Give every member an eth0 whose other end is a port of the management bridge."""
        asked = [end.interface for link in self._topology.links for end in link.ends if end.node == MANAGEMENT]
        free = _ports({*asked, management.bridge})
        cables = [Link(End(node, _ETH0), End(MANAGEMENT, next(free)), management.mtu) for node in management.addresses]
        links.connect(cables, self.places)
        ports = [*asked, *(cable.right.interface for cable in cables)]
        links.bridge(management.bridge, ports, self.places[MANAGEMENT])
        links.assign(self.places[MANAGEMENT], management.bridge, management.gateways)
        links.up(self.places[MANAGEMENT], ports)
        for node, addresses in management.addresses.items():
            links.assign(self.places[node], _ETH0, addresses)
            links.up(self.places[node], [_ETH0])


def _ports(taken: set[str]) -> Iterator[str]:
    return (name for name in (f"m{number}" for number in count(1)) if name not in taken)

"""The values of a lab: what its file says, checked, with nothing left to look up. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from routed.model.cluster import Cluster
from routed.model.resources import AnyResource, EncapsulationMode


class Role(StrEnum):
    """What a container of the lab is: label `routed.role`."""

    NODE = "node"  # runs the agent, has pods, is a member of the cluster
    ROUTER = "router"  # runs BIRD, belongs to the fabric


@dataclass(frozen=True, slots=True)
class LabNode:
    """One container of the file. `line` is where the file describes it."""

    name: str
    role: Role
    line: int
    rack: str | None = None
    pods: int = 0
    config: Path | None = None  # label routed.config: a router's BIRD configuration, a node's resources
    commands: tuple[tuple[str, ...], ...] = ()  # key `exec`, each split into words, in the order they run
    env: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class End:
    """One end of a link: an interface of a node."""

    node: str
    interface: str

    def __str__(self) -> str:
        return f"{self.node}:{self.interface}"


@dataclass(frozen=True, slots=True)
class Link:
    """A cable: a veth pair between two interfaces."""

    left: End
    right: End

    @property
    def ends(self) -> tuple[End, End]:
        """Both ends, in the file's order."""
        return self.left, self.right


@dataclass(frozen=True, slots=True, order=True)
class Pod:
    """Pod number `number` (from 1) of `node`."""

    node: str
    number: int

    @property
    def name(self) -> str:
        """What tables and namespaces call it."""
        return f"{self.node}-pod{self.number}"


@dataclass(frozen=True)
class Topology:
    """A whole lab. `resources` are those of all nodes' files, each file once, in the order of the nodes, with those of
    a variant on top.
    """

    path: Path
    name: str
    prefix: str
    nodes: Mapping[str, LabNode]
    links: tuple[Link, ...]
    resources: tuple[AnyResource, ...]

    @cached_property
    def cluster(self) -> Cluster:
        """The resources as the agents see them."""
        return Cluster.of(self.resources)

    @property
    def routers(self) -> tuple[LabNode, ...]:
        """The routers, in the file's order."""
        return tuple(node for node in self.nodes.values() if node.role is Role.ROUTER)

    @property
    def members(self) -> tuple[LabNode, ...]:
        """The nodes that run the agent, in the file's order."""
        return tuple(node for node in self.nodes.values() if node.role is Role.NODE)

    @cached_property
    def pods(self) -> tuple[Pod, ...]:
        """All pods, in the order of their nodes."""
        return tuple(Pod(node.name, number) for node in self.members for number in range(1, node.pods + 1))

    @cached_property
    def needs(self) -> frozenset[str]:
        """The kinds of link that the kernel must be able to make (IFLA_INFO_KIND).

        `veth` for links and pods, what the file's `ip link add ... type KIND` commands make, and `ipip` or
        `vxlan` when a pool may use such a tunnel.
        """
        kinds = {"veth"}
        for node in self.nodes.values():
            kinds.update(filter(None, map(_made_by, node.commands)))
        if any(pool.spec.ipip_mode is not EncapsulationMode.NEVER for pool in self.cluster.pools.values()):
            kinds.add("ipip")
        if any(pool.spec.vxlan_mode is not EncapsulationMode.NEVER for pool in self.cluster.pools.values()):
            kinds.add("vxlan")
        return frozenset(kinds)

    def interfaces(self, node: str) -> tuple[str, ...]:
        """The interfaces that the file's links give `node`."""
        return tuple(end.interface for link in self.links for end in link.ends if end.node == node)

    def namespace(self, name: str) -> str:
        """The network namespace of a node or a pod, named as containerlab names a container."""
        if self.prefix == "__lab-name":
            return f"{self.name}-{name}"
        return f"{self.prefix}-{self.name}-{name}"


def _made_by(command: tuple[str, ...]) -> str | None:
    """The kind of link that `command` makes if it is an `ip link add`."""
    if command[0].rpartition("/")[2] != "ip" or "type" not in command[:-1]:
        return None
    words = [word for word in command[1:] if not word.startswith("-")]
    if not ("link".startswith(words[0]) and "add".startswith(words[1])):
        return None
    return command[command.index("type") + 1]

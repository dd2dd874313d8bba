"""The values of a lab: what its file says, checked, with nothing left to look up. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path
from typing import Final

from routed.model.cluster import Cluster
from routed.model.resources import AnyResource, BGPPeer, EncapsulationMode, Node
from routed_lab.topology.routers import RouterKind

HOST: Final = "host"
"""What links call the machine: the network namespace that the lab's runner was started in."""

MANAGEMENT: Final = "mgmt-net"
"""What links call the management bridge."""

DEFAULT_MTU: Final = 9500
"""Of the file's links, in bytes; containerlab's (constants.DefaultLinkMTU)."""


class Kind(StrEnum):
    """Which of containerlab's kinds a node is of: those that this lab makes."""

    LINUX = "linux"
    BRIDGE = "bridge"  # a Linux bridge, alone in a namespace or in another node's
    EXTERNAL = "ext-container"  # elsewhere a container that somebody else made; here a node like linux
    CLUSTER = "k8s-kind"  # elsewhere a Kubernetes cluster; here the ext-container nodes named after it
    HOST = "host"  # the machine itself


class Role(StrEnum):
    """What a container of the lab is: label `routed.role`."""

    NODE = "node"  # runs the agent, has pods, is a member of the cluster
    ROUTER = "router"  # runs BIRD, FRR or GoBGP, belongs to the fabric
    PLAIN = "plain"  # runs what its `cmd` says, or nothing


class Stage(StrEnum):
    """The steps in which a node comes to life, in their order (containerlab's types.WaitForStage)."""

    CREATE = "create"  # its program is started
    CREATE_LINKS = "create-links"  # its interfaces are up
    CONFIGURE = "configure"  # its `exec` ran
    HEALTHY = "healthy"  # its router or agent is ready, its pods are wired
    EXIT = "exit"  # its program has ended


@dataclass(frozen=True, slots=True)
class Step:
    """A node's stage: it is completed."""

    node: str
    stage: Stage

    def __str__(self) -> str:
        return f"{self.node} {self.stage}"


@dataclass(frozen=True, slots=True)
class StageCommand:
    """A command that runs when its node enters or leaves a stage, in the node or on the machine."""

    argv: tuple[str, ...]
    on_host: bool = False
    on_exit: bool = False


@dataclass(frozen=True, slots=True)
class Bind:
    """A file or directory that a node sees at `target`: `source` of the machine, an empty directory if that is None."""

    target: str
    source: Path | None = None
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class LabNode:
    """One container of the file. `line` is where the file describes it."""

    name: str
    role: Role
    line: int
    rack: str | None = None
    pods: int = 0
    config: Path | None = None  # label routed.config: a router's configuration, a node's resources
    router: RouterKind = RouterKind.BIRD  # which one, if it is a router: label routed.router, or the image's name
    files: Mapping[str, Path] = field(default_factory=dict[str, Path])  # a router's other files, by name, from binds
    commands: tuple[tuple[str, ...], ...] = ()  # key `exec`, each split into words, in the order they run
    env: Mapping[str, str] | None = None
    kind: Kind = Kind.LINUX
    image: str = ""
    group: str = ""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    program: tuple[str, ...] = ()  # keys `entrypoint` and `cmd`
    binds: tuple[Bind, ...] = ()  # but for those of `config` and `files`
    sysctls: Mapping[str, str] = field(default_factory=dict[str, str])
    joins: str | None = None  # the node whose network namespace it is in, HOST for the machine's
    delay: int = 0  # seconds that it starts later
    waits: Mapping[Stage, tuple[Step, ...]] = field(default_factory=dict[Stage, tuple[Step, ...]])
    stage_commands: Mapping[Stage, tuple[StageCommand, ...]] = field(
        default_factory=dict[Stage, tuple[StageCommand, ...]]
    )
    present: bool = True  # a node that is not is wired up, and becomes a member later: step `add` of a scenario

    @property
    def bridge(self) -> str:
        """The interface name of a bridge: what stands before `|`, which tells bridges of one name apart."""
        return self.name.partition("|")[0]


@dataclass(frozen=True, slots=True)
class End:
    """One end of a link: an interface of a node, of HOST or of MANAGEMENT."""

    node: str
    interface: str

    def __str__(self) -> str:
        return f"{self.node}:{self.interface}"


@dataclass(frozen=True, slots=True)
class Link:
    """A cable: a veth pair between two interfaces. A `mac` is None where the kernel chooses."""

    left: End
    right: End
    mtu: int = DEFAULT_MTU
    left_mac: str | None = None
    right_mac: str | None = None

    @property
    def ends(self) -> tuple[End, End]:
        """Both ends, in the file's order."""
        return self.left, self.right


@dataclass(frozen=True, slots=True)
class Dummy:
    """An interface that leads nowhere."""

    end: End
    mtu: int = DEFAULT_MTU
    mac: str | None = None


@dataclass(frozen=True, slots=True)
class Management:
    """The management network: a bridge in a namespace of its own, and the addresses of everyone's eth0."""

    bridge: str
    mtu: int
    gateways: tuple[IPv4Interface | IPv6Interface, ...]  # the bridge's own addresses
    addresses: Mapping[str, tuple[IPv4Interface | IPv6Interface, ...]]  # by node


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
    dummies: tuple[Dummy, ...] = ()
    management: Management | None = None
    warnings: tuple[str, ...] = ()  # what of the file has no effect here, each with its place
    variables: Mapping[str, str] = field(default_factory=dict[str, str])  # of the shell, which the file mentions

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
        return tuple(node for node in self.nodes.values() if node.role is Role.NODE and node.present)

    def without(self, absent: Collection[str]) -> Topology:
        """The same lab in which the nodes `absent` are no members yet: no agent, no pods, no resources."""
        nodes = {name: replace(node, present=name not in absent) for name, node in self.nodes.items()}
        theirs = [one for name in absent for one in self.resources_of(name)]
        return replace(self, nodes=nodes, resources=tuple(one for one in self.resources if one not in theirs))

    def joined(self, name: str, resources: Sequence[AnyResource]) -> Topology:
        """The same lab in which a node that was absent is a member, by these resources."""
        nodes = {**self.nodes, name: replace(self.nodes[name], present=True)}
        return replace(self, nodes=nodes, resources=(*self.resources, *resources))

    def resources_of(self, name: str) -> tuple[AnyResource, ...]:
        """The resources that are about one node alone: its Node, and the BGPPeers that name it."""
        return tuple(
            one
            for one in self.resources
            if (isinstance(one, Node) and one.metadata.name == name)
            or (isinstance(one, BGPPeer) and one.spec.node == name)
        )

    @cached_property
    def pods(self) -> tuple[Pod, ...]:
        """All pods, in the order of their nodes."""
        return tuple(Pod(node.name, number) for node in self.members for number in range(1, node.pods + 1))

    @cached_property
    def needs(self) -> frozenset[str]:
        """The kinds of link that the kernel must be able to make (IFLA_INFO_KIND).

        `veth` for links and pods, `bridge` and `dummy` for such, what the file's `ip link add ... type KIND` commands
        make, and `ipip` or `vxlan` when a pool may use such a tunnel.
        """
        kinds = {"veth"}
        if self.management is not None or any(node.kind is Kind.BRIDGE for node in self.nodes.values()):
            kinds.add("bridge")
        if self.dummies:
            kinds.add("dummy")
        for node in self.nodes.values():
            kinds.update(filter(None, map(_made_by, node.commands)))
        if any(pool.spec.ipip_mode is not EncapsulationMode.NEVER for pool in self.cluster.pools.values()):
            kinds.add("ipip")
        if any(pool.spec.vxlan_mode is not EncapsulationMode.NEVER for pool in self.cluster.pools.values()):
            kinds.add("vxlan")
        return frozenset(kinds)

    def interfaces(self, node: str) -> tuple[str, ...]:
        """The interfaces that the file's links put into the network namespace of `node`."""
        return tuple(end.interface for link in self.links for end in link.ends if self.holder(end.node) == node)

    def holder(self, name: str) -> str:
        """Whose network namespace node `name` is in: its own name, another's, HOST or MANAGEMENT."""
        while (node := self.nodes.get(name)) is not None and node.joins is not None:
            if node.joins == HOST:
                return HOST
            name = node.joins
        return name

    def namespace(self, name: str) -> str:
        """The network namespace of a node or a pod, named as containerlab names a container."""
        if not self.prefix:
            return name
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

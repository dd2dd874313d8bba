"""The vocabulary of the route programmer: what calc decides, what the kernel edges carry out, what is told about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from routed.model.address import Address, AnyAddress, AnyHostAddress, AnyPrefix, HostAddress
from routed.model.nlri import Nlri

TUNNEL_KIND = "ipip"
TUNNEL_MODULE = "ipip"
TUNNEL_ALIAS = "routed:tunnel"
VXLAN_KIND = "vxlan"
VXLAN_MODULE = "vxlan"
VXLAN_ALIAS = "routed:vxlan"
FORWARD_IPV6 = "net/ipv6/conf/all/forwarding"
COMPATIBLE = "net/ipv4/nexthop_compat_mode"  # at 1 the kernel tells of each route by a group that changes
TUNNEL_OVERHEAD = 20  # bytes of the outer IPv4 header, RFC 2003 section 3
VXLAN_OVERHEAD = 50  # bytes of the outer IPv4, UDP and VXLAN headers and the inner Ethernet one, RFC 7348 section 5


@dataclass(frozen=True, slots=True)
class Settings:
    """How this node marks what is its own: routes by `protocol` (rtm_protocol) and `metric`, in the main table.

    `nexthops`: learned routes go by nexthop groups, where the kernel has them. `tunnel_device` is that of IPIP;
    `vxlan_vni` and `vxlan_port` (UDP) are the cluster's.
    """

    protocol: int = 114
    metric: int = 1024
    tunnel_device: str = "tunl0"
    nexthops: bool = True
    vxlan_device: str = "vxlan.routed"
    vxlan_vni: int = 4096
    vxlan_port: int = 4789

    @property
    def tunnel_devices(self) -> frozenset[str]:
        """The devices through which packets are encapsulated: none of them is underlay."""
        return frozenset((self.tunnel_device, self.vxlan_device))


class Encapsulation(StrEnum):
    """How packets to a prefix leave the node."""

    DIRECT = "direct"
    TUNNEL = "ipip"
    VXLAN = "vxlan"
    LOCAL = "local"
    BLACKHOLE = "blackhole"
    UNREACHABLE = "unreachable"  # no route: why is in the reason, what to do in the problems


TUNNELS = (Encapsulation.TUNNEL, Encapsulation.VXLAN)
"""Those that wrap the packet."""
DRIVERS = {Encapsulation.TUNNEL: (TUNNEL_KIND, TUNNEL_MODULE), Encapsulation.VXLAN: (VXLAN_KIND, VXLAN_MODULE)}
"""The kind of their device, and the module that has its driver."""


class Why(StrEnum):
    """The kinds of reasons, for programs; the sentence is in `Reason.text`."""

    OWN_BLOCK = "own block"
    ENDPOINT = "local endpoint"
    SAME_SUBNET = "same subnet"
    FABRIC = "learned from an adjacent router"
    OTHER_SUBNET = "next hop in another subnet"
    ALWAYS = "pool is Always"
    NEVER = "pool is Never"
    UNRESOLVABLE = "next hop unresolvable"
    UNKNOWN_OWNER = "owner unknown"
    NO_POOL = "in no pool"
    REACHABLE_BY = "a peer's gateway"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a decision came out as it did; `str()` is the line that `explain` shows."""

    why: Why
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Hop:
    """Out of `device`, through `gateway`; without one the destination is on the link.

    `onlink`: the gateway is taken to be on the link though no address of the device says so; a tunnel's end is.
    """

    device: str
    gateway: AnyAddress | None = None
    onlink: bool = False


@dataclass(frozen=True, slots=True, order=True)
class RouteKey:
    """What makes a route of the main table unique for the kernel's REPLACE and EXCL."""

    prefix: AnyPrefix
    metric: int
    tos: int = 0

    def __str__(self) -> str:
        tos = f" tos {self.tos:#x}" if self.tos else ""
        return f"{self.prefix}{tos} metric {self.metric}"


class Group:
    """What learned prefixes that are forwarded alike have in common, and keep while their next hops change.

    Told apart by identity. In the kernel it is one nexthop group, which all their routes name; where there are no
    nexthop objects it is nothing.
    """

    __slots__ = ()


class RouteKind(StrEnum):
    """The types of route that are ours."""

    UNICAST = "unicast"
    BLACKHOLE = "blackhole"


@dataclass(frozen=True, slots=True)
class Route:
    """A route of ours. `source` is its RTA_PREFSRC; several `hops` share the traffic, by flow, equally.

    With a `group`, whose `hops` they are, it is the same route when they change. One that was read from the kernel has
    the id of its `nexthop` object, if it goes by one, in place of both.

    `odd` names what a route read from the kernel has and ours never have (weights, metrics, duplicates), so that such
    a route is never equal to a desired one.
    """

    kind: RouteKind = RouteKind.UNICAST
    hops: tuple[Hop, ...] = ()
    source: AnyAddress | None = None
    odd: str = ""
    nexthop: int = 0
    group: Group | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class UnderlayRoute:
    """A route of the main table that is not ours. No hops: it rejects (blackhole, unreachable, prohibit).

    `whole` is False where its hops lack what a route of ours cannot say: a label.
    """

    prefix: AnyPrefix
    hops: tuple[Hop, ...]
    metric: int = 0
    tos: int = 0
    source: AnyAddress | None = None
    protocol: int = 0
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Vxlan:
    """What makes a VXLAN device, and cannot be changed afterwards, but for `mac`.

    Packets leave from the UDP address `local`, to `port`; nothing is learned from them. `odd` names what a device read
    from the kernel has and ours never has.
    """

    vni: int
    port: int
    local: Address
    mac: str
    odd: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """A link as it should be; `mtu` in bytes, None leaves it as it is. `vxlan` is set for that kind, and only then."""

    kind: str
    mtu: int | None = None
    up: bool = True
    vxlan: Vxlan | None = None


@dataclass(frozen=True, slots=True, order=True)
class NeighbourKey:
    """An entry of the neighbour table of `device`."""

    device: str
    address: Address

    def __str__(self) -> str:
        return f"neighbour {self.address} dev {self.device}"


@dataclass(frozen=True, slots=True, order=True)
class FdbKey:
    """An entry of the forwarding database of `device`: what it does with frames to `mac`."""

    device: str
    mac: str

    def __str__(self) -> str:
        return f"fdb {self.mac} dev {self.device}"


@dataclass(frozen=True, slots=True)
class Forwarding:
    """How this node reaches `prefix`, and why; calc's output, what `explain` prints.

    `hops` are what the packets are given to, by flow: for a tunnel the gateway is the tunnel's end. `key` finds the
    route in `Desired.routes`; None means that it is not programmed, and a problem says why.
    """

    prefix: AnyPrefix
    encapsulation: Encapsulation
    because: Reason
    hops: tuple[Hop, ...] = ()
    key: RouteKey | None = None


class ProblemKind(StrEnum):
    """The kinds of trouble that calc can see."""

    MISSING_DRIVER = "missing driver"
    TUNNEL_DEVICE_TAKEN = "tunnel device taken"
    NODE_UNKNOWN = "node unknown"
    NODE_ADDRESS_ABSENT = "node address on no interface"
    NODE_ADDRESS_HOST_LENGTH = "node address is a /32"
    NO_POOL = "prefix in no pool"
    UNRESOLVABLE = "next hop unresolvable"
    UNKNOWN_OWNER = "owner unknown"
    GATEWAY_UNINFORMED = "gateway may not know the prefix"
    DUPLICATE_ENDPOINT = "address of two endpoints"
    ENDPOINT_MTU = "pod's MTU is too large"
    POOL_IN_SUBNET = "pool overlaps an interface's subnet"
    SMALL_MTU = "MTU too small"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """Something to tell the operator: `subject` (a pool, an address, a prefix), what is wrong, what to do."""

    kind: ProblemKind
    subject: str
    message: str
    hint: str

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}"


@dataclass(frozen=True)
class NodeState:
    """What the node needs besides routes. `addresses` maps an address to the devices that carry it.

    `neighbours` have their MAC address; `fdb` says behind which member a MAC address is. Nobody is asked for either.
    `sysctls` are paths below /proc/sys, with slashes, since an interface name may contain a dot. `names` are those of
    pods' links that somebody has renamed, by index.
    """

    links: Mapping[str, Link] = field(default_factory=dict[str, Link])
    addresses: Mapping[HostAddress, tuple[str, ...]] = field(default_factory=dict[HostAddress, tuple[str, ...]])
    sysctls: Mapping[str, str] = field(default_factory=dict[str, str])
    neighbours: Mapping[NeighbourKey, str] = field(default_factory=dict[NeighbourKey, str])
    fdb: Mapping[FdbKey, Address] = field(default_factory=dict[FdbKey, Address])
    names: Mapping[int, str] = field(default_factory=dict[int, str])


@dataclass(frozen=True)
class Change:
    """What to do about the kernel after a change of calc's input.

    `routes` holds every prefix whose route may be another than before, with the route it should have, None for none;
    all have our metric. The prefixes that it does not hold want what they wanted, except that their route may be by one
    of `groups`: those have other hops than before, or none any more, when no prefix goes by them.
    """

    node: NodeState = field(default_factory=NodeState)
    routes: Mapping[Nlri, Route | None] = field(default_factory=dict[Nlri, Route | None])
    groups: Mapping[Group, tuple[Hop, ...]] = field(default_factory=dict[Group, tuple[Hop, ...]])


NO_CHANGE = Change()


@dataclass(frozen=True)
class Desired(NodeState):
    """The kernel state that this node wants, and the decisions it follows from. A value: equal inputs, equal output."""

    routes: Mapping[RouteKey, Route] = field(default_factory=dict[RouteKey, Route])
    decisions: Mapping[AnyPrefix, Forwarding] = field(default_factory=dict[AnyPrefix, Forwarding])
    problems: tuple[Problem, ...] = ()


Key = RouteKey | AnyHostAddress | NeighbourKey | FdbKey | str
"""A route, an address, a neighbour, an entry of a forwarding database, or the name of a link or sysctl."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Something of a stranger's that is in our way and was left alone."""

    key: Key
    message: str
    hint: str

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}"


@dataclass(frozen=True)
class Report:
    """What one apply did.

    Of `desired` routes `programmed` are in the kernel as they should be; `changed` counts the objects written (0:
    nothing was sent), `repaired` the routes that another hand had changed or deleted and nobody else wanted otherwise;
    `failures` have the kernel's reason and want a retry; `conflicts` want an operator, and so do `warnings`, of which
    the kernel is none the worse.
    """

    desired: int = 0
    programmed: int = 0
    changed: int = 0
    failures: Mapping[Key, str] = field(default_factory=dict[Key, str])
    conflicts: tuple[Conflict, ...] = ()
    repaired: int = 0
    warnings: tuple[Conflict, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the kernel is as desired."""
        return not self.failures and not self.conflicts

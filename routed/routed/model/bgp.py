"""What BGPPeer and BGPConfiguration say. "Addition" marks what Calico's open source lacks.

BFD has the names of Calico Enterprise where it has one (`failureDetectionMode`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta, field

from routed.model.fields import (
    AnyAddressField,
    AnyPrefixField,
    AsNumber,
    Community,
    Duration,
    Name,
    PeerAddress,
    Port,
    SecretKey,
)
from routed.model.schema import Schema
from routed.model.selector import Selector

MAX_PREFIXES = 1_000_000  # about the whole Internet's: a bound for memory, not for policy
Hops = Annotated[int, Meta(ge=1, le=254)]
Count = Annotated[int, Meta(ge=1, le=100_000_000)]


class SecretKeySelector(Schema, frozen=True):
    """Where a password is. Kubernetes' secrets are files here: NAME/KEY below the agent's `secrets_dir`."""

    name: Annotated[Name, Meta(description="Name of the secret: a directory below the agent's `secrets_dir`.")]
    key: Annotated[SecretKey, Meta(description="Key in the secret: a file in that directory, which is the password.")]


class BGPPassword(Schema, frozen=True):
    """A password for TCP MD5 (RFC 2385); never in the resource itself."""

    secret_key_ref: Annotated[SecretKeySelector, Meta(description="Where the password is.")]


class NextHopMode(StrEnum):
    """How the next hop of what we send to a peer is made."""

    AUTO = "Auto"
    SELF = "Self"
    KEEP = "Keep"


class SourceAddress(StrEnum):
    """From which address a session is opened."""

    USE_NODE_IP = "UseNodeIP"
    NONE = "None"


class ReversePeering(StrEnum):
    """Whether the nodes at the other end peer back."""

    AUTO = "Auto"
    MANUAL = "Manual"


class FailureDetectionMode(StrEnum):
    """When BFD watches a peer. `BFD` is routed's addition to Calico Enterprise's two."""

    NONE = "None"
    BFD_IF_DIRECTLY_CONNECTED = "BFDIfDirectlyConnected"
    BFD = "BFD"


class AddPath(StrEnum):
    """RFC 7911: whether we take several paths of one prefix from the peer. We send one."""

    NONE = "None"
    RECEIVE = "Receive"


class AddressFamily(StrEnum):
    """A family of routes."""

    IPV4 = "IPv4"
    IPV6 = "IPv6"


class BFDTimers(Schema, frozen=True):
    """RFC 5880 section 6.8: the same interval is asked for both ways."""

    interval: Annotated[Duration, Meta(description="Time between packets, 100ms to 60s.")] = Duration(milliseconds=300)
    multiplier: Annotated[
        int, Meta(ge=2, le=255, description="How many packets in a row have to be missed for the peer to be down.")
    ] = 3


class BGPPeerSpec(Schema, frozen=True):
    """Sessions of some nodes (`node`, `nodeSelector`, else all) with one router (`peerIP`) or nodes (`peerSelector`).

    A node at the other end peers back, unless `reversePeering` is Manual.
    """

    peer_ip: Annotated[
        PeerAddress | None,
        Meta(
            description="Address of the peer; with a port IPv4:PORT or [IPv6]:PORT. Port: `listenPort` if the peer is "
            "a node, else 179."
        ),
    ] = field(name="peerIP", default=None)
    as_number: Annotated[
        AsNumber | None, Meta(description="AS of the peer; with `peerSelector` each node's own is taken.")
    ] = None
    node: Annotated[Name | None, Meta(description="The one node that has these sessions.")] = None
    node_selector: Annotated[
        Selector | None, Meta(description="Selects the nodes that have these sessions; not together with `node`.")
    ] = None
    peer_selector: Annotated[
        Selector | None,
        Meta(
            description="Selects the nodes to peer with, in each family of which both ends have an address; not "
            "together with `peerIP` and `asNumber`."
        ),
    ] = None
    local_as_number: Annotated[
        AsNumber | None,
        Meta(description="Our AS towards this peer; default: the node's own."),
    ] = field(name="localASNumber", default=None)
    reverse_peering: Annotated[
        ReversePeering, Meta(description="Auto: a node at the other end peers back without a BGPPeer of its own.")
    ] = ReversePeering.AUTO
    source_address: Annotated[
        SourceAddress,
        Meta(description="UseNodeIP: connect from the node's address. None: from the one that the kernel chooses."),
    ] = SourceAddress.USE_NODE_IP
    next_hop_mode: Annotated[
        NextHopMode | None,
        Meta(
            description="Next hop of what we send. Auto: our address for what we originate, unchanged for what we "
            "reflect. Self: always our address. Keep: never changed."
        ),
    ] = None
    keep_original_next_hop: Annotated[
        bool, Meta(description="Older word for `nextHopMode: Keep` with an eBGP peer; not together with it.")
    ] = False
    password: Annotated[
        BGPPassword | None, Meta(description="TCP MD5 (RFC 2385), at most 80 octets; the peer has the same.")
    ] = None
    max_restart_time: Annotated[
        Duration | None,
        Meta(
            description="Graceful restart (RFC 4724): how long the peer keeps our paths, 0s to 4095s; 0s: not at all. "
            "Default: the agent's `bgp_restart_seconds`."
        ),
    ] = None
    notification_restart: Annotated[
        bool,
        Meta(
            description="Addition. Graceful restart also after a NOTIFICATION and when the hold time is over (RFC "
            "8538), if the peer offers it too."
        ),
    ] = False
    keepalive_time: Annotated[
        Duration | None,
        Meta(description="Time between KEEPALIVEs, from 1s to a third of the hold time, which is the default."),
    ] = None
    hold_time: Annotated[
        Duration | None,
        Meta(
            description="Addition. Silence after which the session is down (RFC 4271 section 4.2): 3s to 65535s, or 0s "
            "for never. Default: the agent's `bgp_hold_seconds`."
        ),
    ] = None
    num_allowed_local_as_numbers: Annotated[
        int, Meta(ge=0, le=255, description="How often our own AS may be in a path from this peer.")
    ] = field(name="numAllowedLocalASNumbers", default=0)
    ttl_security: Annotated[
        Hops | None,
        Meta(description="GTSM (RFC 5082): how many hops away the peer is; 1 is a neighbour on the link."),
    ] = None
    filters: Annotated[
        tuple[Name, ...], Meta(description="BGPFilters in order; the first rule that matches a route decides.")
    ] = ()
    reachable_by: Annotated[
        AnyAddressField | None,
        Meta(
            description="Gateway to the peer: a host route through it keeps what the peer sends from leading to itself."
        ),
    ] = None
    failure_detection_mode: Annotated[
        FailureDetectionMode,
        Meta(
            description="Calico Enterprise. BFDIfDirectlyConnected: BFD (RFC 5880) while the peer is in the node's own "
            "subnet. BFD (addition): wherever it is."
        ),
    ] = FailureDetectionMode.NONE
    bfd: Annotated[BFDTimers | None, Meta(description="Addition. Timers of BFD, when the mode asks for it.")] = None
    max_prefixes: Annotated[
        Count,
        Meta(
            description="Addition. Most prefixes that the peer may send; with more the session is ended (RFC 4486).",
        ),
    ] = MAX_PREFIXES
    warning_prefixes: Annotated[
        Count | None,
        Meta(description="Addition. Number of prefixes from which on we warn; default: 75 % of `maxPrefixes`."),
    ] = None
    address_families: Annotated[
        tuple[AddressFamily, ...],
        Meta(
            description="Addition. Families of routes to exchange; default: that of the session's own addresses, and "
            "with `extendedNextHop` both."
        ),
    ] = ()
    add_path: Annotated[
        AddPath, Meta(description="Addition. Receive: take several paths of one prefix from the peer (RFC 7911).")
    ] = AddPath.NONE
    extended_next_hop: Annotated[
        bool, Meta(description="Addition. Offer IPv4 routes with IPv6 next hops (RFC 8950); for sessions over IPv6.")
    ] = False


class BindMode(StrEnum):
    """At which addresses the speaker listens."""

    NONE = "None"
    NODE_IP = "NodeIP"


class LogSeverity(StrEnum):
    """The least severe message of BGP that is logged."""

    DEBUG = "Debug"
    INFO = "Info"
    WARNING = "Warning"
    ERROR = "Error"
    FATAL = "Fatal"


class CIDRBlock(Schema, frozen=True):
    """A range of service addresses."""

    cidr: Annotated[AnyPrefixField, Meta(description="The range.")]


class NamedCommunity(Schema, frozen=True):
    """A name for a community."""

    name: Annotated[Name, Meta(description="What `prefixAdvertisements` call it.")]
    value: Annotated[Community, Meta(description="The community, AA:NN or AA:NN:MM.")]


class PrefixAdvertisement(Schema, frozen=True):
    """What is attached to routes inside a range when we originate them."""

    cidr: Annotated[AnyPrefixField, Meta(description="Routes inside this range.")]
    communities: Annotated[
        tuple[str, ...], Meta(description="Names from `communities`, or communities AA:NN or AA:NN:MM.")
    ]


class BGPConfigurationSpec(Schema, frozen=True):
    """What holds for all sessions. The one object is named `default`."""

    as_number: Annotated[AsNumber, Meta(description="AS of the nodes that state none of their own.")] = 64512
    node_to_node_mesh_enabled: Annotated[
        bool,
        Meta(
            description="Every node peers with every other, except those that are route reflectors. False and no "
            "BGPPeer: BGP is switched off, and nodes reach each other's blocks by what the store says (host-gw)."
        ),
    ] = True
    listen_port: Annotated[Port, Meta(description="TCP port at which nodes listen.")] = 179
    bind_mode: Annotated[
        BindMode,
        Meta(description="Accepted as in Calico; in both modes we listen at the node's own addresses and at no other."),
    ] = BindMode.NONE
    node_mesh_password: Annotated[BGPPassword | None, Meta(description="TCP MD5 for all sessions of the mesh.")] = None
    node_mesh_max_restart_time: Annotated[
        Duration | None, Meta(description="As `maxRestartTime` of BGPPeer, for the mesh.")
    ] = None
    node_mesh_notification_restart: Annotated[
        bool, Meta(description="Addition. As `notificationRestart` of BGPPeer, for the mesh.")
    ] = False
    node_mesh_failure_detection_mode: Annotated[
        FailureDetectionMode, Meta(description="Addition. As `failureDetectionMode` of BGPPeer, for the mesh.")
    ] = FailureDetectionMode.NONE
    node_mesh_bfd: Annotated[BFDTimers | None, Meta(description="Addition. As `bfd` of BGPPeer, for the mesh.")] = (
        field(name="nodeMeshBFD", default=None)
    )
    communities: Annotated[tuple[NamedCommunity, ...], Meta(description="Communities with names.")] = ()
    prefix_advertisements: Annotated[
        tuple[PrefixAdvertisement, ...], Meta(description="Communities for what we originate, by range.")
    ] = ()
    service_cluster_ips: Annotated[
        tuple[CIDRBlock, ...], Meta(description="Ranges of service addresses, announced whole by every node.")
    ] = field(name="serviceClusterIPs", default=())
    service_external_ips: Annotated[
        tuple[CIDRBlock, ...], Meta(description="As `serviceClusterIPs`, for external addresses.")
    ] = field(name="serviceExternalIPs", default=())
    service_load_balancer_ips: Annotated[
        tuple[CIDRBlock, ...], Meta(description="As `serviceClusterIPs`, for load balancer addresses.")
    ] = field(name="serviceLoadBalancerIPs", default=())
    service_load_balancer_aggregation: Annotated[
        Literal["Enabled"], Meta(description="Load balancer ranges are announced whole.")
    ] = "Enabled"
    ignored_interfaces: Annotated[
        tuple[str, ...],
        Meta(description="Names of interfaces whose routes and next hops BGP does not use; * and ? match."),
    ] = ()
    log_severity_screen: Annotated[LogSeverity, Meta(description="Least severe message of BGP that is logged.")] = (
        LogSeverity.INFO
    )

    @property
    def service_cidrs(self) -> tuple[AnyPrefixField, ...]:
        """All ranges of service addresses, each once, in order."""
        every = (*self.service_cluster_ips, *self.service_external_ips, *self.service_load_balancer_ips)
        return tuple(dict.fromkeys(block.cidr for block in every))

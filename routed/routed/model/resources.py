"""The resources an operator writes, with the names, fields and defaults of `projectcalico.org/v3`.

A field that is not here is refused by name: nothing that would change behaviour is dropped in silence. Fields of a
later version join their struct here, in `bgp` or in `bgp_filter`, and are read where the subject is.
"""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv6Interface
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from routed.model.address import Address, HostAddress
from routed.model.bgp import BGPConfigurationSpec, BGPPeerSpec
from routed.model.bgp_filter import BGPFilterSpec
from routed.model.fields import AnyPrefixField, AsNumber, BlockSize, Name, Port
from routed.model.ipam import BlockAffinitySpec, IPAMConfigurationSpec, IPReservationSpec, PoolUse
from routed.model.schema import Metadata, Resource, Schema
from routed.model.selector import Selector

__all__ = [
    "KINDS",
    "AnyResource",
    "AsNumber",
    "BGPConfiguration",
    "BGPConfigurationSpec",
    "BGPFilter",
    "BGPFilterSpec",
    "BGPPeer",
    "BGPPeerSpec",
    "BlockAffinity",
    "EncapsulationMode",
    "IPAMConfiguration",
    "IPAMConfigurationSpec",
    "IPPool",
    "IPPoolSpec",
    "IPReservation",
    "KubernetesNode",
    "KubernetesNodeSpec",
    "Metadata",
    "Name",
    "Namespace",
    "NamespaceSpec",
    "Node",
    "NodeBGPSpec",
    "NodeSpec",
    "Port",
]


class NodeBGPSpec(Schema, frozen=True):
    """How a node speaks BGP."""

    ipv4_address: Annotated[
        HostAddress, Meta(description="The node's own address with the length of its subnet, e.g. 10.1.1.11/24.")
    ] = msgspec.field(name="ipv4Address")
    as_number: Annotated[
        AsNumber | None, Meta(description="The node's AS; default: `asNumber` of BGPConfiguration.")
    ] = None
    ipv6_address: Annotated[
        IPv6Interface | None,
        Meta(description="Likewise for IPv6, e.g. 2001:db8:1::11/64; nodes that have one peer by it."),
    ] = msgspec.field(name="ipv6Address", default=None)
    route_reflector_cluster_id: Annotated[
        Address | None,
        Meta(
            description="Makes the node a route reflector (RFC 4456) of this cluster, e.g. 244.0.0.1: it leaves the "
            "mesh, and every iBGP peer without the same ID is its client."
        ),
    ] = msgspec.field(name="routeReflectorClusterID", default=None)


class NodeSpec(Schema, frozen=True):
    """A machine that runs the agent."""

    bgp: Annotated[NodeBGPSpec, Meta(description="How the node speaks BGP.")]
    pod_cidrs: Annotated[
        tuple[AnyPrefixField, ...],
        Meta(description="Addresses of the node's pods, as Kubernetes' `spec.podCIDRs`; a node without claims blocks."),
    ] = msgspec.field(name="podCIDRs", default=())


class EncapsulationMode(StrEnum):
    """When a pool's traffic is encapsulated: design section 5."""

    ALWAYS = "Always"
    CROSS_SUBNET = "CrossSubnet"
    NEVER = "Never"


class IPPoolSpec(Schema, frozen=True):
    """A range of pod addresses and how packets to it travel."""

    cidr: Annotated[AnyPrefixField, Meta(description="The range.")]
    ipip_mode: Annotated[
        EncapsulationMode,
        Meta(
            description="When packets go through an IPIP tunnel; CrossSubnet: to nodes of another subnet that the "
            "fabric does not reach."
        ),
    ] = EncapsulationMode.NEVER
    vxlan_mode: Annotated[
        EncapsulationMode,
        Meta(
            description="Likewise through a VXLAN tunnel, UDP, for kernels and fabrics that know or let through no "
            "IPIP. IPv4 pools only; a pool has one of the two."
        ),
    ] = EncapsulationMode.NEVER
    nat_outgoing: Annotated[
        bool,
        Meta(description="Packets from it to an address in no pool leave the node with the node's address as source."),
    ] = False
    disabled: Annotated[
        bool, Meta(description="No new addresses from it; pods that have one keep it, and are still announced.")
    ] = False
    disable_bgp_export: Annotated[
        bool, Meta(description="Its addresses are announced to no peer, except where a BGPFilter accepts them.")
    ] = msgspec.field(name="disableBGPExport", default=False)
    block_size: Annotated[
        BlockSize | None,
        Meta(
            description="The prefix length of the blocks that nodes claim, 20 to 32 or 116 to 128; default: 26 or 122. "
            "It stays as long as a node has a block of the pool.",
        ),
    ] = None
    node_selector: Annotated[
        Selector | None, Meta(description="Nodes that take addresses of it; default: all of them.")
    ] = None
    namespace_selector: Annotated[
        Selector | None, Meta(description="Namespaces whose pods take addresses of it; default: all of them.")
    ] = None
    allowed_uses: Annotated[
        tuple[PoolUse, ...], Meta(min_length=1, description="Addresses of pods, of tunnels, or both.")
    ] = (PoolUse.WORKLOAD, PoolUse.TUNNEL)

    @property
    def block_length(self) -> int:
        """The prefix length of its blocks; a pool that is smaller than a block by default is a single one."""
        default = 26 if self.cidr.version == 4 else 122
        return max(default, self.cidr.prefixlen) if self.block_size is None else self.block_size

    @property
    def encapsulation_mode(self) -> EncapsulationMode:
        """When packets are encapsulated, whichever way: of the two modes one at least is Never."""
        return self.vxlan_mode if self.ipip_mode is EncapsulationMode.NEVER else self.ipip_mode


class Node(Resource, frozen=True, tag="Node", kw_only=True):
    """A machine that runs the agent: a member of the cluster."""

    spec: NodeSpec


class IPPool(Resource, frozen=True, tag="IPPool", kw_only=True):
    """A range of pod addresses."""

    spec: IPPoolSpec


class BGPPeer(Resource, frozen=True, tag="BGPPeer", kw_only=True):
    """Sessions with a router, or between nodes."""

    spec: BGPPeerSpec


class BGPConfiguration(Resource, frozen=True, tag="BGPConfiguration", kw_only=True):
    """Cluster-wide BGP settings."""

    spec: BGPConfigurationSpec = BGPConfigurationSpec()


class BGPFilter(Resource, frozen=True, tag="BGPFilter", kw_only=True):
    """Rules on routes, used by the BGPPeers that name it."""

    spec: BGPFilterSpec = BGPFilterSpec()


class IPReservation(Resource, frozen=True, tag="IPReservation", kw_only=True):
    """Addresses that no pod gets."""

    spec: IPReservationSpec = IPReservationSpec()


class IPAMConfiguration(Resource, frozen=True, tag="IPAMConfiguration", kw_only=True):
    """Cluster-wide settings of address assignment."""

    spec: IPAMConfigurationSpec = IPAMConfigurationSpec()


class BlockAffinity(Resource, frozen=True, tag="BlockAffinity", kw_only=True):
    """Which node has a block: written by agents, never by operators."""

    spec: BlockAffinitySpec


class NamespaceSpec(Schema, frozen=True):
    """What Kubernetes keeps of a namespace."""

    finalizers: Annotated[tuple[str, ...], Meta(description="Kubernetes' own; routed keeps and does not read it.")] = ()


class Namespace(Resource, frozen=True, tag="Namespace", kw_only=True):
    """A namespace of pods: a pool's `namespaceSelector` selects by its labels, its pods inherit its annotations."""

    api_version: Literal["v1"] = "v1"  # pyright: ignore[reportIncompatibleVariableOverride]
    spec: NamespaceSpec = NamespaceSpec()


class KubernetesNodeSpec(Schema, frozen=True):
    """What routed reads of Kubernetes' own Node. Whatever else is in one (taints, status, ...) is passed over.

    Its podCIDRs count for the Node of the same name that states none, and a label for that Node where it has none of
    that key. Both may state podCIDRs if they are the same.
    """

    pod_cidr: Annotated[
        AnyPrefixField | None, Meta(description="The first of `podCIDRs`; enough where these are not written.")
    ] = msgspec.field(name="podCIDR", default=None)
    pod_cidrs: Annotated[tuple[AnyPrefixField, ...], Meta(description="Addresses of the node's pods.")] = msgspec.field(
        name="podCIDRs", default=()
    )

    @property
    def stated(self) -> tuple[AnyPrefixField, ...]:
        """The podCIDRs, whichever way they are written."""
        return self.pod_cidrs or (() if self.pod_cidr is None else (self.pod_cidr,))


class KubernetesNode(Resource, frozen=True, tag="KubernetesNode", kw_only=True):
    """Kubernetes' own Node, `apiVersion: v1`: a second source of podCIDRs and labels, by itself no member."""

    api_version: Literal["v1"] = "v1"  # pyright: ignore[reportIncompatibleVariableOverride]
    spec: KubernetesNodeSpec = KubernetesNodeSpec()


AnyResource = (
    Node
    | IPPool
    | BGPPeer
    | BGPConfiguration
    | BGPFilter
    | IPReservation
    | IPAMConfiguration
    | BlockAffinity
    | Namespace
    | KubernetesNode
)
KINDS: dict[str, type[AnyResource]] = {
    "Node": Node,
    "IPPool": IPPool,
    "BGPPeer": BGPPeer,
    "BGPConfiguration": BGPConfiguration,
    "BGPFilter": BGPFilter,
    "IPReservation": IPReservation,
    "IPAMConfiguration": IPAMConfiguration,
    "Namespace": Namespace,
}
"""The kinds that operators write; a manifest of a KubernetesNode says `kind: Node` too, with `apiVersion: v1`."""

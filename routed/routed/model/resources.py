"""The resources an operator writes, with the names, fields and defaults of `projectcalico.org/v3`.

A field that is not here is refused by name: nothing that would change behaviour is dropped in silence. Fields of a
later version join their struct here, in `bgp` or in `bgp_filter`, and are read where the subject is.
"""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv6Interface
from typing import Annotated

import msgspec
from msgspec import Meta

from routed.model.address import Address, HostAddress
from routed.model.bgp import BGPConfigurationSpec, BGPPeerSpec
from routed.model.bgp_filter import BGPFilterSpec
from routed.model.fields import AnyPrefixField, AsNumber, Name, Port
from routed.model.schema import Metadata, Resource, Schema

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
    "EncapsulationMode",
    "IPPool",
    "IPPoolSpec",
    "Metadata",
    "Name",
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
        tuple[AnyPrefixField, ...], Meta(description="Addresses of the node's pods, as Kubernetes' `spec.podCIDRs`.")
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


AnyResource = Node | IPPool | BGPPeer | BGPConfiguration | BGPFilter
KINDS: dict[str, type[AnyResource]] = {
    "Node": Node,
    "IPPool": IPPool,
    "BGPPeer": BGPPeer,
    "BGPConfiguration": BGPConfiguration,
    "BGPFilter": BGPFilter,
}

"""The resources an operator writes, with the names, fields and defaults of `projectcalico.org/v3`.

A field that is not here is refused by name: nothing that would change behaviour is dropped in silence. Fields of a
later version join their struct here and are read where the subject is.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

import msgspec

from routed.model.address import Address, HostAddress, Prefix

AsNumber = Annotated[int, msgspec.Meta(ge=1, le=4294967295)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
# RFC 1123 subdomain, as Kubernetes names objects; \Z, since $ would let a line end pass
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?\Z", max_length=253)]


class _Schema(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", omit_defaults=True):
    """Strict: unknown fields are errors, values never change."""


class Metadata(_Schema, frozen=True):
    """What every resource carries."""

    name: Name
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class NodeBGPSpec(_Schema, frozen=True):
    """How a node speaks BGP; `ipv4Address` is its own address with the length of its subnet, e.g. 10.1.1.11/24."""

    ipv4_address: HostAddress = msgspec.field(name="ipv4Address")
    as_number: AsNumber | None = None


class NodeSpec(_Schema, frozen=True):
    """`podCIDRs` is routed's addition to Calico's Node: the node's own addresses, as Kubernetes' `spec.podCIDRs`."""

    bgp: NodeBGPSpec
    pod_cidrs: tuple[Prefix, ...] = msgspec.field(name="podCIDRs", default=())


class EncapsulationMode(StrEnum):
    """When a pool's traffic is encapsulated: design section 5."""

    ALWAYS = "Always"
    CROSS_SUBNET = "CrossSubnet"
    NEVER = "Never"


class IPPoolSpec(_Schema, frozen=True):
    """A range of pod addresses and how packets to it travel. Calico's default for `ipipMode` is Never."""

    cidr: Prefix
    ipip_mode: EncapsulationMode = EncapsulationMode.NEVER
    vxlan_mode: Literal["Never"] = "Never"
    nat_outgoing: Literal[False] = False
    disabled: bool = False
    disable_bgp_export: bool = msgspec.field(name="disableBGPExport", default=False)


class BGPPeerSpec(_Schema, frozen=True):
    """A session of one node (`node`) or of every node (no `node`) with a router that is no member."""

    peer_ip: Address = msgspec.field(name="peerIP")
    as_number: AsNumber
    node: Name | None = None


class BGPConfigurationSpec(_Schema, frozen=True):
    """What holds for all sessions. The one object is named `default`; Calico's default AS is 64512."""

    as_number: AsNumber = 64512
    node_to_node_mesh_enabled: bool = True
    listen_port: Port = 179


class Resource(_Schema, frozen=True, tag_field="kind"):
    """Base of the kinds; `kind` is written by the struct's tag."""

    metadata: Metadata
    api_version: Literal["projectcalico.org/v3"] = "projectcalico.org/v3"

    @property
    def kind(self) -> str:
        """The kind's name, as manifests write it."""
        return type(self).__name__

    @property
    def name(self) -> str:
        """`metadata.name`."""
        return self.metadata.name


class Node(Resource, frozen=True, tag="Node", kw_only=True):
    """A machine that runs the agent: a member of the cluster."""

    spec: NodeSpec


class IPPool(Resource, frozen=True, tag="IPPool", kw_only=True):
    """A range of pod addresses."""

    spec: IPPoolSpec


class BGPPeer(Resource, frozen=True, tag="BGPPeer", kw_only=True):
    """A session with a router."""

    spec: BGPPeerSpec


class BGPConfiguration(Resource, frozen=True, tag="BGPConfiguration", kw_only=True):
    """Cluster-wide BGP settings."""

    spec: BGPConfigurationSpec = BGPConfigurationSpec()


AnyResource = Node | IPPool | BGPPeer | BGPConfiguration
KINDS: dict[str, type[AnyResource]] = {
    "Node": Node,
    "IPPool": IPPool,
    "BGPPeer": BGPPeer,
    "BGPConfiguration": BGPConfiguration,
}

"""Clusters in a few words."""

from __future__ import annotations

from routed.model.address import Address, HostAddress, Prefix
from routed.model.cluster import Cluster
from routed.model.resources import (
    AnyResource,
    BGPConfiguration,
    BGPConfigurationSpec,
    BGPPeer,
    BGPPeerSpec,
    IPPool,
    IPPoolSpec,
    Metadata,
    Node,
    NodeBGPSpec,
    NodeSpec,
)

NAMES = {"a1": "10.1.1.11/24", "a2": "10.1.1.12/24", "b1": "10.2.2.11/24"}


def node(name: str, *blocks: str, asn: int | None = None) -> Node:
    bgp = NodeBGPSpec(HostAddress(NAMES[name]), asn)
    return Node(metadata=Metadata(name), spec=NodeSpec(bgp, tuple(map(Prefix, blocks))))


def pool(cidr: str = "10.244.0.0/16", *, disabled: bool = False, unexported: bool = False) -> IPPool:
    name = cidr.replace("/", "-")
    spec = IPPoolSpec(cidr=Prefix(cidr), disabled=disabled, disable_bgp_export=unexported)
    return IPPool(metadata=Metadata(name), spec=spec)


def peer(name: str, address: str, asn: int, on: str | None = None) -> BGPPeer:
    return BGPPeer(metadata=Metadata(name), spec=BGPPeerSpec(Address(address), asn, on))


def settings(asn: int = 64512, *, mesh: bool = True, port: int = 179) -> BGPConfiguration:
    return BGPConfiguration(metadata=Metadata("default"), spec=BGPConfigurationSpec(asn, mesh, port))


def cluster(*resources: AnyResource) -> Cluster:
    return Cluster.of(resources)


RACKS = (
    node("a1", "10.244.1.0/26"),
    node("a2", "10.244.2.0/26"),
    node("b1", "10.244.3.0/26"),
    pool(),
)

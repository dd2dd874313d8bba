"""Clusters in a few words."""

from __future__ import annotations

from ipaddress import IPv6Interface, ip_network
from typing import Any

import msgspec

from routed.model.address import Address, HostAddress
from routed.model.bgp import BGPPassword, SecretKeySelector
from routed.model.cluster import Cluster
from routed.model.codec import decode_hook
from routed.model.fields import PeerAddress
from routed.model.resources import (
    AnyResource,
    BGPConfiguration,
    BGPConfigurationSpec,
    BGPFilter,
    BGPFilterSpec,
    BGPPeer,
    BGPPeerSpec,
    IPPool,
    IPPoolSpec,
    Metadata,
    Node,
    NodeBGPSpec,
    NodeSpec,
)
from routed.model.selector import Selector

NAMES = {"a1": "10.1.1.11/24", "a2": "10.1.1.12/24", "b1": "10.2.2.11/24", "b2": "10.2.2.12/24"}
NAMES6 = {"a1": "2001:db8:1::11/64", "a2": "2001:db8:1::12/64", "b1": "2001:db8:2::11/64", "b2": "2001:db8:2::12/64"}


def node(
    name: str, *blocks: str, asn: int | None = None, ipv6: bool = False, reflects: str | None = None, **labels: str
) -> Node:
    bgp = NodeBGPSpec(
        HostAddress(NAMES[name]),
        asn,
        IPv6Interface(NAMES6[name]) if ipv6 else None,
        Address(reflects) if reflects else None,
    )
    return Node(metadata=Metadata(name, labels), spec=NodeSpec(bgp, tuple(map(ip_network, blocks))))


def pool(cidr: str = "10.244.0.0/16", *, disabled: bool = False, unexported: bool = False) -> IPPool:
    name = cidr.replace("/", "-").replace(":", "-").strip("-")
    spec = IPPoolSpec(cidr=ip_network(cidr), disabled=disabled, disable_bgp_export=unexported)
    return IPPool(metadata=Metadata(name), spec=spec)


def peer(name: str, address: str, asn: int, on: str | None = None, **more: Any) -> BGPPeer:
    return BGPPeer(metadata=Metadata(name), spec=BGPPeerSpec(PeerAddress.parse(address), asn, on, **more))


def between(name: str, those: str, others: str, **more: Any) -> BGPPeer:
    """Sessions of the nodes that `those` selects with those that `others` selects."""
    spec = BGPPeerSpec(node_selector=Selector(those), peer_selector=Selector(others), **more)
    return BGPPeer(metadata=Metadata(name), spec=spec)


def bgp_filter(name: str, **rules: list[dict[str, Any]]) -> BGPFilter:
    """A filter, its rules as manifests write them: importV4=[{"action": "Reject"}]."""
    return BGPFilter(metadata=Metadata(name), spec=msgspec.convert(rules, BGPFilterSpec, dec_hook=decode_hook))


def secret(name: str, key: str) -> BGPPassword:
    return BGPPassword(SecretKeySelector(name, key))


def settings(asn: int = 64512, *, mesh: bool = True, port: int = 179, **more: Any) -> BGPConfiguration:
    return BGPConfiguration(metadata=Metadata("default"), spec=BGPConfigurationSpec(asn, mesh, port, **more))


def cluster(*resources: AnyResource) -> Cluster:
    return Cluster.of(resources)


RACKS = (
    node("a1", "10.244.1.0/26"),
    node("a2", "10.244.2.0/26"),
    node("b1", "10.244.3.0/26"),
    pool(),
)

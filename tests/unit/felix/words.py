"""The two racks in a few words: a1 (10.1.1.11, ours) and a2 (10.1.1.12) in rack A, b1 and b2 in rack B (10.2.2.x)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, ip_address, ip_network
from typing import Any

from routed.model.cluster import Cluster
from routed.model.interface import Interface
from routed.model.nlri import Nlri, from_prefix
from routed.model.path import Origin, Path
from routed.model.resources import (
    EncapsulationMode,
    IPPool,
    IPPoolSpec,
    Metadata,
    Node,
    NodeBGPSpec,
    NodeSpec,
)
from routed_felix.calc import View, desired
from routed_felix.state import Desired, Forwarding, Hop, Route, RouteKey, UnderlayRoute

NODES = {
    "a1": ("10.1.1.11/24", "192.168.11.0/26"),
    "a2": ("10.1.1.12/24", "192.168.12.0/26"),
    "b1": ("10.2.2.21/24", "192.168.21.0/26"),
    "b2": ("10.2.2.22/24", "192.168.22.0/26"),
}
TOR = "10.1.1.1"
A1, A2, B1, B2 = (block for _, block in NODES.values())
ETH1 = Interface("eth1", 2, 1500, True, "veth", (IPv4Interface("10.1.1.11/24"),))
LO = Interface("lo", 1, 65536, True, "", (IPv4Interface("127.0.0.1/8"),))
DEFAULT = UnderlayRoute(IPv4Network("0.0.0.0/0"), (Hop("eth1", IPv4Address(TOR)),))


def node(name: str, address: str, *blocks: str) -> Node:
    bgp = NodeBGPSpec(ipv4_address=IPv4Interface(address))
    spec = NodeSpec(bgp=bgp, pod_cidrs=tuple(ip_network(block) for block in blocks))
    return Node(metadata=Metadata(name=name), spec=spec)


def pool(name: str, cidr: str, mode: str, *, vxlan: str = "Never", disabled: bool = False) -> IPPool:
    spec = IPPoolSpec(
        cidr=IPv4Network(cidr),
        ipip_mode=EncapsulationMode(mode),
        vxlan_mode=EncapsulationMode(vxlan),
        disabled=disabled,
    )
    return IPPool(metadata=Metadata(name=name), spec=spec)


def cluster(mode: str = "CrossSubnet", **nodes: tuple[str, ...]) -> Cluster:
    stated = {**NODES, **nodes}
    return Cluster.of([*(node(name, *words) for name, words in stated.items()), pool("pods", "192.168.0.0/16", mode)])


def vxlan(mode: str = "CrossSubnet") -> Cluster:
    """The same with VXLAN in place of IPIP."""
    pods = pool("pods", "192.168.0.0/16", "Never", vxlan=mode)
    return Cluster.of([*(node(name, *words) for name, words in NODES.items()), pods])


def path(next_hop: str, *, peer: str | None = None, preference: int = 90, member: bool = False) -> Path:
    peer_address = ip_address(peer or next_hop)
    return Path(
        next_hop=ip_address(next_hop),
        peer=peer_address,
        peer_as=64512,
        peer_router_id=peer_address if isinstance(peer_address, IPv4Address) else IPv4Address("10.255.0.6"),
        ebgp=preference > 90,
        as_path=(),
        origin=Origin.IGP,
        local_pref=preference,
        member=member,
    )


def nlri(prefix: str) -> Nlri:
    return from_prefix(ip_network(prefix))


@cache
def paths(hops: tuple[str, ...]) -> tuple[Path, ...]:
    """One object for equal hops, as the Loc-RIB has it."""
    return tuple(path(hop) for hop in hops)


def learned(best: Mapping[str, str | tuple[str, ...]]) -> dict[Nlri, tuple[Path, ...]]:
    """Next hops, best first, by prefix."""
    return {nlri(prefix): paths((hops,) if isinstance(hops, str) else hops) for prefix, hops in best.items()}


def all_of_them(found: Sequence[Path]) -> Sequence[Path]:
    """All paths share the traffic, as if the decision process found them equal."""
    return found


def view(**changes: Any) -> View:
    """a1's view: one uplink, default route to the ToR, driver present, tunnel address 192.168.11.1."""
    ours: dict[str, Any] = {
        "node": "a1",
        "cluster": cluster(),
        "blocks": (IPv4Network(A1),),
        "interfaces": {"lo": LO, "eth1": ETH1},
        "underlay": (DEFAULT,),
        "tunnel_address": IPv4Address("192.168.11.1"),
        "tunnel": True,
        "vxlan": True,
    }
    return View(**{**ours, **changes})


def decision(result: Desired, prefix: str) -> Forwarding:
    return result.decisions[IPv4Network(prefix)]


def route(result: Desired, prefix: str) -> Route | None:
    return result.routes.get(RouteKey(IPv4Network(prefix), 1024))


def decide(prefix: str, hops: str | tuple[str, ...], **changes: Any) -> tuple[Forwarding, Route | None]:
    """The decision for one learned prefix, and its route."""
    result = desired(view(best=learned({prefix: hops}), **changes))
    return decision(result, prefix), route(result, prefix)

"""What resources must be to one another. Each on its own is checked by its schema; here they are seen together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from routed.model.address import AnyAddress, AnyHostAddress, AnyPrefix
from routed.model.cluster import Cluster
from routed.model.prefixes import inside, overlap
from routed.model.problem import Problem
from routed.model.resources import (
    AnyResource,
    BGPConfiguration,
    BGPFilter,
    BGPPeer,
    EncapsulationMode,
    IPAMConfiguration,
    IPPool,
    KubernetesNode,
    Node,
)
from routed.model.validate_bgp import configuration_problems, peer_problems, reflector_problems
from routed.model.validate_filter import filter_problems
from routed.model.validate_ipam import ipam_problems

__all__ = ["Problem", "validate"]

_UNUSABLE = tuple(
    ip_network(text)
    for text in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/96", "fe80::/10", "ff00::/8")
)


@dataclass(frozen=True, slots=True)
class _Claim:
    """A prefix and the object that claims it."""

    prefix: AnyPrefix
    kind: str
    name: str
    field: str

    def problem(self, message: str, hint: str) -> Problem:
        return Problem(self.kind, self.name, self.field, message, hint)


def validate(resources: Iterable[AnyResource]) -> tuple[Problem, ...]:
    """All contradictions among `resources`, the whole of what a store would hold; none means that it may be stored."""
    every = list(resources)
    nodes = [resource for resource in every if isinstance(resource, Node)]
    pools = [resource for resource in every if isinstance(resource, IPPool)]
    peers = [resource for resource in every if isinstance(resource, BGPPeer)]
    configurations = [resource for resource in every if isinstance(resource, BGPConfiguration)]
    filters = [resource for resource in every if isinstance(resource, BGPFilter)]
    cluster = Cluster.of(every)
    return (
        *configuration_problems(configurations, pools),
        *_node_addresses(nodes),
        *_pools(pools, nodes),
        *_kubernetes(nodes, [resource for resource in every if isinstance(resource, KubernetesNode)]),
        *_pod_cidrs(cluster, pools),
        *peer_problems(peers, cluster),
        *reflector_problems(nodes, cluster),
        *filter_problems(filters),
        *ipam_problems(cluster, (resource for resource in every if isinstance(resource, IPAMConfiguration))),
    )


def _node_addresses(nodes: Iterable[Node]) -> Iterator[Problem]:
    owner: dict[AnyAddress, str] = {}
    for node in nodes:
        for field, host in _stated_addresses(node):
            if any(host.ip in unusable for unusable in _UNUSABLE):
                message = f"{host.ip} is no address of a machine"
                yield Problem("Node", node.name, field, message, "give the node's own one")
            elif (
                host.version == 4
                and host.network.prefixlen < 31
                and host.ip in (host.network.network_address, host.network.broadcast_address)
            ):
                message = f"{host} is the network or broadcast address of its subnet"
                hint = "give the node's own address with the length of its subnet"
                yield Problem("Node", node.name, field, message, hint)
            if host.ip in owner:
                message = f"{host.ip} is also Node {owner[host.ip]}'s"
                yield Problem("Node", node.name, field, message, "each node needs an own address")
            owner.setdefault(host.ip, node.name)


def _stated_addresses(node: Node) -> Iterator[tuple[str, AnyHostAddress]]:
    yield "spec.bgp.ipv4Address", node.spec.bgp.ipv4_address
    if node.spec.bgp.ipv6_address is not None:
        yield "spec.bgp.ipv6Address", node.spec.bgp.ipv6_address


def _pools(pools: Sequence[IPPool], nodes: Iterable[Node]) -> Iterator[Problem]:
    claims = [_Claim(pool.spec.cidr, "IPPool", pool.name, "spec.cidr") for pool in pools]
    for inner, outer in _overlaps(claims):
        yield inner.problem(
            f"{inner.prefix} overlaps IPPool {outer.name}'s {outer.prefix}", "give each pool a range of its own"
        )
    for claim in claims:
        for unusable in _UNUSABLE:
            if overlap(claim.prefix, unusable):
                yield claim.problem(
                    f"{claim.prefix} overlaps {unusable}, which no pod can use", "give a range that is yours to route"
                )
                break
    for pool in pools:
        if pool.spec.cidr.version == 6 and pool.spec.ipip_mode is not EncapsulationMode.NEVER:
            message = f"IPIP carries IPv4 only, and {pool.spec.cidr} is IPv6"
            yield Problem("IPPool", pool.name, "spec.ipipMode", message, "set ipipMode: Never")
        yield from _vxlan(pool)
    subnets: dict[AnyPrefix, str] = {}
    for node in nodes:
        for _, host in _stated_addresses(node):
            subnets.setdefault(host.network, node.name)
    for claim in claims:
        for subnet, node_name in subnets.items():
            if overlap(claim.prefix, subnet):
                yield claim.problem(
                    f"{claim.prefix} overlaps the subnet {subnet} of Node {node_name}",
                    "pods and nodes need ranges of their own",
                )


def _vxlan(pool: IPPool) -> Iterator[Problem]:
    spec = pool.spec
    if spec.vxlan_mode is EncapsulationMode.NEVER:
        return
    if spec.cidr.version == 6:
        message = f"VXLAN carries IPv4 only in this version, and {spec.cidr} is IPv6"
        yield Problem("IPPool", pool.name, "spec.vxlanMode", message, "set vxlanMode: Never")
    elif spec.ipip_mode is not EncapsulationMode.NEVER:
        message = f"{spec.vxlan_mode}, and spec.ipipMode is {spec.ipip_mode}: a pool has one encapsulation"
        yield Problem("IPPool", pool.name, "spec.vxlanMode", message, "set one of vxlanMode and ipipMode to Never")


def _kubernetes(nodes: Iterable[Node], kubernetes: Iterable[KubernetesNode]) -> Iterator[Problem]:
    """What Kubernetes' Nodes say must be what ours say, where both do."""
    stated = {node.name: node.spec.pod_cidrs for node in nodes}
    for node in kubernetes:
        theirs, ours = node.spec.stated, stated.get(node.name, ())
        if node.spec.pod_cidr not in (None, theirs[0] if theirs else None):
            message = f"{node.spec.pod_cidr} is not the first of podCIDRs, {theirs[0]}"
            yield Problem(node.kind, node.name, "spec.podCIDR", message, "Kubernetes writes both, and the same")
        if theirs and ours and set(theirs) != set(ours):
            listed = ", ".join(map(str, ours))
            message = f"{', '.join(map(str, theirs))} contradicts the podCIDRs of Node {node.name}, {listed}"
            hint = "make both the same, or take podCIDRs out of the Node (projectcalico.org/v3): then these count"
            yield Problem(node.kind, node.name, "spec.podCIDRs", message, hint)


def _pod_cidrs(cluster: Cluster, pools: Sequence[IPPool]) -> Iterator[Problem]:
    claims = [
        _Claim(cidr, cluster.source_of_pod_cidrs(node.name), node.name, f"spec.podCIDRs[{index}]")
        for node in cluster.nodes.values()
        for index, cidr in enumerate(node.spec.pod_cidrs)
    ]
    for inner, outer in _overlaps(claims):
        yield inner.problem(
            f"{inner.prefix} overlaps Node {outer.name}'s {outer.field} {outer.prefix}",
            "each node needs addresses of its own",
        )
    known = ", ".join(f"IPPool {pool.name} {pool.spec.cidr}" for pool in pools) or "none yet"
    for claim in claims:
        if not any(inside(claim.prefix, pool.spec.cidr) for pool in pools):
            yield claim.problem(
                f"{claim.prefix} lies in no pool ({known})", "add an IPPool that contains it, or change it"
            )


def _overlaps(claims: Iterable[_Claim]) -> Iterator[tuple[_Claim, _Claim]]:
    """Each claim that lies inside (or is equal to) another, with the narrowest that holds it.

    Prefixes overlap only by containment, so in the order of (address, length) the holders of a claim form a stack.
    """
    holders: list[_Claim] = []
    for claim in sorted(claims, key=_place):
        while holders and not inside(claim.prefix, holders[-1].prefix):
            holders.pop()
        if holders:
            yield claim, holders[-1]
        holders.append(claim)


def _place(claim: _Claim) -> tuple[int, int, int]:
    return claim.prefix.version, int(claim.prefix.network_address), claim.prefix.prefixlen

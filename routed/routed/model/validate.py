"""What resources must be to one another. Each on its own is checked by its schema; here they are seen together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

from routed.model.address import Address, Prefix
from routed.model.resources import AnyResource, BGPConfiguration, BGPPeer, IPPool, Node

_NOBODYS = tuple(IPv4Network(text) for text in ("0.0.0.0/8", "224.0.0.0/3"))
_UNUSABLE = tuple(IPv4Network(text) for text in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"))


@dataclass(frozen=True, slots=True)
class Problem:
    """One contradiction: the `field` of the object that states it, what is wrong and what to do about it."""

    kind: str
    name: str
    field: str  # as a manifest writes it, e.g. spec.podCIDRs[0]
    message: str
    hint: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.field}: {self.message}; {self.hint}"


@dataclass(frozen=True, slots=True)
class _Claim:
    """A prefix and the object that claims it."""

    prefix: Prefix
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
    return (
        *_configurations(configurations),
        *_node_addresses(nodes),
        *_pools(pools, nodes),
        *_pod_cidrs(nodes, pools),
        *_peers(peers, nodes),
    )


def _configurations(configurations: Iterable[BGPConfiguration]) -> Iterator[Problem]:
    for configuration in configurations:
        if configuration.name != "default":
            yield Problem(
                "BGPConfiguration",
                configuration.name,
                "metadata.name",
                "settings of single nodes are not supported by this version",
                "the one object of this kind is named default",
            )


def _node_addresses(nodes: Iterable[Node]) -> Iterator[Problem]:
    owner: dict[Address, str] = {}
    for node in nodes:
        host = node.spec.bgp.ipv4_address
        field = "spec.bgp.ipv4Address"
        if any(host.ip in unusable for unusable in _UNUSABLE):
            yield Problem("Node", node.name, field, f"{host.ip} is no address of a machine", "give the node's own one")
        elif host.network.prefixlen < 31 and host.ip in (host.network.network_address, host.network.broadcast_address):
            yield Problem(
                "Node",
                node.name,
                field,
                f"{host} is the network or broadcast address of its subnet",
                "give the node's own address with the length of its subnet",
            )
        if host.ip in owner:
            yield Problem(
                "Node", node.name, field, f"{host.ip} is also Node {owner[host.ip]}'s", "each node needs an own address"
            )
        owner.setdefault(host.ip, node.name)


def _pools(pools: Sequence[IPPool], nodes: Iterable[Node]) -> Iterator[Problem]:
    claims = [_Claim(pool.spec.cidr, "IPPool", pool.name, "spec.cidr") for pool in pools]
    for inner, outer in _overlaps(claims):
        yield inner.problem(
            f"{inner.prefix} overlaps IPPool {outer.name}'s {outer.prefix}", "give each pool a range of its own"
        )
    for claim in claims:
        for unusable in _UNUSABLE:
            if claim.prefix.overlaps(unusable):
                yield claim.problem(
                    f"{claim.prefix} overlaps {unusable}, which no pod can use", "give a range that is yours to route"
                )
                break
    subnets: dict[Prefix, str] = {}
    for node in nodes:
        subnets.setdefault(node.spec.bgp.ipv4_address.network, node.name)
    for claim in claims:
        for subnet, node_name in subnets.items():
            if claim.prefix.overlaps(subnet):
                yield claim.problem(
                    f"{claim.prefix} overlaps the subnet {subnet} of Node {node_name}",
                    "pods and nodes need ranges of their own",
                )


def _pod_cidrs(nodes: Iterable[Node], pools: Sequence[IPPool]) -> Iterator[Problem]:
    claims = [
        _Claim(cidr, "Node", node.name, f"spec.podCIDRs[{index}]")
        for node in nodes
        for index, cidr in enumerate(node.spec.pod_cidrs)
    ]
    for inner, outer in _overlaps(claims):
        yield inner.problem(
            f"{inner.prefix} overlaps Node {outer.name}'s {outer.field} {outer.prefix}",
            "each node needs addresses of its own",
        )
    known = ", ".join(f"IPPool {pool.name} {pool.spec.cidr}" for pool in pools) or "none yet"
    for claim in claims:
        if not any(claim.prefix.subnet_of(pool.spec.cidr) for pool in pools):
            yield claim.problem(
                f"{claim.prefix} lies in no pool ({known})", "add an IPPool that contains it, or change it"
            )


def _peers(peers: Iterable[BGPPeer], nodes: Iterable[Node]) -> Iterator[Problem]:
    by_address = {node.spec.bgp.ipv4_address.ip: node.name for node in nodes}
    names = set(by_address.values()) | {node.name for node in nodes}
    sessions: dict[tuple[str | None, Address], str] = {}
    for peer in peers:
        spec = peer.spec
        if spec.node is not None and spec.node not in names:
            yield Problem(
                "BGPPeer",
                peer.name,
                "spec.node",
                f"there is no Node {spec.node} (nodes: {', '.join(sorted(names)) or 'none'})",
                "name a node that is there, or leave the field out for every node",
            )
        if any(spec.peer_ip in nobodys for nobodys in _NOBODYS):
            yield Problem(
                "BGPPeer",
                peer.name,
                "spec.peerIP",
                f"{spec.peer_ip} is no address of a machine",
                "give the address at which the router speaks BGP",
            )
        if spec.peer_ip in by_address:
            yield Problem(
                "BGPPeer",
                peer.name,
                "spec.peerIP",
                f"{spec.peer_ip} is Node {by_address[spec.peer_ip]}'s own address",
                "nodes peer through the mesh; give the address of a router",
            )
        twin = sessions.get((spec.node, spec.peer_ip)) or sessions.get((None, spec.peer_ip))
        if twin is None and spec.node is None:
            twin = next((name for (_, address), name in sessions.items() if address == spec.peer_ip), None)
        if twin is not None:
            yield Problem(
                "BGPPeer",
                peer.name,
                "spec.peerIP",
                f"BGPPeer {twin} already makes a session with {spec.peer_ip} on the same node",
                "a node has one session with a router: remove one of the two",
            )
        sessions.setdefault((spec.node, spec.peer_ip), peer.name)


def _overlaps(claims: Iterable[_Claim]) -> Iterator[tuple[_Claim, _Claim]]:
    """Each claim that lies inside (or is equal to) another, with the narrowest that holds it.

    Prefixes overlap only by containment, so in the order of (address, length) the holders of a claim form a stack.
    """
    holders: list[_Claim] = []
    for claim in sorted(claims, key=lambda claim: (claim.prefix.network_address, claim.prefix.prefixlen)):
        while holders and not claim.prefix.subnet_of(holders[-1].prefix):
            holders.pop()
        if holders:
            yield claim, holders[-1]
        holders.append(claim)

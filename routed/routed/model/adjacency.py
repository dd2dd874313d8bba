"""Who peers with whom because of a BGPPeer: Calico's scopes, selectors and reverse peerings. What a session is like is
said elsewhere; here is only that it is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from routed.model.address import AnyAddress, Family
from routed.model.bgp import ReversePeering
from routed.model.cluster import Cluster
from routed.model.resources import BGPPeer

BGP_PORT = 179


@dataclass(frozen=True, slots=True)
class Adjacency:
    """A session that `peer` makes on `node` with `address`, which is the node `member` or a router.

    `reverse`: `node` is at the other end of what `peer` states, and peers back.
    """

    peer: BGPPeer
    node: str
    address: AnyAddress
    port: int
    member: str | None
    reverse: bool

    @property
    def local_as(self) -> int | None:
        """The AS that `node` speaks as, where `peer` states it."""
        return self.peer.spec.as_number if self.reverse else self.peer.spec.local_as_number

    @property
    def peer_as(self) -> int | None:
        """The AS of the other end, where `peer` states it; else it is the member's own."""
        return self.peer.spec.local_as_number if self.reverse else self.peer.spec.as_number


def adjacencies(cluster: Cluster, node: str) -> Iterator[Adjacency]:
    """All sessions that BGPPeers make on `node`, those that go first first; some may be with the same address.

    What is stated goes before what is reversed; then a BGPPeer for the one node before one with a selector, that before
    one for all nodes, and equals by name.
    """
    peers = sorted(cluster.peers.values(), key=_specificity)
    for peer in peers:
        yield from stated(cluster, peer, node)
    for peer in peers:
        yield from reversed_(cluster, peer, node)


def stated(cluster: Cluster, peer: BGPPeer, node: str) -> Iterator[Adjacency]:
    """The sessions of `node` that `peer` states: with its address, or with each node that it selects."""
    spec = peer.spec
    if node not in cluster.scope(peer):
        return
    if spec.peer_ip is not None:
        member = cluster.any_members.get(spec.peer_ip.ip)
        if member != node:  # a BGPPeer for all nodes may name one of them: it does not peer with itself
            port = spec.peer_ip.port or (BGP_PORT if member is None else cluster.bgp.listen_port)
            yield Adjacency(peer, node, spec.peer_ip.ip, port, member, False)
    elif spec.peer_selector is not None:
        for member in sorted(cluster.select(spec.peer_selector) - {node}):
            yield from _with_member(cluster, peer, node, member, tuple(Family), reverse=False)


def reversed_(cluster: Cluster, peer: BGPPeer, node: str) -> Iterator[Adjacency]:
    """The sessions of `node` that answer those which `peer` states with it."""
    spec = peer.spec
    if spec.reverse_peering is ReversePeering.MANUAL:
        return
    families = tuple(Family)
    if spec.peer_ip is not None:
        if cluster.any_members.get(spec.peer_ip.ip) != node or spec.as_number != cluster.as_number(node):
            return
        if spec.peer_ip.port not in (None, cluster.bgp.listen_port):
            return
        families = (Family.of(spec.peer_ip.ip),)
    elif spec.peer_selector is None or node not in cluster.select(spec.peer_selector):
        return
    for member in sorted(cluster.scope(peer) - {node}):
        yield from _with_member(cluster, peer, node, member, families, reverse=True)


def selects_nobody(cluster: Cluster, peer: BGPPeer) -> str:
    """Which of `peer`'s selectors selects no node, so that it makes no session, in words; empty where it makes some."""
    spec = peer.spec
    if spec.node_selector is not None and not cluster.select(spec.node_selector):
        return f"spec.nodeSelector {spec.node_selector}: no Node has these labels"
    if spec.peer_selector is not None and not cluster.select(spec.peer_selector):
        return f"spec.peerSelector {spec.peer_selector}: no Node has these labels"
    return ""


def _with_member(
    cluster: Cluster, peer: BGPPeer, node: str, member: str, families: tuple[Family, ...], *, reverse: bool
) -> Iterator[Adjacency]:
    for family in families:
        here, there = cluster.any_address(node, family), cluster.any_address(member, family)
        if here is not None and there is not None:
            yield Adjacency(peer, node, there.ip, cluster.bgp.listen_port, member, reverse)


def _specificity(peer: BGPPeer) -> tuple[int, str]:
    spec = peer.spec
    return (0 if spec.node is not None else 1 if spec.node_selector is not None else 2), peer.name

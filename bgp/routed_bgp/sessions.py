"""Which sessions a node wants, and what it tells its peers: design section 5, Calico's mesh and BGPPeer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from routed.errors import OperatorError
from routed.model.address import Address, Prefix
from routed.model.cluster import Cluster

BGP_PORT = 179
MAX_RESTART_SECONDS = 4095  # 12 bits, RFC 4724 section 3


@dataclass(frozen=True, slots=True)
class Session:
    """A session as this node wants it; `peer` is its key everywhere.

    `member` is the node at the other end, None for a router that is no member. We connect to `peer` at `port` unless
    `passive`, and always listen on `local`:`listen_port`. `hold_time` and `restart_time` in seconds: what we propose
    (RFC 4271 section 4.2), and how long we ask the peer to keep our paths (RFC 4724 section 3; 0 disables).
    """

    name: str
    peer: Address
    peer_as: int
    local: Address
    local_as: int
    router_id: Address
    member: str | None = None
    port: int = BGP_PORT
    listen_port: int = BGP_PORT
    passive: bool = False
    hold_time: int = 90
    restart_time: int = 120

    @property
    def ebgp(self) -> bool:
        """Whether the peer is in another AS."""
        return self.peer_as != self.local_as

    @property
    def identity(self) -> tuple[Address, Address, int, int, Address]:
        """What makes it this session and not another one; timers and ports do not."""
        return self.peer, self.local, self.local_as, self.peer_as, self.router_id


@dataclass(frozen=True, slots=True)
class Advertisement:
    """A prefix that this node originates towards every session."""

    prefix: Prefix
    next_hop: Address


def wanted_sessions(
    cluster: Cluster, node: str, *, hold_time: int = 90, restart_time: int = 120
) -> tuple[Session, ...]:
    """The sessions of `node`, sorted by peer address; none while the cluster does not know the node.

    Between members the lower address connects and the higher listens, so that no two connections collide. With a
    router both sides try, because nobody knows how the router is set up. One address has one session: a BGPPeer for
    this node goes before one for all nodes, that before the mesh, and equals by name. Raises OperatorError when
    `hold_time` or `restart_time` is out of range.
    """
    if hold_time != 0 and not 3 <= hold_time <= 65535:
        raise OperatorError(
            f"bgp_hold_seconds: {hold_time} is no hold time, expected 0 or 3 to 65535 seconds (RFC 4271 section 4.2)",
            hint="set bgp_hold_seconds in the agent's configuration",
        )
    if not 0 <= restart_time <= MAX_RESTART_SECONDS:
        raise OperatorError(
            f"bgp_restart_seconds: {restart_time} is no restart time, expected 0 to {MAX_RESTART_SECONDS} seconds",
            hint="set bgp_restart_seconds in the agent's configuration",
        )
    if node not in cluster.nodes:
        return ()
    local = cluster.address(node).ip
    found: dict[Address, Session] = {}
    for name, peer, peer_as in _peers(cluster, node):
        if peer == local or peer in found:  # a BGPPeer for all nodes may name one of them: it does not peer with itself
            continue
        member = cluster.members.get(peer)
        found[peer] = Session(
            name=name,
            peer=peer,
            peer_as=peer_as,
            local=local,
            local_as=cluster.as_number(node),
            router_id=local,
            member=member,
            port=BGP_PORT if member is None else cluster.bgp.listen_port,
            listen_port=cluster.bgp.listen_port,
            passive=member is not None and peer < local,
            hold_time=hold_time,
            restart_time=restart_time,
        )
    return tuple(found[peer] for peer in sorted(found))


def _peers(cluster: Cluster, node: str) -> Iterator[tuple[str, Address, int]]:
    """Yield (name, address, AS), those that go first first."""
    for peer in sorted(cluster.peers.values(), key=lambda peer: (peer.spec.node is None, peer.name)):
        if peer.spec.node in (node, None):
            yield f"peer/{peer.name}", peer.spec.peer_ip, peer.spec.as_number
    if cluster.bgp.node_to_node_mesh_enabled:
        for other in sorted(cluster.nodes):
            if other != node:
                yield f"mesh/{other}", cluster.address(other).ip, cluster.as_number(other)


def own_blocks(cluster: Cluster, node: str) -> tuple[Prefix, ...]:
    """The blocks of `node`, exported or not."""
    return cluster.nodes[node].spec.pod_cidrs if node in cluster.nodes else ()


def wanted_advertisements(cluster: Cluster, node: str) -> tuple[Advertisement, ...]:
    """What `node` originates: its blocks inside a pool that is exported, reached through its address.

    A disabled pool gives no new addresses; the pods that have one of it are still to be reached, as in Calico.
    """
    if node not in cluster.nodes:
        return ()
    next_hop = cluster.address(node).ip
    return tuple(
        Advertisement(block, next_hop)
        for block in sorted(own_blocks(cluster, node))
        if (pool := cluster.pool(block)) and not pool.spec.disable_bgp_export
    )

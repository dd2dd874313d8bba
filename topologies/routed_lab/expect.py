"""What each pod pair's packets should look like on the wire, and whether what was captured agrees. Pure.

Derived from the topology file and its resources alone (subnets, pools' modes, sessions with a top-of-rack router),
never from what the agents say: the proof and the proven share no table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface
from itertools import permutations
from typing import TYPE_CHECKING

from routed.errors import OperatorError
from routed.model.adjacency import adjacencies
from routed.model.resources import EncapsulationMode
from routed_lab.capture import Wrapping

if TYPE_CHECKING:
    from routed_lab.capture import Sighting
    from routed_lab.topology import LabNode, Pod, Topology

Pair = tuple["Pod", "Pod"]


class Encapsulation(StrEnum):
    """How a packet travels between nodes; the last two are what only a fault makes."""

    DIRECT = "direct"
    IPIP = "ipip"
    VXLAN = "vxlan"
    MIXED = "mixed"  # bare on one link and encapsulated on another, or the reply unlike its request
    UNSEEN = "unseen"  # on no link at all


_CARRIED = {
    Wrapping.BARE: Encapsulation.DIRECT,
    Wrapping.IPIP: Encapsulation.IPIP,
    Wrapping.VXLAN: Encapsulation.VXLAN,
}
_WRAPPED = (Encapsulation.IPIP, Encapsulation.VXLAN, Encapsulation.MIXED)


@dataclass(frozen=True, slots=True)
class TorSession:
    """A session of `node`, from its own address, with a router of a subnet that the node is in."""

    node: str
    router: str
    router_address: IPv4Address
    node_address: IPv4Address


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happened to one pair in one round. `rtt` in milliseconds, None without a reply."""

    source: Pod
    destination: Pod
    path: tuple[str, ...]
    carried: Encapsulation
    expected: Encapsulation
    reachable: bool
    rtt: float | None

    @property
    def right(self) -> bool:
        """Whether the wire carried what the topology file says."""
        return self.carried is self.expected


def pairs(topology: Topology) -> tuple[Pair, ...]:
    """All ordered pairs of two pods."""
    return tuple(permutations(topology.pods, 2))


def addresses(node: LabNode) -> tuple[IPv4Interface, ...]:
    """The addresses that the file's `ip address add ... dev ...` commands give `node`, with their subnets."""
    found: dict[IPv4Interface, None] = {}
    for command in node.commands:
        words = [word for word in command[1:] if not word.startswith("-")]
        if command[0].rpartition("/")[2] != "ip" or not {"add", "replace"} & set(words):
            continue
        if words[0] not in ("a", "addr", "address"):
            continue
        for word in words[2:]:
            try:
                found[IPv4Interface(word)] = None
            except ValueError:
                continue
            break
    return tuple(found)


def tor_sessions(topology: Topology) -> tuple[TorSession, ...]:
    """The sessions that BGPPeers make between a node and a router of the file in a subnet that the node is in."""
    owner = {address.ip: router.name for router in topology.routers for address in addresses(router)}
    cluster = topology.cluster
    sessions: list[TorSession] = []
    for name in cluster.nodes:
        own = cluster.address(name)
        subnets = [each.network for each in (own, *addresses(topology.nodes[name]))]
        peers = (found.address for found in adjacencies(cluster, name))
        sessions += (
            TorSession(name, owner[peer], peer, own.ip)
            for peer in peers
            if isinstance(peer, IPv4Address) and peer in owner and any(peer in subnet for subnet in subnets)
        )
    return tuple(sessions)


def sessions_of(topology: Topology, node: str) -> tuple[TorSession, ...]:
    """The ToR sessions of one node, at least one; OperatorError if there is no such node or it has none."""
    members = [member.name for member in topology.members]
    if node not in members:
        raise OperatorError(
            f'"{node}" is no node of lab {topology.name}', hint=f"its nodes are {', '.join(members) or 'none'}"
        )
    sessions = tuple(session for session in tor_sessions(topology) if session.node == node)
    if not sessions:
        raise OperatorError(
            f"node {node} of lab {topology.name} has no session with a top-of-rack router",
            hint="a BGPPeer whose peerIP is a router's address in the node's subnet would make one",
        )
    return sessions


def expected(topology: Topology, *, without_tor: Collection[str] = ()) -> Mapping[Pair, Encapsulation]:
    """The encapsulation of each ordered pair, `without_tor` naming the nodes whose ToR sessions are down.

    Design section 5. Within a node nothing leaves it. Always: to the owner in IPIP, or in VXLAN where that is the
    pool's. Never: direct. CrossSubnet: direct in the subnet, or when the fabric carries both directions, which it does
    when both nodes speak to their ToR.
    """
    cluster = topology.cluster
    on_fabric = {session.node for session in tor_sessions(topology)} - set(without_tor)

    def mode(node: str) -> tuple[EncapsulationMode, Encapsulation]:
        pool = next(filter(None, map(cluster.pool, cluster.nodes[node].spec.pod_cidrs)), None)
        if pool is None:
            return EncapsulationMode.NEVER, Encapsulation.DIRECT
        if pool.spec.vxlan_mode is EncapsulationMode.NEVER:
            return pool.spec.ipip_mode, Encapsulation.IPIP
        return pool.spec.vxlan_mode, Encapsulation.VXLAN

    def one(source: str, destination: str) -> Encapsulation:
        when, wrapped = mode(destination)
        if source == destination or when is EncapsulationMode.NEVER:
            return Encapsulation.DIRECT
        if when is EncapsulationMode.ALWAYS:
            return wrapped
        same_subnet = cluster.address(destination).ip in cluster.address(source).network
        if same_subnet or {source, destination} <= on_fabric:
            return Encapsulation.DIRECT
        return wrapped

    return {(source, destination): one(source.node, destination.node) for source, destination in pairs(topology)}


def judge(
    topology: Topology, pair: Pair, expectation: Encapsulation, sightings: Iterable[Sighting], *, reachable: bool
) -> Verdict:
    """Compare what was captured of one ping of `pair` with what was expected.

    The request counts; a reply that travelled otherwise makes the pair mixed. Links are those of the file: a packet is
    bare on the pod's veth and on the tunnel's device in any case. Between pods of one node nothing may be seen on a
    link, and the node itself must have seen the request.
    """
    source, destination = pair
    seen = sorted(sightings, key=lambda sighting: sighting.time)
    on_links = [one for one in seen if one.interface in topology.interfaces(one.node)]
    request = _carried(one.wrapping for one in on_links if not one.reply)
    reply = _carried(one.wrapping for one in on_links if one.reply)
    if source.node == destination.node and request is Encapsulation.UNSEEN:
        inside = (one.wrapping for one in seen if one.node == source.node and not one.reply)
        request = _carried(inside)
    carried = request
    strayed = source.node == destination.node and bool(on_links)
    if strayed or (reply is not Encapsulation.UNSEEN and reply is not request):
        carried = Encapsulation.MIXED
    at_home = [one.time for one in seen if one.node == source.node and not one.reply]
    back_home = [one.time for one in seen if one.node == source.node and one.reply]
    return Verdict(
        source=source,
        destination=destination,
        path=tuple(dict.fromkeys(one.node for one in seen if not one.reply)),
        carried=carried,
        expected=expectation,
        reachable=reachable,
        rtt=(back_home[-1] - at_home[0]) / 1e6 if reachable and at_home and back_home else None,
    )


def summary(topology: Topology, verdicts: Iterable[Verdict], seconds: float) -> dict[str, str | int | float]:
    """The figures of a check. Each reachable pair is direct or encapsulated: encapsulated if any link carried it so."""
    verdicts = list(verdicts)
    reachable = [verdict for verdict in verdicts if verdict.reachable]
    encapsulated = sum(verdict.carried in _WRAPPED for verdict in reachable)
    return {
        "topology": topology.name,
        "pairs": len(verdicts),
        "reachable": len(reachable),
        "direct": len(reachable) - encapsulated,
        "encapsulated": encapsulated,
        "wrong": sum(not verdict.right for verdict in verdicts),
        "seconds": round(seconds, 2),
    }


def row(verdict: Verdict) -> list[str | float | None]:
    """One line of the table: source, destination, path, encapsulation, expected, RTT in milliseconds or None."""
    return [
        verdict.source.name,
        verdict.destination.name,
        " > ".join(verdict.path),
        str(verdict.carried),
        str(verdict.expected),
        None if verdict.rtt is None else round(verdict.rtt, 3),
    ]


def _carried(wrappings: Iterable[Wrapping]) -> Encapsulation:
    match set(wrappings):
        case found if not found:
            return Encapsulation.UNSEEN
        case found if len(found) > 1:
            return Encapsulation.MIXED
        case found:
            return _CARRIED[found.pop()]

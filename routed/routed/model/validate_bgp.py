"""What BGPConfiguration, BGPPeers and route reflectors must be to one another and to the nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_network

import msgspec

from routed.model.address import AnyAddress, Family
from routed.model.adjacency import Adjacency, adjacencies
from routed.model.bgp import BFDTimers, BGPConfigurationSpec, BGPPeerSpec, FailureDetectionMode
from routed.model.cluster import Cluster
from routed.model.fields import Community, Duration
from routed.model.prefixes import overlap
from routed.model.problem import Problem
from routed.model.resources import BGPConfiguration, BGPPeer, IPPool, Node
from routed.model.validate_filter import as_problem, interface_problem

_NOBODYS = tuple(ip_network(text) for text in ("0.0.0.0/8", "224.0.0.0/3", "::/128", "ff00::/8"))
_LINK_LOCAL = ip_network("fe80::/10")
_AS_HINT = "give a real AS number, e.g. a private one from 64512 to 65534"
_Found = tuple[str, str, str]  # field below spec, message, hint


def configuration_problems(configurations: Iterable[BGPConfiguration], pools: Sequence[IPPool]) -> Iterator[Problem]:
    """What is wrong with the BGPConfigurations."""
    for each in configurations:
        if each.name != "default":
            yield Problem(
                "BGPConfiguration",
                each.name,
                "metadata.name",
                "settings of single nodes are not supported by this version",
                "the one object of this kind is named default",
            )
        for field, message, hint in (*_mesh(each.spec), *_communities(each.spec), *_services(each.spec, pools)):
            yield Problem("BGPConfiguration", each.name, f"spec.{field}", message, hint)


def peer_problems(peers: Sequence[BGPPeer], cluster: Cluster) -> Iterator[Problem]:
    """What is wrong with the BGPPeers, each on its own, and with one another."""
    for peer in peers:
        spec = peer.spec
        for field, message, hint in (
            *_scope(spec, cluster),
            *_other_end(peer, cluster),
            *_times(spec),
            *_options(spec),
            *_bfd("bfd", "failureDetectionMode", spec.failure_detection_mode, spec.bfd),
            *_filters(spec, cluster),
        ):
            yield Problem("BGPPeer", peer.name, f"spec.{field}", message, hint)
    if len(peers) > 1:
        made = {node: tuple(adjacencies(cluster, node)) for node in cluster.nodes}
        yield from _twins(peers, made)
        yield from _ends(cluster, made)


def reflector_problems(nodes: Sequence[Node], cluster: Cluster) -> Iterator[Problem]:
    """Nodes whose AS is nobody's, and those that reflect but have no session left."""
    for node in nodes:
        if fault := as_problem(node.spec.bgp.as_number):
            yield Problem("Node", node.name, "spec.bgp.asNumber", fault, _AS_HINT)
        alone = len(nodes) == 1 or next(adjacencies(cluster, node.name), None) is not None
        if node.spec.bgp.route_reflector_cluster_id is not None and not alone:
            yield Problem(
                "Node",
                node.name,
                "spec.bgp.routeReflectorClusterID",
                "a route reflector is outside the mesh, and no BGPPeer makes a session with this node",
                "add a BGPPeer whose peerSelector selects the reflectors",
            )


# ---- BGPConfiguration


def _mesh(spec: BGPConfigurationSpec) -> Iterator[_Found]:
    if fault := as_problem(spec.as_number):
        yield "asNumber", fault, _AS_HINT
    if not spec.node_to_node_mesh_enabled:
        stated = {
            "nodeMeshPassword": spec.node_mesh_password is not None,
            "nodeMeshMaxRestartTime": spec.node_mesh_max_restart_time is not None,
            "nodeMeshNotificationRestart": spec.node_mesh_notification_restart,
            "nodeMeshFailureDetectionMode": spec.node_mesh_failure_detection_mode is not FailureDetectionMode.NONE,
            "nodeMeshBFD": spec.node_mesh_bfd is not None,
        }
        for field in (field for field, there in stated.items() if there):
            yield field, "there is no mesh that it could be for", "remove it, or set nodeToNodeMeshEnabled: true"
    yield from _duration("nodeMeshMaxRestartTime", spec.node_mesh_max_restart_time, 0, 4095)
    mode = spec.node_mesh_failure_detection_mode
    yield from _bfd("nodeMeshBFD", "nodeMeshFailureDetectionMode", mode, spec.node_mesh_bfd)
    for index, pattern in enumerate(spec.ignored_interfaces):
        if fault := interface_problem(pattern):
            yield f"ignoredInterfaces[{index}]", fault, "expected a name, in which * and ? match"


def _communities(spec: BGPConfigurationSpec) -> Iterator[_Found]:
    names: set[str] = set()
    for index, community in enumerate(spec.communities):
        if community.name in names:
            yield f"communities[{index}].name", f"{community.name} is there twice", "give each community its own name"
        names.add(community.name)
    for place, advertisement in enumerate(spec.prefix_advertisements):
        for index, word in enumerate(advertisement.communities):
            field = f"prefixAdvertisements[{place}].communities[{index}]"
            if word in names:
                continue
            if ":" not in word:
                known = ", ".join(sorted(names)) or "none"
                yield field, f"there is no community named {word!r}", f"spec.communities has: {known}"
                continue
            try:
                Community.parse(word)
            except ValueError as error:
                yield field, str(error), "expected a name from spec.communities, AA:NN or AA:NN:MM"


def _services(spec: BGPConfigurationSpec, pools: Sequence[IPPool]) -> Iterator[_Found]:
    kinds = {
        "serviceClusterIPs": spec.service_cluster_ips,
        "serviceExternalIPs": spec.service_external_ips,
        "serviceLoadBalancerIPs": spec.service_load_balancer_ips,
    }
    for name, blocks in kinds.items():
        for index, block in enumerate(blocks):
            for pool in pools:
                if overlap(block.cidr, pool.spec.cidr):
                    message = f"{block.cidr} overlaps IPPool {pool.name}'s {pool.spec.cidr}"
                    yield f"{name}[{index}].cidr", message, "services and pods need ranges of their own"


# ---- BGPPeer, each on its own


def _scope(spec: BGPPeerSpec, cluster: Cluster) -> Iterator[_Found]:
    if spec.node is not None and spec.node_selector is not None:
        yield "nodeSelector", f"node is there too: {spec.node}", "a peering is for one node or for those selected"
    if spec.node is not None and spec.node not in cluster.nodes:
        nodes = ", ".join(sorted(cluster.nodes)) or "none"
        hint = "name a node that is there, or leave the field out for every node"
        yield "node", f"there is no Node {spec.node} (nodes: {nodes})", hint


def _other_end(peer: BGPPeer, cluster: Cluster) -> Iterator[_Found]:
    spec = peer.spec
    for field, number in (("asNumber", spec.as_number), ("localASNumber", spec.local_as_number)):
        if fault := as_problem(number):
            yield field, fault, _AS_HINT
    if spec.peer_selector is not None:
        if spec.peer_ip is not None:
            yield "peerSelector", f"peerIP is there too: {spec.peer_ip}", "name a router or select nodes, not both"
        if spec.as_number is not None:
            yield "asNumber", "a selected node has its own AS", "remove asNumber, or peer by peerIP"
    if spec.reachable_by is not None and spec.peer_ip is None:
        yield "reachableBy", "there is no peerIP that it could lead to", "remove it, or peer by peerIP"
    if spec.peer_ip is None:
        if spec.peer_selector is None:
            yield "peerIP", "is missing, and so is peerSelector", "say with whom to peer: a router or nodes"
        return
    if spec.as_number is None:
        yield "asNumber", f"is missing beside peerIP {spec.peer_ip}", "state the AS of the peer"
    yield from _address(peer, spec.peer_ip.ip, cluster)


def _address(peer: BGPPeer, address: AnyAddress, cluster: Cluster) -> Iterator[_Found]:
    spec = peer.spec
    if any(address in nobodys for nobodys in _NOBODYS):
        message, hint = f"{address} is no address of a machine", "give the address at which the router speaks BGP"
        yield "peerIP", message, hint
    elif address in _LINK_LOCAL:
        message = f"{address} is link-local, and means another router on every link"
        yield "peerIP", message, "give an address of the router that is unique"
    member = cluster.any_members.get(address)
    if member is not None:
        if spec.as_number is not None and spec.as_number != cluster.as_number(member):
            message = f"{address} is Node {member}'s own address, and its AS is {cluster.as_number(member)}"
            yield "peerIP", message, "give the address of a router, or the AS of the node"
        elif cluster.scope(peer) == frozenset([member]):
            message = f"{address} is Node {member}'s own address, and no other node has this peering"
            yield "peerIP", message, "a node does not peer with itself: give the address of a router"
    if address.version == 6:
        without = [name for name in sorted(cluster.scope(peer)) if cluster.address6(name) is None]
        if without:
            message = f"{address} is IPv6, but Node {without[0]} has no spec.bgp.ipv6Address"
            yield "peerIP", message, "give it one, or select only nodes that have one"
    if spec.reachable_by is not None and spec.reachable_by.version != address.version:
        message = f"{spec.reachable_by} is of another family than peerIP {address}"
        yield "reachableBy", message, "give the gateway's address of the same family"
    if spec.reachable_by == address:
        yield "reachableBy", f"{address} is the peer itself", "give the gateway's address, or remove it"
    if spec.extended_next_hop and address.version == 4:
        message = "offers IPv6 next hops for IPv4 routes, which a session over IPv4 has no use for"
        yield "extendedNextHop", message, "peer with the router's IPv6 address, or remove it"


def _times(spec: BGPPeerSpec) -> Iterator[_Found]:
    yield from _duration("maxRestartTime", spec.max_restart_time, 0, 4095)
    yield from _duration("keepaliveTime", spec.keepalive_time, 1, 21845)
    yield from _duration("holdTime", spec.hold_time, 0, 65535)
    if spec.hold_time is None:
        return
    hold = spec.hold_time.seconds
    if spec.hold_time in (Duration(seconds=1), Duration(seconds=2)):
        yield "holdTime", f"{hold}s is no hold time (RFC 4271 section 4.2)", "expected 0s, or 3s to 65535s"
    if spec.keepalive_time is not None and hold and spec.keepalive_time.seconds * 3 > hold:
        message = f"{spec.keepalive_time} is more than a third of holdTime {spec.hold_time}"
        yield "keepaliveTime", message, "lower it, or raise holdTime"


def _duration(field: str, found: Duration | None, low: int, high: int) -> Iterator[_Found]:
    if found is None:
        return
    if found.milliseconds % 1000:
        yield field, f"{found} is no whole number of seconds", "BGP counts in seconds, e.g. 90s"
    elif not low <= found.seconds <= high:
        yield field, f"{found} is out of range", f"expected {low}s to {high}s"


def _options(spec: BGPPeerSpec) -> Iterator[_Found]:
    if spec.next_hop_mode is not None and spec.keep_original_next_hop:
        yield "keepOriginalNextHop", f"nextHopMode is there too: {spec.next_hop_mode}", "remove keepOriginalNextHop"
    if spec.warning_prefixes is not None and spec.warning_prefixes > spec.max_prefixes:
        message = f"{spec.warning_prefixes} is more than maxPrefixes {spec.max_prefixes}"
        yield "warningPrefixes", message, "warn before the limit"
    for index, family in enumerate(spec.address_families):
        if family in spec.address_families[:index]:
            yield f"addressFamilies[{index}]", f"{family} is there twice", "name each family once"


def _bfd(field: str, mode_field: str, mode: FailureDetectionMode, timers: BFDTimers | None) -> Iterator[_Found]:
    if timers is None:
        return
    if mode is FailureDetectionMode.NONE:
        yield field, f"has no effect while {mode_field} is None", f"set {mode_field}, or remove it"
    if not 100 <= timers.interval.milliseconds <= 60_000:
        yield f"{field}.interval", f"{timers.interval} is out of range", "expected 100ms to 60s"


def _filters(spec: BGPPeerSpec, cluster: Cluster) -> Iterator[_Found]:
    for index, name in enumerate(spec.filters):
        if name not in cluster.filters:
            known = ", ".join(sorted(cluster.filters)) or "none"
            yield f"filters[{index}]", f"there is no BGPFilter {name}", f"there is: {known}"
        elif name in spec.filters[:index]:
            yield f"filters[{index}]", f"{name} is there twice", "the second changes nothing: remove it"


# ---- BGPPeers that make a session with the same address


def _twins(peers: Sequence[BGPPeer], made: Mapping[str, Sequence[Adjacency]]) -> Iterator[Problem]:
    """Pairs of BGPPeers that want different things of one session, each pair once.

    What one states goes before what another reverses, so those do not contradict. Two that name one address are always
    refused: that is a slip, whereas selectors overlap by nature, and may where they come to the same.
    """
    place = {peer.name: index for index, peer in enumerate(peers)}
    told: set[tuple[str, str]] = set()
    for node, ends in made.items():
        first: dict[tuple[AnyAddress, bool], Adjacency] = {}
        for each in ends:
            other = first.setdefault((each.address, each.reverse), each)
            if other is each or (not _both_named(each, other) and _same_wish(each, other)):
                continue
            later, earlier = sorted((each.peer, other.peer), key=lambda peer: -place[peer.name])
            if (later.name, earlier.name) not in told:
                told.add((later.name, earlier.name))
                yield _twin(later, earlier, each.address, node)


def _ends(cluster: Cluster, made: Mapping[str, Sequence[Adjacency]]) -> Iterator[Problem]:
    """Sessions between two nodes whose ends disagree about their AS numbers, one for each pair of BGPPeers."""
    chosen: dict[tuple[str, AnyAddress], Adjacency] = {}
    for node, ends in made.items():
        for each in ends:
            chosen.setdefault((node, each.address), each)
    told: set[frozenset[str]] = set()
    for here in chosen.values():
        own = cluster.any_address(here.node, Family.of(here.address))
        there = chosen.get((here.member, own.ip)) if here.member is not None and own is not None else None
        if there is None or there.peer is here.peer or (pair := frozenset([here.peer.name, there.peer.name])) in told:
            continue
        spoken, expected = _as_numbers(here, cluster)[0], _as_numbers(there, cluster)[1]
        if spoken != expected:
            told.add(pair)
            yield Problem(
                "BGPPeer",
                here.peer.name,
                "spec.localASNumber",
                f"Node {here.node} speaks as AS {spoken} to Node {there.node}, which expects AS {expected} because of "
                f"BGPPeer {there.peer.name}",
                "let both say the same, or leave one of them out: a node at the other end peers back by itself",
            )


def _as_numbers(of: Adjacency, cluster: Cluster) -> tuple[int, int | None]:
    """The AS that the node speaks as, and the one that it expects."""
    member = None if of.member is None else cluster.as_number(of.member)
    return of.local_as or cluster.as_number(of.node), of.peer_as or member


def _twin(later: BGPPeer, earlier: BGPPeer, address: AnyAddress, node: str) -> Problem:
    field = "spec.peerIP" if later.spec.peer_ip is not None else "spec.peerSelector"
    message = f"BGPPeer {earlier.name} already makes a session with {address} on the same node, {node}"
    hint = "a node has one session with an address: remove one of the two, or select other nodes"
    return Problem("BGPPeer", later.name, field, message, hint)


def _both_named(one: Adjacency, other: Adjacency) -> bool:
    return one.peer.spec.peer_ip is not None and other.peer.spec.peer_ip is not None


def _same_wish(one: Adjacency, other: Adjacency) -> bool:
    """Whether two BGPPeers come to the same session, whatever they are for and however they found its other end."""

    def wish(of: Adjacency) -> tuple[object, ...]:
        spec = msgspec.structs.replace(of.peer.spec, **_WHO)
        return spec, of.port, of.local_as, of.peer_as

    return one.peer is other.peer or wish(one) == wish(other)


_WHO = dict.fromkeys(("peer_ip", "as_number", "node", "node_selector", "peer_selector"), None)

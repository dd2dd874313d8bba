"""What the node needs for itself: its own prefixes, tunnel devices, sysctls; and what is wrong with it. Pure.

The node's own prefixes are a blackhole under one host route per endpoint, and no path leads them elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from routed.model.address import Address, AnyPrefix, Family, HostAddress, Prefix
from routed.model.endpoint import ALIAS_GIVEN, POD_ALIAS, Endpoint
from routed.model.nlri import Nlri, from_prefix
from routed.model.prefixes import host_prefix, overlap
from routed_felix.decide import Decider
from routed_felix.fabric import encapsulation_of, fabric_interfaces, pod_mtu, tunnel_device, underlay_mtu
from routed_felix.overlay import Overlay, vxlan_link
from routed_felix.state import (
    COMPATIBLE,
    DRIVERS,
    FORWARD_IPV6,
    TUNNEL_KIND,
    TUNNEL_OVERHEAD,
    Encapsulation,
    Forwarding,
    Hop,
    Link,
    NodeState,
    Problem,
    ProblemKind,
    Reason,
    Route,
    RouteKey,
    RouteKind,
    Why,
)
from routed_felix.view import View

_LEAST_MTU = 68  # bytes, RFC 791 section 3.2
_LEAST_MTU6 = 1280  # bytes, RFC 8200 section 5


@dataclass(frozen=True)
class Own:
    """The small part of what calc decides: it does not grow with the table.

    `pod_mtu`: for a pod's interface, in bytes. `no_driver`: what pools want and this kernel has no driver for.
    """

    state: NodeState = field(default_factory=NodeState)
    routes: dict[Nlri, Route] = field(default_factory=dict[Nlri, Route])
    decisions: dict[Nlri, Forwarding] = field(default_factory=dict[Nlri, Forwarding])
    problems: tuple[Problem, ...] = ()
    pod_mtu: int = 0
    no_driver: frozenset[Encapsulation] = frozenset()


def own_part(view: View, decider: Decider, overlay: Overlay, next_hops: frozenset[str]) -> Own:
    """What this node needs for itself; `next_hops` are the devices that lead to next hops of paths.

    Of IPv6 the prefixes only: what the node needs besides routes comes with the view of IPv4.
    """
    problems: list[Problem] = []
    names = _renamed(view)
    routes, decisions = _prefixes(view, decider, frozenset(names.values()), problems)
    _check_pools(view, problems)
    if view.family is Family.IPV6:
        _check_address(view, decider, problems)
        return Own(routes=routes, decisions=decisions, problems=tuple(problems))
    _check_node(view, decider, problems)
    interfaces = fabric_interfaces(view, decider.resolver, next_hops)
    links = _links(view, decider, underlay_mtu(view, interfaces))
    neighbours, fdb = overlay.members(view, decider)
    sysctls = {"net/ipv4/ip_forward": "1"}
    if view.cluster.own_blocks6(view.node):  # there is no such switch for one interface alone (before Linux 6.17)
        sysctls[FORWARD_IPV6] = "1"
    if view.settings.nexthops:  # else to repoint a group takes 60 ms where 100,000 routes go by it, not 0.01
        sysctls[COMPATIBLE] = "0"
    # the kernel uses max(conf.all, conf.IF): 2 on the interface wins over 0, 1 and 2 in `all`
    for name in [*sorted(interfaces), *links]:
        sysctls[f"net/ipv4/conf/{name}/rp_filter"] = "2"
    missing = _missing_drivers(view, decider, problems)
    _check_mtus(view, pod_mtu(view, interfaces), problems)
    return Own(
        state=NodeState(
            links=links,
            # on each: what comes by a device without an address must come back by it, rp_filter 2 or not
            addresses={HostAddress((decider.source, 32)): tuple(links)} if decider.source is not None else {},
            sysctls=sysctls,
            neighbours=neighbours,
            fdb=fdb,
            names=names,
        ),
        routes=routes,
        decisions=decisions,
        problems=tuple(problems),
        pod_mtu=pod_mtu(view, interfaces),
        no_driver=missing,
    )


def _links(view: View, decider: Decider, mtu: int | None) -> dict[str, Link]:
    found: dict[str, Link] = {}
    for way, device in decider.wrapping.items():
        if way is Encapsulation.TUNNEL:
            found[device] = Link(TUNNEL_KIND, mtu - TUNNEL_OVERHEAD if mtu else None)
        elif isinstance(decider.node_address, Address):
            found[device] = vxlan_link(view, decider.node_address, mtu)
    return found


def _missing_drivers(view: View, decider: Decider, problems: list[Problem]) -> frozenset[Encapsulation]:
    """What pools want and there is no driver for; unless the driver has nothing to do with it."""
    missing: set[Encapsulation] = set()
    for way, there in ((Encapsulation.TUNNEL, view.tunnel), (Encapsulation.VXLAN, view.vxlan)):
        if there or not any(encapsulation_of(pool) is way for pool in decider.encapsulating):
            continue
        device, (kind, module) = tunnel_device(view, way), DRIVERS[way]
        present = view.interfaces.get(device)
        if present is None:
            missing.add(way)
            continue
        if present.kind != kind:
            message = f"interface {device} is of kind {present.kind or 'hardware'}, expected {kind}"
            hint = f"rename that interface, then load the driver: modprobe {module}"
        else:
            message = f"interface {device} is a stranger's: its alias is not ours"
            hint = "rename that interface, or set another vxlan_device"
        problems.append(Problem(ProblemKind.TUNNEL_DEVICE_TAKEN, device, message, hint))
    return frozenset(missing)


def _renamed(view: View) -> dict[int, str]:
    """The names that pods' links had before somebody renamed them: everything of the pod goes by the name."""
    lost = {
        f"{POD_ALIAS}{each.container_id}/{each.interface}": each.host_interface
        for each in view.endpoints
        if each.host_interface not in view.interfaces
    }
    if not lost:
        return {}
    words = {each.index: each.alias.partition(ALIAS_GIVEN)[0] for each in view.interfaces.values()}
    return {index: lost[alias] for index, alias in words.items() if alias in lost}


def _prefixes(
    view: View, decider: Decider, renamed: frozenset[str], problems: list[Problem]
) -> tuple[dict[Nlri, Route], dict[Nlri, Forwarding]]:
    routes: dict[Nlri, Route] = {}
    decisions: dict[Nlri, Forwarding] = {}

    def program(prefix: AnyPrefix, encapsulation: Encapsulation, reason: Reason, route: Route) -> None:
        nlri = from_prefix(prefix)
        routes[nlri] = route
        decisions[nlri] = Forwarding(prefix, encapsulation, reason, route.hops, RouteKey(prefix, view.settings.metric))

    for block in decider.blocks:
        reason = Reason(Why.OWN_BLOCK, f"block of this node, addresses without endpoint: {block}")
        program(block, Encapsulation.BLACKHOLE, reason, Route(RouteKind.BLACKHOLE))
    there = [
        each
        for each in view.endpoints
        if Family.of(each.address) is view.family
        and (each.host_interface in view.interfaces or each.host_interface in renamed)
    ]
    for endpoint in sorted(there, key=lambda each: (int(each.address), each.container_id, each.interface)):
        nlri, route, decision = _local(endpoint, view.settings.metric)
        taken = decisions.get(nlri)
        if taken is not None and taken.encapsulation is Encapsulation.LOCAL:
            name = f"{endpoint.container_id}/{endpoint.interface}"
            message = f"{endpoint.address} is the address of {name} too; {taken.because}"
            hint = "remove one of the two pods"
            problems.append(Problem(ProblemKind.DUPLICATE_ENDPOINT, str(decision.prefix), message, hint))
            continue
        routes[nlri], decisions[nlri] = route, decision
    for peer, gateway in sorted(view.gateways.items()) if view.family is Family.IPV4 else ():
        found = decider.resolver.resolve(gateway)
        if found is not None and found.adjacent:
            reason = Reason(Why.REACHABLE_BY, f"BGP peer {peer} is reachableBy {gateway}")
            route = Route(hops=(Hop(found.hop.device, gateway),))
            program(Prefix((peer, 32)), Encapsulation.DIRECT, reason, route)
    return routes, decisions


@lru_cache(4096)
def _local(endpoint: Endpoint, metric: int) -> tuple[Nlri, Route, Forwarding]:
    """The host route to a pod, and why. Remembered, since a node's pods are looked at again with every one that comes:
    the values are the same objects then, and those that compare them find out at once.
    """
    prefix = host_prefix(endpoint.address)
    hops = (Hop(endpoint.host_interface),)
    reason = Reason(Why.ENDPOINT, f"endpoint {endpoint.container_id}/{endpoint.interface} on {endpoint.host_interface}")
    decision = Forwarding(prefix, Encapsulation.LOCAL, reason, hops, RouteKey(prefix, metric))
    return from_prefix(prefix), Route(hops=hops), decision


def _check_pools(view: View, problems: list[Problem]) -> None:
    """A pool that holds the nodes' own subnet would have us route our neighbours' addresses as pods'."""
    for cidr, pool in view.cluster.pools_of(view.family).items():
        for name, interface in view.interfaces.items():
            if name in view.settings.tunnel_devices:
                continue
            for address in interface.addresses:
                subnet = address.network
                if subnet.prefixlen < subnet.max_prefixlen and subnet.version == cidr.version and overlap(subnet, cidr):
                    message = f"pool {pool.name} {cidr} overlaps {subnet}, the subnet of {name}"
                    hint = "give the pool a range that no interface of a node is in"
                    problems.append(Problem(ProblemKind.POOL_IN_SUBNET, pool.name, message, hint))


def _check_mtus(view: View, mtu: int, problems: list[Problem]) -> None:
    """Pods that were wired when packets could be larger, and a fabric that carries less than IPv4 needs."""
    if mtu < _LEAST_MTU6 and any(Family.of(endpoint.address) is Family.IPV6 for endpoint in view.endpoints):
        message = f"pods would have an MTU of {mtu}, IPv6 needs {_LEAST_MTU6} at least (RFC 8200)"
        problems.append(
            Problem(ProblemKind.SMALL_MTU, "MTU of IPv6", message, "raise the MTU of the fabric's interfaces")
        )
    if mtu < _LEAST_MTU:
        message = f"pods would have an MTU of {mtu}, IPv4 needs {_LEAST_MTU} at least (RFC 791)"
        problems.append(Problem(ProblemKind.SMALL_MTU, "MTU", message, "raise the MTU of the fabric's interfaces"))
    for endpoint in view.endpoints:
        interface = view.interfaces.get(endpoint.host_interface)
        if interface is not None and interface.mtu > mtu:
            name = f"{endpoint.container_id}/{endpoint.interface}"
            message = f"pod {name} ({endpoint.address}) has an MTU of {interface.mtu}, packets may have {mtu} by now"
            hint = "restart the pod: a new one gets the MTU of now"
            problems.append(Problem(ProblemKind.ENDPOINT_MTU, endpoint.host_interface, message, hint))


def _check_node(view: View, decider: Decider, problems: list[Problem]) -> None:
    name = view.node
    if decider.node_address is None:
        hint = f"apply a Node named {name}, or set `node` in the agent's configuration to an existing one"
        problems.append(Problem(ProblemKind.NODE_UNKNOWN, name, f"no Node {name} in the store", hint))
        return
    stated = view.cluster.address(name)
    if stated.network.prefixlen == 32:
        message = f"Node {name}: spec.bgp.ipv4Address {stated} is a /32, so no node is in its subnet"
        hint = "state the length of the subnet, as on the interface, unless the address is a loopback's"
        problems.append(Problem(ProblemKind.NODE_ADDRESS_HOST_LENGTH, str(stated), message, hint))
    _check_address(view, decider, problems)


def _check_address(view: View, decider: Decider, problems: list[Problem]) -> None:
    """The address that the Node states in the view's family must be on this machine."""
    name = view.node
    stated = view.cluster.any_address(name, view.family) if name in view.cluster.nodes else None
    if stated is not None and not decider.node_address_present:
        key = "ipv4Address" if view.family is Family.IPV4 else "ipv6Address"
        message = f"Node {name}: spec.bgp.{key} {stated} is on no interface of this machine"
        hint = "correct the Node, or add the address to an interface (ip address add)"
        problems.append(Problem(ProblemKind.NODE_ADDRESS_ABSENT, str(stated), message, hint))

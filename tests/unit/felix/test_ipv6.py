"""IPv6 prefixes, which travel as they are, and IPv4 prefixes with an IPv6 next hop."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, IPv6Interface, IPv6Network, ip_interface, ip_network
from typing import Any

from tests.unit.felix import words
from tests.unit.felix.words import B1, DEFAULT, ETH1, LO, learned, nlri

from routed.model.address import Family
from routed.model.cluster import Cluster
from routed.model.endpoint import Endpoint
from routed.model.interface import Interface
from routed.model.resources import IPPool, IPPoolSpec, Metadata, Node, NodeBGPSpec, NodeSpec
from routed_felix.calc import Calculator, View, desired
from routed_felix.state import (
    Desired,
    Encapsulation,
    Forwarding,
    Hop,
    ProblemKind,
    Route,
    RouteKind,
    UnderlayRoute,
    Why,
)

OURS, NEAR, FAR = "fd00:244:0:1::/64", "fd00:244:0:2::/64", "fd00:244:0:3::/64"
NODES = {
    "a1": ("10.1.1.11/24", "2001:db8:1::11/64", OURS),
    "a2": ("10.1.1.12/24", "2001:db8:1::12/64", NEAR),
    "b1": ("10.2.2.21/24", "2001:db8:2::21/64", FAR),
}
UPLINK = replace(ETH1, addresses=(*ETH1.addresses, IPv6Interface("2001:db8:1::11/64")))
GATEWAY = IPv6Address("2001:db8:1::1")
DEFAULT6 = UnderlayRoute(IPv6Network("::/0"), (Hop("eth1", GATEWAY),))


def cluster() -> Cluster:
    nodes = [
        Node(
            metadata=Metadata(name),
            spec=NodeSpec(NodeBGPSpec(ip_interface(four), ipv6_address=ip_interface(six)), (ip_network(block),)),
        )
        for name, (four, six, block) in NODES.items()
    ]
    pool = IPPool(metadata=Metadata("pods6"), spec=IPPoolSpec(cidr=IPv6Network("fd00:244::/48")))
    return Cluster.of([*nodes, pool])


def view(best: dict[str, Any] | None = None, **changes: Any) -> View:
    ours: dict[str, Any] = {
        "family": Family.IPV6,
        "cluster": cluster(),
        "blocks": (),
        "best": learned(best or {}),
        "interfaces": {"lo": LO, "eth1": UPLINK},
        "underlay": (DEFAULT6,),
    }
    return words.view(**{**ours, **changes})


def decision(result: Desired, prefix: str) -> Forwarding:
    return result.decisions[ip_network(prefix)]


def test_a_member_on_our_link_is_reached_direct() -> None:
    result = desired(view({NEAR: "2001:db8:1::12"}))
    found = decision(result, NEAR)
    assert (found.encapsulation, found.because.why) == (Encapsulation.DIRECT, Why.SAME_SUBNET)
    assert found.key is not None
    assert result.routes[found.key] == Route(hops=(Hop("eth1", IPv6Address("2001:db8:1::12")),))


def test_a_member_elsewhere_is_reached_through_the_gateway_as_in_a_pool_that_is_never() -> None:
    found = decision(desired(view({FAR: "2001:db8:2::21"})), FAR)
    assert (found.encapsulation, found.hops) == (Encapsulation.DIRECT, (Hop("eth1", GATEWAY),))


def test_a_next_hop_that_nothing_leads_to_has_no_route_and_a_problem() -> None:
    result = desired(view({FAR: "2001:db8:2::21"}, underlay=()))
    assert decision(result, FAR).key is None
    assert ProblemKind.UNRESOLVABLE in {problem.kind for problem in result.problems}


def test_an_ipv4_next_hop_leads_no_ipv6_prefix_anywhere() -> None:
    assert decision(desired(view({FAR: "10.1.1.12"})), FAR).encapsulation is Encapsulation.UNREACHABLE


def test_own_blocks_are_blackholes_under_the_routes_of_pods() -> None:
    pod = Endpoint("c1", "eth0", IPv6Address("fd00:244:0:1::7"), "rtdpod")
    interfaces = {"eth1": UPLINK, "rtdpod": Interface("rtdpod", 9, 1500, True, "veth")}
    result = desired(view(endpoints=(pod,), interfaces=interfaces))
    found = {str(key.prefix): route for key, route in result.routes.items()}
    assert found == {OURS: Route(RouteKind.BLACKHOLE), "fd00:244:0:1::7/128": Route(hops=(Hop("rtdpod"),))}


def test_the_node_s_own_state_comes_with_ipv4_only() -> None:
    result = desired(view({NEAR: "2001:db8:1::12"}))
    assert (result.links, result.addresses, result.sysctls) == ({}, {}, {})


def test_an_ipv6_address_of_the_node_that_no_interface_has_is_told() -> None:
    result = desired(view(interfaces={"eth1": ETH1}))
    assert [problem.kind for problem in result.problems] == [ProblemKind.NODE_ADDRESS_ABSENT]
    assert "spec.bgp.ipv6Address 2001:db8:1::11/64" in result.problems[0].message


def test_a_pool_in_the_subnet_of_an_interface_is_told() -> None:
    inside = replace(UPLINK, addresses=(*UPLINK.addresses, IPv6Interface("fd00:244::1/64")))
    kinds = [problem.kind for problem in desired(view(interfaces={"eth1": inside})).problems]
    assert kinds == [ProblemKind.POOL_IN_SUBNET]


def test_prefixes_of_one_place_go_by_one_group_in_ipv6_too() -> None:
    best = {f"fd00:244:0:3:{number:x}::/80": "2001:db8:2::21" for number in range(1, 20)}
    calculator = Calculator(Family.IPV6)
    calculator.update(view(best))
    assert len(calculator.groups()) == 1
    behind = (UnderlayRoute(IPv6Network("::/0"), (Hop("eth1", IPv6Address("2001:db8:1::2")),)),)
    change = calculator.update(view(best, underlay=behind), ())
    assert (len(change.groups), change.routes) == (1, {})


# ---- RFC 8950


def decide4(hop: str, mode: str) -> Forwarding:
    interfaces = {"lo": LO, "eth1": UPLINK}
    result = desired(words.view(best=learned({B1: hop}), cluster=words.cluster(mode), interfaces=interfaces))
    return result.decisions[ip_network(B1)]


def test_rfc8950_an_ipv4_prefix_goes_by_an_ipv6_next_hop_on_a_link_of_ours() -> None:
    for mode in ("Never", "CrossSubnet"):
        found = decide4("2001:db8:1::1", mode)
        assert (found.encapsulation, found.hops) == (Encapsulation.DIRECT, (Hop("eth1", GATEWAY),))


def test_rfc8950_a_pool_that_is_always_tunnels_to_the_owner_all_the_same() -> None:
    found = decide4("2001:db8:1::1", "Always")
    assert found.hops == (Hop("tunl0", IPv4Address("10.2.2.21"), onlink=True),)


def test_rfc8950_an_ipv6_next_hop_elsewhere_does_not_resolve() -> None:
    assert decide4("2001:db8:9::1", "Never").encapsulation is Encapsulation.UNREACHABLE


def test_the_default_route_of_ipv4_is_none_of_ipv6() -> None:
    assert decision(desired(view({FAR: "2001:db8:2::21"}, underlay=(DEFAULT,))), FAR).key is None


def test_a_prefix_in_no_ipv6_pool_is_not_programmed() -> None:
    result = desired(view({"2001:db8:77::/64": "2001:db8:1::12"}))
    assert decision(result, "2001:db8:77::/64").because.why is Why.NO_POOL
    assert nlri("2001:db8:77::/64") not in {nlri(str(key.prefix)) for key in result.routes}

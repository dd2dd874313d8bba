"""VXLAN takes the same decisions as IPIP, by another device; and what it needs to be ready for them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.felix.words import (
    A2,
    B1,
    ETH1,
    LO,
    TOR,
    cluster,
    decide,
    decision,
    learned,
    nlri,
    node,
    pool,
    route,
    view,
    vxlan,
)

from routed.model.cluster import Cluster
from routed.model.endpoint import Endpoint
from routed.model.interface import Interface
from routed_felix.calc import Calculator, desired, pod_mtu
from routed_felix.overlay import mac_of
from routed_felix.state import (
    Encapsulation,
    FdbKey,
    Hop,
    Link,
    NeighbourKey,
    ProblemKind,
    Route,
    Settings,
    UnderlayRoute,
    Vxlan,
)

DEVICE = "vxlan.routed"
SOURCE = IPv4Address("192.168.11.1")
US, A2_NODE, B1_NODE, B2_NODE = (IPv4Address(each) for each in ("10.1.1.11", "10.1.1.12", "10.2.2.21", "10.2.2.22"))


def through(end: IPv4Address) -> Route:
    return Route(hops=(Hop(DEVICE, end, onlink=True),), source=SOURCE)


# ---- the decision


@pytest.mark.parametrize("mode", ["CrossSubnet", "Always"])
@pytest.mark.parametrize("hop", ["10.1.1.12", "10.2.2.21", "10.2.2.22", TOR, "10.9.9.9", "172.16.0.1"])
@pytest.mark.parametrize("prefix", [A2, B1, "192.168.99.0/26", "172.16.1.0/24"])
def test_it_decides_as_ipip_does_and_names_another_device(prefix: str, hop: str, mode: str) -> None:
    by_ipip, ipip_route = decide(prefix, hop, cluster=cluster(mode))
    found, programmed = decide(prefix, hop, cluster=vxlan(mode))
    assert found.because == by_ipip.because
    if by_ipip.encapsulation is not Encapsulation.TUNNEL:
        assert (found, programmed) == (by_ipip, ipip_route)
        return
    assert found.encapsulation is Encapsulation.VXLAN
    assert found.hops == tuple(replace(each, device=DEVICE) for each in by_ipip.hops)
    assert programmed is not None
    assert programmed.source == SOURCE


def test_the_members_node_address_is_the_gateway_on_the_device() -> None:
    assert decide(B1, "10.2.2.21", cluster=vxlan())[1] == through(B1_NODE)


def test_two_pools_may_be_of_one_each() -> None:
    nodes = [node("a1", "10.1.1.11/24", "192.168.11.0/26"), node("b1", "10.2.2.21/24", B1, "172.16.21.0/26")]
    pools = [
        pool("pods", "192.168.0.0/16", "CrossSubnet"),
        pool("more", "172.16.0.0/16", "Never", vxlan="CrossSubnet"),
    ]
    best = learned({B1: "10.2.2.21", "172.16.21.0/26": "10.2.2.21"})
    result = desired(view(cluster=Cluster.of([*nodes, *pools]), best=best))
    assert decision(result, B1).encapsulation is Encapsulation.TUNNEL
    assert route(result, "172.16.21.0/26") == through(B1_NODE)
    assert set(result.links) == {"tunl0", DEVICE}
    assert result.addresses == {IPv4Interface("192.168.11.1/32"): ("tunl0", DEVICE)}


def test_the_outer_source_is_the_devices_own_and_needs_no_route() -> None:
    two_links = {
        "eth1": ETH1,
        "lo": replace(LO, addresses=(*LO.addresses, IPv4Interface("10.255.0.1/32"))),
        "eth2": Interface("eth2", 3, 1500, True, "", (IPv4Interface("10.1.2.11/24"),)),
    }
    underlay = (UnderlayRoute(IPv4Network("0.0.0.0/0"), (Hop("eth2", IPv4Address("10.1.2.1")),)),)
    by = {"best": learned({B1: "10.2.2.21"}), "interfaces": two_links, "underlay": underlay}
    assert route(desired(view(**by)), "10.2.2.21/32") is not None
    assert route(desired(view(cluster=vxlan(), **by)), "10.2.2.21/32") is None


def test_a_pool_that_changes_between_ipip_and_vxlan_moves_its_groups_and_no_route() -> None:
    calculator, best = Calculator(), learned({B1: "10.2.2.21"})
    calculator.update(view(best=best))
    group = calculator.table()[nlri(B1)].group
    change = calculator.update(view(best=best, cluster=vxlan()), ())
    assert nlri(B1) not in change.routes
    assert group is not None
    assert change.groups[group] == through(B1_NODE).hops
    assert calculator.groups() == {group: through(B1_NODE).hops}


def test_an_address_behind_the_device_itself_does_not_resolve() -> None:
    underlay = (UnderlayRoute(IPv4Network("10.2.2.0/24"), (Hop(DEVICE),)),)
    interfaces = {"eth1": ETH1, DEVICE: Interface(DEVICE, 9, 1450, True, "vxlan")}
    found, _ = decide(B1, "10.2.2.21", cluster=vxlan(), underlay=underlay, interfaces=interfaces)
    assert found.encapsulation is Encapsulation.UNREACHABLE


# ---- what the node needs for it


def test_the_device_sends_from_the_node_address_with_the_underlays_mtu_less_all_headers() -> None:
    settings = Settings(vxlan_vni=77, vxlan_port=8472)
    result = desired(view(cluster=vxlan(), settings=settings))
    assert result.links == {DEVICE: Link("vxlan", 1450, vxlan=Vxlan(77, 8472, US, mac_of(US)))}
    assert result.sysctls[f"net/ipv4/conf/{DEVICE}/rp_filter"] == "2"
    assert pod_mtu(view(cluster=vxlan())) == 1450


def test_every_other_member_has_a_neighbour_and_a_way_to_it_whatever_is_learned() -> None:
    result = desired(view(cluster=vxlan()))
    assert result.neighbours == {NeighbourKey(DEVICE, each): mac_of(each) for each in (A2_NODE, B1_NODE, B2_NODE)}
    assert result.fdb == {FdbKey(DEVICE, mac_of(each)): each for each in (A2_NODE, B1_NODE, B2_NODE)}


def test_they_are_made_anew_only_when_members_are_others() -> None:
    calculator = Calculator()
    calculator.update(view(cluster=vxlan()))
    before = calculator.node
    pod = Endpoint("c1", "eth0", IPv4Address("192.168.11.5"), "eth1")
    calculator.update(view(cluster=vxlan(), endpoints=(pod,)), ())
    assert calculator.node.neighbours is before.neighbours
    assert calculator.node.fdb is before.fdb
    fewer = Cluster.of([each for each in (*vxlan().nodes.values(), *vxlan().pools.values()) if each.name != "b2"])
    calculator.update(view(cluster=fewer), ())
    assert NeighbourKey(DEVICE, B2_NODE) not in calculator.node.neighbours


def test_nothing_of_it_without_a_vxlan_pool() -> None:
    result = desired(view())
    assert (DEVICE in result.links, result.neighbours, result.fdb) == (False, {}, {})


def test_a_mac_address_is_the_node_address_behind_two_octets_that_make_it_local() -> None:
    assert mac_of(B1_NODE) == "02:72:0a:02:02:15"


@given(st.ip_addresses(v=4), st.ip_addresses(v=4))
def test_no_two_nodes_have_one_mac_address(one: IPv4Address, other: IPv4Address) -> None:
    assert (mac_of(one) == mac_of(other)) is (one == other)


# ---- where it cannot be


def test_without_the_driver_direct_routes_go_on_and_the_pool_is_named() -> None:
    best = learned({A2: "10.1.1.12", B1: "10.2.2.21"})
    result = desired(view(cluster=vxlan(), vxlan=False, best=best))
    assert route(result, A2) == Route(hops=(Hop("eth1", A2_NODE),))
    assert route(result, B1) is None
    assert (result.links, result.neighbours, result.fdb) == ({}, {}, {})
    (problem,) = result.problems
    assert (problem.kind, problem.subject) == (ProblemKind.MISSING_DRIVER, "pods")
    assert "no VXLAN driver" in problem.message
    assert B1 in problem.message
    assert "modprobe vxlan, or set vxlanMode: Never on pool pods" in problem.hint


def test_a_missing_ipip_driver_is_no_trouble_for_vxlan() -> None:
    assert desired(view(cluster=vxlan(), tunnel=False)).problems == ()


@pytest.mark.parametrize(("kind", "said"), [("dummy", "is of kind dummy"), ("vxlan", "is a stranger's")])
def test_an_interface_in_the_devices_place_is_told(kind: str, said: str) -> None:
    taken = {"lo": LO, "eth1": ETH1, DEVICE: Interface(DEVICE, 9, 1500, True, kind)}
    (problem,) = desired(view(cluster=vxlan(), vxlan=False, interfaces=taken)).problems
    assert (problem.kind, problem.subject) == (ProblemKind.TUNNEL_DEVICE_TAKEN, DEVICE)
    assert said in problem.message


def test_a_node_that_the_store_does_not_know_has_no_device() -> None:
    result = desired(view(node="a9", blocks=(), cluster=vxlan(), best=learned({B1: "10.2.2.21"})))
    assert (result.links, result.neighbours, route(result, B1)) == ({}, {}, None)
    assert [problem.kind for problem in result.problems] == [ProblemKind.NODE_UNKNOWN]

"""What calc wants of the node itself: its own prefixes, tunnel device, sysctls, MTU; and what it warns of."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from types import MappingProxyType

from tests.unit.felix.words import A1, B1, ETH1, LO, NODES, TOR, cluster, decision, learned, node, pool, route, view

from routed.model.cluster import Cluster
from routed.model.endpoint import Endpoint
from routed.model.interface import Interface
from routed_felix.calc import desired, pod_mtu
from routed_felix.state import Encapsulation, Hop, Link, ProblemKind, Route, RouteKind, Settings

POD = Interface("rtdpod", 7, 1480, True, "veth")


def endpoint(address: str, container: str = "c1", device: str = "rtdpod") -> Endpoint:
    return Endpoint(container, "eth0", IPv4Address(address), device)


def test_own_blocks_are_blackholes() -> None:
    result = desired(view())
    assert decision(result, A1).encapsulation is Encapsulation.BLACKHOLE
    assert route(result, A1) == Route(RouteKind.BLACKHOLE)


def test_an_endpoint_is_a_host_route_on_its_veth() -> None:
    result = desired(view(endpoints=[endpoint("192.168.11.5")], interfaces={"eth1": ETH1, "rtdpod": POD}))
    assert decision(result, "192.168.11.5/32").encapsulation is Encapsulation.LOCAL
    assert route(result, "192.168.11.5/32") == Route(hops=(Hop("rtdpod"),))


def test_an_endpoint_whose_veth_is_gone_has_no_route() -> None:
    result = desired(view(endpoints=[endpoint("192.168.11.5")]))
    assert IPv4Network("192.168.11.5/32") not in result.decisions


def test_an_address_of_two_endpoints_goes_to_one_and_is_reported() -> None:
    both = [endpoint("192.168.11.5", "c2", "rtdother"), endpoint("192.168.11.5", "c1")]
    interfaces = {"eth1": ETH1, "rtdpod": POD, "rtdother": POD}
    for order in (both, both[::-1]):
        result = desired(view(endpoints=order, interfaces=interfaces))
        assert route(result, "192.168.11.5/32") == Route(hops=(Hop("rtdpod"),))
        assert [problem.kind for problem in result.problems] == [ProblemKind.DUPLICATE_ENDPOINT]


def test_own_prefixes_are_never_routed_elsewhere() -> None:
    best = learned({A1: TOR, "192.168.11.5/32": "10.1.1.12", "192.168.11.0/27": TOR})
    result = desired(view(best=best))
    assert set(result.decisions) == {IPv4Network(A1)}
    assert decision(result, A1).encapsulation is Encapsulation.BLACKHOLE


def test_ipv6_is_forwarded_by_a_node_that_has_an_ipv6_block() -> None:
    assert "net/ipv6/conf/all/forwarding" not in desired(view()).sysctls
    dual = cluster(a1=(*NODES["a1"], "fd00:1::/64"))
    assert desired(view(cluster=dual)).sysctls["net/ipv6/conf/all/forwarding"] == "1"


def test_the_tunnel_device_is_wanted_up_with_the_underlays_mtu_less_the_outer_header() -> None:
    result = desired(view())
    assert result.links == {"tunl0": Link("ipip", 1480)}
    assert result.addresses == {IPv4Interface("192.168.11.1/32"): ("tunl0",)}


def test_the_smallest_mtu_on_the_way_to_members_counts_and_other_interfaces_do_not() -> None:
    eth2 = Interface("eth2", 3, 1400, True, "", (IPv4Interface("10.2.2.11/24"),))
    docker = Interface("docker0", 4, 576, True, "bridge", (IPv4Interface("172.17.0.1/16"),))
    result = desired(view(interfaces={"lo": LO, "eth1": ETH1, "eth2": eth2, "docker0": docker}))
    assert result.links["tunl0"].mtu == 1380
    assert "net/ipv4/conf/docker0/rp_filter" not in result.sysctls


def test_forwarding_is_on_and_fabric_interfaces_and_the_tunnel_filter_loosely() -> None:
    assert desired(view()).sysctls == {
        "net/ipv4/ip_forward": "1",
        "net/ipv4/conf/eth1/rp_filter": "2",
        "net/ipv4/conf/tunl0/rp_filter": "2",
        "net/ipv4/nexthop_compat_mode": "0",
    }


def test_another_metric_and_device_are_used_throughout() -> None:
    settings = Settings(metric=77, tunnel_device="routed0")
    result = desired(view(best=learned({B1: "10.2.2.21"}), settings=settings))
    assert {key.metric for key in result.routes} == {77}
    assert set(result.links) == {"routed0"}
    assert decision(result, B1).hops == (Hop("routed0", IPv4Address("10.2.2.21"), onlink=True),)


def test_pods_leave_room_for_the_outer_header_if_any_enabled_pool_may_encapsulate() -> None:
    assert pod_mtu(view()) == 1480
    assert pod_mtu(view(cluster=cluster("Always"))) == 1480
    assert pod_mtu(view(cluster=cluster("Never"))) == 1500


def test_a_disabled_pool_takes_no_room_from_pods() -> None:
    nodes = [node(name, *words) for name, words in NODES.items()]
    pools = [pool("old", "192.168.0.0/16", "Always", disabled=True), pool("new", "172.16.0.0/16", "Never")]
    assert pod_mtu(view(cluster=Cluster.of([*nodes, *pools]))) == 1500


def test_without_the_driver_pods_leave_room_all_the_same() -> None:
    assert pod_mtu(view(tunnel=False)) == 1480


def test_without_an_uplink_the_pod_mtu_is_ethernets() -> None:
    assert pod_mtu(view(interfaces={"lo": LO}, underlay=(), cluster=cluster("Never"))) == 1500


def test_a_node_address_on_no_interface_is_reported() -> None:
    (problem,) = desired(view(cluster=cluster(a1=("10.1.1.99/24", A1)))).problems
    assert problem.kind is ProblemKind.NODE_ADDRESS_ABSENT
    assert "10.1.1.99/24" in problem.message


def test_a_node_address_of_length_32_gets_a_warning() -> None:
    (problem,) = desired(view(cluster=cluster(a1=("10.1.1.11/32", A1)))).problems
    assert problem.kind is ProblemKind.NODE_ADDRESS_HOST_LENGTH


def test_a_node_the_store_does_not_know_is_reported_by_name() -> None:
    (problem,) = desired(view(node="a9")).problems
    assert (problem.kind, problem.subject) == (ProblemKind.NODE_UNKNOWN, "a9")


def test_a_pool_that_holds_an_interfaces_subnet_is_reported_and_the_rest_goes_on() -> None:
    eth2 = Interface("eth2", 3, 1500, True, "", (IPv4Interface("192.168.50.1/24"),))
    result = desired(view(best=learned({B1: "10.2.2.21"}), interfaces={"lo": LO, "eth1": ETH1, "eth2": eth2}))
    (problem,) = result.problems
    assert (problem.kind, problem.subject) == (ProblemKind.POOL_IN_SUBNET, "pods")
    assert "192.168.50.0/24, the subnet of eth2" in problem.message
    assert route(result, B1) is not None


def test_a_pod_with_the_larger_mtu_of_before_is_reported_by_name() -> None:
    old, new = (Interface(name, number, mtu, True, "veth") for name, number, mtu in (("o", 8, 1500), ("n", 9, 1480)))
    endpoints = [
        Endpoint("c1", "eth0", IPv4Address("192.168.11.5"), "o"),
        Endpoint("c2", "eth0", IPv4Address("192.168.11.6"), "n"),
    ]
    result = desired(view(endpoints=endpoints, interfaces={"lo": LO, "eth1": ETH1, "o": old, "n": new}))
    (problem,) = result.problems
    assert problem.kind is ProblemKind.ENDPOINT_MTU
    assert "pod c1/eth0 (192.168.11.5) has an MTU of 1500, packets may have 1480 by now" in problem.message


def test_rfc791_an_mtu_that_ipv4_cannot_live_with_is_reported() -> None:
    small = Interface("eth1", 2, 80, True, "veth", (IPv4Interface("10.1.1.11/24"),))
    assert ProblemKind.SMALL_MTU in {problem.kind for problem in desired(view(interfaces={"eth1": small})).problems}


def test_the_view_is_not_changed() -> None:
    best = MappingProxyType(learned({B1: "10.2.2.21"}))
    interfaces = MappingProxyType({"eth1": ETH1})
    assert desired(view(best=best, interfaces=interfaces)) == desired(view(best=best, interfaces=interfaces))


def test_a_pods_link_that_was_renamed_is_told_by_its_alias_and_keeps_its_route() -> None:
    pod = Endpoint("c1", "eth0", IPv4Address("192.168.11.5"), "rtdpod")
    renamed = Interface("other", 9, 1500, True, "veth", alias="routed:pod c1/eth0 has 10.9.9.9 of pods")
    strange = Interface("strange", 10, 1500, True, "veth", alias="routed:pod c2/eth0")
    result = desired(view(endpoints=(pod,), interfaces={"eth1": ETH1, "other": renamed, "strange": strange}))
    assert result.names == {9: "rtdpod"}
    assert route(result, "192.168.11.5/32") == Route(hops=(Hop("rtdpod"),))


def test_a_pods_link_that_is_gone_has_neither_name_nor_route() -> None:
    pod = Endpoint("c1", "eth0", IPv4Address("192.168.11.5"), "rtdpod")
    result = desired(view(endpoints=(pod,), interfaces={"eth1": ETH1}))
    assert (result.names, route(result, "192.168.11.5/32")) == ({}, None)

"""Design section 5, one behaviour each; the words are in words.py."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest
from tests.unit.felix.words import (
    A2,
    B1,
    B2,
    DEFAULT,
    ETH1,
    TOR,
    all_of_them,
    cluster,
    decide,
    decision,
    learned,
    path,
    route,
    view,
)

from routed.model.bgp import BGPConfigurationSpec
from routed.model.interface import Interface
from routed.model.nlri import from_prefix
from routed_felix.calc import desired
from routed_felix.state import Encapsulation, Hop, ProblemKind, Route, UnderlayRoute, Why

TUNNEL_ADDRESS = IPv4Address("192.168.11.1")


def via(gateway: str, device: str = "eth1", *, onlink: bool = False) -> Hop:
    return Hop(device, IPv4Address(gateway), onlink)


# ---- CrossSubnet


def test_a_member_in_our_subnet_is_reached_direct() -> None:
    found, programmed = decide(A2, "10.1.1.12")
    assert found.encapsulation is Encapsulation.DIRECT
    assert str(found.because) == "same subnet by eth1 10.1.1.0/24"
    assert programmed == Route(hops=(via("10.1.1.12"),), source=TUNNEL_ADDRESS)


def test_a_member_in_another_subnet_is_reached_through_the_tunnel() -> None:
    found, programmed = decide(B1, "10.2.2.21")
    assert found.encapsulation is Encapsulation.TUNNEL
    assert str(found.because) == "next hop 10.2.2.21 behind 10.1.1.1 and pool pods is CrossSubnet"
    assert programmed == Route(hops=(via("10.2.2.21", "tunl0", onlink=True),), source=TUNNEL_ADDRESS)


def test_a_path_learned_from_the_adjacent_tor_is_direct_even_across_racks() -> None:
    found, programmed = decide(B1, TOR)
    assert found.encapsulation is Encapsulation.DIRECT
    assert str(found.because) == "learned from router 10.1.1.1, next hop adjacent"
    assert programmed == Route(hops=(via(TOR),), source=TUNNEL_ADDRESS)


def test_withdrawing_the_tor_path_falls_back_to_the_tunnel() -> None:
    both, _ = decide(B1, (TOR, "10.2.2.21"))
    mesh_only, _ = decide(B1, "10.2.2.21")
    again, _ = decide(B1, (TOR, "10.2.2.21"))
    assert (both.encapsulation, mesh_only.encapsulation) == (Encapsulation.DIRECT, Encapsulation.TUNNEL)
    assert again == both


def test_the_interfaces_real_length_decides_not_the_length_the_node_states() -> None:
    narrow = Interface("eth1", 2, 1500, True, "", (IPv4Interface("10.1.1.11/29"),))
    found, _ = decide(A2, "10.1.1.12", interfaces={"eth1": narrow}, underlay=(DEFAULT,))
    assert found.encapsulation is Encapsulation.DIRECT  # 10.1.1.8/29 holds .12
    narrower = Interface("eth1", 2, 1500, True, "", (IPv4Interface("10.1.1.11/31"),))
    found, _ = decide(A2, "10.1.1.12", interfaces={"eth1": narrower}, underlay=(DEFAULT,))
    assert found.encapsulation is Encapsulation.TUNNEL


def test_the_tunnel_goes_to_the_blocks_owner_not_to_who_passed_the_path_on() -> None:
    found, _ = decide(B1, "10.2.2.22")
    assert found.hops == (via("10.2.2.21", "tunl0", onlink=True),)


def test_a_router_beyond_the_subnet_leads_to_a_tunnel_to_the_owner() -> None:
    found, _ = decide(B1, "10.9.9.9")
    assert (found.encapsulation, found.hops) == (Encapsulation.TUNNEL, (via("10.2.2.21", "tunl0", onlink=True),))


def test_a_tunnel_never_goes_to_a_stranger() -> None:
    result = desired(view(best=learned({"192.168.99.0/26": "10.9.9.9"})))
    assert decision(result, "192.168.99.0/26").encapsulation is Encapsulation.UNREACHABLE
    assert [problem.kind for problem in result.problems] == [ProblemKind.UNKNOWN_OWNER]
    assert route(result, "192.168.99.0/26") is None


def test_a_prefix_nobody_owns_is_tunnelled_to_the_member_that_announces_it_with_a_warning() -> None:
    result = desired(view(best=learned({"192.168.99.0/26": "10.2.2.21"})))
    assert decision(result, "192.168.99.0/26").hops == (via("10.2.2.21", "tunl0", onlink=True),)
    assert [problem.kind for problem in result.problems] == [ProblemKind.UNKNOWN_OWNER]


def test_a_part_of_a_block_belongs_to_the_blocks_owner() -> None:
    found, _ = decide("192.168.21.7/32", "10.2.2.22")
    assert found.hops == (via("10.2.2.21", "tunl0", onlink=True),)


def test_a_fabric_aggregate_over_the_whole_pool_is_direct() -> None:
    found, _ = decide("192.168.0.0/16", TOR)
    assert (found.encapsulation, found.hops) == (Encapsulation.DIRECT, (via(TOR),))


# ---- Always


@pytest.mark.parametrize("hop", ["10.2.2.21", TOR, "10.9.9.9"])
def test_always_tunnels_to_the_owner_whatever_the_path(hop: str) -> None:
    found, _ = decide(B1, hop, cluster=cluster("Always"))
    assert (found.encapsulation, found.hops) == (Encapsulation.TUNNEL, (via("10.2.2.21", "tunl0", onlink=True),))


def test_always_tunnels_to_a_member_in_our_own_subnet_too() -> None:
    found, programmed = decide(A2, "10.1.1.12", cluster=cluster("Always"))
    assert str(found.because) == "pool pods is Always, tunnel to 10.1.1.12"
    assert programmed == Route(hops=(via("10.1.1.12", "tunl0", onlink=True),), source=TUNNEL_ADDRESS)


def test_always_needs_a_way_to_the_owner_itself() -> None:
    found, programmed = decide(B1, TOR, cluster=cluster("Always"), underlay=())
    assert (found.encapsulation, programmed) == (Encapsulation.UNREACHABLE, None)
    assert "tunnel end 10.2.2.21" in str(found.because)


def test_a_tunnel_never_ends_at_this_node() -> None:
    """Another Node of the store claims an address that is on our interface."""
    best = learned({"192.168.11.0/26": "10.1.1.12"})
    result = desired(view(node="b1", blocks=(), best=best, cluster=cluster("Always")))
    assert decision(result, "192.168.11.0/26").encapsulation is Encapsulation.UNREACHABLE


# ---- Never


def test_never_sends_direct_to_an_adjacent_next_hop_and_without_source() -> None:
    _, programmed = decide(A2, "10.1.1.12", cluster=cluster("Never"))
    assert programmed == Route(hops=(via("10.1.1.12"),))


def test_never_resolves_a_distant_next_hop_through_its_gateway() -> None:
    best = learned({B1: "10.2.2.21", "192.168.0.0/16": TOR})
    result = desired(view(best=best, cluster=cluster("Never")))
    assert str(decision(result, B1).because) == "next hop 10.2.2.21 behind 10.1.1.1 and pool pods is Never"
    assert route(result, B1) == Route(hops=(via(TOR),))
    assert result.problems == ()


def test_never_through_a_gateway_that_does_not_announce_the_prefix_is_installed_and_said() -> None:
    result = desired(view(best=learned({B1: "10.2.2.21"}), cluster=cluster("Never")))
    assert route(result, B1) == Route(hops=(via(TOR),))
    assert "no path from gateway 10.1.1.1 covers it" in str(decision(result, B1).because)
    assert [problem.kind for problem in result.problems] == [ProblemKind.GATEWAY_UNINFORMED]


def test_never_takes_the_longest_underlay_match() -> None:
    rack_b = UnderlayRoute(IPv4Network("10.2.0.0/16"), (via("10.1.1.2"),), metric=50)
    _, programmed = decide(B1, "10.2.2.21", cluster=cluster("Never"), underlay=(DEFAULT, rack_b))
    assert programmed == Route(hops=(via("10.1.1.2"),))


def test_never_takes_the_lower_metric_of_two_underlay_routes() -> None:
    worse = UnderlayRoute(IPv4Network("0.0.0.0/0"), (via("10.1.1.2"),), metric=50)
    for underlay in ((DEFAULT, worse), (worse, DEFAULT)):
        _, programmed = decide(B1, "10.2.2.21", cluster=cluster("Never"), underlay=underlay)
        assert programmed == Route(hops=(via(TOR),))


def test_never_needs_no_tunnel_at_all() -> None:
    result = desired(view(best=learned({A2: "10.1.1.12"}), cluster=cluster("Never")))
    assert (result.links, result.addresses) == ({}, {})
    assert not any("tunl0" in key for key in result.sysctls)


# ---- resolvability


def test_a_better_path_whose_next_hop_is_gone_gives_way_to_the_next() -> None:
    found, _ = decide(B1, ("172.31.0.1", "10.2.2.21"), underlay=(_reject("172.16.0.0/12"), DEFAULT))
    assert found.encapsulation is Encapsulation.TUNNEL
    assert "better path unusable: next hop 172.31.0.1" in str(found.because)


def test_without_any_resolvable_path_there_is_no_route_and_a_problem_that_says_so() -> None:
    result = desired(view(best=learned({B1: "10.2.2.21"}), underlay=()))
    assert decision(result, B1).encapsulation is Encapsulation.UNREACHABLE
    assert route(result, B1) is None
    problem = result.problems[0]
    assert (problem.kind, problem.subject) == (ProblemKind.UNRESOLVABLE, "10.2.2.21")
    assert B1 in problem.message


def test_an_interface_that_is_down_reaches_nobody() -> None:
    down = Interface("eth1", 2, 1500, False, "", ETH1.addresses)
    found, _ = decide(A2, "10.1.1.12", interfaces={"eth1": down})
    assert found.encapsulation is Encapsulation.UNREACHABLE


def test_an_address_behind_the_tunnel_itself_does_not_resolve() -> None:
    tunl0 = Interface("tunl0", 9, 1480, True, "ipip", (IPv4Interface("10.2.2.1/24"),))
    loop = UnderlayRoute(IPv4Network("0.0.0.0/0"), (Hop("tunl0"),))
    found, _ = decide(B1, "10.2.2.21", interfaces={"eth1": ETH1, "tunl0": tunl0}, underlay=(loop,))
    assert found.encapsulation is Encapsulation.UNREACHABLE


def test_our_own_address_is_no_next_hop() -> None:
    found, _ = decide(B1, "10.1.1.11")
    assert found.because.why is Why.UNRESOLVABLE


def test_a_path_by_a_device_route_without_gateway_is_not_adjacent() -> None:
    by_device = UnderlayRoute(IPv4Network("10.2.2.0/24"), (Hop("eth1"),))
    found, _ = decide(B1, "10.2.2.21", underlay=(by_device,))
    assert found.encapsulation is Encapsulation.TUNNEL
    _, programmed = decide(B1, "10.2.2.21", underlay=(by_device,), cluster=cluster("Never"))
    assert programmed == Route(hops=(via("10.2.2.21"),))


def test_a_prefix_in_no_pool_is_not_programmed_and_many_make_one_problem() -> None:
    best = learned({f"172.16.{n}.0/24": TOR for n in range(50)})
    result = desired(view(best=best))
    assert all(from_prefix(key.prefix) not in best for key in result.routes)
    assert [problem.kind for problem in result.problems] == [ProblemKind.NO_POOL]
    assert "172.16.0.0/24, 172.16.1.0/24, 172.16.2.0/24 and 47 more" in result.problems[0].message


# ---- the driver


def test_without_the_driver_direct_routes_have_no_source_and_tunnel_routes_are_missing() -> None:
    result = desired(view(best=learned({A2: "10.1.1.12", B1: "10.2.2.21", B2: TOR}), tunnel=False))
    assert route(result, A2) == Route(hops=(via("10.1.1.12"),))
    assert route(result, B2) == Route(hops=(via(TOR),))
    assert route(result, B1) is None
    assert (decision(result, B1).encapsulation, decision(result, B1).key) == (Encapsulation.TUNNEL, None)
    assert (result.links, result.addresses) == ({}, {})


def test_the_missing_driver_is_a_problem_that_names_pool_module_and_prefixes() -> None:
    result = desired(view(best=learned({B1: "10.2.2.21"}), tunnel=False))
    (problem,) = result.problems
    assert (problem.kind, problem.subject) == (ProblemKind.MISSING_DRIVER, "pods")
    assert B1 in problem.message
    assert "modprobe ipip" in problem.hint


def test_a_pool_that_never_encapsulates_does_not_miss_the_driver() -> None:
    assert desired(view(cluster=cluster("Never"), tunnel=False)).problems == ()


def test_without_a_tunnel_address_routes_have_no_source() -> None:
    result = desired(view(best=learned({A2: "10.1.1.12", B1: "10.2.2.21"}), tunnel_address=None))
    assert route(result, A2) == Route(hops=(via("10.1.1.12"),))
    assert route(result, B1) == Route(hops=(via("10.2.2.21", "tunl0", onlink=True),))


# ---- outer source


def test_a_second_uplink_gets_host_routes_to_members_with_the_node_address_as_source() -> None:
    eth2 = Interface("eth2", 3, 1500, True, "", (IPv4Interface("10.1.2.11/24"),))
    rack_b = UnderlayRoute(IPv4Network("10.2.2.0/24"), (via("10.1.2.1", "eth2"),))
    result = desired(view(best=learned({B1: "10.2.2.21"}), interfaces={"eth1": ETH1, "eth2": eth2}, underlay=(rack_b,)))
    assert route(result, "10.2.2.21/32") == Route(hops=(via("10.1.2.1", "eth2"),), source=IPv4Address("10.1.1.11"))


def test_one_uplink_with_the_node_address_needs_no_host_routes_to_members() -> None:
    assert route(desired(view(best=learned({B1: "10.2.2.21"}))), "10.2.2.21/32") is None


BY_IPV6 = UnderlayRoute(IPv4Network("0.0.0.0/0"), (Hop("eth2"),), whole=False)  # with a label
UNNUMBERED = {"eth1": ETH1, "eth2": Interface("eth2", 3, 1500, True)}


def test_rfc8950_a_member_behind_an_ipv6_gateway_gets_no_host_route_that_would_miss_the_gateway() -> None:
    result = desired(view(best=learned({B1: "10.2.2.21"}), interfaces=UNNUMBERED, underlay=(BY_IPV6,)))
    assert decision(result, B1).encapsulation is Encapsulation.TUNNEL
    assert route(result, "10.2.2.21/32") is None


def test_rfc8950_never_behind_an_ipv6_gateway_is_unreachable_and_told() -> None:
    result = desired(
        view(cluster=cluster("Never"), best=learned({B1: "10.2.2.21"}), interfaces=UNNUMBERED, underlay=(BY_IPV6,))
    )
    assert route(result, B1) is None
    assert decision(result, B1).because.why is Why.UNRESOLVABLE
    assert [problem.kind for problem in result.problems] == [ProblemKind.UNRESOLVABLE]


def _reject(prefix: str) -> UnderlayRoute:
    return UnderlayRoute(IPv4Network(prefix), ())


# ---- addresses that a member borrowed from a block of ours


@pytest.mark.parametrize(("member", "how"), [("10.1.1.12", Encapsulation.DIRECT), ("10.2.2.21", Encapsulation.TUNNEL)])
def test_an_address_of_ours_that_a_member_borrowed_leads_to_it_by_the_same_rules(
    member: str, how: Encapsulation
) -> None:
    borrowed = "192.168.11.9/32"
    result = desired(view(best={from_prefix(IPv4Network(borrowed)): (path(member, member=True),)}))
    found = decision(result, borrowed)
    assert (found.encapsulation, str(found.hops[0].gateway if found.hops else None)) == (how, member)
    assert result.problems == ()


def test_an_address_of_ours_that_a_router_announces_leads_nowhere() -> None:
    result = desired(view(best={from_prefix(IPv4Network("192.168.11.9/32")): (path(TOR),)}))
    assert route(result, "192.168.11.9/32") is None


# ---- what operators say of interfaces and peers


def test_a_next_hop_behind_an_ignored_interface_does_not_resolve() -> None:
    ignoring = replace(cluster(), bgp=BGPConfigurationSpec(ignored_interfaces=("eth*",)))
    found, programmed = decide(B1, TOR, cluster=ignoring)
    assert (found.encapsulation, programmed) == (Encapsulation.UNREACHABLE, None)


def test_a_peer_that_is_reachable_by_a_gateway_has_a_host_route_through_it() -> None:
    peer, gateway = IPv4Address("10.9.9.9"), IPv4Address(TOR)
    result = desired(view(gateways={peer: gateway}))
    assert route(result, "10.9.9.9/32") == Route(hops=(via(TOR),))
    assert decision(result, "10.9.9.9/32").because.why is Why.REACHABLE_BY
    assert route(desired(view(gateways={peer: IPv4Address("10.77.0.1")})), "10.9.9.9/32") is None


SECOND_TOR = "10.1.1.2"


def test_equal_paths_of_two_routers_share_the_traffic_in_an_order_of_their_own():
    for hops in ((TOR, SECOND_TOR), (SECOND_TOR, TOR)):
        found, programmed = decide(B1, hops, sharing=all_of_them)
        assert programmed == Route(hops=(via(TOR), via(SECOND_TOR)), source=TUNNEL_ADDRESS)
        assert found.hops == (via(TOR), via(SECOND_TOR))
        assert f"shared with {hops[1]}" in str(found.because)


def test_paths_that_are_not_equal_do_not_share():
    _, programmed = decide(B1, (TOR, SECOND_TOR))
    assert programmed == Route(hops=(via(TOR),), source=TUNNEL_ADDRESS)


def test_equal_paths_to_one_tunnel_end_are_one_hop():
    _, programmed = decide(B1, (TOR, SECOND_TOR), cluster=cluster("Always"), sharing=all_of_them)
    assert programmed == Route(hops=(via("10.2.2.21", "tunl0", onlink=True),), source=TUNNEL_ADDRESS)


def test_a_prefix_of_two_members_is_shared_by_two_tunnels():
    found, programmed = decide("192.168.99.0/26", ("10.2.2.22", "10.2.2.21"), sharing=all_of_them)
    ends = tuple(via(end, "tunl0", onlink=True) for end in ("10.2.2.21", "10.2.2.22"))
    assert (found.encapsulation, found.hops) == (Encapsulation.TUNNEL, ends)
    assert programmed == Route(hops=ends, source=TUNNEL_ADDRESS)


def test_an_equal_path_that_does_not_resolve_or_leads_another_way_does_not_share():
    _, programmed = decide(B1, ("10.1.1.12", "10.2.2.22", "172.31.0.1"), sharing=all_of_them, underlay=())
    assert programmed == Route(hops=(via("10.1.1.12"),), source=TUNNEL_ADDRESS)
    _, programmed = decide(B1, ("10.1.1.12", "10.2.2.22"), sharing=all_of_them)
    assert programmed == Route(hops=(via("10.1.1.12"),), source=TUNNEL_ADDRESS)

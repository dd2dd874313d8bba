"""Groups: what learned prefixes that are forwarded alike keep in common while their next hops change."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from tests.unit.felix.words import DEFAULT, ETH1, LO, TOR, all_of_them, cluster, learned, nlri, path, paths, pool, view

from routed.model.cluster import Cluster
from routed_felix.calc import Calculator, View
from routed_felix.state import Change, Hop, UnderlayRoute

MANY = [f"192.168.{number}.0/24" for number in range(30, 60)]
B1_ADDRESS = "10.2.2.21"
OTHER_TOR = "10.1.1.2"
ETH2 = replace(ETH1, name="eth2", index=3)


def by(gateway: str, device: str = "eth1", *, onlink: bool = False) -> tuple[Hop, ...]:
    return (Hop(device, IPv4Address(gateway), onlink),)


def started(view_: View) -> Calculator:
    calculator = Calculator()
    calculator.update(view_)
    return calculator


def change(calculator: Calculator, view_: View, **changes: Any) -> Change:
    return calculator.update(replace(view_, **changes), ())


def test_prefixes_of_one_place_with_the_same_paths_go_by_one_group() -> None:
    calculator = started(view(best=learned(dict.fromkeys(MANY, TOR))))
    assert list(calculator.groups().values()) == [by(TOR)]
    (group,) = calculator.groups()
    assert set(calculator.by([group])) == {nlri(prefix) for prefix in MANY}


def test_own_prefixes_and_host_routes_go_by_none() -> None:
    calculator = started(view(best=learned({MANY[0]: TOR})))
    assert [key for key, route in calculator.table().items() if route.group is not None] == [nlri(MANY[0])]


def test_a_member_that_comes_into_our_subnet_repoints_the_group_from_the_tunnel_and_no_route() -> None:
    before = view(best=learned(dict.fromkeys(MANY, B1_ADDRESS)))
    calculator = started(before)
    (group,) = calculator.groups()
    assert calculator.groups()[group] == by(B1_ADDRESS, "tunl0", onlink=True)
    interfaces = {"lo": LO, "eth1": ETH1, "eth2": replace(ETH2, addresses=(IPv4Interface("10.2.2.9/24"),))}
    found = change(calculator, before, interfaces=interfaces)
    assert found.groups == {group: by(B1_ADDRESS, "eth2")}
    assert found.routes == {}
    assert calculator.get(nlri(MANY[0])) == replace(calculator.table()[nlri(MANY[0])], hops=by(B1_ADDRESS, "eth2"))


def test_where_the_source_changes_too_the_routes_are_written_but_their_group_stays() -> None:
    before = view(best=learned(dict.fromkeys(MANY, B1_ADDRESS)), cluster=cluster("Never"))
    calculator = started(before)
    (group,) = calculator.groups()
    found = change(calculator, before, cluster=cluster("Always"))
    assert found.groups == {group: by(B1_ADDRESS, "tunl0", onlink=True)}
    assert {route.group for route in found.routes.values() if route} == {group}
    assert len(found.routes) == len(MANY)


def test_a_next_hop_that_is_reached_another_way_repoints_the_group() -> None:
    before = view(best=learned(dict.fromkeys(MANY, B1_ADDRESS)), cluster=cluster("Never"))
    calculator = started(before)
    (group,) = calculator.groups()
    found = change(calculator, before, underlay=(*_behind(OTHER_TOR), DEFAULT))
    assert (found.groups, found.routes) == ({group: by(OTHER_TOR)}, {})


def test_a_node_that_joins_changes_no_group_of_the_others() -> None:
    before = view(best=learned(dict.fromkeys(MANY, TOR)))
    calculator = started(before)
    groups = calculator.groups()
    joined = cluster(c1=("10.3.3.31/24", "192.168.200.0/26"))
    found = change(calculator, before, cluster=joined)
    assert (found.groups, found.routes, calculator.groups()) == ({}, {}, groups)


def test_another_pool_changes_no_group_of_the_others() -> None:
    before = view(best=learned(dict.fromkeys(MANY, TOR)))
    calculator = started(before)
    nodes = before.cluster.nodes.values()
    more = Cluster.of([*nodes, *before.cluster.pools.values(), pool("more", "172.16.0.0/16", "Never")])
    assert (change(calculator, before, cluster=more).groups, len(calculator.groups())) == ({}, 1)


def test_a_group_that_no_prefix_goes_by_is_told_without_hops() -> None:
    best = learned({MANY[0]: TOR})
    now = view(best=best)
    calculator = started(now)
    (group,) = calculator.groups()
    del best[nlri(MANY[0])]
    found = calculator.update(now, {nlri(MANY[0])})
    assert (found.groups, found.routes) == ({group: ()}, {nlri(MANY[0]): None})


def test_a_lost_peer_costs_its_group_one_change_and_prefixes_without_another_way_nothing() -> None:
    both, one = MANY[:20], MANY[20:]
    now = view(best=learned({**dict.fromkeys(both, (TOR, OTHER_TOR)), **dict.fromkeys(one, TOR)}))
    calculator = started(now)
    groups = {hops: group for group, hops in calculator.groups().items()}
    assert set(groups) == {by(TOR)}
    found = change(calculator, now, lost=frozenset({IPv4Address(TOR)}))
    assert (list(found.groups.values()), found.routes) == ([by(OTHER_TOR)], {})
    (group,) = found.groups
    assert set(calculator.by([group])) == {nlri(prefix) for prefix in both}
    again = change(calculator, now)
    assert again.groups == {group: by(TOR)}


def test_a_lost_peer_of_two_that_share_leaves_the_other() -> None:
    now = view(best=learned(dict.fromkeys(MANY, (TOR, OTHER_TOR))), sharing=all_of_them)
    calculator = started(now)
    (group,) = calculator.groups()
    assert calculator.groups()[group] == by(TOR) + by(OTHER_TOR)
    assert change(calculator, now, lost=frozenset({IPv4Address(OTHER_TOR)})).groups == {group: by(TOR)}


def _behind(gateway: str) -> tuple[UnderlayRoute, ...]:
    return (UnderlayRoute(IPv4Network("10.2.2.0/24"), (Hop("eth1", IPv4Address(gateway)),)),)


def test_other_paths_that_lead_the_same_way_change_nothing_where_all_prefixes_of_the_group_have_them() -> None:
    """From the mesh to a reflector: the same next hop, told by another peer."""
    mesh = paths((B1_ADDRESS,))
    reflected = (path(B1_ADDRESS, peer="10.1.1.12"),)
    best = dict.fromkeys(map(nlri, MANY), mesh)
    now = view(best=best)
    calculator = started(now)
    groups = calculator.groups()
    best.update(dict.fromkeys(best, reflected))
    found = calculator.update(now, set(best))
    assert (found.routes, calculator.groups()) == ({}, groups)
    best.update(dict.fromkeys(list(best)[:10], mesh))  # some of them back: those are others from now on
    found = calculator.update(now, set(best))
    assert set(found.routes) == set(list(best)[:10])
    assert calculator.groups().keys() > groups.keys()


def test_a_group_is_inherited_once() -> None:
    first, second = ((path(B1_ADDRESS, peer=peer),) for peer in ("10.1.1.12", "10.1.1.13"))
    best = dict.fromkeys(map(nlri, MANY), paths((B1_ADDRESS,)))
    now = view(best=best)
    calculator = started(now)
    best.update(dict.fromkeys(list(best)[:20], first))
    best.update(dict.fromkeys(list(best)[20:], second))
    found = calculator.update(now, set(best))
    assert set(found.routes) in (set(list(best)[:20]), set(list(best)[20:]))
    assert len(calculator.groups()) == 2

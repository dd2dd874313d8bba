"""Calc step by step equals calc from scratch, whatever the order of events: shuffled, squashed, split."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.felix.test_calc_laws import ENDPOINTS, HOPS, INTERFACES, PREFIXES, UNDERLAY, WAYS
from tests.unit.felix.words import B1, NODES, TOR, all_of_them, cluster, learned, nlri, node, paths, pool, view

from routed.model.cluster import Cluster
from routed.model.nlri import Nlri, from_prefix, position, to_prefix, widened
from routed.model.path import Path
from routed_felix.calc import Calculator, View, desired
from routed_felix.decide import Decider
from routed_felix.state import Encapsulation, ProblemKind, Route, RouteKey
from routed_felix.view import only_the_best

HOST_ROUTES = ["10.2.2.21/32", "192.168.11.5/32", "192.168.12.7/32", "192.168.11.6/32"]

routes_of = st.tuples(
    st.sampled_from([*PREFIXES, *HOST_ROUTES]),
    st.lists(st.sampled_from(HOPS), max_size=3, unique=True).map(tuple),
)
clusters = st.builds(
    lambda names, way, more: Cluster.of(
        [
            *(node(name, *NODES[name]) for name in names),
            pool("pods", "192.168.0.0/16", **way),
            *([pool("more", "172.16.0.0/16", **more)] if more else []),
        ]
    ),
    st.sets(st.sampled_from(list(NODES))),
    st.sampled_from(WAYS),
    st.none() | st.sampled_from(WAYS),
)
surroundings = st.one_of(
    clusters.map(lambda value: {"cluster": value}),
    st.lists(st.sampled_from(INTERFACES), unique_by=lambda i: i.name).map(
        lambda found: {"interfaces": {each.name: each for each in found}}
    ),
    st.lists(st.sampled_from(UNDERLAY), unique=True).map(lambda found: {"underlay": tuple(found)}),
    st.lists(st.sampled_from(ENDPOINTS), unique=True).map(lambda found: {"endpoints": tuple(found)}),
    st.booleans().map(lambda there: {"tunnel": there}),
    st.booleans().map(lambda there: {"vxlan": there}),
    st.sampled_from([only_the_best, all_of_them]).map(lambda sharing: {"sharing": sharing}),
    st.sampled_from([None, IPv4Interface("192.168.11.1/32").ip]).map(lambda found: {"tunnel_address": found}),
    st.sampled_from([(), (IPv4Network("192.168.11.0/26"),)]).map(lambda found: {"blocks": found}),
    st.frozensets(st.sampled_from(HOPS).map(IPv4Address), max_size=3).map(lambda found: {"lost": found}),
)
events = st.lists(st.one_of(st.lists(routes_of, min_size=1, max_size=6), surroundings), max_size=12)


def wanted(calculator: Calculator, at: View) -> dict[RouteKey, Route]:
    return {RouteKey(to_prefix(each), at.settings.metric): route for each, route in calculator.table().items()}


@given(events, st.data())
def test_any_order_of_events_ends_as_from_scratch(happened: list[Any], data: st.DataObject) -> None:
    """An event may wait for the next (squashed); what a target was told so far is always what is wanted."""
    best: dict[Nlri, tuple[Path, ...]] = {}
    now = view(best=best)
    calculator = Calculator()
    calculator.update(now)
    told, groups = calculator.table(), calculator.groups()
    changed: set[Nlri] = set()
    for event in happened:
        if isinstance(event, dict):
            now = replace(now, **event)
        else:
            for prefix, hops in event:
                changed.add(nlri(prefix))
                if hops:
                    best[nlri(prefix)] = paths(hops)
                else:
                    best.pop(nlri(prefix), None)
        if data.draw(st.booleans(), label="squash"):
            continue
        change = calculator.update(now, data.draw(st.sampled_from([changed, None])))
        for key, route in change.routes.items():
            if route is None:
                told.pop(key, None)
            else:
                told[key] = route
        told.update({key: replace(told[key], hops=route.hops) for key, route in calculator.by(change.groups).items()})
        for group, hops in change.groups.items():
            groups.pop(group, None)
            if hops:
                groups[group] = hops
        groups.update({route.group: route.hops for route in change.routes.values() if route and route.group})
        changed = set()
        assert told == calculator.table()
        assert {key: route.group for key, route in told.items()} == {
            key: route.group for key, route in calculator.table().items()
        }
        assert groups == calculator.groups()
    calculator.update(now, changed)
    fresh = desired(now)
    assert calculator.desired() == fresh
    assert wanted(calculator, now) == fresh.routes
    assert len(calculator) == len(fresh.routes)
    counts = dict.fromkeys(Encapsulation, 0)
    for decision in fresh.decisions.values():
        counts[decision.encapsulation] += 1
        assert calculator.decision_for(decision.prefix) == decision
    assert calculator.encapsulations() == counts


def test_a_changed_path_is_the_only_change() -> None:
    best = learned({f"192.168.{n}.0/24": TOR for n in range(20, 120)})
    calculator = Calculator()
    assert len(calculator.update(view(best=best)).routes) == 101
    best[nlri(B1)] = paths(("10.2.2.21",))
    del best[nlri("192.168.50.0/24")]
    change = calculator.update(view(best=best), {nlri(B1), nlri("192.168.50.0/24"), nlri("192.168.51.0/24")})
    assert {to_prefix(key) for key in change.routes} == {IPv4Network(B1), IPv4Network("192.168.50.0/24")}
    assert change.routes[nlri("192.168.50.0/24")] is None


def test_prefixes_of_one_place_with_the_same_paths_share_one_route() -> None:
    calculator = Calculator()
    change = calculator.update(view(best=learned({f"192.168.{n}.0/24": TOR for n in range(20, 120)})))
    assert len({id(route) for key, route in change.routes.items() if key[0] == 24}) == 1


def test_a_pod_that_comes_does_not_touch_what_was_learned() -> None:
    best = learned({f"192.168.{n}.0/24": TOR for n in range(20, 120)})
    calculator = Calculator()
    interfaces = {"eth1": INTERFACES[1]}
    calculator.update(view(best=best, interfaces=interfaces))
    with_pod = view(best=best, interfaces={**interfaces, "rtdpod": INTERFACES[-1]}, endpoints=(ENDPOINTS[0],))
    assert list(calculator.update(with_pod, ()).routes) == [nlri("192.168.11.5/32")]


def test_a_covering_prefix_that_comes_later_informs_the_gateway() -> None:
    """Never: the decisions of others depend on it, though no route does."""
    best = learned({B1: "10.2.2.21"})
    now = view(best=best, cluster=cluster("Never"))
    calculator = Calculator()
    calculator.update(now)
    assert [problem.kind for problem in calculator.problems] == [ProblemKind.GATEWAY_UNINFORMED]
    best[nlri("192.168.0.0/16")] = paths((TOR,))
    assert list(calculator.update(now, {nlri("192.168.0.0/16")}).routes) == [nlri("192.168.0.0/16")]
    assert calculator.problems == ()


networks = st.builds(
    lambda number, length: IPv4Network((number >> (32 - length) << (32 - length) if length else 0, length)),
    st.integers(0, 2**32 - 1),
    st.integers(0, 32),
)


@given(networks)
def test_a_prefix_survives_its_wire_form(prefix: IPv4Network) -> None:
    assert to_prefix(from_prefix(prefix)) == prefix


@given(networks, st.data())
def test_a_widened_prefix_is_its_supernet(prefix: IPv4Network, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, prefix.prefixlen))
    assert to_prefix(widened(from_prefix(prefix), length)) == prefix.supernet(new_prefix=length)


@given(st.lists(networks, unique=True))
def test_wire_forms_sort_as_prefixes_do(prefixes: list[IPv4Network]) -> None:
    assert [to_prefix(each) for each in sorted(map(from_prefix, prefixes), key=position)] == sorted(prefixes)


@given(
    st.lists(networks, max_size=6, unique=True),
    st.lists(networks, max_size=6, unique=True),
    st.lists(networks, max_size=2, unique=True),
    st.lists(networks, min_size=1, max_size=6),
    st.data(),
)
def test_a_prefix_lies_where_looking_at_all_pools_and_blocks_says(
    pools: list[IPv4Network],
    blocks: list[IPv4Network],
    own: list[IPv4Network],
    asked: list[IPv4Network],
    data: st.DataObject,
) -> None:
    known = Cluster.of(
        [
            *(pool(f"p{n}", str(each), "Never") for n, each in enumerate(pools)),
            *(node(f"n{n}", f"10.1.1.{n + 20}/24", str(each)) for n, each in enumerate(blocks)),
        ]
    )
    places = Decider(view(cluster=known, blocks=tuple(own), node="a1")).places
    inside = [
        IPv4Network((int(each.network_address) | data.draw(st.integers(0, 2 ** (32 - each.prefixlen) - 1)), 32))
        for each in [*pools, *blocks, *own]
    ]
    for prefix in [*asked, *inside, *pools, *blocks, *own]:
        for _ in range(2):  # what it remembers says the same
            key = from_prefix(prefix)
            place = places.exact.get(key) or places.coarse.get(key[:3]) or places.place(key)
            assert place.own is any(prefix.subnet_of(each) for each in own)
            if not place.own:
                covering = [each for each in pools if prefix.subnet_of(each)]
                expected = max(covering, key=lambda each: each.prefixlen, default=None)
                assert (place.pool.spec.cidr if place.pool else None) == expected
                holders = {each: f"n{n}" for n, each in enumerate(blocks) if prefix.subnet_of(each)}
                assert place.owner == (holders[max(holders, key=lambda e: e.prefixlen)] if holders else None)

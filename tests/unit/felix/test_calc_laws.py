"""What holds for every view."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.felix.words import DEFAULT, ETH1, LO, NODES, learned, node, pool, view

from routed.model.cluster import Cluster
from routed.model.endpoint import Endpoint
from routed.model.interface import Interface
from routed.model.nlri import to_prefix
from routed_felix.calc import View, desired
from routed_felix.prefixes import PrefixMap
from routed_felix.resolve import Resolver
from routed_felix.state import TUNNELS, Encapsulation, FdbKey, Hop, NeighbourKey, UnderlayRoute

HOPS = ["10.1.1.1", "10.1.1.2", "10.1.1.11", "10.1.1.12", "10.2.2.21", "10.2.2.22", "10.9.9.9", "172.31.0.1"]
PREFIXES = [
    *(block for _, block in NODES.values()),
    "192.168.0.0/16",
    "192.168.11.5/32",
    "192.168.21.0/27",
    "192.168.99.0/26",
    "172.16.0.0/26",
    "10.77.0.0/24",
    "0.0.0.0/0",
]
MODES = ["CrossSubnet", "Always", "Never"]
WAYS = [{"mode": mode} for mode in MODES] + [{"mode": "Never", "vxlan": mode} for mode in MODES if mode != "Never"]
DEVICES = {Encapsulation.TUNNEL: "tunl0", Encapsulation.VXLAN: "vxlan.routed"}
INTERFACES = [
    LO,
    ETH1,
    replace(ETH1, up=False),
    Interface("eth2", 3, 1400, True, "", (IPv4Interface("10.2.2.11/24"), IPv4Interface("10.1.1.9/32"))),
    Interface("tunl0", 4, 1480, True, "ipip", (IPv4Interface("192.168.11.1/32"),)),
    Interface("rtdpod", 5, 1480, True, "veth"),
]
UNDERLAY = [
    DEFAULT,
    UnderlayRoute(IPv4Network("10.2.2.0/24"), (Hop("eth2", IPv4Address("10.2.2.1")),), metric=5),
    UnderlayRoute(IPv4Network("10.2.2.0/24"), (Hop("eth1", IPv4Address("10.1.1.2")),), metric=5),
    UnderlayRoute(IPv4Network("172.16.0.0/12"), ()),
    UnderlayRoute(IPv4Network("10.9.0.0/16"), (Hop("tunl0"),)),
]
ENDPOINTS = [
    Endpoint("c1", "eth0", IPv4Address("192.168.11.5"), "rtdpod"),
    Endpoint("c2", "eth0", IPv4Address("192.168.11.5"), "rtdpod"),
    Endpoint("c3", "eth0", IPv4Address("192.168.11.6"), "rtdgone"),
]


@st.composite
def views(draw: st.DrawFn) -> View:
    nodes = [node(name, *words) for name, words in NODES.items() if draw(st.booleans()) or name == "a1"]
    pools = [pool("pods", "192.168.0.0/16", **draw(st.sampled_from(WAYS)))]
    if draw(st.booleans()):
        pools.append(pool("more", "172.16.0.0/16", **draw(st.sampled_from(WAYS))))
    best = draw(
        st.dictionaries(
            st.sampled_from(PREFIXES), st.lists(st.sampled_from(HOPS), min_size=1, max_size=3, unique=True).map(tuple)
        )
    )
    interfaces = draw(st.lists(st.sampled_from(INTERFACES), unique_by=lambda i: i.name))
    return view(
        cluster=Cluster.of([*nodes, *pools]),
        best=learned(best),
        interfaces={interface.name: interface for interface in interfaces},
        underlay=tuple(draw(st.lists(st.sampled_from(UNDERLAY), unique=True))),
        endpoints=tuple(draw(st.lists(st.sampled_from(ENDPOINTS), unique=True))),
        tunnel=draw(st.booleans()),
        vxlan=draw(st.booleans()),
        tunnel_address=draw(st.sampled_from([None, IPv4Address("192.168.11.1")])),
        node=draw(st.sampled_from(["a1", "b1", "a9"])),
    )


def own(given_view: View, prefix: IPv4Network) -> bool:
    return given_view.cluster.owner(prefix) == given_view.node or any(prefix.subnet_of(b) for b in given_view.blocks)


@given(views())
def test_every_learned_prefix_that_is_not_ours_gets_exactly_one_decision(given_view: View) -> None:
    result = desired(given_view)
    for prefix in map(to_prefix, given_view.best):
        assert own(given_view, prefix) or result.decisions[prefix].prefix == prefix
    assert {key.prefix for key in result.routes} >= {d.prefix for d in result.decisions.values() if d.key}


@given(views())
def test_a_prefix_in_a_pool_with_a_resolvable_path_to_a_member_is_never_unreachable(given_view: View) -> None:
    result = desired(given_view)
    resolver = Resolver(given_view.interfaces, given_view.underlay, ("tunl0",))
    mine = {a.ip for i in given_view.interfaces.values() for a in i.addresses}
    for prefix, paths in ((to_prefix(nlri), paths) for nlri, paths in given_view.best.items()):
        owner = given_view.cluster.owner(prefix)
        if own(given_view, prefix) or given_view.cluster.pool(prefix) is None or owner is None:
            continue
        end = given_view.cluster.address(owner).ip
        usable = any(resolver.resolve(path.next_hop) for path in paths if path.next_hop == end)
        if usable and end not in mine:
            assert result.decisions[prefix].encapsulation is not Encapsulation.UNREACHABLE


@given(views())
def test_tunnels_end_at_members_other_than_us_and_only_there(given_view: View) -> None:
    for decision in desired(given_view).decisions.values():
        if decision.encapsulation in TUNNELS:
            assert decision.hops
            for hop in decision.hops:
                assert hop.device == DEVICES[decision.encapsulation]
                assert hop.gateway is not None
                assert given_view.cluster.members[hop.gateway] != given_view.node


@given(views())
def test_tunnels_are_programmed_if_and_only_if_the_driver_is_there(given_view: View) -> None:
    result = desired(given_view)
    there = {
        Encapsulation.TUNNEL: given_view.tunnel,
        Encapsulation.VXLAN: given_view.vxlan and given_view.node in given_view.cluster.nodes,
    }
    for decision in result.decisions.values():
        if decision.encapsulation in TUNNELS:
            assert (decision.key is not None) == there[decision.encapsulation]
    through = {hop.device for route in result.routes.values() for hop in route.hops} & set(DEVICES.values())
    assert through <= result.links.keys()


@given(views())
def test_whoever_a_vxlan_route_leads_to_has_a_mac_address_and_a_way_to_it(given_view: View) -> None:
    result = desired(given_view)
    for hop in (hop for route in result.routes.values() for hop in route.hops if hop.device == "vxlan.routed"):
        assert isinstance(hop.gateway, IPv4Address)
        mac = result.neighbours[NeighbourKey(hop.device, hop.gateway)]
        assert result.fdb[FdbKey(hop.device, mac)] == hop.gateway


@given(views())
def test_a_pool_that_is_never_has_neither_tunnel_nor_source(given_view: View) -> None:
    result = desired(given_view)
    for prefix, decision in result.decisions.items():
        pool_of = given_view.cluster.pool(prefix)
        if pool_of is not None and pool_of.spec.encapsulation_mode == "Never" and decision.key:
            assert decision.encapsulation not in TUNNELS
            assert result.routes[decision.key].source is None


@given(views())
def test_every_source_of_ours_is_an_address_the_node_will_have(given_view: View) -> None:
    result = desired(given_view)
    there = {a.ip for i in given_view.interfaces.values() for a in i.addresses} | {a.ip for a in result.addresses}
    assert all(route.source is None or route.source in there for route in result.routes.values())


@given(views())
def test_nothing_inside_our_own_blocks_leaves_the_node(given_view: View) -> None:
    kept = {Encapsulation.LOCAL, Encapsulation.BLACKHOLE}
    for prefix, decision in desired(given_view).decisions.items():
        assert not own(given_view, prefix) or decision.encapsulation in kept


@given(views(), st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(given_view: View, random: Random) -> None:
    def shuffled(values: list[Any]) -> list[Any]:
        random.shuffle(values)
        return values

    cluster = given_view.cluster
    other = replace(
        given_view,
        best=dict(shuffled(list(given_view.best.items()))),
        interfaces=dict(shuffled(list(given_view.interfaces.items()))),
        underlay=tuple(shuffled(list(given_view.underlay))),
        endpoints=tuple(shuffled(list(given_view.endpoints))),
        cluster=Cluster.of(shuffled([*cluster.nodes.values(), *cluster.pools.values()])),
    )
    assert desired(other) == desired(given_view)


networks = st.builds(
    lambda number, length: IPv4Network((number >> (32 - length) << (32 - length) if length else 0, length)),
    st.integers(0, 2**32 - 1),
    st.integers(0, 32),
)


@given(st.lists(networks, unique=True), st.integers(0, 2**32 - 1))
def test_longest_prefix_match_agrees_with_looking_at_all(prefixes: list[IPv4Network], number: int) -> None:
    address = IPv4Address(number)
    expected = max((p for p in prefixes if address in p), key=lambda p: p.prefixlen, default=None)
    found = PrefixMap(dict.fromkeys(prefixes, 0)).longest(address)
    assert (found[0] if found else None) == expected


@given(st.lists(networks, unique=True), networks)
def test_covering_finds_all_that_contain_the_prefix_longest_first(
    prefixes: list[IPv4Network], asked: IPv4Network
) -> None:
    expected = sorted((p for p in prefixes if asked.subnet_of(p)), key=lambda p: -p.prefixlen)
    assert [prefix for prefix, _ in PrefixMap(dict.fromkeys(prefixes, 0)).covering(asked)] == expected

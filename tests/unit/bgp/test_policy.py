"""Import policy, design section 5: which attributes and which prefixes are let in."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Address, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.bgp import wire
from tests.unit.bgp.clusters import RACKS, cluster, node, peer, pool
from tests.unit.bgp.ribs import attributes

from routed.model.address import Address, Family
from routed.model.path import Origin, Path, Segment, Unknown
from routed_bgp.attributes import Attributes
from routed_bgp.nlri import from_prefix
from routed_bgp.peering import PeerPolicy
from routed_bgp.policy import (
    FABRIC_LOCAL_PREF,
    GRACEFUL_SHUTDOWN,
    MEMBER_LOCAL_PREF,
    ImportPolicy,
    Preferences,
    Ranges,
    Rejection,
    Scope,
    Source,
    host,
)
from routed_bgp.sessions import Session

NODES = cluster(*RACKS, pool(), pool("fd00::/48"), peer("tor", "10.1.1.1", 65101))
POLICY = ImportPolicy.of(NODES, "a1")
OURS = Address("10.1.1.11")
CLUSTER_ID = Address("10.0.0.1")


def source(**more: Any) -> Source:
    """The ToR; `more` is of its session, or of its policy."""
    session = {"name": "tor", "peer": Address("10.1.1.1"), "peer_as": 65101, "local": OURS, "local_as": 64512}
    rules = {key: more.pop(key) for key in list(more) if key in ("allowed_local_as", "cluster_id", "client")}
    made = Session(**{"router_id": OURS, **session, **more})
    return Source(made, PeerPolicy(peer=made.peer, **rules), Address("10.0.0.7"))


TOR = source()


def judge(said: Attributes, of: Source = TOR, path_id: int = 0) -> Path | Rejection:
    return POLICY.judge(said, of, path_id)


def test_a_path_keeps_all_that_the_decision_and_a_reflector_need() -> None:
    unknown = (Unknown(99, b"x"),)
    said = Attributes(
        Origin.EGP,
        (Segment(True, (65101, 65000)), Segment(False, (1, 2))),
        Address("10.1.1.1"),
        med=5,
        local_pref=300,
        communities=(1,),
        large_communities=((1, 2, 3),),
        originator_id=Address("10.0.0.8"),
        cluster_list=(Address("10.0.0.9"),),
        unknown=unknown,
    )
    assert judge(said, source(client=True), 4) == Path(
        next_hop=Address("10.1.1.1"),
        peer=TOR.session.peer,
        peer_as=65101,
        peer_router_id=TOR.router_id,
        ebgp=True,
        as_path=said.as_path,
        origin=Origin.EGP,
        local_pref=FABRIC_LOCAL_PREF,
        peer_local_pref=300,
        med=5,
        communities=(1,),
        large_communities=((1, 2, 3),),
        originator_id=Address("10.0.0.8"),
        cluster_list=(Address("10.0.0.9"),),
        unknown=unknown,
        path_id=4,
        client=True,
    )


@pytest.mark.parametrize(
    ("via", "preference"),
    [("10.1.1.1", FABRIC_LOCAL_PREF), ("10.2.2.11", MEMBER_LOCAL_PREF), ("10.1.1.12", MEMBER_LOCAL_PREF)],
)
@pytest.mark.parametrize("of", [TOR, source(peer_as=64512), source(peer=Address("10.2.2.11"), member="b1")])
def test_local_pref_follows_the_next_hop_not_the_peer(via: str, preference: int, of: Source) -> None:
    path = judge(attributes(via, 65101, local_pref=4000), of)
    assert isinstance(path, Path)
    assert (path.local_pref, path.member) == (preference, preference == MEMBER_LOCAL_PREF)


def test_the_fabric_is_preferred_to_the_mesh() -> None:
    assert (MEMBER_LOCAL_PREF, FABRIC_LOCAL_PREF) == (90, 100)


@pytest.mark.parametrize("via", ["10.1.1.1", "10.2.2.11"])
def test_rfc8326_4_a_path_that_is_about_to_go_has_the_lowest_preference(via: str) -> None:
    path = judge(attributes(via, 65101, communities=(7, GRACEFUL_SHUTDOWN)))
    assert isinstance(path, Path)
    assert path.local_pref == 0


# ---- loops


@pytest.mark.parametrize(("allowed", "times"), [(0, 1), (1, 2), (2, 3)])
def test_rfc4271_9_1_2_our_own_as_in_the_path_is_a_loop(allowed: int, times: int) -> None:
    of = source(allowed_local_as=allowed)
    assert judge(attributes("10.1.1.1", 65101, *[64512] * times), of) is Rejection.AS_LOOP
    assert isinstance(judge(attributes("10.1.1.1", 65101, *[64512] * (times - 1)), of), Path)


def test_rfc4271_9_1_2_our_own_as_in_a_set_is_a_loop() -> None:
    said = Attributes(Origin.IGP, (Segment(True, (65101,)), Segment(False, (1, 64512))), Address("10.1.1.1"))
    assert judge(said) is Rejection.AS_LOOP


@pytest.mark.parametrize("number", [64512, 65009])
def test_with_another_as_towards_the_peer_both_are_loops(number: int) -> None:
    assert judge(attributes("10.1.1.1", 65101, number), source(local_as=65009)) is Rejection.AS_LOOP


def test_rfc4456_8_what_we_originated_comes_back() -> None:
    assert judge(attributes("10.2.2.11", originator_id=OURS)) is Rejection.ORIGINATOR_LOOP
    assert isinstance(judge(attributes("10.2.2.11", originator_id=Address(1))), Path)


def test_rfc4456_8_our_cluster_id_in_the_cluster_list_is_a_loop() -> None:
    said = attributes("10.2.2.11", originator_id=Address(1), cluster_list=(Address(5), CLUSTER_ID))
    assert judge(said, source(cluster_id=CLUSTER_ID)) is Rejection.CLUSTER_LOOP
    assert isinstance(judge(said), Path)
    assert isinstance(judge(said, source(cluster_id=Address(6))), Path)


def test_rfc4271_5_1_3_our_own_address_is_no_next_hop() -> None:
    assert judge(attributes("10.1.1.11", 65101)) is Rejection.OWN_NEXT_HOP


def test_our_own_ipv6_address_is_no_next_hop_either() -> None:
    dual = cluster(node("a1", ipv6=True), node("b1", ipv6=True), pool())
    policy = ImportPolicy.of(dual, "a1")
    assert policy.judge(attributes("2001:db8:1::11", 65101), TOR) is Rejection.OWN_NEXT_HOP
    assert policy.members == {Address("10.2.2.11"), IPv6Address("2001:db8:2::11")}


def test_a_node_that_the_cluster_does_not_know_has_no_policy() -> None:
    with pytest.raises(KeyError):
        ImportPolicy.of(NODES, "nowhere")


# ---- prefixes


def refused(prefix: str, *, member: bool = False, of: ImportPolicy = POLICY) -> Rejection | None:
    return of.scopes[Family.of(ip_network(prefix))].refuse(wire.key(prefix), member=member)


@pytest.mark.parametrize("prefix", ["10.0.0.0/8", "192.0.2.0/24", "10.245.0.0/26", "fd01::/64", "fc00::/7"])
def test_a_prefix_outside_every_pool_is_rejected(prefix: str) -> None:
    assert refused(prefix) is Rejection.OUTSIDE_POOLS


@pytest.mark.parametrize("prefix", ["10.244.0.0/20", "10.244.3.0/26", "10.244.255.255/32", "fd00::/64", "fd00::1/128"])
def test_a_prefix_inside_a_pool_is_let_in(prefix: str) -> None:
    untouched = ImportPolicy.of(cluster(node("a1"), pool(), pool("fd00::/48")), "a1")
    assert refused(prefix, of=untouched) is None


@pytest.mark.parametrize("family", Family)
def test_a_default_route_is_rejected_whatever_the_pools(family: Family) -> None:
    every = "0.0.0.0/0" if family is Family.IPV4 else "::/0"
    half = every.replace("/0", "/1")
    everything = ImportPolicy.of(cluster(node("a1"), pool(every)), "a1")
    assert refused(every, of=everything) is Rejection.DEFAULT
    assert refused(half, of=everything) is None


@pytest.mark.parametrize("member", [False, True])
@pytest.mark.parametrize(
    "prefix", ["10.244.1.0/26", "10.244.1.0/31", "10.244.0.0/16"], ids=["equal", "inside", "cover"]
)
def test_what_touches_an_own_block_is_rejected(prefix: str, member: bool) -> None:
    assert refused(prefix, member=member) is Rejection.OWN_BLOCK


def test_an_address_in_our_block_is_a_members_that_borrowed_it_or_nobodys() -> None:
    assert refused("10.244.1.7/32", member=True) is None
    assert refused("10.244.1.7/32") is Rejection.OWN_BLOCK


def test_an_ipv6_address_in_our_block_can_be_borrowed_too() -> None:
    dual = ImportPolicy.of(cluster(node("a1", "fd00:0:0:1::/64", ipv6=True), pool("fd00::/48")), "a1")
    assert refused("fd00:0:0:1::/64", of=dual) is Rejection.OWN_BLOCK
    assert refused("fd00:0:0:1::7/128", member=True, of=dual) is None
    assert refused("fd00:0:0:1::7/128", of=dual) is Rejection.OWN_BLOCK


def test_a_prefix_that_two_pools_cover_together_is_inside_neither() -> None:
    both = ImportPolicy.of(cluster(node("a1"), pool("10.244.0.0/17"), pool("10.244.128.0/17")), "a1")
    assert refused("10.244.0.0/16", of=both) is Rejection.OUTSIDE_POOLS
    assert refused("10.244.128.0/17", of=both) is None


def test_an_address_as_a_prefix() -> None:
    assert host(Address("10.244.1.7")) == wire.key("10.244.1.7/32")
    assert host(ip_address("fd00::7")) == wire.key("fd00::7/128")


def subnets(bits: int) -> st.SearchStrategy[IPv4Network]:
    """Prefixes of 10.0.0.0/`bits` and below, close together."""
    return st.builds(
        lambda length, address: IPv4Network((int(Address("10.0.0.0")) | address << 24 - bits, length), strict=False),
        st.integers(bits, 32),
        st.integers(0, 255),
    )


@pytest.mark.parametrize("block", ["10.0.0.0/32", "10.0.0.1/32", "10.0.3.255/32", "10.0.1.0/24", "10.0.0.0/16"])
def test_a_block_at_the_edge_of_a_bulk_makes_doubt(block: str) -> None:
    scope = Scope(32, Ranges.of([ip_network("10.0.0.0/8")]), Ranges.of([ip_network(block)]))
    nlris = [wire.key(f"10.0.{index}.0/24") for index in range(4)]
    doubtful = scope.doubtful(nlris)
    assert set(doubtful) == {nlri for nlri in nlris if scope.refuse(nlri, member=False)}
    assert doubtful


def test_blocks_beside_a_bulk_make_none() -> None:
    scope = Scope(32, Ranges.of([ip_network("10.0.0.0/8")]), Ranges.of([ip_network("10.1.0.0/24")]))
    assert scope.doubtful([wire.key("10.0.0.0/24"), wire.key("10.2.0.0/24")]) == []


@settings(deadline=None)  # shared cores: wall time says nothing
@given(
    st.lists(subnets(8), max_size=3),
    st.lists(subnets(16), max_size=3),
    st.lists(subnets(8), min_size=1, max_size=8, unique=True),
)
def test_those_that_are_not_doubtful_are_let_in(
    pools: list[IPv4Network], blocks: list[IPv4Network], prefixes: list[IPv4Network]
) -> None:
    scope = Scope(32, Ranges.of(pools), Ranges.of(blocks))
    for some in (prefixes, [prefix for prefix in prefixes if prefix.prefixlen == prefixes[0].prefixlen]):
        nlris = [from_prefix(prefix) for prefix in some]
        certain = set(nlris).difference(scope.doubtful(nlris))
        assert all(scope.refuse(nlri, member=False) is None for nlri in certain)


@settings(deadline=None)  # shared cores: wall time says nothing
@given(st.lists(subnets(8), max_size=4), st.lists(subnets(8), max_size=4), subnets(8), st.booleans())
def test_a_scope_says_what_the_prefixes_say(
    pools: list[IPv4Network], blocks: list[IPv4Network], prefix: IPv4Network, member: bool
) -> None:
    scope = Scope(32, Ranges.of(pools), Ranges.of(blocks))
    expected = None
    if not any(prefix.subnet_of(one) for one in pools):
        expected = Rejection.OUTSIDE_POOLS
    elif any(prefix.overlaps(block) for block in blocks) and not (member and prefix.prefixlen == 32):
        expected = Rejection.OWN_BLOCK
    assert scope.refuse(from_prefix(prefix), member=member) is expected


def test_the_two_preferences_are_the_operators_to_set() -> None:
    policy = ImportPolicy.of(cluster(*RACKS), "a1", Preferences(member=150, fabric=120))
    preferred = {via: policy.judge(attributes(via), TOR) for via in ("10.1.1.1", "10.2.2.11")}
    assert {via: path.local_pref for via, path in preferred.items() if isinstance(path, Path)} == {
        "10.1.1.1": 120,
        "10.2.2.11": 150,
    }

"""What a node originates, and what of it each kind of peer is told."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from msgspec import structs
from tests.unit.bgp import wire
from tests.unit.bgp.clusters import RACKS, between, bgp_filter, cluster, node, peer, pool, settings
from tests.unit.bgp.groups import (
    ABROAD,
    BOTH_FAMILIES,
    CLIENTS,
    CLUSTER_ID,
    MEMBERS,
    OURS,
    OURS6,
    ROUTERS,
    learned,
    rules,
)

from routed.model.address import Address, Family
from routed.model.bgp import CIDRBlock, NamedCommunity, NextHopMode, PrefixAdvertisement
from routed.model.cluster import Cluster
from routed.model.fields import Community
from routed.model.path import Origin, Segment
from routed.model.resources import EncapsulationMode, IPPool
from routed_bgp.attributes import Attributes
from routed_bgp.export import LOCAL_PREF, Drain, Exports, Group, Kind, Own, group_of, own_prefixes
from routed_bgp.nlri import to_prefix
from routed_bgp.policy import GRACEFUL_SHUTDOWN
from routed_bgp.sessions import peerings

BLOCK = "10.244.1.0/26"
BORROWED = "10.244.3.9/32"
FOREIGN_AS = 65101 << 16 | 1


def encapsulated(of: IPPool, mode: EncapsulationMode) -> IPPool:
    return IPPool(metadata=of.metadata, spec=type(of.spec)(cidr=of.spec.cidr, ipip_mode=mode))


TUNNELLED = encapsulated(pool(), EncapsulationMode.CROSS_SUBNET)


def originated(of: Cluster, *borrowed: str, on: str = "a1") -> dict[str, Own]:
    return {str(to_prefix(own.nlri, own.family)): own for own in own_prefixes(of, on, [*map(wire.key, borrowed)])}


def own(prefix: str = BLOCK, kind: Kind = Kind.BLOCK, **more: Any) -> Own:
    return Own(wire.key(prefix), Family.of(ip_network(prefix)), kind, **more)


def told(group: Group, what: Own | None = None) -> Attributes | None:
    return Exports(group).own(what or own())


# ---- what is originated


def test_a_node_originates_its_blocks_and_no_others() -> None:
    assert originated(cluster(*RACKS)) == {BLOCK: own()}


def test_a_node_that_the_cluster_does_not_know_originates_nothing() -> None:
    assert own_prefixes(Cluster(), "a1", [wire.key(BORROWED)]) == ()


def test_a_block_outside_every_pool_is_not_announced() -> None:
    assert originated(cluster(node("a1", "192.0.2.0/26"), pool())) == {}


def test_disable_bgp_export_and_disabled_pools() -> None:
    nodes = (node("a1", BLOCK, "10.9.1.0/26"), node("b1"))
    hidden = cluster(*nodes, pool(unexported=True), pool("10.9.0.0/16", disabled=True))
    found = originated(hidden, BORROWED, "10.9.2.7/32")
    assert {prefix for prefix, own in found.items() if own.exported} == {"10.9.1.0/26", "10.9.2.7/32"}
    assert {prefix for prefix, own in found.items() if not own.exported} == {BLOCK, BORROWED}
    assert told(MEMBERS, found[BLOCK]) is None
    assert told(ROUTERS, found[BORROWED]) is None


def test_ipv6_blocks_are_originated_in_their_family() -> None:
    found = originated(cluster(node("a1", BLOCK, "fd00::/64", ipv6=True), pool(), pool("fd00::/48")))
    assert {prefix: own.family for prefix, own in found.items()} == {BLOCK: Family.IPV4, "fd00::/64": Family.IPV6}


@pytest.mark.parametrize(
    ("mesh", "mode", "everywhere"),
    [
        (True, EncapsulationMode.CROSS_SUBNET, False),
        (True, EncapsulationMode.ALWAYS, False),
        (True, EncapsulationMode.NEVER, True),
        (False, EncapsulationMode.CROSS_SUBNET, True),
    ],
)
def test_routers_are_told_of_borrowed_addresses_where_no_member_can_pass_on(
    mesh: bool, mode: EncapsulationMode, everywhere: bool
) -> None:
    of = cluster(*RACKS[:3], encapsulated(pool(), mode), settings(mesh=mesh))
    borrowed = originated(of, BORROWED)[BORROWED]
    assert (borrowed.kind, borrowed.everywhere) == (Kind.BORROWED, everywhere)
    assert told(MEMBERS, borrowed) is not None
    assert (told(ROUTERS, borrowed) is not None) is everywhere


def test_a_borrowed_address_outside_every_pool_is_not_announced() -> None:
    assert BORROWED not in originated(cluster(*RACKS[:3]), BORROWED)


def test_service_ranges_go_to_routers_and_not_to_members() -> None:
    ranges = settings(
        service_cluster_ips=(CIDRBlock(ip_network("10.96.0.0/16")),),
        service_external_ips=(CIDRBlock(ip_network("fd99::/112")), CIDRBlock(ip_network("198.51.100.0/24"))),
        service_load_balancer_ips=(CIDRBlock(ip_network("203.0.113.0/24")),),
    )
    found = originated(cluster(*RACKS, ranges))
    services = {prefix: each for prefix, each in found.items() if each.kind is Kind.SERVICE}
    assert services.keys() == {"10.96.0.0/16", "fd99::/112", "198.51.100.0/24", "203.0.113.0/24"}
    assert told(ROUTERS, services["10.96.0.0/16"]) is not None
    assert told(MEMBERS, services["10.96.0.0/16"]) is None
    assert told(ROUTERS, services["fd99::/112"]) is None  # no IPv6 agreed with them
    assert told(replace(ROUTERS, next_hops=BOTH_FAMILIES), services["fd99::/112"]) is not None


def test_prefix_advertisements_attach_communities() -> None:
    advertised = settings(
        communities=(NamedCommunity("green", Community.parse("65101:1")),),
        prefix_advertisements=(
            PrefixAdvertisement(ip_network("10.244.0.0/16"), ("green", "1:2:3")),
            PrefixAdvertisement(ip_network("10.244.3.0/24"), ("7:7",)),
        ),
    )
    found = originated(cluster(*RACKS, advertised), BORROWED)
    assert (found[BLOCK].communities, found[BLOCK].large_communities) == ((FOREIGN_AS,), ((1, 2, 3),))
    assert found[BORROWED].communities == (FOREIGN_AS, 7 << 16 | 7)
    made = told(MEMBERS, found[BLOCK])
    assert made is not None
    assert (made.communities, made.large_communities) == ((FOREIGN_AS,), ((1, 2, 3),))


# ---- what is told of it


def test_rfc4271_5_1_members_in_our_as_are_told_local_pref_and_an_empty_path() -> None:
    assert told(MEMBERS) == Attributes(Origin.IGP, (), OURS, local_pref=LOCAL_PREF)


def test_rfc4271_5_1_2_another_as_is_told_our_as_and_no_local_pref() -> None:
    assert told(ROUTERS) == Attributes(Origin.IGP, (Segment(True, (64512,)),), OURS)
    assert told(replace(ROUTERS, local_as=65009)) == Attributes(Origin.IGP, (Segment(True, (65009,)),), OURS)


@pytest.mark.parametrize("mode", NextHopMode)
def test_what_we_originate_has_our_own_address_in_every_next_hop_mode(mode: NextHopMode) -> None:
    made = told(replace(ROUTERS, next_hop_mode=mode))
    assert made is not None
    assert made.next_hop == OURS


def test_rfc8950_the_next_hop_of_ipv4_may_be_ipv6() -> None:
    made = told(replace(ROUTERS, next_hops=((Family.IPV4, OURS6),)))
    assert made is not None
    assert made.next_hop == OURS6


def test_without_an_address_of_the_family_nothing_is_told() -> None:
    assert told(MEMBERS, own("fd00::/64")) is None


def test_nothing_that_was_learned_is_told_by_a_node_that_reflects_nothing() -> None:
    for group in (MEMBERS, ROUTERS):
        assert Exports(group).learned(wire.key("10.244.3.0/26"), Family.IPV4, [learned("10.2.2.11")]) is None


@pytest.mark.parametrize("group", [MEMBERS, ROUTERS])
def test_rfc8326_4_draining_lowers_first(group: Group) -> None:
    made, usual = told(replace(group, drain=Drain.LOWERED), own(communities=(7,))), told(group, own(communities=(7,)))
    assert made is not None
    assert usual is not None
    assert made == structs.replace(
        usual, communities=(7, GRACEFUL_SHUTDOWN), local_pref=None if usual.local_pref is None else 0
    )


@pytest.mark.parametrize("group", [MEMBERS, ROUTERS, CLIENTS])
def test_draining_withdraws_at_last(group: Group) -> None:
    exports = Exports(replace(group, drain=Drain.WITHDRAWN))
    assert exports.own(own()) is None
    assert exports.learned(wire.key("10.244.3.0/26"), Family.IPV4, [learned("10.2.2.11", client=True)]) is None


# ---- filters


def test_a_filter_rejects_what_would_be_told() -> None:
    group = replace(ROUTERS, rules=rules({"action": "Reject", "cidr": BLOCK, "matchOperator": "Equal"}))
    assert told(group) is None
    assert told(group, own("10.244.1.64/26")) is not None


def test_a_filter_prepends_behind_our_own_as_and_adds_communities() -> None:
    written = {
        "action": "Accept",
        "operations": [
            {"prependASPath": {"prefix": [64512, 64512]}},
            {"addCommunity": {"value": "65101:1"}},
            {"addCommunity": {"value": "1:2:3"}},
            {"setPriority": {"value": 7}},
        ],
    }
    made = told(replace(ROUTERS, rules=rules(written, ebgp=True)), own(communities=(FOREIGN_AS, 9)))
    assert made is not None
    assert made.as_numbers == (64512, 64512, 64512)
    assert made.communities == (FOREIGN_AS, 9)
    assert made.large_communities == ((1, 2, 3),)


def test_rules_on_remote_routes_are_not_for_what_we_originate() -> None:
    only_learned = rules({"action": "Reject", "source": "RemotePeers"})
    assert told(replace(MEMBERS, rules=only_learned)) is not None
    exports = Exports(replace(CLIENTS, rules=only_learned))
    assert exports.learned(wire.key("10.244.3.0/26"), Family.IPV4, [learned("10.2.2.11")]) is None


def test_a_filter_that_accepts_is_stronger_than_the_safe_defaults() -> None:
    hidden = own(BORROWED, Kind.BORROWED, everywhere=False), replace(own(), exported=False)
    accepting = rules({"action": "Accept", "cidr": "10.244.0.0/16", "matchOperator": "In"}, ebgp=True)
    silent = rules({"action": "Accept", "cidr": "10.9.0.0/16", "matchOperator": "In"}, ebgp=True)
    for each in hidden:
        assert told(ROUTERS, each) is None
        assert told(replace(ROUTERS, rules=silent), each) is None
        assert told(replace(ROUTERS, rules=accepting), each) is not None
    service = own("10.96.0.0/16", Kind.SERVICE)
    assert told(replace(MEMBERS, rules=rules({"action": "Accept"})), service) is None  # they have it themselves


def test_a_rule_may_ask_for_the_priority_that_a_filter_gave_on_import() -> None:
    exports = Exports(replace(CLIENTS, rules=rules({"action": "Reject", "priority": 100})))
    path, raised = learned("10.2.2.11"), structs.replace(learned("10.2.2.11"), priority=100)
    prefix = wire.key("10.244.3.0/26")
    assert exports.learned(prefix, Family.IPV4, [path]) is not None
    assert exports.learned(prefix, Family.IPV4, [raised]) is None


def test_equal_attributes_are_one_object() -> None:
    exports = Exports(ROUTERS)
    assert exports.own(own()) is exports.own(own("10.244.1.64/26"))


# ---- groups


def groups(of: Cluster, on: str = "a1") -> dict[str, Group]:
    return {
        session.name: group_of(session, policy, asn4=True, next_hops={Family.IPV4: OURS})
        for session, policy in peerings(of, on)
    }


def test_members_are_one_group_and_routers_of_other_ases_another() -> None:
    found = groups(cluster(*RACKS, peer("tor", "10.1.1.1", 65101), peer("tor2", "10.1.2.1", 65102)))
    assert found["mesh/a2"] == found["mesh/b1"] == MEMBERS
    assert found["peer/tor"] == found["peer/tor2"] == ROUTERS


def test_a_reflector_has_its_cluster_id_towards_its_as_and_members_of_others() -> None:
    reflector = cluster(
        node("a1", reflects=str(CLUSTER_ID)),
        node("b1", asn=64602, reflects=str(CLUSTER_ID)),
        between("reflectors", "all()", "all()"),
        peer("inside", "10.9.1.1", 64512),
        peer("outside", "10.9.1.2", 65101),
    )
    found = groups(reflector)
    assert found["peer/inside"] == replace(CLIENTS, member=False)
    assert found["peer/outside"] == ROUTERS
    assert found["peer/reflectors/b1"] == ABROAD


def test_what_a_filter_or_an_old_peer_is_told_is_another_group() -> None:
    of = cluster(
        *RACKS,
        bgp_filter("f", exportV4=[{"action": "Reject"}]),
        bgp_filter("g", exportV4=[{"action": "Reject"}]),
        peer("tor", "10.1.1.1", 65101, filters=("f",)),
        peer("tor2", "10.1.2.1", 65102, filters=("g",)),
        peer("tor3", "10.1.3.1", 65103),
    )
    found = groups(of)
    assert found["peer/tor"] == found["peer/tor2"] != found["peer/tor3"]
    ((session, policy), *_) = peerings(of, "a1")
    old = group_of(session, policy, asn4=False, next_hops={Family.IPV6: OURS6, Family.IPV4: Address(1)})
    assert not old.asn4
    assert old.families == (Family.IPV4, Family.IPV6)
    assert ip_address(OURS6) == dict(old.next_hops)[Family.IPV6]

"""Route reflection, RFC 4456: what of the members' paths is told to whom, and with which attributes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs
from tests.unit.bgp import wire
from tests.unit.bgp.groups import ABROAD, CLIENTS, CLUSTER_ID, NON_CLIENTS, OURS, OURS6, learned, rules

from routed.model.address import Address, Family
from routed.model.bgp import NextHopMode
from routed.model.path import Origin, Path, Segment, Unknown
from routed_bgp.attributes import Attributes
from routed_bgp.decision import ranked
from routed_bgp.export import NO_ADVERTISE, NO_EXPORT, Exports, Group

PREFIX = wire.key("10.244.3.0/26")
CLIENT, OTHER = learned("10.2.2.11", client=True), learned("10.2.2.12")
FOREIGN = learned("10.2.2.13", client=True, ebgp=True, peer_as=64602, as_path=(Segment(True, (64602,)),), med=5)
FABRIC = learned("10.1.1.1", member=False, ebgp=True, peer_as=65101, local_pref=100, as_path=(Segment(True, (65101,)),))


def reflected(group: Group, *paths: Path, family: Family = Family.IPV4) -> Attributes | None:
    return Exports(group).learned(PREFIX, family, ranked(paths))


def via(group: Group, *paths: Path) -> str:
    found = reflected(group, *paths)
    return str(found.next_hop) if found else "nothing"


def test_rfc4456_6_a_clients_path_goes_to_clients_and_to_non_clients() -> None:
    assert via(CLIENTS, CLIENT) == via(NON_CLIENTS, CLIENT) == "10.2.2.11"


def test_rfc4456_6_a_non_clients_path_goes_to_clients_only() -> None:
    assert via(CLIENTS, OTHER) == "10.2.2.12"
    assert via(NON_CLIENTS, OTHER) == "nothing"


def test_the_best_among_members_even_if_our_own_best_is_through_the_fabric() -> None:
    assert ranked([FABRIC, CLIENT, OTHER])[0] is FABRIC
    assert via(CLIENTS, FABRIC, OTHER, CLIENT) == "10.2.2.11"


def test_what_the_fabric_or_no_member_says_is_not_passed_on() -> None:
    assert via(CLIENTS, FABRIC) == "nothing"
    assert via(CLIENTS, structs.replace(FABRIC, ebgp=False, as_path=())) == "nothing"
    assert via(CLIENTS, structs.replace(OTHER, ebgp=True)) == "nothing"  # a ToR that names a neighbour as next hop


def test_rfc1997_no_advertise_and_what_leads_nowhere_are_not_passed_on() -> None:
    assert via(CLIENTS, structs.replace(CLIENT, communities=(NO_ADVERTISE,))) == "nothing"
    assert via(CLIENTS, structs.replace(CLIENT, unreachable=True), OTHER) == "10.2.2.12"


def test_a_stale_path_is_still_passed_on() -> None:
    assert via(CLIENTS, structs.replace(CLIENT, stale=True, yields=True)) == "10.2.2.11"
    assert via(CLIENTS, structs.replace(CLIENT, stale=True, yields=True), OTHER) == "10.2.2.12"


def test_rfc4456_8_originator_and_cluster_list_are_added() -> None:
    assert reflected(CLIENTS, CLIENT) == Attributes(
        Origin.IGP,
        (),
        CLIENT.next_hop,
        local_pref=100,
        originator_id=CLIENT.peer_router_id,
        cluster_list=(CLUSTER_ID,),
    )


def test_rfc4456_8_what_another_reflector_said_stays() -> None:
    before: dict[str, Any] = {"originator_id": Address("10.0.0.7"), "cluster_list": (Address("10.0.0.2"),)}
    found = reflected(CLIENTS, structs.replace(OTHER, **before))
    assert found is not None
    assert found.originator_id == Address("10.0.0.7")
    assert found.cluster_list == (CLUSTER_ID, Address("10.0.0.2"))


def test_rfc4456_10_all_other_attributes_stay_as_they_came() -> None:
    more: dict[str, Any] = {
        "origin": Origin.EGP,
        "as_path": (Segment(True, (65009,)), Segment(False, (1, 2))),
        "med": 7,
        "communities": (1, 2),
        "large_communities": ((1, 2, 3),),
        "unknown": (Unknown(99, b"x"),),
    }
    found = reflected(CLIENTS, structs.replace(CLIENT, **more))
    assert found is not None
    assert {name: getattr(found, name) for name in more} == more


@pytest.mark.parametrize(
    ("mode", "next_hop"),
    [(NextHopMode.AUTO, CLIENT.next_hop), (NextHopMode.KEEP, CLIENT.next_hop), (NextHopMode.SELF, OURS)],
)
def test_next_hop_mode(mode: NextHopMode, next_hop: Address) -> None:
    assert via(replace(CLIENTS, next_hop_mode=mode), CLIENT) == str(next_hop)


def test_export_filters_hold_for_what_is_reflected() -> None:
    add = {"action": "Accept", "source": "RemotePeers", "operations": [{"addCommunity": {"value": "1:1"}}]}
    found = reflected(replace(CLIENTS, rules=rules(add)), CLIENT)
    assert found is not None
    assert found.communities == (65537,)
    assert via(replace(CLIENTS, rules=rules({"action": "Reject"})), CLIENT) == "nothing"


def test_a_family_that_the_peer_does_not_have_is_not_told() -> None:
    assert reflected(CLIENTS, learned("2001:db8::1", client=True), family=Family.IPV6) is None


def test_rfc8950_4_an_ipv6_next_hop_of_ipv4_goes_to_those_that_take_it() -> None:
    six = learned("2001:db8::1", client=True)
    assert via(CLIENTS, six, OTHER) == "10.2.2.12"
    assert via(replace(CLIENTS, extended_next_hop=True), six, OTHER) == "2001:db8::1"
    assert reflected(replace(CLIENTS, next_hops=((Family.IPV6, OURS6),)), six, family=Family.IPV6) is not None


def test_equal_paths_are_one_object_and_a_hostile_peers_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    exports = Exports(CLIENTS)
    assert exports.learned(PREFIX, Family.IPV4, [CLIENT]) is exports.learned(b"\x08\x0a", Family.IPV4, [CLIENT])
    monkeypatch.setattr("routed_bgp.export._MOST_KNOWN", 8)
    made = [exports.learned(PREFIX, Family.IPV4, [structs.replace(CLIENT, med=med)]) for med in range(50)]
    assert [each.med for each in made if each] == list(range(50))


def test_rfc4456_10_the_peers_local_pref_is_passed_on_not_ours() -> None:
    said = reflected(CLIENTS, structs.replace(CLIENT, peer_local_pref=77))
    assert said is not None
    assert said.local_pref == 77


def test_rfc4271_9_2_a_path_of_a_member_in_another_as_goes_to_everyone_in_ours_as_it_came() -> None:
    said = reflected(NON_CLIENTS, FOREIGN)
    assert said == reflected(CLIENTS, FOREIGN)
    assert said == Attributes(Origin.IGP, FOREIGN.as_path, FOREIGN.next_hop, local_pref=100, med=5)


def test_rfc4271_5_1_members_of_another_as_are_told_with_our_as_in_front_and_nothing_of_our_as_alone() -> None:
    before: dict[str, Any] = {"originator_id": Address("10.0.0.7"), "cluster_list": (Address("10.0.0.2"),), "med": 7}
    said = reflected(ABROAD, structs.replace(OTHER, peer_local_pref=77, **before))
    assert said == Attributes(Origin.IGP, (Segment(True, (64512,)),), OTHER.next_hop)
    assert via(ABROAD, FABRIC) == "nothing"


@pytest.mark.parametrize("community", NO_EXPORT)
def test_rfc1997_no_export_stays_in_our_as(community: int) -> None:
    kept = structs.replace(CLIENT, communities=(community,))
    assert via(CLIENTS, kept) == via(NON_CLIENTS, kept) == "10.2.2.11"
    assert via(ABROAD, kept) == "nothing"

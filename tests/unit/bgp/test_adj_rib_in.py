"""The Adj-RIB-In: a peer's BGPFilters before the safe defaults, and bulks of prefixes as single ones."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.bgp import wire
from tests.unit.bgp.clusters import RACKS, bgp_filter, cluster, peer, pool
from tests.unit.bgp.ribs import MEMBER, TOR, P, Q, a_rib, after, announce, attributes, best, paths, status, up

from routed.model.address import Family
from routed.model.cluster import Cluster
from routed_bgp.adj_rib_in import AdjRibIn
from routed_bgp.policy import Rejection
from routed_bgp.rib import Rib

DEFAULTS_REFUSE = ["0.0.0.0/0", "192.0.2.0/24", "10.244.1.0/26", "10.244.1.7/32"]


def filtered(*rules: dict[str, Any], family: Family = Family.IPV4) -> Cluster:
    name = "importV4" if family is Family.IPV4 else "importV6"
    return cluster(*RACKS, pool(), bgp_filter("f", **{name: list(rules)}), peer("tor", str(TOR), 65101, filters=("f",)))


def importing(*rules: dict[str, Any]) -> Rib:
    return after(up(), rib=a_rib(filtered(*rules)))


def accept(*operations: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"action": "Accept", "operations": list(operations), **more}


def reject(**more: Any) -> dict[str, Any]:
    return {"action": "Reject", **more}


def tables(rib: Rib) -> AdjRibIn:
    found = rib.tables(TOR)
    assert found is not None
    return found


def test_a_filter_accepts_what_the_defaults_refuse() -> None:
    rib = after(announce(*DEFAULTS_REFUSE), rib=importing())
    assert best(rib) == {}
    rib = after(announce(*DEFAULTS_REFUSE), rib=importing(accept()))
    assert best(rib).keys() == set(DEFAULTS_REFUSE)


def test_a_filter_rejects_what_the_defaults_accept() -> None:
    rib = after(announce(P, Q), rib=importing(reject(cidr=P, matchOperator="Equal")))
    assert best(rib) == {Q: str(TOR)}
    assert tables(rib).rejection(Family.IPV4, wire.key(P)) is Rejection.FILTER


def test_where_no_rule_matches_the_defaults_speak() -> None:
    rib = after(announce(P, *DEFAULTS_REFUSE), rib=importing(accept(cidr="198.51.100.0/24", matchOperator="In")))
    assert best(rib) == {P: str(TOR)}
    assert status(rib).rejected == {Rejection.DEFAULT: 1, Rejection.OUTSIDE_POOLS: 1, Rejection.OWN_BLOCK: 2}


def test_rules_on_communities_and_as_paths_look_at_what_was_sent() -> None:
    rules = reject(communities={"values": ["65101:1"]}), reject(asPathPrefix=[65101, 7])
    rib = importing(*rules)
    after(announce(P, communities=(65101 << 16 | 1,)), announce(Q, path=(65101, 7)), rib=rib)
    assert best(rib) == {}
    after(announce(P), announce(Q, path=(65101, 8, 7)), rib=rib)
    assert best(rib) == {P: str(TOR), Q: str(TOR)}


@pytest.mark.parametrize("path", [(65101, 64512), (64512,)])
def test_rfc4271_9_1_2_loops_are_no_matter_of_taste(path: tuple[int, ...]) -> None:
    assert best(after(announce(P, path=path), rib=importing(accept()))) == {}


def test_add_community_adds_it_once() -> None:
    add = accept(
        {"addCommunity": {"value": "65101:1"}},
        {"addCommunity": {"value": "1:2:3"}},
    )
    (path,) = paths(after(announce(P, communities=(5, 65101 << 16 | 1)), rib=importing(add)), P)
    assert path.communities == (5, 65101 << 16 | 1)
    assert path.large_communities == ((1, 2, 3),)


def test_prepend_makes_the_path_longer() -> None:
    rib = importing(accept({"prependASPath": {"prefix": [65101, 65101]}}))
    assert paths(after(announce(P), rib=rib), P)[0].as_numbers == (65101, 65101, 65101)


def test_set_priority_goes_before_local_pref() -> None:
    rib = importing(accept({"setPriority": {"value": 2000}}))
    after(up(MEMBER), announce(P), announce(P, peer=MEMBER, path=()), rib=rib)
    assert [(path.next_hop, path.priority) for path in paths(rib, P)] == [(MEMBER, 1024), (TOR, 2000)]


def test_ipv6_has_rules_of_its_own() -> None:
    rib = after(up(), announce(P), rib=a_rib(filtered(reject(), family=Family.IPV6)))
    assert best(rib) == {P: str(TOR)}


def test_a_stale_path_keeps_what_a_filter_did() -> None:
    rib = importing(accept({"setPriority": {"value": 2000}}))
    after(announce(P), rib=rib)
    tables(rib).make_stale(tables(rib).tables[Family.IPV4])
    (path,) = paths(rib, P)
    assert (path.stale, path.priority) == (True, 2000)
    tables(rib).imports_changed()
    assert paths(rib, P) == (path,)


def test_equal_attributes_are_one_path_also_after_import_again() -> None:
    rib = after(announce(P, Q), rib=importing())
    first, second = paths(rib, P)[0], paths(rib, Q)[0]
    assert first is second
    rib.take_changes()
    tables(rib).imports_changed()
    assert paths(rib, P)[0] is first
    assert rib.take_changes() == {}


def test_verdicts_of_a_hostile_peer_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routed_bgp.adj_rib_in._MOST_KNOWN", 8)
    rib = importing(accept({"setPriority": {"value": 7}}, cidr="10.244.2.0/26", matchOperator="Equal"))
    for index in range(100):
        after(announce(P, Q, via=f"10.9.{index}.1", med=index), rib=rib)
    assert [(path.med, path.priority) for path in (*paths(rib, P), *paths(rib, Q))] == [(99, 1024), (99, 7)]
    assert len(rib.next_hops) <= 10
    tables(rib).imports_changed()
    assert [(path.med, path.priority) for path in (*paths(rib, P), *paths(rib, Q))] == [(99, 1024), (99, 7)]


nlris = st.lists(
    st.sampled_from([*DEFAULTS_REFUSE, P, Q, *(f"10.244.{index}.64/26" for index in range(4)), "10.244.2.1/32"]),
    unique=True,
    min_size=1,
).map(lambda prefixes: [wire.key(prefix) for prefix in prefixes])
rules = st.lists(
    st.sampled_from(
        [
            accept(),
            reject(cidr="10.244.2.0/24", matchOperator="In"),
            accept({"setPriority": {"value": 7}}, cidr="10.244.1.0/24", matchOperator="In"),
            accept(communities={"values": ["1:1"]}),
        ]
    ),
    max_size=3,
)


@settings(deadline=None)  # shared cores: wall time says nothing
@given(rules, nlris, st.sampled_from([str(TOR), str(MEMBER)]), st.sampled_from([(), (65537,)]))
def test_a_bulk_is_let_in_as_its_prefixes_are(
    filter_rules: list[dict[str, Any]], keys: list[bytes], via: str, communities: tuple[int, ...]
) -> None:
    bulk, single = importing(*filter_rules), importing(*filter_rules)
    said = attributes(via, 65101, communities=communities)
    tables(bulk).announce(Family.IPV4, keys, said)
    for key in keys:
        tables(single).announce(Family.IPV4, [key], said)
    assert dict(bulk.best()) == dict(single.best())
    assert tables(bulk).tables == tables(single).tables


def test_a_rule_on_an_interface_asks_for_the_one_that_leads_to_the_next_hop() -> None:
    rib = after(announce(P), rib=importing(reject(interface="eth2")))
    assert best(rib) == {P: str(TOR)}
    rib.set_devices({TOR: "eth2"})
    assert best(rib) == {}
    rib.set_devices({TOR: "eth1"})
    assert best(rib) == {P: str(TOR)}


@pytest.mark.parametrize("borrowed", ["10.244.1.7/32", "10.244.2.7/32"], ids=["in our block", "in another's"])
def test_an_address_that_one_of_our_pods_has_is_nobody_elses_and_a_borrowed_one_is_let_in(borrowed: str) -> None:
    rib = after(up(MEMBER), announce(borrowed, peer=MEMBER, path=()))
    assert best(rib) == {borrowed: str(MEMBER)}
    rib.set_assigned(frozenset([wire.key(borrowed)]))
    assert best(rib) == {}
    assert status(rib, MEMBER).rejected == {Rejection.ASSIGNED: 1}
    rib.set_assigned(frozenset())
    assert best(rib) == {borrowed: str(MEMBER)}

"""`/bgp/routes`, on real RIBs: which routes are found, and why each won or lost."""

from __future__ import annotations

import json
from ipaddress import IPv4Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.agent.bgp_parts import MEMBER, TOR, TOR2, Node, P, Q, R

from routed.agent.bgp_query import MOST, Query, Table
from routed.agent.bgp_routes import bgp_routes
from routed.errors import OperatorError
from routed.model.address import Address, AnyAddress, Family
from routed.model.cluster import Cluster
from routed.model.path import Origin, Segment
from routed_bgp.sessions import Session


def ask(node: Node, /, seen: Any = None, **query: object) -> dict[str, Any]:
    found = bgp_routes(seen or node.seen(), {name: str(value) for name, value in query.items()})
    assert json.loads(json.dumps(found)) == found
    return dict(found)


def reasons(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(each["prefix"], each["peer"], each["reason"]) for each in found["routes"]]


def three() -> Node:
    """P from all three, Q from one router, R from the member."""
    node = Node()
    for peer in (TOR, TOR2, MEMBER):
        node.up(peer)
    node.announce(P, Q, peer=TOR)
    node.announce(P, peer=TOR2, path=(65102, 65103))
    node.announce(P, R, peer=MEMBER)
    return node


# ---- the Loc-RIB


def test_all_paths_of_the_loc_rib_are_shown_with_the_reason() -> None:
    found = ask(three())
    assert reasons(found) == [
        (Q, "10.1.1.1", "the only path"),
        (R, "10.2.2.11", "the only path"),
        (P, "10.1.1.1", "best of 3: step 2: shortest AS path (1, the next 2)"),
        (P, "10.1.1.2", "lost at step 2: shortest AS path (2, the best 1)"),
        (P, "10.2.2.11", "lost at step 1: highest LOCAL_PREF (90, the best 100)"),
    ]
    assert [each["best"] for each in found["routes"]] == [True, True, True, False, False]
    assert (found["total"], found["shown"], found["table"], found["peer"]) == (5, 5, "best", None)


def test_a_path_is_shown_with_all_that_it_has() -> None:
    node = Node()
    node.up(MEMBER)
    node.announce(
        P,
        peer=MEMBER,
        as_path=(Segment(True, (65001, 65002)), Segment(False, (7, 8))),
        origin=Origin.EGP,
        med=5,
        communities=(65000 << 16 | 1,),
        large_communities=((65000, 1, 2),),
        originator_id=Address("10.2.2.12"),
        cluster_list=(Address("10.0.0.1"),),
    )
    assert ask(node)["routes"] == [
        {
            "prefix": P,
            "family": "ipv4",
            "next_hop": "10.2.2.11",
            "as_path": [65001, 65002, [7, 8]],
            "communities": ["65000:1"],
            "large_communities": ["65000:1:2"],
            "local_pref": 90,
            "med": 5,
            "origin": "egp",
            "peer": "10.2.2.11",
            "path_id": 0,
            "originator_id": "10.2.2.12",
            "cluster_list": ["10.0.0.1"],
            "best": True,
            "multipath": False,
            "stale": False,
            "unreachable": False,
            "reason": "the only path",
            "rejected": None,
        }
    ]


def test_paths_that_share_the_traffic_are_marked() -> None:
    node = Node()
    node.up(TOR)
    node.up(TOR2)
    node.announce(P, peer=TOR)
    node.announce(P, peer=TOR2)
    found = ask(node, node.seen(widths=(2, 1)))
    assert [(each["best"], each["multipath"]) for each in found["routes"]] == [(True, True), (False, True)]
    assert found["routes"][1]["reason"] == (
        "shares the traffic; lost at step 7: lowest BGP identifier (10.1.1.2, the best 10.1.1.1)"
    )


def test_step_0a_a_next_hop_that_does_not_resolve_is_said() -> None:
    node = Node()
    node.up(TOR)
    node.announce(P)
    node.rib.set_unreachable(frozenset({TOR}))
    (shown,) = ask(node)["routes"]
    assert (shown["unreachable"], shown["best"]) == (True, True)
    assert shown["reason"] == "the only path; not used: its next hop does not resolve"


def test_step_0b_a_stale_path_says_so() -> None:
    node = three()
    node.down(TOR)
    found = ask(node, prefix=P)
    assert reasons(found)[-1] == (P, "10.1.1.1", "lost at step 0b: fresh, not stale (stale, the best fresh)")
    assert [each["stale"] for each in found["routes"]] == [False, False, True]
    assert reasons(ask(node, prefix=Q)) == [(Q, "10.1.1.1", "the only path; stale: kept while the peer restarts")]


def test_step_4_a_med_names_no_path_that_it_was_not_compared_with() -> None:
    node = Node()
    for peer in (TOR, TOR2):
        node.up(peer)
    node.announce(P, peer=TOR, path=(65101, 1), med=20)
    node.announce(P, peer=TOR2, path=(65101, 1), med=10)
    assert reasons(ask(node)) == [
        (P, "10.1.1.2", "best of 2: step 4: lowest MED of its neighbouring AS (10, the next 20)"),
        (P, "10.1.1.1", "lost at step 4: lowest MED of its neighbouring AS (20, the best 10)"),
    ]


def test_the_paths_of_one_peer_that_win() -> None:
    found = ask(three(), peer=TOR, table="best")
    assert [each["prefix"] for each in found["routes"]] == [Q, P]
    assert found["total"] == 2
    assert ask(three(), peer=TOR2, table="best")["routes"] == []


# ---- one peer's tables


def test_a_peer_alone_asks_for_what_it_sent_with_what_became_of_it() -> None:
    node = three()
    node.announce("10.9.0.0/24", peer=TOR2)
    node.announce(R, peer=TOR2, path=(65102, 64512))
    found = ask(node, peer=TOR2)
    assert found["table"] == "received"
    assert [(each["prefix"], each["rejected"], each["reason"]) for each in found["routes"]] == [
        ("10.9.0.0/24", "outside every pool", "rejected: outside every pool"),
        (R, "our own AS is in the AS path", "rejected: our own AS is in the AS path"),
        (P, None, "lost at step 2: shortest AS path (2, the best 1)"),
    ]
    assert found["total"] == 3


def test_while_the_cluster_does_not_know_the_node_everything_is_rejected() -> None:
    node = three()
    node.rib.set_policy(Cluster(), "a1")
    assert ask(node)["routes"] == []
    (shown,) = ask(node, peer=TOR2)["routes"]
    assert shown["rejected"] == "the cluster does not know this node"


def test_received_is_before_policy_and_accepted_after() -> None:
    node = three()
    node.announce("10.9.0.0/24", peer=MEMBER)
    received, accepted = ask(node, peer=MEMBER), ask(node, peer=MEMBER, table="accepted")
    assert [(each["prefix"], each["local_pref"]) for each in received["routes"]] == [
        ("10.9.0.0/24", 100),
        (R, 100),
        (P, 100),
    ]
    assert [(each["prefix"], each["local_pref"]) for each in accepted["routes"]] == [(R, 90), (P, 90)]
    assert (received["total"], accepted["total"]) == (3, 2)


def test_without_a_peer_the_tables_of_all_are_shown() -> None:
    found = ask(three(), table="received")
    assert [(each["prefix"], each["peer"]) for each in found["routes"]] == [
        (Q, "10.1.1.1"),
        (R, "10.2.2.11"),
        (P, "10.1.1.1"),
        (P, "10.1.1.2"),
        (P, "10.2.2.11"),
    ]


def test_advertised_is_what_the_peer_was_told() -> None:
    node = three()
    (shown,) = ask(node, peer=TOR, table="advertised")["routes"]
    assert (shown["prefix"], shown["as_path"], shown["next_hop"]) == ("10.244.1.0/26", [64512], "10.1.1.11")
    assert shown["reason"] == "originated by this node"
    assert ask(node, table="advertised")["total"] == 3
    node.down(TOR)
    assert ask(node, peer=TOR, table="advertised")["routes"] == []


def test_rfc7911_several_paths_of_one_peer_are_told_apart() -> None:
    node = Node()
    session, policy = node.peerings[TOR]
    fields = {name: getattr(session, name) for name in Session.__slots__} | {"add_path": True}
    node.peerings[TOR] = Session(**fields), policy
    node.rib.set_peerings(node.peerings.values(), 0)
    node.up(TOR, add_path=frozenset({Family.IPV4}))
    tables = node.rib.tables(TOR)
    assert tables
    node.up(TOR2)
    node.announce(P, peer=TOR2, path=(65102, 1))
    (attributes,) = node.rib.tables(TOR2).tables[Family.IPV4].received.values()  # type: ignore[union-attr]
    keys = [path_id.to_bytes(4) + b"\x1a\x0a\xf4\x03\x00" for path_id in (7, 9)]
    tables.announce(Family.IPV4, keys, attributes)
    for query in ({"prefix": P}, {"prefix": "10.244.3.9"}, {}):
        found = ask(node, peer=TOR, **query)
        assert [(each["prefix"], each["path_id"]) for each in found["routes"]] == [(P, 7), (P, 9)]
        assert "lowest path identifier (9, the best 7)" in found["routes"][1]["reason"]


# ---- which routes


def test_an_address_finds_the_longest_match() -> None:
    node = three()
    node.announce("10.244.0.0/16", "10.244.3.0/24", "10.244.3.7/32", peer=TOR2)
    longest = {"10.244.3.7": "10.244.3.7/32", "10.244.3.8": P, "10.244.3.64": "10.244.3.0/24", "10.9.9.9": None}
    for address, wanted in longest.items():
        found = ask(node, prefix=address)
        assert {each["prefix"] for each in found["routes"]} == ({wanted} if wanted else set()), address
        assert found["total"] == found["shown"] == len(found["routes"])


def test_a_prefix_is_found_exactly() -> None:
    assert {each["prefix"] for each in ask(three(), prefix=P)["routes"]} == {P}
    assert ask(three(), prefix="10.244.3.0/24")["routes"] == []


def test_a_family_that_has_nothing_is_empty() -> None:
    assert ask(three(), family="ipv6")["routes"] == []
    assert ask(three(), family="ipv4")["total"] == 5
    assert ask(three(), prefix="2001:db8::1")["routes"] == []


def test_no_more_than_the_limit_is_shown_and_that_there_is_more_is_said() -> None:
    node = Node()
    node.up(TOR)
    node.announce(*(f"10.244.{number}.0/26" for number in range(2, 200)))
    found = ask(node, limit=10)
    assert (found["total"], found["shown"], len(found["routes"])) == (198, 10, 10)
    assert ask(node, table="received", limit=5)["shown"] == 5


def test_routes_are_in_the_order_of_their_addresses() -> None:
    node = Node()
    node.up(TOR)
    node.announce("10.244.128.0/26", "10.244.9.0/24", "10.244.9.0/26", "10.244.0.0/16")
    shown = [each["prefix"] for each in ask(node, peer=TOR)["routes"]]
    assert shown == ["10.244.0.0/16", "10.244.9.0/24", "10.244.9.0/26", "10.244.128.0/26"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"peer": "x"}, "peer: 'x' is not an address"),
        ({"peer": "10.7.7.7"}, "peer: there is no session with 10.7.7.7"),
        ({"table": "all"}, "table: 'all' is not one of received, accepted, best, advertised"),
        ({"family": "ipx"}, "family: 'ipx' is not ipv4 or ipv6"),
        ({"prefix": "10.244.1"}, "prefix: '10.244.1' is not a prefix or an address"),
        ({"prefix": "10.244.1.0/33"}, "prefix: '10.244.1.0/33' is not a prefix or an address"),
        ({"prefix": "10.244.1.7/24"}, "did you mean 10.244.1.0/24?"),
        ({"prefix": "::/0", "family": "ipv4"}, "prefix: ::/0 is not of the family ipv4"),
        ({"limit": "0"}, f"limit: '0' is not a number from 1 to {MOST}"),
        ({"limit": "many"}, "limit: 'many' is not a number"),
        ({"colour": "red"}, "unknown parameter colour"),
        ({"prefix": ""}, "prefix: '' is not"),
    ],
)
def test_what_is_no_query_is_refused_in_words(query: dict[str, str], said: str) -> None:
    with pytest.raises(OperatorError) as refused:
        ask(three(), **query)
    assert said in str(refused.value)


@given(
    st.dictionaries(
        st.sampled_from(["table", "peer", "family", "prefix", "limit"]),
        st.one_of(
            st.text("0123456789.:/abcdefxv-_ é"), st.sampled_from([*Table, "10.1.1.1", "ipv4", "::", "0.0.0.0/0", "7"])
        ),
    )
)
def test_any_query_is_read_or_refused(parameters: dict[str, str]) -> None:
    peers: list[AnyAddress] = [TOR]
    try:
        query = Query.of(parameters, peers)
    except OperatorError:
        return
    assert query.peer in (None, TOR)


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(8, 32), min_size=1))
def test_the_longest_match_is_that_of_ipaddress(address: int, lengths: list[int]) -> None:
    where = Address(address)
    node = Node()
    node.up(TOR)
    prefixes = {str(IPv4Network((address, length), strict=False)) for length in lengths}
    node.announce(*prefixes)
    found = ask(node, peer=TOR, prefix=where)["routes"]
    assert [each["prefix"] for each in found] == [max(prefixes, key=lambda prefix: IPv4Network(prefix).prefixlen)]

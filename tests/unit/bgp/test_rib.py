"""The RIBs: from speaker events to the Loc-RIB; time is a number that the test chooses."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address, ip_network

from tests.unit.bgp import wire
from tests.unit.bgp.clusters import RACKS, bgp_filter, cluster, node, peer, pool
from tests.unit.bgp.ribs import (
    BOTH,
    MEMBER,
    TOR,
    P,
    Q,
    a_rib,
    after,
    announce,
    best,
    changes,
    down,
    end_of_rib,
    graceful,
    message,
    paths,
    status,
    up,
    withdraw,
)

from routed.model.address import Address, Family
from routed.model.bgp import AddPath
from routed.model.cluster import Cluster
from routed_bgp.peer_status import State
from routed_bgp.policy import Rejection
from routed_bgp.rib import QUIET_SECONDS, Rib
from routed_bgp.sessions import peerings
from routed_bgp.speaker import Ending, SessionDown


def deadline(rib: Rib) -> float | None:
    return rib.next_deadline


def test_an_announcement_becomes_best_and_is_reported_once() -> None:
    rib = after(up(), announce(P))
    assert changes(rib) == {P}
    after(announce(P), rib=rib)
    assert changes(rib) == set()
    assert best(rib) == {P: "10.1.1.1"}


def test_a_withdrawal_undoes_an_announcement() -> None:
    rib = after(up(), announce(P, Q))
    changes(rib)
    after(withdraw(P), rib=rib)
    assert changes(rib) == {P}
    assert best(rib) == {Q: "10.1.1.1"}


def test_updates_in_one_piece_are_taken_in_order() -> None:
    first, second, third = announce(P, Q), withdraw(P), announce(Q, path=(65101, 7))
    together = replace(first, messages=first.messages + second.messages + third.messages)
    rib = after(up(), together)
    assert best(rib) == {Q: "10.1.1.1"}
    assert paths(rib, Q)[0].as_numbers == (65101, 7)


def test_one_update_of_a_row_that_also_withdraws_is_taken_whole() -> None:
    both = message(wire.body("10.244.5.0/26", withdrawn=(Q,)))
    row = message(wire.body(P, Q)), both, message(wire.body("10.244.6.0/26"))
    rib = after(up(), replace(both, messages=b"".join(one.messages for one in row)))
    assert best(rib).keys() == {P, "10.244.5.0/26", "10.244.6.0/26"}


def test_one_update_that_announces_both_families_is_taken_whole() -> None:
    both = wire.raw_body(
        b"",
        wire.reach(Family.IPV6, SIX.packed, wire.nlri(P6)) + wire.ORIGIN + wire.as_path(65101) + wire.NEXT_HOP,
        wire.nlri(P),
    )
    rib = after(up(SIX, families=FAMILIES), message(both, SIX), message(both, SIX), rib=a_rib(DUAL))
    assert (best(rib).keys(), best(rib, Family.IPV6)) == ({P}, {P6: str(SIX)})


def test_withdrawing_the_tor_path_falls_back_to_the_mesh_and_returns() -> None:
    rib = after(up(), up(MEMBER), announce(P, peer=MEMBER, path=()), announce(P))
    assert best(rib) == {P: "10.1.1.1"}
    after(withdraw(P), rib=rib)
    assert best(rib) == {P: "10.2.2.11"}
    after(announce(P), rib=rib)
    assert best(rib) == {P: "10.1.1.1"}


def test_updates_of_peers_that_are_not_wanted_or_not_up_change_nothing() -> None:
    stranger = Address("192.0.2.1")
    rib = after(up(stranger), announce(P, peer=stranger), announce(P), down(peer=stranger))
    assert best(rib) == {}
    assert changes(rib) == set()
    assert rib.tables(stranger) is None


def test_a_rejected_path_is_received_and_counted_by_reason() -> None:
    rib = after(up(), announce("192.0.2.0/24", "10.244.1.0/26"), announce(P, path=(65101, 64512)))
    found = status(rib)
    assert (found.received, found.accepted) == (3, 0)
    assert found.rejected == {Rejection.OUTSIDE_POOLS: 1, Rejection.OWN_BLOCK: 1, Rejection.AS_LOOP: 1}
    tables = rib.tables(TOR)
    assert tables is not None
    assert tables.rejection(Family.IPV4, wire.key(P)) is Rejection.AS_LOOP


def test_a_path_that_is_rejected_after_all_is_gone() -> None:
    rib = after(up(), announce(P), announce(P, path=(65101, 64512)))
    assert best(rib) == {}
    after(announce(P), rib=rib)
    assert best(rib) == {P: "10.1.1.1"}
    assert status(rib).rejected == {}


def test_a_new_pool_lets_in_what_was_received_before() -> None:
    rib = after(up(), announce("10.9.1.0/26"))
    wider = replace(BOTH, pools={**BOTH.pools, "more": pool("10.9.0.0/16")})
    for of, changed in ((wider, {"10.9.1.0/26"}), (wider, set[str]()), (BOTH, {"10.9.1.0/26"})):
        rib.set_policy(of, "a1")
        assert changes(rib) == changed
    assert best(rib) == {}


def test_a_new_member_changes_the_preference_of_its_paths() -> None:
    alone = cluster(node("a1"), pool(), peer("tor", "10.1.1.1", 65101))
    rib = after(up(), announce(P, via="10.2.2.11"), rib=a_rib(alone))
    assert [(path.local_pref, path.member) for path in paths(rib, P)] == [(100, False)]
    rib.set_policy(BOTH, "a1")
    assert [(path.local_pref, path.member) for path in paths(rib, P)] == [(90, True)]


def test_a_cluster_that_does_not_know_the_node_imports_nothing_and_says_so() -> None:
    rib = after(up(), announce(P, Q))
    changes(rib)
    rib.set_policy(Cluster(), "a1")
    assert changes(rib) == {P, Q}
    assert status(rib).accepted == 0
    assert status(rib).rejected == {Rejection.UNKNOWN_NODE: 2}
    after(announce("10.244.9.0/26"), rib=rib)
    assert status(rib).rejected == {Rejection.UNKNOWN_NODE: 3}
    rib.set_policy(BOTH, "a1")
    assert len(best(rib)) == 3


def test_a_filter_of_the_peer_counts_from_when_it_is_there() -> None:
    rib = after(up(), announce(P, Q))
    changes(rib)
    filtered = cluster(
        *RACKS[:1],
        RACKS[2],
        pool(),
        bgp_filter("f", importV4=[{"action": "Reject", "cidr": P, "matchOperator": "Equal"}]),
        peer("tor", "10.1.1.1", 65101, filters=("f",)),
    )
    rib.set_peerings(peerings(filtered, "a1"), 2)
    assert changes(rib) == {P}
    assert status(rib).rejected == {Rejection.FILTER: 1}


def test_a_removed_session_is_flushed_at_once() -> None:
    rib = after(up(gr=graceful()), announce(P))
    changes(rib)
    rib.set_peerings([], 3)
    assert changes(rib) == {P}
    assert rib.status() == ()
    assert rib.synced(3)


def test_a_session_with_another_as_is_another_session() -> None:
    rib = after(up(gr=graceful()), announce(P))
    changes(rib)
    rib.set_peerings([(replace(one, peer_as=65999), policy) for one, policy in peerings(BOTH, "a1")], 3)
    assert changes(rib) == {P}
    assert status(rib).state is State.DOWN


def test_a_session_with_other_timers_is_the_same() -> None:
    rib = after(up(), announce(P))
    changes(rib)
    rib.set_peerings([(replace(one, hold_time=9), policy) for one, policy in peerings(BOTH, "a1")], 3)
    assert changes(rib) == set()
    assert status(rib).state is State.ESTABLISHED
    assert status(rib).session.hold_time == 9


def test_the_identifier_of_the_open_is_that_of_its_paths() -> None:
    rib = after(up(router_id=Address("10.0.0.7")), announce(P))
    assert paths(rib, P)[0].peer_router_id == Address("10.0.0.7")


def test_a_failed_attempt_does_not_hide_why_the_session_ended() -> None:
    rib = after(down())
    assert status(rib).last_error == "the reason"
    after(up(), rib=rib)
    assert status(rib).last_error == ""
    after(SessionDown(TOR, Ending.NOTIFICATION, "administrative shutdown"), down(), rib=rib)
    assert status(rib).last_error == "administrative shutdown"


def test_status_has_ipv4_peers_first_and_says_what_they_are_called() -> None:
    both = cluster(
        node("a1", ipv6=True),
        pool(),
        peer("six", "2001:db8:1::1", 65101),
        peer("four", "10.9.1.1", 65101),
        peer("other", "10.1.1.1", 65101, warning_prefixes=2),
    )
    rib = after(up(), announce(P), rib=a_rib(both))
    assert [(one.name, str(one.peer)) for one in rib.status()] == [
        ("peer/other", "10.1.1.1"),
        ("peer/four", "10.9.1.1"),
        ("peer/six", "2001:db8:1::1"),
    ]
    assert not status(rib).many_prefixes
    after(announce(Q), rib=rib)
    assert status(rib).many_prefixes


def test_rfc4724_4_1_in_sync_when_every_session_has_ended_its_rib() -> None:
    rib = a_rib()
    assert not rib.synced(0)
    after(up(gr=graceful()), up(MEMBER, graceful()), end_of_rib(), rib=rib)
    assert not rib.synced(2)
    assert (status(rib).synced, status(rib, MEMBER).synced) == (True, False)
    after(end_of_rib(MEMBER), rib=rib)
    assert rib.synced(3)
    after(down(), rib=rib)
    assert not rib.synced(4)


def test_rfc4724_4_1_who_restarts_too_and_may_wait_for_us_is_not_waited_for() -> None:
    starts = replace(graceful(), restarting=True)
    rib = after(up(gr=starts), up(MEMBER, starts), end_of_rib())
    assert not rib.synced(1)
    assert not rib.synced(1, {TOR})
    assert rib.synced(1, {MEMBER})
    after(down(peer=MEMBER), up(MEMBER, graceful()), rib=rib)
    assert not rib.synced(2, {MEMBER})


def test_a_peer_without_graceful_restart_is_in_sync_after_a_quiet_second() -> None:
    rib = after(up(MEMBER, graceful()), end_of_rib(MEMBER), up())
    assert deadline(rib) == 1 + QUIET_SECONDS
    assert not rib.synced(1.5)
    assert rib.synced(1 + QUIET_SECONDS)
    rib.expire(1 + QUIET_SECONDS)
    assert deadline(rib) is None
    assert rib.synced(99)


def test_no_peers_are_in_sync() -> None:
    assert Rib().synced(0)


# ---- both families, several paths

SIX = IPv6Address("2001:db8:1::1")
P6, OWN6 = "fd00:0:0:3::/64", "fd00:0:0:1::/64"
DUAL = cluster(
    node("a1", "10.244.1.0/26", OWN6, ipv6=True),
    node("b1", "10.244.3.0/26", P6, ipv6=True),
    pool(),
    pool("fd00::/48"),
    peer("six", str(SIX), 65101, add_path=AddPath.RECEIVE, extended_next_hop=True),
)
FAMILIES = frozenset(Family)


def test_an_ipv6_address_of_one_of_our_pods_is_nobody_elses() -> None:
    host = f"{ip_network(P6)[7]}/128"
    rib = after(up(SIX, families=FAMILIES), announce(host, peer=SIX), rib=a_rib(DUAL))
    assert best(rib, Family.IPV6) == {host: str(SIX)}
    rib.set_assigned(frozenset([wire.key(host)]), Family.IPV6)
    assert best(rib, Family.IPV6) == {}
    rib.set_assigned(frozenset(), Family.IPV6)
    assert best(rib, Family.IPV6) == {host: str(SIX)}


def test_rfc4760_ipv6_has_tables_of_its_own() -> None:
    rib = after(up(SIX, families=FAMILIES), announce(P6, OWN6, "2001:db8::/32", "::/0", peer=SIX), rib=a_rib(DUAL))
    assert best(rib, Family.IPV6) == {P6: str(SIX)}
    assert best(rib) == {}
    assert rib.take_changes().keys() == {Family.IPV6}
    assert status(rib, SIX).rejected == {
        Rejection.OWN_BLOCK: 1,
        Rejection.OUTSIDE_POOLS: 1,
        Rejection.DEFAULT: 1,
    }
    after(withdraw(P6, peer=SIX), rib=rib)
    assert best(rib, Family.IPV6) == {}


def test_rfc8950_an_ipv4_prefix_may_have_an_ipv6_next_hop() -> None:
    rib = after(up(SIX, families=FAMILIES, extended_next_hop=True), announce(P, peer=SIX), rib=a_rib(DUAL))
    assert best(rib) == {P: str(SIX)}
    assert rib.next_hops == {SIX}


def test_rfc7911_several_paths_of_one_peer_are_ranked_and_withdrawn_by_identifier() -> None:
    rib = after(
        up(SIX, families=FAMILIES, add_path=frozenset({Family.IPV6})),
        announce(P6, peer=SIX, path_id=1, path=(65101, 7)),
        announce(P6, peer=SIX, path_id=2),
        announce(P6, peer=SIX, path_id=3, path=(65101, 64512)),
        rib=a_rib(DUAL),
    )
    assert [path.path_id for path in paths(rib, P6)] == [2, 1]
    assert (status(rib, SIX).received, status(rib, SIX).rejected) == (3, {Rejection.AS_LOOP: 1})
    after(withdraw(P6, peer=SIX, path_id=2), rib=rib)
    assert [path.path_id for path in paths(rib, P6)] == [1]
    after(withdraw(P6, peer=SIX, path_id=1), withdraw(P6, peer=SIX, path_id=3), rib=rib)
    assert best(rib, Family.IPV6) == {}
    assert (status(rib, SIX).received, status(rib, SIX).rejected) == (0, {})


def test_rfc7911_a_session_without_identifiers_after_one_with_them_begins_anew() -> None:
    with_them = up(SIX, graceful(families=tuple(Family)), families=FAMILIES, add_path=FAMILIES)
    rib = after(with_them, announce(P6, peer=SIX, path_id=1), down(peer=SIX), rib=a_rib(DUAL))
    assert best(rib, Family.IPV6) == {P6: f"{SIX} stale"}
    after(up(SIX, graceful(families=tuple(Family)), families=FAMILIES), rib=rib)
    assert best(rib, Family.IPV6) == {}
    after(announce(P6, peer=SIX), rib=rib)
    assert best(rib, Family.IPV6) == {P6: str(SIX)}

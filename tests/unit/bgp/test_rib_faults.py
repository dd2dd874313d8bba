"""What the RIBs do about peers that err, fall silent, send too much, or send their table again."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.bgp import wire
from tests.unit.bgp.clusters import RACKS, cluster, peer, pool
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
    refresh,
    status,
    up,
    withdraw,
)

from routed.model.address import Family
from routed_bgp.adj_rib_in import MOST_PATHS
from routed_bgp.peer_status import Reset, State
from routed_bgp.rib import SUSPEND_SECONDS, Rib
from routed_bgp.sessions import peerings
from routed_bgp.speaker import Ending, Refresh, SessionDown, UpdatesReceived

BFD_DOWN = Reset(6, 10, "BFD down")
BROKEN = bytes([0, 1, 33, 0, 0])  # a withdrawn prefix of 33 bits


def test_rfc7606_session_reset_flushes_and_asks_for_the_reset() -> None:
    rib = after(up(gr=graceful()), announce(P), message(BROKEN))
    assert best(rib) == {}
    assert {peer: (reset.code, reset.subcode) for peer, reset in rib.take_resets().items()} == {TOR: (3, 10)}
    assert rib.take_resets() == {}
    after(announce(P), rib=rib)
    assert best(rib) == {}
    after(down(Ending.LOCAL), up(gr=graceful()), announce(P), rib=rib)
    assert best(rib) == {P: "10.1.1.1"}
    assert "invalid network field" in status(rib).last_error


def test_rfc7606_session_reset_takes_what_came_with_it() -> None:
    good = announce(P)
    rib = after(up(), replace(good, messages=good.messages + message(BROKEN).messages + announce(Q).messages))
    assert best(rib) == {}
    assert rib.take_resets().keys() == {TOR}


def test_rfc7606_the_others_are_undisturbed() -> None:
    rib = after(up(), up(MEMBER), announce(P), announce(P, Q, peer=MEMBER, path=()), message(BROKEN))
    assert best(rib) == {P: "10.2.2.11", Q: "10.2.2.11"}


def test_rfc7606_treat_as_withdraw_withdraws() -> None:
    without_origin = message(wire.body(P, attributes=wire.as_path(65101) + wire.NEXT_HOP))
    rib = after(up(), announce(P, Q), without_origin)
    assert best(rib) == {Q: "10.1.1.1"}
    assert rib.take_resets() == {}
    assert "ORIGIN" in status(rib).last_error


def test_half_a_message_resets_the_session() -> None:
    rib = after(up(), announce(P), UpdatesReceived(TOR, announce(Q).messages[:-1]))
    assert best(rib) == {}
    assert [(reset.code, reset.subcode) for reset in rib.take_resets().values()] == [(1, 2)]


def test_a_reset_that_was_not_taken_does_not_hit_the_next_connection() -> None:
    rib = after(up(), message(BROKEN), up(), announce(P))
    assert rib.take_resets() == {}
    assert best(rib) == {P: "10.1.1.1"}


# ---- another witness: BFD, an interface


def test_rfc5882_a_peer_that_failed_loses_its_paths_before_its_session_ends() -> None:
    rib = after(up(gr=graceful()), announce(P))
    rib.fail(TOR, BFD_DOWN)
    assert best(rib) == {}
    assert rib.take_resets() == {TOR: BFD_DOWN}
    rib.fail(TOR, BFD_DOWN)
    after(announce(P), refresh(Refresh.BEGIN), rib=rib)
    assert rib.take_resets() == {}
    assert best(rib) == {}
    assert status(rib).last_error == "BFD down"
    after(down(), up(gr=graceful()), announce(P), rib=rib)
    assert best(rib) == {P: "10.1.1.1"}


def test_why_a_peer_failed_is_not_hidden_by_what_we_told_it_nor_by_attempts_that_fail() -> None:
    rib = after(up(gr=graceful()), announce(P))
    rib.fail(TOR, BFD_DOWN)
    after(SessionDown(TOR, Ending.NOTIFICATION, "NOTIFICATION sent", 6, 10), down(), rib=rib)
    assert status(rib).last_error == "NOTIFICATION sent: BFD down"
    after(SessionDown(TOR, Ending.NOTIFICATION, "bad peer AS", 2, 2), rib=rib)  # the next connection
    assert status(rib).last_error == "bad peer AS"


def test_a_restarting_peer_that_failed_is_not_waited_for() -> None:
    rib = after(up(gr=graceful()), announce(P), down())
    rib.fail(TOR, BFD_DOWN)
    assert best(rib) == {}
    assert rib.take_resets() == {}
    assert rib.next_deadline is None
    assert status(rib).state is State.DOWN


def test_a_peer_that_is_not_wanted_cannot_fail() -> None:
    rib = Rib()
    rib.fail(TOR, BFD_DOWN)
    assert rib.take_resets() == {}


# ---- next hops, RFC 4271 section 9.1.2


def test_rfc4271_9_1_2_a_next_hop_that_stops_resolving_loses_and_wins_again() -> None:
    rib = after(up(), up(MEMBER), announce(P, Q), announce(P, peer=MEMBER, path=()))
    assert rib.next_hops == {TOR, MEMBER}
    changes(rib)
    rib.set_unreachable(frozenset({TOR}))
    assert changes(rib) == {P, Q}
    assert best(rib) == {P: "10.2.2.11", Q: "10.1.1.1 unreachable"}
    after(announce(P, path=(65101, 7)), rib=rib)
    assert best(rib)[P] == "10.2.2.11"
    rib.set_unreachable(frozenset())
    assert best(rib) == {P: "10.1.1.1", Q: "10.1.1.1"}


def test_a_next_hop_that_nobody_has_changes_nothing() -> None:
    rib = after(up(), announce(P))
    changes(rib)
    rib.set_unreachable(frozenset({MEMBER}))
    assert changes(rib) == set()


def test_next_hops_of_paths_that_are_rejected_are_not_asked_for() -> None:
    rib = after(up(), announce(P, via="10.9.9.1", path=(65101, 64512)))
    assert rib.next_hops == frozenset()


# ---- too many prefixes, RFC 4486


def limited(limit: int, rib: Rib | None = None) -> Rib:
    rib = rib or a_rib()
    wanted = [(one, replace(policy, max_prefixes=limit)) for one, policy in peerings(BOTH, "a1")]
    rib.set_peerings(wanted, 0)
    return rib


def test_rfc4486_too_many_prefixes_end_the_session_and_suspend_the_peer() -> None:
    rib = after(up(gr=graceful()), announce(P), rib=limited(1))
    assert rib.suspended == frozenset()
    after(announce(Q), rib=rib, now=5)
    assert rib.take_resets() == {TOR: Reset(6, 1, "prefix limit exceeded: 2 of 1")}
    assert best(rib) == {}
    assert rib.suspended == {TOR}
    after(down(Ending.NOTIFICATION), rib=rib, now=6)
    assert status(rib).state is State.SUSPENDED
    assert rib.next_deadline == 5 + SUSPEND_SECONDS
    rib.expire(5 + SUSPEND_SECONDS)
    assert rib.suspended == frozenset()
    assert status(rib).state is State.DOWN
    assert rib.next_deadline is None


def test_a_suspended_peer_is_not_waited_for() -> None:
    rib = after(up(MEMBER, graceful()), end_of_rib(MEMBER), up(), announce(P, Q), rib=limited(1))
    assert rib.suspended == {TOR}
    assert rib.synced(1)


def test_another_limit_ends_the_suspension() -> None:
    rib = after(up(), announce(P, Q), down(Ending.NOTIFICATION), rib=limited(1))
    assert rib.suspended == {TOR}
    limited(1, rib)
    assert rib.suspended == {TOR}
    limited(2, rib)
    assert rib.suspended == frozenset()


def test_a_limit_that_is_lowered_below_what_was_sent_holds_at_once() -> None:
    rib = after(up(), announce(P, Q), rib=limited(2))
    assert rib.suspended == frozenset()
    limited(1, rib)
    assert rib.take_resets() == {TOR: Reset(6, 1, "prefix limit exceeded: 2 of 1")}
    assert rib.suspended == {TOR}
    assert best(rib) == {}


def test_the_same_prefix_again_is_one() -> None:
    rib = after(up(), announce(P), announce(P, path=(65101, 7)), rib=limited(1))
    assert rib.take_resets() == {}


# ---- memory and time


def test_rfc4486_4_8_a_peer_with_too_many_paths_to_one_prefix_is_suspended() -> None:
    rib = after(up(add_path=frozenset({Family.IPV4})), rib=a_rib(add_path=True))
    for path_id in [*range(MOST_PATHS), *range(MOST_PATHS)]:
        after(announce(P, path_id=path_id), rib=rib)
    after(withdraw(P, path_id=7), announce(P, path_id=1000), rib=rib)
    assert (len(paths(rib, P)), rib.take_resets()) == (MOST_PATHS, {})
    after(announce(P, path_id=1001), rib=rib)
    assert rib.take_resets()[TOR].code == 6
    assert (best(rib), rib.suspended) == ({}, {TOR})
    after(down(), up(add_path=frozenset({Family.IPV4})), rib=rib)
    for path_id in range(MOST_PATHS):
        after(announce(P, path_id=path_id), rib=rib)
    assert (len(paths(rib, P)), rib.take_resets()) == (MOST_PATHS, {})


def heavy(number: int) -> dict[str, Any]:
    return {"communities": tuple(range(number << 16, (number << 16) + 900))}


def test_attributes_that_are_gone_do_not_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("adj_rib_in._MOST_KNOWN", "loc_rib._MOST_SHARED"):
        monkeypatch.setattr(f"routed_bgp.{module}", 100)
    monkeypatch.setattr("routed_bgp.loc_rib._MOST_ALONE", 4)
    monkeypatch.setattr("routed_bgp.update._MOST", 1 << 16)
    rib = after(up())
    tracemalloc.start()
    try:
        for number in range(200):  # each takes some 30 kB
            after(announce(P, **heavy(number)), rib=rib)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(paths(rib, P)) == 1
    assert kept < 20 * 30_000


def test_rfc4486_4_8_a_peer_whose_attributes_take_too_much_memory_is_suspended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routed_bgp.rib._MOST_WEIGHT", 100)
    monkeypatch.setattr("routed_bgp.rib._WEIGH_AFTER", 1000)
    rib = after(up())
    for number in range(20):
        after(announce(P, **heavy(number)), rib=rib)
    assert rib.take_resets() == {}  # it has one of them now
    for number in range(5):
        after(announce(f"10.244.{number + 3}.0/26", **heavy(number + 20)), rib=rib)
    assert rib.take_resets()[TOR].reason.endswith("out of resources (6/8)")
    assert (best(rib), rib.suspended, status(rib).state) == ({}, {TOR}, State.SUSPENDED)
    rib.expire(1 + SUSPEND_SECONDS)
    assert rib.suspended == frozenset()


# ---- route refresh, RFC 7313


def test_rfc7313_4_what_is_not_sent_again_is_gone() -> None:
    rib = after(up(), announce(P, Q), refresh(Refresh.BEGIN), announce(P))
    assert best(rib) == {P: "10.1.1.1", Q: "10.1.1.1"}
    after(refresh(Refresh.END), rib=rib)
    assert best(rib) == {P: "10.1.1.1"}


def test_rfc7313_4_what_is_withdrawn_meanwhile_is_not_remembered() -> None:
    rib = after(up(), announce(P, Q), refresh(Refresh.BEGIN), announce(P), withdraw(P))
    tables = rib.tables(TOR)
    assert tables is not None
    assert tables.tables[Family.IPV4].refreshed == set()


@pytest.mark.parametrize(
    "events",
    [
        [refresh(Refresh.END)],
        [refresh(Refresh.REQUEST)],
        [refresh(Refresh.BEGIN), refresh(Refresh.END, peer=MEMBER)],
        [refresh(Refresh.BEGIN), down(), up(gr=graceful()), announce(P), end_of_rib(), refresh(Refresh.END)],
    ],
    ids=["no begin", "request", "another peer", "begin in another session"],
)
def test_rfc7313_4_an_end_without_a_begin_means_nothing(events: list[Any]) -> None:
    rib = after(up(gr=graceful()), announce(P), end_of_rib(), *events)
    assert best(rib) == {P: "10.1.1.1"}


def test_rfc7313_4_no_refresh_begins_before_end_of_rib() -> None:
    rib = after(up(gr=graceful()), announce(P), refresh(Refresh.BEGIN), refresh(Refresh.END))
    assert best(rib) == {P: "10.1.1.1"}


def test_a_peer_that_flaps_between_next_hops_leaves_one() -> None:
    rib = after(up())
    for index in range(50):
        after(announce(P, via=f"10.9.{index}.1"), down(), up(), rib=rib)
    after(announce(P), rib=rib)
    assert rib.next_hops == {TOR}


def test_paths_know_their_peer() -> None:
    of = cluster(*RACKS[:1], pool(), peer("tor", "10.1.1.1", 65101), peer("two", "10.1.2.1", 65101))
    second = peerings(of, "a1").sessions[1].peer
    rib = after(up(), up(second), announce(P), announce(P, peer=second, path=(65101, 7)), rib=a_rib(of))
    assert [path.peer for path in paths(rib, P)] == [TOR, second]

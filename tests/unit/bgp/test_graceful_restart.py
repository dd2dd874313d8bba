"""Graceful restart as the helper of a peer: RFC 4724 section 4.2, RFC 8538, and our refinements of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.bgp.ribs import (
    BOTH,
    MEMBER,
    RESTART,
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
    status,
    up,
    withdraw,
)
from tests.unit.bgp.test_rib import DUAL, FAMILIES, P6, SIX

from routed.model.address import Family
from routed_bgp.open import GracefulRestart
from routed_bgp.peer_status import State
from routed_bgp.policy import Preferences
from routed_bgp.rib import QUIET_SECONDS, Rib
from routed_bgp.speaker import Ending


def with_table(gr: GracefulRestart | None, *prefixes: str, rib: Rib | None = None) -> Rib:
    rib = after(up(gr=gr), announce(*prefixes or (P,)), rib=rib)
    changes(rib)
    return rib


def test_rfc4724_4_2_a_closed_connection_leaves_stale_paths_until_end_of_rib() -> None:
    rib = after(down(), rib=with_table(graceful(), P, Q))
    assert best(rib) == {P: "10.1.1.1 stale", Q: "10.1.1.1 stale"}
    assert (status(rib).state, status(rib).stale) == (State.RESTARTING, 2)
    assert changes(rib) == {P, Q}
    after(up(gr=graceful()), announce(P), rib=rib)
    assert best(rib) == {P: "10.1.1.1", Q: "10.1.1.1 stale"}
    after(end_of_rib(), rib=rib)
    assert best(rib) == {P: "10.1.1.1"}
    assert rib.next_deadline is None


def test_rfc4724_4_2_stale_paths_go_after_the_restart_time() -> None:
    rib = after(down(), rib=with_table(graceful()), now=10)
    assert rib.next_deadline == 10 + RESTART
    rib.expire(10 + RESTART - 0.1)
    assert best(rib) == {P: "10.1.1.1 stale"}
    rib.expire(10 + RESTART)
    assert best(rib) == {}
    assert status(rib).state is State.DOWN
    assert rib.next_deadline is None


def test_rfc4724_4_2_without_the_f_bit_stale_paths_go_when_the_peer_returns() -> None:
    rib = after(down(), up(gr=graceful(kept=False)), rib=with_table(graceful()))
    assert best(rib) == {}


def test_rfc4724_4_2_without_the_capability_stale_paths_go_when_the_peer_returns() -> None:
    assert best(after(down(), up(), rib=with_table(graceful()))) == {}


def test_rfc4724_4_2_a_second_restart_drops_what_is_stale_from_the_first() -> None:
    rib = after(down(), up(gr=graceful()), announce(P), down(), rib=with_table(graceful(), P, Q))
    assert best(rib) == {P: "10.1.1.1 stale"}


def test_rfc4724_4_2_the_wait_for_end_of_rib_is_bounded() -> None:
    rib = after(up(gr=graceful()), rib=after(down(), rib=with_table(graceful())), now=20)
    assert rib.next_deadline == 20 + 120  # our restart time: the peer's is over when it is back
    rib.expire(20 + 120)
    assert best(rib) == {}


@pytest.mark.parametrize("gr", [None, graceful(families=()), graceful(time=0)], ids=["no GR", "helper only", "0 s"])
def test_rfc4724_4_2_a_peer_that_keeps_nothing_is_flushed(gr: GracefulRestart | None) -> None:
    assert best(after(down(), rib=with_table(gr))) == {}


def test_rfc4724_4_2_each_family_is_kept_or_not_by_itself() -> None:
    both = announce(P, peer=SIX), announce(P6, peer=SIX)
    only_6 = up(SIX, graceful(families=(Family.IPV6,)), families=FAMILIES, extended_next_hop=True)
    rib = after(only_6, *both, down(peer=SIX), rib=a_rib(DUAL))
    assert best(rib) == {}
    assert best(rib, Family.IPV6) == {P6: f"{SIX} stale"}


def test_rfc4724_4_2_each_family_has_an_f_bit_and_an_end_of_rib_of_its_own() -> None:
    both = announce(P, peer=SIX), announce(P6, peer=SIX)
    full = up(SIX, graceful(families=tuple(Family)), families=FAMILIES, extended_next_hop=True)
    rib = after(full, *both, down(peer=SIX), full, rib=a_rib(DUAL))
    after(end_of_rib(SIX, Family.IPV6), rib=rib)
    assert (best(rib), best(rib, Family.IPV6)) == ({P: f"{SIX} stale"}, {})
    assert not status(rib, SIX).synced
    assert rib.next_deadline is not None
    after(end_of_rib(SIX), rib=rib)
    assert best(rib) == {}
    assert status(rib, SIX).synced

    assert full.open.graceful_restart is not None
    mixed = replace(full.open.graceful_restart, families=((Family.IPV4, False), (Family.IPV6, True)))
    lost_4 = replace(full, open=replace(full.open, graceful_restart=mixed))
    after(*both, down(peer=SIX), lost_4, rib=rib)
    assert (best(rib), best(rib, Family.IPV6)) == ({}, {P6: f"{SIX} stale"})


def test_rfc4724_4_a_notification_flushes_at_once() -> None:
    rib = after(down(Ending.NOTIFICATION, code=6, subcode=4), rib=with_table(graceful(n_bit=True)))
    assert best(rib) == {}
    assert status(rib).last_error == "the reason"


def test_rfc4724_4_2_a_new_connection_says_that_the_old_one_was_closed() -> None:
    rib = after(up(gr=graceful()), rib=with_table(graceful()))
    assert best(rib) == {P: "10.1.1.1 stale"}
    after(end_of_rib(), rib=rib)
    assert best(rib) == {}


def test_a_new_connection_of_a_peer_without_graceful_restart_begins_anew() -> None:
    assert best(after(up(), rib=with_table(None))) == {}


@pytest.mark.parametrize(
    ("code", "subcode"), [(4, 0), (6, 4), (6, 6), (3, 1)], ids=["hold", "reset", "other", "UPDATE"]
)
def test_rfc8538_4_with_the_n_bit_of_both_paths_outlive_a_notification(code: int, subcode: int) -> None:
    rib = with_table(graceful(n_bit=True), rib=a_rib(notification_restart=True))
    after(down(Ending.NOTIFICATION, code=code, subcode=subcode), rib=rib)
    assert best(rib) == {P: "10.1.1.1 stale"}


@pytest.mark.parametrize(
    ("code", "subcode"), [(6, 9), (6, 2), (6, 3), (6, 10)], ids=["hard reset", "shutdown", "de-configured", "BFD down"]
)
def test_rfc8538_3_1_what_is_meant_flushes_in_spite_of_the_n_bit(code: int, subcode: int) -> None:
    rib = with_table(graceful(n_bit=True), rib=a_rib(notification_restart=True))
    after(down(Ending.NOTIFICATION, code=code, subcode=subcode), rib=rib)
    assert best(rib) == {}


def test_rfc8538_2_the_peers_n_bit_is_needed_too() -> None:
    rib = with_table(graceful(), rib=a_rib(notification_restart=True))
    assert best(after(down(Ending.NOTIFICATION, code=4), rib=rib)) == {}


def test_our_own_restart_keeps_paths_of_any_peer_and_asks_for_no_f_bit() -> None:
    rib = after(up(), up(MEMBER, graceful(kept=False)), announce(P), announce(Q, peer=MEMBER, path=()))
    after(down(Ending.LOCAL), down(Ending.LOCAL, MEMBER), rib=rib, now=10)
    assert best(rib) == {P: "10.1.1.1 stale", Q: "10.2.2.11 stale"}
    assert rib.next_deadline == 10 + 120
    after(up(), up(MEMBER, graceful(kept=False)), rib=rib, now=11)
    assert best(rib) == {P: "10.1.1.1 stale", Q: "10.2.2.11 stale"}
    after(end_of_rib(MEMBER), rib=rib, now=11)
    rib.expire(11 + QUIET_SECONDS)
    assert best(rib) == {}


def test_our_own_second_restart_keeps_what_is_stale_from_the_first() -> None:
    rib = after(down(Ending.LOCAL), up(), announce(P), down(Ending.LOCAL), rib=with_table(None, P, Q))
    assert best(rib) == {P: "10.1.1.1 stale", Q: "10.1.1.1 stale"}


def test_without_a_restart_time_our_own_restart_keeps_nothing() -> None:
    rib = with_table(graceful(), rib=a_rib(restart_time=0))
    assert best(after(down(Ending.LOCAL), rib=rib)) == {}


def test_a_stale_path_of_the_fabric_gives_way_to_the_mesh() -> None:
    rib = after(up(MEMBER), announce(P, peer=MEMBER, path=()), rib=with_table(graceful()))
    assert best(rib) == {P: "10.1.1.1"}
    after(down(), rib=rib)
    assert best(rib) == {P: "10.2.2.11"}


def test_a_stale_path_that_comes_again_is_fresh_and_reported() -> None:
    rib = after(down(), up(gr=graceful()), rib=with_table(graceful()))
    changes(rib)
    after(announce(P), rib=rib)
    assert changes(rib) == {P}
    assert best(rib) == {P: "10.1.1.1"}
    assert status(rib).stale == 0


def test_a_stale_path_can_be_withdrawn() -> None:
    rib = after(down(), up(gr=graceful()), withdraw(P), rib=with_table(graceful()))
    assert (best(rib), status(rib).stale) == ({}, 0)


def test_stale_paths_stay_stale_when_policy_changes() -> None:
    rib = after(down(), rib=with_table(graceful()))
    rib.set_policy(replace(BOTH, pools={}), "a1")
    assert best(rib) == {}
    rib.set_policy(BOTH, "a1")
    assert best(rib) == {P: "10.1.1.1 stale"}


def test_what_is_stale_does_not_count_towards_the_prefix_limit() -> None:
    many = [f"10.244.{index}.0/26" for index in range(2, 6)]
    rib = with_table(graceful(), *many)
    rib.set_peerings([(one.session, replace(one.policy, max_prefixes=4)) for one in rib.status()], 1)
    others = [f"10.244.{index}.0/26" for index in range(12, 16)]
    after(down(), up(gr=graceful()), announce(*others), rib=rib)
    assert rib.take_resets() == {}
    after(end_of_rib(), rib=rib)
    assert set(best(rib)) == set(others)


def test_a_peer_that_is_gone_by_another_witness_keeps_nothing() -> None:
    rib = after(down(), rib=with_table(graceful()))
    rib.set_unreachable(frozenset({TOR}))
    assert best(rib) == {}


@pytest.mark.parametrize(("yields", "wins"), [(True, "10.2.2.11"), (False, "10.1.1.1 stale")])
def test_a_stale_path_of_the_fabric_yields_to_the_mesh_unless_told_to_keep_its_rank(*, yields: bool, wins: str) -> None:
    rib = with_table(graceful(), rib=a_rib(preferences=Preferences(stale_yields=yields)))
    after(up(MEMBER), announce(P, peer=MEMBER, path=()), rib=rib)
    assert best(rib) == {P: "10.1.1.1"}
    assert best(after(down(), rib=rib)) == {P: wins}


def test_a_session_is_read_as_it_was_made_though_another_is_wanted_by_now() -> None:
    """Add-path is agreed once: what comes has path identifiers until the session is made anew (RFC 7911 section 4)."""
    rib = a_rib(add_path=True)
    offered = next(one.session for one in rib.status() if one.peer == TOR)
    rib.set_peerings([(replace(one.session, add_path=False), one.policy) for one in rib.status()], 1)
    able = replace(up(add_path=frozenset({Family.IPV4})), offered=offered)
    assert best(after(able, announce(P, path_id=7), rib=rib)) == {P: "10.1.1.1"}

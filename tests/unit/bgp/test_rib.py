"""The RIBs: from speaker events to the Loc-RIB; time is a number that the test chooses."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.bgp import wire
from tests.unit.bgp.clusters import RACKS, cluster, node, peer, pool

from routed.model.address import Address, Prefix
from routed.model.cluster import Cluster
from routed_bgp.open import GracefulRestart, Open
from routed_bgp.policy import Rejection
from routed_bgp.rib import QUIET_SECONDS, PeerStatus, Rib, State
from routed_bgp.sessions import wanted_sessions
from routed_bgp.speaker import Ending, SessionDown, SessionUp, UpdateReceived

TOR, MEMBER = Address("10.1.1.1"), Address("10.2.2.11")
P, Q = "10.244.3.0/26", "10.244.2.0/26"
BOTH = cluster(*RACKS[:1], RACKS[2], pool(), peer("tor", "10.1.1.1", 65101))
RESTART = 60
FAMILY = (1, 1)


def graceful(*, kept: bool = True, families: bool = True, time: int = RESTART) -> GracefulRestart:
    return GracefulRestart(False, time, ((FAMILY, kept),) if families else ())


def up(address: Address = TOR, gr: GracefulRestart | None = None) -> SessionUp:
    return SessionUp(address, Open(65101 if address == TOR else 64512, 90, address, True, gr))


def announce(
    *prefixes: str, via: str | None = None, peer: Address = TOR, path: tuple[int, ...] = (65101,)
) -> UpdateReceived:
    attributes = wire.ORIGIN + wire.as_path(*path) + wire.next_hop(via or str(peer))
    return UpdateReceived(peer, wire.body(*prefixes, attributes=attributes))


def withdraw(*prefixes: str, peer: Address = TOR) -> UpdateReceived:
    return UpdateReceived(peer, wire.body(withdrawn=prefixes))


def end_of_rib(peer: Address = TOR) -> UpdateReceived:
    return UpdateReceived(peer, bytes(4))


def down(ending: Ending = Ending.CLOSED, peer: Address = TOR) -> SessionDown:
    return SessionDown(peer, ending, "the reason")


def a_rib(of: Cluster = BOTH) -> Rib:
    rib = Rib()
    rib.set_policy(of, "a1")
    rib.set_sessions(wanted_sessions(of, "a1"), 0)
    return rib


def best(rib: Rib) -> dict[str, str]:
    return {
        str(prefix): f"{paths[0].next_hop}{' stale' if paths[0].stale else ''}" for prefix, paths in rib.best.items()
    }


def status(rib: Rib, address: Address = TOR) -> PeerStatus:
    return next(one for one in rib.status() if one.peer == address)


def deadline(rib: Rib) -> float | None:
    return rib.next_deadline


def test_an_announcement_becomes_best_and_is_reported_once() -> None:
    rib = a_rib()
    rib.handle(up(), 1)
    assert rib.handle(announce(P), 2) == {Prefix(P)}
    assert rib.handle(announce(P), 3) == frozenset()
    assert best(rib) == {P: "10.1.1.1"}


def test_a_withdrawal_undoes_an_announcement() -> None:
    rib = a_rib()
    rib.handle(up(), 1)
    rib.handle(announce(P, Q), 2)
    assert rib.handle(withdraw(P), 3) == {Prefix(P)}
    assert best(rib) == {Q: "10.1.1.1"}


def test_withdrawing_the_tor_path_falls_back_to_the_mesh_and_returns() -> None:
    rib = a_rib()
    rib.handle(up(), 1)
    rib.handle(up(MEMBER), 1)
    rib.handle(announce(P, peer=MEMBER, path=()), 2)
    rib.handle(announce(P), 3)
    assert best(rib) == {P: "10.1.1.1"}
    rib.handle(withdraw(P), 4)
    assert best(rib) == {P: "10.2.2.11"}
    assert rib.handle(announce(P), 5) == {Prefix(P)}
    assert best(rib) == {P: "10.1.1.1"}


def test_updates_of_peers_that_are_not_wanted_or_not_up_change_nothing() -> None:
    rib = a_rib()
    stranger = Address("192.0.2.1")
    assert rib.handle(up(stranger), 1) == frozenset()
    assert rib.handle(announce(P, peer=stranger), 1) == frozenset()
    assert rib.handle(announce(P), 1) == frozenset()
    assert best(rib) == {}


def test_a_rejected_path_is_received_and_counted_by_reason() -> None:
    rib = a_rib()
    rib.handle(up(), 1)
    rib.handle(announce("192.0.2.0/24", "10.244.1.0/26"), 2)
    rib.handle(announce(P, path=(65101, 64512)), 2)
    found = status(rib)
    assert (found.received, found.accepted) == (3, 0)
    assert found.rejected == {Rejection.OUTSIDE_POOLS: 1, Rejection.OWN_BLOCK: 1, Rejection.AS_LOOP: 1}


def test_a_new_pool_lets_in_what_was_received_before() -> None:
    rib = a_rib()
    rib.handle(up(), 1)
    rib.handle(announce("10.9.1.0/26"), 2)
    assert best(rib) == {}
    wider = replace(BOTH, pools={**BOTH.pools, "more": pool("10.9.0.0/16")})
    assert rib.set_policy(wider, "a1") == {Prefix("10.9.1.0/26")}
    assert rib.set_policy(wider, "a1") == frozenset()
    assert rib.set_policy(BOTH, "a1") == {Prefix("10.9.1.0/26")}
    assert best(rib) == {}


def test_a_new_member_changes_the_preference_of_its_paths() -> None:
    alone = cluster(node("a1"), pool(), peer("tor", "10.1.1.1", 65101))
    rib = a_rib(alone)
    rib.handle(up(), 1)
    rib.handle(announce(P, via="10.2.2.11"), 2)
    assert rib.best[Prefix(P)][0].local_pref == 100
    rib.set_policy(BOTH, "a1")
    assert rib.best[Prefix(P)][0].local_pref == 90


def test_a_cluster_that_does_not_know_the_node_imports_nothing() -> None:
    rib = a_rib()
    rib.handle(up(), 1)
    rib.handle(announce(P), 2)
    assert rib.set_policy(Cluster(), "a1") == {Prefix(P)}


def test_a_removed_session_is_flushed_at_once() -> None:
    rib = a_rib()
    rib.handle(up(gr=graceful()), 1)
    rib.handle(announce(P), 2)
    assert rib.set_sessions([], 3) == {Prefix(P)}
    assert rib.status() == ()
    assert rib.synced(3)


def test_a_session_with_another_as_is_another_session() -> None:
    rib = a_rib()
    rib.handle(up(gr=graceful()), 1)
    rib.handle(announce(P), 2)
    others = [replace(session, peer_as=65999) for session in wanted_sessions(BOTH, "a1")]
    assert rib.set_sessions(others, 3) == {Prefix(P)}
    assert status(rib).state is State.DOWN


def test_a_session_with_other_timers_is_the_same() -> None:
    rib = a_rib()
    rib.handle(up(), 1)
    rib.handle(announce(P), 2)
    assert rib.set_sessions([replace(s, hold_time=9) for s in wanted_sessions(BOTH, "a1")], 3) == frozenset()
    assert status(rib).state is State.ESTABLISHED


def test_rfc4724_4_2_a_closed_connection_leaves_stale_paths_until_end_of_rib() -> None:
    rib = a_rib()
    rib.handle(up(gr=graceful()), 1)
    rib.handle(announce(P, Q), 2)
    rib.handle(down(), 10)
    assert best(rib) == {P: "10.1.1.1 stale", Q: "10.1.1.1 stale"}
    assert (status(rib).state, status(rib).stale) == (State.RESTARTING, 2)
    rib.handle(up(gr=graceful()), 20)
    rib.handle(announce(P), 21)
    assert best(rib) == {P: "10.1.1.1", Q: "10.1.1.1 stale"}
    rib.handle(end_of_rib(), 22)
    assert best(rib) == {P: "10.1.1.1"}
    assert rib.next_deadline is None


def test_rfc4724_4_2_stale_paths_go_after_the_restart_time() -> None:
    rib = a_rib()
    rib.handle(up(gr=graceful()), 1)
    rib.handle(announce(P), 2)
    rib.handle(down(), 10)
    assert rib.next_deadline == 10 + RESTART
    assert rib.expire(10 + RESTART - 0.1) == frozenset()
    assert rib.expire(10 + RESTART) == {Prefix(P)}
    assert best(rib) == {}
    assert status(rib).state is State.DOWN


def test_rfc4724_4_2_without_the_f_bit_stale_paths_go_when_the_peer_returns() -> None:
    rib = a_rib()
    rib.handle(up(gr=graceful()), 1)
    rib.handle(announce(P), 2)
    rib.handle(down(), 10)
    assert rib.handle(up(gr=graceful(kept=False)), 11) == {Prefix(P)}
    assert best(rib) == {}


def test_rfc4724_4_2_without_the_capability_stale_paths_go_when_the_peer_returns() -> None:
    rib = a_rib()
    rib.handle(up(gr=graceful()), 1)
    rib.handle(announce(P), 2)
    rib.handle(down(), 10)
    assert rib.handle(up(), 11) == {Prefix(P)}


def test_rfc4724_4_2_a_second_restart_drops_what_is_stale_from_the_first() -> None:
    rib = a_rib()
    rib.handle(up(gr=graceful()), 1)
    rib.handle(announce(P, Q), 2)
    rib.handle(down(), 10)
    rib.handle(up(gr=graceful()), 20)
    rib.handle(announce(P), 21)
    rib.handle(down(), 22)
    assert best(rib) == {P: "10.1.1.1 stale"}


def test_rfc4724_4_2_the_wait_for_end_of_rib_is_bounded() -> None:
    rib = a_rib()
    rib.handle(up(gr=graceful()), 1)
    rib.handle(announce(P), 2)
    rib.handle(down(), 10)
    rib.handle(up(gr=graceful()), 20)
    assert rib.next_deadline == 20 + 120
    assert rib.expire(20 + 120) == {Prefix(P)}


@pytest.mark.parametrize("gr", [None, graceful(families=False), graceful(time=0)], ids=["no GR", "helper only", "0 s"])
def test_rfc4724_4_2_a_peer_that_keeps_nothing_is_flushed(gr: GracefulRestart | None) -> None:
    rib = a_rib()
    rib.handle(up(gr=gr), 1)
    rib.handle(announce(P), 2)
    assert rib.handle(down(), 10) == {Prefix(P)}
    assert best(rib) == {}


def test_rfc4724_4_a_notification_flushes_at_once() -> None:
    rib = a_rib()
    rib.handle(up(gr=graceful()), 1)
    rib.handle(announce(P), 2)
    assert rib.handle(down(Ending.NOTIFICATION), 10) == {Prefix(P)}
    assert status(rib).last_error == "the reason"


def test_our_own_restart_keeps_paths_of_any_peer_and_asks_for_no_f_bit() -> None:
    rib = a_rib()
    rib.handle(up(), 1)
    rib.handle(up(MEMBER, graceful(kept=False)), 1)
    rib.handle(announce(P), 2)
    rib.handle(announce(Q, peer=MEMBER), 2)
    rib.handle(down(Ending.LOCAL), 10)
    rib.handle(down(Ending.LOCAL, MEMBER), 10)
    assert best(rib) == {P: "10.1.1.1 stale", Q: "10.2.2.11 stale"}
    rib.handle(up(), 11)
    rib.handle(up(MEMBER, graceful(kept=False)), 11)
    assert best(rib) == {P: "10.1.1.1 stale", Q: "10.2.2.11 stale"}
    rib.handle(end_of_rib(MEMBER), 12)
    assert rib.expire(11 + QUIET_SECONDS) == {Prefix(P)}
    assert best(rib) == {}


def test_a_stale_path_of_the_fabric_gives_way_to_the_mesh() -> None:
    rib = a_rib()
    rib.handle(up(gr=graceful()), 1)
    rib.handle(up(MEMBER), 1)
    rib.handle(announce(P), 2)
    rib.handle(announce(P, peer=MEMBER, path=()), 2)
    assert rib.handle(down(), 10) == {Prefix(P)}
    assert best(rib) == {P: "10.2.2.11"}


def test_up_without_down_is_a_reconnection_of_ours() -> None:
    rib = a_rib()
    rib.handle(up(gr=graceful()), 1)
    rib.handle(announce(P), 2)
    assert rib.handle(up(gr=graceful()), 3) == {Prefix(P)}
    assert best(rib) == {P: "10.1.1.1 stale"}


def test_rfc7606_session_reset_flushes_and_asks_for_the_reset() -> None:
    rib = a_rib()
    rib.handle(up(gr=graceful()), 1)
    rib.handle(announce(P), 2)
    broken = UpdateReceived(TOR, bytes([0, 1, 33, 0, 0]))
    assert rib.handle(broken, 3) == {Prefix(P)}
    assert rib.faulty == {TOR}
    assert rib.handle(announce(P), 4) == frozenset()
    rib.handle(down(Ending.LOCAL), 5)
    assert rib.faulty == frozenset()
    rib.handle(up(gr=graceful()), 6)
    rib.handle(announce(P), 7)
    assert best(rib) == {P: "10.1.1.1"}
    assert "invalid network field" in status(rib).last_error


def test_rfc7606_treat_as_withdraw_withdraws() -> None:
    rib = a_rib()
    rib.handle(up(), 1)
    rib.handle(announce(P, Q), 2)
    without_origin = UpdateReceived(TOR, wire.body(P, attributes=wire.as_path(65101) + wire.NEXT_HOP))
    assert rib.handle(without_origin, 3) == {Prefix(P)}
    assert best(rib) == {Q: "10.1.1.1"}
    assert "ORIGIN" in status(rib).last_error


def test_a_failed_attempt_does_not_hide_why_the_session_ended() -> None:
    rib = a_rib()
    rib.handle(down(), 1)
    assert status(rib).last_error == "the reason"
    rib.handle(up(), 2)
    assert status(rib).last_error == ""
    rib.handle(SessionDown(TOR, Ending.NOTIFICATION, "administrative shutdown"), 3)
    rib.handle(down(), 4)
    assert status(rib).last_error == "administrative shutdown"


def test_rfc4724_4_1_in_sync_when_every_session_has_ended_its_rib() -> None:
    rib = a_rib()
    assert not rib.synced(0)
    rib.handle(up(gr=graceful()), 1)
    rib.handle(up(MEMBER, graceful()), 1)
    rib.handle(end_of_rib(), 2)
    assert not rib.synced(2)
    assert (status(rib).synced, status(rib, MEMBER).synced) == (True, False)
    rib.handle(end_of_rib(MEMBER), 3)
    assert rib.synced(3)
    rib.handle(down(), 4)
    assert not rib.synced(4)


def test_a_peer_without_graceful_restart_is_in_sync_after_a_quiet_second() -> None:
    rib = a_rib()
    rib.handle(up(MEMBER, graceful()), 1)
    rib.handle(end_of_rib(MEMBER), 1)
    rib.handle(up(), 1)
    assert deadline(rib) == 1 + QUIET_SECONDS
    assert not rib.synced(1.5)
    assert rib.synced(1 + QUIET_SECONDS)
    rib.expire(1 + QUIET_SECONDS)
    assert deadline(rib) is None
    assert rib.synced(99)


PEERS = (TOR, MEMBER)
CANDIDATES = [f"10.244.{n}.0/26" for n in range(6)]
news = st.tuples(
    st.sampled_from(PEERS),
    st.sampled_from(CANDIDATES),
    st.one_of(st.none(), st.lists(st.sampled_from([65101, 65102, 64512]), max_size=3).map(tuple)),
)
tables = st.dictionaries(
    st.tuples(st.sampled_from(PEERS), st.sampled_from(CANDIDATES)),
    st.lists(st.sampled_from([65101, 65102, 64512]), max_size=3).map(tuple),
)


def established() -> Rib:
    rib = a_rib()
    for address in PEERS:
        rib.handle(up(address, graceful()), 1)
    return rib


def apply(rib: Rib, one: tuple[Address, str, tuple[int, ...] | None]) -> frozenset[Prefix]:
    address, prefix, path = one
    event = withdraw(prefix, peer=address) if path is None else announce(prefix, peer=address, path=path)
    return rib.handle(event, 2)


@settings(deadline=None)  # shared cores: wall time says nothing
@given(tables, st.lists(news), st.randoms())
def test_any_order_of_the_same_final_updates_gives_the_same_loc_rib(
    final: dict[tuple[Address, str], tuple[int, ...]],
    before: list[tuple[Address, str, tuple[int, ...] | None]],
    random: Random,
) -> None:
    plain, shuffled = established(), established()
    for (address, prefix), path in final.items():
        apply(plain, (address, prefix, path))
    for one in before:  # what came before does not matter, once every key has its last word
        apply(shuffled, one)
    last = [(address, prefix, final.get((address, prefix))) for address in PEERS for prefix in CANDIDATES]
    random.shuffle(last)
    for one in last:
        apply(shuffled, one)
    assert dict(plain.best) == dict(shuffled.best)


@settings(deadline=None)  # shared cores: wall time says nothing
@given(st.lists(news))
def test_changes_are_reported_exactly(happened: list[tuple[Address, str, tuple[int, ...] | None]]) -> None:
    rib = established()
    for one in happened:
        before = dict(rib.best)
        changed = apply(rib, one)
        assert changed == {
            prefix for prefix in before.keys() | rib.best.keys() if before.get(prefix) != rib.best.get(prefix)
        }


@settings(deadline=None)  # shared cores: wall time says nothing
@given(tables)
def test_losing_every_session_leaves_an_empty_loc_rib(final: dict[tuple[Address, str], tuple[int, ...]]) -> None:
    rib = established()
    for (address, prefix), path in final.items():
        apply(rib, (address, prefix, path))
    for address in PEERS:
        rib.handle(down(Ending.CLOSED, address), 3)
    rib.expire(3 + RESTART)
    assert dict(rib.best) == {}
    assert rib.next_deadline is None
    assert all(one.received == one.accepted == one.stale == 0 for one in rib.status())

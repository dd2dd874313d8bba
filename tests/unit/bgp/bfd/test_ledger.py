"""What the agent is told, and what it is not told, of its BFD sessions."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from routed.errors import OperatorError
from routed_bgp.bfd import messages
from routed_bgp.bfd.ledger import GRACE_SECONDS, BfdChange, Ledger
from routed_bgp.bfd.messages import BfdSession, Deaf, Leave, Refusals, Report, Want
from routed_bgp.bfd.packet import Diagnostic, State
from routed_bgp.bfd.snapshot import Snapshot

PEER, US, OTHER = ip_address("10.0.0.2"), ip_address("10.0.0.1"), ip_address("2001:db8::2")
SESSION = BfdSession(peer=PEER, local=US)
DOWN = Snapshot(discriminator=1, state=State.DOWN)
UP = replace(DOWN, state=State.UP, remote_state=State.UP, remote_discriminator=7, control_independent=True)
SILENT = replace(UP, state=State.DOWN, diagnostic=Diagnostic.DETECTION_TIME_EXPIRED, failures=1)
SAID_DOWN = replace(
    UP, state=State.DOWN, remote_state=State.DOWN, diagnostic=Diagnostic.NEIGHBOR_SIGNALED_DOWN, failures=1
)
ADMIN = replace(SAID_DOWN, remote_state=State.ADMIN_DOWN, failures=0)


def ledger(*reports: Snapshot) -> Ledger:
    made = Ledger()
    made.want([SESSION], 0.0)
    made.started(0.0)
    for each in reports:
        made.report(PEER, each, 1.0)
    return made


def told(changes: list[BfdChange]) -> list[tuple[bool, bool]]:
    return [(change.up, change.failed) for change in changes]


def test_a_session_that_never_came_up_is_never_told_to_be_down() -> None:
    made = ledger()
    assert made.report(PEER, DOWN, 1.0) == []
    assert made.report(PEER, replace(DOWN, state=State.INIT), 1.0) == []
    assert made.report(PEER, DOWN, 1.0) == []


def test_up_is_told_once() -> None:
    made = ledger(DOWN)
    assert told(made.report(PEER, UP, 1.0)) == [(True, False)]
    assert made.report(PEER, replace(UP, remote_min_tx=100_000), 1.0) == []


@pytest.mark.parametrize("down", [SILENT, SAID_DOWN], ids=["silent", "said"])
def test_up_to_down_is_a_failure_with_its_diagnostic(down: Snapshot) -> None:
    (change,) = ledger(UP).report(PEER, down, 2.0)
    assert change == BfdChange(
        peer=PEER,
        up=False,
        failed=True,
        diagnostic=down.diagnostic.words,
        state=State.DOWN,
        remote_state=down.remote_state,
        control_independent=True,
    )


def test_rfc5882_3_2_admin_down_of_the_peer_is_no_failure() -> None:
    assert told(ledger(UP).report(PEER, ADMIN, 2.0)) == [(False, False)]


def test_a_failure_between_two_reports_is_told() -> None:
    assert told(ledger(UP).report(PEER, replace(UP, failures=1), 2.0)) == [(False, True), (True, False)]


def test_the_death_of_the_process_is_no_failure_and_the_next_one_goes_on() -> None:
    made = ledger(UP)
    made.died()
    assert [(status.up, status.watched) for status in made.status()] == [(True, False)]
    assert made.resumable() == {PEER: UP}
    made.started(10.0)
    assert made.report(PEER, UP, 10.1) == []
    assert made.expire(10.0 + GRACE_SECONDS) == []
    assert made.next_deadline is None


def test_a_peer_that_noticed_the_gap_may_come_back_in_the_grace() -> None:
    made = ledger(UP)
    made.died()
    made.started(10.0)
    assert made.report(PEER, SAID_DOWN, 10.1) == []
    assert made.report(PEER, replace(SAID_DOWN, state=State.INIT), 11.0) == []
    assert made.report(PEER, replace(UP, failures=1), 11.1) == []
    assert made.expire(10.0 + GRACE_SECONDS) == []
    assert made.status()[0].up


def test_a_peer_that_does_not_come_back_in_the_grace_has_failed() -> None:
    made = ledger(UP)
    made.died()
    made.started(10.0)
    made.report(PEER, SAID_DOWN, 10.1)
    assert made.next_deadline == 10.0 + GRACE_SECONDS
    assert told(made.expire(10.0 + GRACE_SECONDS)) == [(False, True)]
    assert made.expire(20.0) == []


def test_a_process_that_never_told_of_a_session_that_was_up_is_waited_for() -> None:
    made = ledger(UP)
    made.died()
    made.started(10.0)
    made.report(PEER, SAID_DOWN, 10.1)
    made.died()  # and now nothing is there to go on with
    assert made.resumable() == {}
    made.started(11.0)
    assert made.report(PEER, DOWN, 11.1) == []
    assert told(made.expire(11.0 + GRACE_SECONDS)) == [(False, True)]


@pytest.mark.parametrize(("down", "failed"), [(SILENT, True), (ADMIN, False)], ids=["silent", "AdminDown"])
def test_in_the_grace_a_silent_peer_has_failed_and_an_administrator_is_believed(down: Snapshot, failed: bool) -> None:
    made = ledger(UP)
    made.died()
    made.started(10.0)
    assert told(made.report(PEER, down, 10.3)) == [(False, failed)]


def test_another_session_to_the_same_peer_ends_the_first_without_failure() -> None:
    made = ledger(UP)
    assert told(made.want([replace(SESSION, multihop=True)], 2.0)) == [(False, False)]
    assert told(made.report(PEER, UP, 2.1)) == [(True, False)]


def test_other_timers_are_the_same_session() -> None:
    made = ledger(UP)
    assert made.want([replace(SESSION, interval=100)], 2.0) == []
    assert made.status()[0].session.interval == 100
    assert made.status()[0].up


def test_what_is_not_wanted_is_forgotten() -> None:
    made = ledger(UP)
    assert made.want([], 2.0) == []
    assert made.report(PEER, SILENT, 3.0) == []
    assert made.status() == ()


def test_what_the_two_processes_say_survives_the_way() -> None:
    sessions = (
        BfdSession(peer=PEER, local=US, interface="eth0", interval=100, multiplier=5),
        BfdSession(peer=OTHER, local=ip_address("2001:db8::1"), multihop=True),
    )
    assert messages.decode_order(messages.encode_want(sessions, {PEER: UP})) == Want(sessions, {PEER: UP})
    assert messages.decode_order(messages.encode_leave()) == Leave()
    assert messages.decode_message(messages.encode_report(PEER, SILENT)) == Report(PEER, SILENT)
    for deaf in (Deaf(), Deaf("10.0.0.1", 3784, 98)):
        assert messages.decode_message(messages.encode_deaf(deaf)) == deaf
    refusals = Refusals(3, "10.0.0.9", "version 0")
    assert messages.decode_message(messages.encode_refusals(refusals)) == refusals


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"interval": 50}, "an interval of 50 ms, expected 100 to 60000"),
        ({"multiplier": 256}, "a multiplier of 256, expected 1 to 255"),
        ({"local": OTHER}, "of different families"),
        ({"peer": ip_address("fe80::1"), "local": ip_address("fe80::2")}, "none is named"),
    ],
    ids=["interval", "multiplier", "families", "link-local"],
)
def test_a_session_that_cannot_be_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(OperatorError, match=message):
        replace(SESSION, **fields)  # type: ignore[arg-type]

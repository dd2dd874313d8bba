"""When a starting agent may write, and how often what failed is tried."""

from __future__ import annotations

import pytest

from routed.agent.backoff import FIRST_SECONDS, LONGEST_SECONDS, Backoff
from routed.agent.gate import Gate


def test_a_kernel_with_routes_of_ours_is_closed_until_every_peer_is_in_sync() -> None:
    gate = Gate(30, holds_routes=True)
    gate.begin(100)
    gate.watch(101, synced=False, peers=tuple)
    assert not gate.may_write
    gate.watch(102, synced=True, peers=tuple)
    assert gate.may_write
    assert gate.next_deadline is None


def test_a_kernel_without_routes_of_ours_is_open_at_once() -> None:
    gate = Gate(30, holds_routes=False)
    assert gate.may_write
    assert not gate.in_sync


def test_nothing_counts_as_in_sync_before_the_sessions_are_known() -> None:
    gate = Gate(0, holds_routes=True)
    gate.watch(100, synced=True, peers=tuple)
    assert not gate.in_sync
    assert gate.next_deadline is None


def test_the_wait_is_counted_from_the_first_sessions() -> None:
    gate = Gate(30, holds_routes=True)
    gate.begin(100)
    gate.begin(125)  # the cluster changed meanwhile
    assert gate.next_deadline == 130
    gate.watch(129.9, synced=False, peers=tuple)
    assert not gate.may_write
    gate.watch(130, synced=False, peers=tuple)
    assert gate.may_write


def test_a_node_that_left_starts_over_with_its_routes_kept() -> None:
    gate = Gate(30, holds_routes=False)
    gate.begin(100)
    gate.watch(101, synced=True, peers=tuple)
    gate.reset()
    assert not gate.may_write
    gate.begin(500)
    assert gate.next_deadline == 530


def test_pauses_double_up_to_the_longest() -> None:
    backoff, now, pauses = Backoff(), 0.0, list[float]()
    for _ in range(12):
        pauses.append(backoff.failed(now))
        assert backoff.due is not None
        now = backoff.due
    assert pauses[:3] == pytest.approx([FIRST_SECONDS, 2 * FIRST_SECONDS, 4 * FIRST_SECONDS])
    assert pauses[-1] == LONGEST_SECONDS


def test_failures_before_a_try_is_due_do_not_make_it_rarer() -> None:
    backoff = Backoff()
    for hundredth in range(100):
        backoff.failed(hundredth / 1000)
    assert backoff.due == FIRST_SECONDS


def test_success_starts_over() -> None:
    backoff = Backoff()
    backoff.failed(0)
    backoff.failed(5)
    backoff.succeeded()
    assert backoff.due is None
    assert backoff.failed(9) == pytest.approx(FIRST_SECONDS)

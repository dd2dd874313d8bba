"""RFC 5880 sections 6.2, 6.5 and 6.8: states, timers, polls."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.unit.bgp.bfd.ends import DELAY, Wire, packet, session, up
from tests.unit.bgp.bfd.test_packet import PACKETS

from routed_bgp.bfd.packet import Diagnostic, Packet, State
from routed_bgp.bfd.session import Session

A, D, I, U = State.ADMIN_DOWN, State.DOWN, State.INIT, State.UP  # noqa: E741  as in the tables below
INTERVALS = st.integers(100, 1500).map(lambda milliseconds: milliseconds * 1000)
MULTIPLIERS = st.integers(1, 6)


def in_state(state: State) -> Session:
    made = session() if state is not U else up()
    made.tick(0.0, 1.0)
    if state is I:
        made.receive(packet(D), 0.0, 1.0)
    assert made.state is state
    return made


@pytest.mark.parametrize(
    ("ours", "received", "then"),
    [
        *((D, A, D), (D, D, I), (D, I, U), (D, U, D)),
        *((I, A, D), (I, D, I), (I, I, U), (I, U, U)),
        *((U, A, D), (U, D, D), (U, I, U), (U, U, U)),
    ],
    ids=lambda state: state.name,
)
def test_rfc5880_6_8_6_a_received_state_makes_ours(ours: State, received: State, then: State) -> None:
    made = in_state(ours)
    answers = made.receive(packet(received), 0.1, 1.0)
    assert made.state is then
    assert [answer.state for answer in answers] == ([then] if then is not ours else [])
    if ours in (I, U) and then is D:
        assert made.diagnostic is Diagnostic.NEIGHBOR_SIGNALED_DOWN


@pytest.mark.parametrize(("received", "failures"), [(A, 0), (D, 1)], ids=["AdminDown", "Down"])
def test_rfc5882_3_2_an_administrators_down_is_no_failure(received: State, failures: int) -> None:
    made = up()
    made.receive(packet(received), 0.1, 1.0)
    assert made.snapshot().failures == failures


def test_rfc5880_6_8_3_not_more_than_a_packet_a_second_until_up() -> None:
    made = session()
    times = [0.0]
    assert made.tick(0.0, 1.0)[0].desired_min_tx == 1_000_000
    for _ in range(3):
        assert made.next_deadline is not None
        times.append(made.next_deadline)
        assert made.tick(made.next_deadline, 0.0)
    assert times == pytest.approx([0.0, 1.0, 1.75, 2.5])


def test_rfc5880_6_8_2_the_slower_of_what_we_want_and_the_peer_takes() -> None:
    made = up()
    made.receive(packet(U, required_min_rx=400_000), 0.0, 1.0)
    assert made.transmit_interval == 400_000
    assert made.next_deadline == pytest.approx(0.3)  # the peer is silent before we send again
    made.receive(packet(U, required_min_rx=50_000), 0.0, 1.0)
    assert made.transmit_interval == 100_000


@pytest.mark.parametrize(("multiplier", "jitter", "part"), [(3, 0, 0.75), (3, 1, 1.0), (1, 0, 0.75), (1, 1, 0.9)])
def test_rfc5880_6_8_7_jitter(multiplier: int, jitter: float, part: float) -> None:
    made = up(multiplier=multiplier)
    made.receive(packet(U, multiplier=30), 0.0, 1.0)
    made.tick(10.0 - 7.1, jitter)
    assert made.next_deadline == pytest.approx(2.9 + 0.1 * part)


def test_rfc5880_6_8_7_a_peer_that_takes_nothing_is_sent_only_answers() -> None:
    made = up()
    made.receive(packet(U, required_min_rx=0, multiplier=200), 0.0, 1.0)
    assert made.next_deadline == pytest.approx(20.0)  # its silence, nothing of ours
    assert [sent.final for sent in made.receive(packet(U, required_min_rx=0, poll=True), 1.0, 1.0)] == [True]


def test_rfc5880_6_8_7_in_the_peers_demand_mode_we_are_silent_but_for_polls() -> None:
    made = up()
    made.receive(packet(U, demand=True, multiplier=200), 0.0, 1.0)
    assert made.next_deadline == pytest.approx(20.0)
    made.configure(interval=200_000, multiplier=3)
    assert [sent.poll for sent in made.tick(0.2, 1.0)] == [True]


def test_rfc5880_6_8_4_silence_for_the_detection_time_is_down() -> None:
    made = up()
    made.receive(packet(U, desired_min_tx=250_000, multiplier=4), 1.0, 1.0)
    assert made.detection_time == 1_000_000
    made.tick(1.999, 1.0)
    assert made.state is U
    told = made.tick(2.0, 1.0)
    assert made.state is D
    assert [(sent.state, sent.diagnostic) for sent in told] == [(D, Diagnostic.DETECTION_TIME_EXPIRED)]
    assert made.snapshot().failures == 1


def test_rfc5880_6_8_1_after_silence_the_peers_discriminator_is_forgotten() -> None:
    made = up()
    assert made.tick(9.0, 1.0)[0].your_discriminator == 0
    assert made.tick(10.0, 1.0)[0].your_discriminator == 0


def test_rfc5880_6_8_3_going_up_polls_for_the_fast_timers() -> None:
    made = session()
    made.tick(0.0, 1.0)
    told = made.receive(packet(I), 0.0, 1.0)
    assert [(sent.state, sent.desired_min_tx, sent.poll) for sent in told] == [(U, 100_000, True)]
    assert [sent.poll for sent in made.tick(0.1, 1.0)] == [True], "until it is answered"
    made.receive(packet(U, final=True), 0.1, 1.0)
    assert [sent.poll for sent in made.tick(0.2, 1.0)] == [False]


def test_rfc5880_6_8_7_a_poll_is_answered_at_once_and_the_answer_polls_not() -> None:
    made = session()
    made.tick(0.0, 1.0)
    made.receive(packet(I), 0.0, 1.0)  # we poll, too
    assert [(sent.poll, sent.final) for sent in made.receive(packet(U, poll=True), 0.01, 1.0)] == [(False, True)]


def test_rfc5880_6_8_3_slower_sending_waits_for_the_answer() -> None:
    made = up()
    made.configure(interval=400_000, multiplier=3)
    assert made.transmit_interval == 100_000
    assert made.detection_time == 1_200_000, "a longer wait needs nobody's leave"
    sent = made.tick(0.1, 1.0)[0]
    assert (sent.desired_min_tx, sent.required_min_rx, sent.poll) == (400_000, 400_000, True)
    made.receive(packet(U, final=True), 0.1, 1.0)
    assert made.transmit_interval == 400_000


def test_rfc5880_6_8_3_a_shorter_wait_waits_for_the_answer() -> None:
    made = up(interval=400_000)
    made.configure(interval=100_000, multiplier=3)
    assert made.transmit_interval == 100_000
    assert made.detection_time == 1_200_000
    made.receive(packet(U, final=True), 0.1, 1.0)
    assert made.detection_time == 300_000


def test_rfc5880_6_5_a_change_during_a_poll_makes_another_one_after_it() -> None:
    made = up()
    made.configure(interval=400_000, multiplier=3)
    made.configure(interval=500_000, multiplier=3)
    made.receive(packet(U, final=True), 0.0, 1.0)
    assert made.transmit_interval == 100_000, "the answer may be to the first"
    polls = [made.tick(at, 1.0)[0].poll for at in (0.1, 0.2)]
    assert polls == [False, True]
    made.receive(packet(U, final=True), 0.2, 1.0)
    assert made.transmit_interval == 500_000


def test_rfc5880_6_8_16_leaving_tells_admin_down_until_the_peer_knows() -> None:
    made = up()
    told = made.leave(1.0, 1.0)
    assert [(sent.state, sent.diagnostic) for sent in told] == [(A, Diagnostic.ADMINISTRATIVELY_DOWN)]
    assert made.receive(packet(U, poll=True), 1.01, 1.0) == []
    assert not made.left
    made.receive(packet(D), 1.02, 1.0)
    assert made.left
    assert made.next_deadline is None
    assert made.failures == 0


def test_rfc5880_6_8_16_leaving_ends_though_the_peer_does_not_answer() -> None:
    made = up()
    made.leave(1.0, 1.0)
    assert [sent.state for at in (1.11, 1.22) for sent in made.tick(at, 1.0)] == [A, A]
    assert made.left


def test_leaving_a_peer_that_never_answered_is_one_packet() -> None:
    made = session()
    made.tick(0.0, 1.0)
    assert len(made.leave(1.0, 1.0)) == 1
    assert made.left


def test_another_process_goes_on_with_the_session_and_the_peer_sees_no_difference() -> None:
    before = up()
    after = Session(99, interval=100_000, multiplier=3, now=5.0, resume=before.snapshot())
    assert after.state is U
    sent = after.tick(5.0, 1.0)[0]
    assert (sent.state, sent.my_discriminator, sent.your_discriminator, sent.poll) == (U, 1, 7, True)


def test_a_resumed_session_waits_for_the_first_packet_of_a_peer_that_may_be_slow_now() -> None:
    after = Session(99, interval=100_000, multiplier=3, now=5.0, resume=up().snapshot())
    after.tick(7.9, 1.0)
    assert after.state is U
    after.receive(packet(U), 7.9, 1.0)
    after.tick(8.21, 1.0)
    assert after.state is D


@settings(max_examples=60, deadline=None)
@given(st.tuples(INTERVALS, INTERVALS), st.tuples(MULTIPLIERS, MULTIPLIERS), st.floats(0, 0.9), st.integers(0, 2**32))
def test_two_ends_come_up_when_loss_stops_and_go_down_in_the_detection_time_after_a_cut(
    intervals: tuple[int, int], multipliers: tuple[int, int], loss: float, seed: int
) -> None:
    ends = tuple(
        Session(number + 1, interval=interval, multiplier=multiplier, now=0.0)
        for number, (interval, multiplier) in enumerate(zip(intervals, multipliers, strict=True))
    )
    wire = Wire((ends[0], ends[1]), seed)
    wire.loses = lambda: wire.random.random() < loss
    wire.run(20.0)
    wire.loses = lambda: False
    wire.run(60.0)
    assert [end.state for end in ends] == [U, U]
    assert [end.transmit_interval for end in ends] == [max(intervals)] * 2
    assert [end.detection_time for end in ends] == [multipliers[1] * max(intervals), multipliers[0] * max(intervals)]
    failures = [end.failures for end in ends]
    wire.run(90.0)
    assert [end.failures for end in ends] == failures, "it stays up"
    wire.loses = lambda: True
    for end in ends:
        wire.run(min(90.0 + DELAY + each.detection_time / 1e6 for each in ends) + 1e-6)
        assert D in [each.state for each in ends]
        wire.run(90.0 + DELAY + end.detection_time / 1e6 + 1e-6)
        assert (end.state, end.diagnostic) == (D, Diagnostic.DETECTION_TIME_EXPIRED)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(INTERVALS, MULTIPLIERS, st.booleans()), max_size=8), st.integers(0, 2**32))
@example(changes=[(200_000, 3, True), (100_000, 3, True), (1_500_000, 1, True)], seed=1)
def test_changing_timers_costs_no_session(changes: list[tuple[int, int, bool]], seed: int) -> None:
    ends = (Session(1, interval=100_000, multiplier=3, now=0.0), Session(2, interval=300_000, multiplier=2, now=0.0))
    wire = Wire(ends, seed)
    wire.run(10.0)
    for interval, multiplier, first in changes:
        ends[0 if first else 1].configure(interval=interval, multiplier=multiplier)
        wire.run(wire.now + wire.random.random())
    wire.run(wire.now + 20.0)
    assert [(end.state, end.failures) for end in ends] == [(U, 0), (U, 0)]
    assert ends[0].transmit_interval == ends[1].transmit_interval


@given(st.lists(PACKETS | st.floats(0.0, 10.0), max_size=30), st.floats(0, 1))
def test_whatever_a_peer_sends_the_session_lives(events: list[Packet | float], jitter: float) -> None:
    made, now = session(), 0.0
    for event in events:
        if isinstance(event, float):
            now += event
            made.tick(now, jitter)
        else:
            version, before = made.version, made.snapshot()
            for answer in made.receive(event, now, jitter):
                assert not (answer.poll and answer.final)
            assert made.snapshot() == before or made.version != version
        assert made.next_deadline is None or made.next_deadline >= -1.0

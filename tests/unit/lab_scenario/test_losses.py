"""From single probes to counts, gaps and bins."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from routed_lab.scenario.losses import Probed, gaps, longest, summary, width
from routed_lab.scenario.record import Gap

MILLISECOND = 0.001
TRIPS = st.lists(st.integers(0, 3) | st.just(0), max_size=300)


def probed(trips: list[int]) -> Probed:
    """One probe a millisecond."""
    return Probed("a", "b", [number * MILLISECOND for number in range(len(trips))], trips)


def test_a_gap_lasts_from_the_first_lost_probe_to_the_next_that_came_back():
    (gap,) = gaps(probed([5, 5, 0, 0, 0, 5]))

    assert gap == Gap(2 * MILLISECOND, 5 * MILLISECOND, 3)


def test_a_gap_that_does_not_end_lasts_to_the_last_probe():
    assert list(gaps(probed([5, 0, 0]))) == [Gap(MILLISECOND, 2 * MILLISECOND, 2)]


@given(TRIPS)
def test_every_lost_probe_is_in_exactly_one_gap(trips: list[int]):
    assert sum(gap.lost for gap in gaps(probed(trips))) == trips.count(0)


@given(TRIPS, st.floats(0.0005, 0.1))
def test_every_probe_is_in_exactly_one_bin(trips: list[int], wide: float):
    found = summary(probed(trips), quiet=0, wide=wide)

    assert sum(part.sent for part in found.bins) == found.sent == len(trips)
    assert sum(part.lost for part in found.bins) == found.lost == trips.count(0)


@given(TRIPS, st.floats(0, 0.3), st.floats(0, 0.3))
def test_losses_of_two_neighbouring_times_add_up(trips: list[int], one: float, other: float):
    begin, end = sorted((one, other))
    all_of_them = probed(trips)

    parts = all_of_them.lost(0, begin) + all_of_them.lost(begin, end) + all_of_them.lost(end, math.inf)
    assert parts == trips.count(0)


def test_of_many_gaps_the_longest_are_kept_in_the_order_of_time():
    short = [Gap(number, number + 0.1, 1) for number in range(300)]
    long = Gap(150.5, 150.9, 4)

    kept = longest(iter([*short, long]))

    assert long in kept
    assert len(kept) == 200
    assert kept == sorted(kept, key=lambda gap: gap.begin)


def test_a_long_run_is_shown_in_four_hundred_bins_and_a_short_one_no_finer_than_20_ms():
    assert width(400) == 1
    assert width(1) == 0.02

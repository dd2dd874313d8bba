"""From single probes to what a person asks: how many were lost, in which gaps, how long they took. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Final

from routed_lab.scenario.record import Bin, Gap, PairRecord

MOST_GAPS: Final = 200
"""Gaps that a record keeps, the longest ones: a link that loses at random makes thousands of one probe each."""

_BINS = 400
_FINEST = 0.02  # seconds


@dataclass(frozen=True, slots=True)
class Probed:
    """The probes of one pair in the order they were sent: when, in seconds, and their round trips in microseconds.

    A round trip of 0 is none: the probe was lost.
    """

    source: str
    destination: str
    sent: Sequence[float]
    trips: Sequence[int]
    late: int = 0

    def lost(self, begin: float, end: float) -> int:
        """How many of those sent from `begin` until before `end` were lost."""
        first, last = bisect_left(self.sent, begin), bisect_left(self.sent, end)
        return sum(not trip for trip in self.trips[first:last])


def width(seconds: float) -> float:
    """How much time a bin covers when all of `seconds` are shown."""
    return max(_FINEST, seconds / _BINS)


def summary(probed: Probed, *, quiet: float, wide: float) -> PairRecord:
    """What became of a pair's probes, in bins of `wide` seconds; before `quiet` nothing had been done to the lab."""
    trips = [trip for trip in probed.trips if trip]
    return PairRecord(
        source=probed.source,
        destination=probed.destination,
        sent=len(probed.sent),
        lost=len(probed.sent) - len(trips),
        late=probed.late,
        quiet_lost=probed.lost(0, quiet),
        median=median_low(trips) / 1000 if trips else None,
        most=max(trips) / 1000 if trips else None,
        gaps=longest(gaps(probed)),
        bins=list(_bins(probed, wide)),
    )


def gaps(probed: Probed) -> Iterator[Gap]:
    """Each run of lost probes; the last may have no end but the last probe."""
    first: int | None = None
    for number, trip in enumerate(probed.trips):
        if not trip and first is None:
            first = number
        elif trip and first is not None:
            yield Gap(probed.sent[first], probed.sent[number], number - first)
            first = None
    if first is not None:
        yield Gap(probed.sent[first], probed.sent[-1], len(probed.trips) - first)


def longest(found: Iterator[Gap]) -> list[Gap]:
    """The longest gaps, in the order of time."""
    return sorted(sorted(found, key=lambda gap: gap.begin - gap.end)[:MOST_GAPS], key=lambda gap: gap.begin)


def _bins(probed: Probed, wide: float) -> Iterator[Bin]:
    at = 0
    number = 1
    while at < len(probed.sent):
        end = bisect_left(probed.sent, number * wide, at)
        trips = [trip for trip in probed.trips[at:end] if trip]
        yield Bin(
            end - at,
            end - at - len(trips),
            min(trips) / 1000 if trips else None,
            max(trips) / 1000 if trips else None,
        )
        at, number = end, number + 1

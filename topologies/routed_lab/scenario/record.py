"""What a scenario leaves: the facts that its report is drawn from. Times are seconds since the probes began. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from routed_lab.wire import Row


class StepRecord(msgspec.Struct, frozen=True):
    """One step. `outcome`: an act is done, an expectation met or failed; after a failure the rest is skipped.

    `rows` are what the pings showed last where the step asked for all pairs.
    """

    text: str
    kind: Literal["act", "expectation"]
    outcome: Literal["done", "met", "failed", "skipped"]
    begin: float
    end: float
    detail: str = ""
    rows: list[Row] = []


class Bin(msgspec.Struct, frozen=True, array_like=True):
    """The probes sent in one piece of time; the round trips of those that came back, in milliseconds."""

    sent: int
    lost: int
    least: float | None
    most: float | None


class Gap(msgspec.Struct, frozen=True, array_like=True):
    """Probes lost one after the other: from when the first was sent until one that came back was."""

    begin: float
    end: float
    lost: int


class PairRecord(msgspec.Struct, frozen=True):
    """The probes of one pair. `late`: sent more than a millisecond and a period after their time; `quiet_lost`: lost
    before the first step, which is the prober's own fault or the machine's. Round trips in milliseconds.
    """

    source: str
    destination: str
    sent: int
    lost: int
    late: int
    quiet_lost: int
    median: float | None
    most: float | None
    gaps: list[Gap]
    bins: list[Bin]


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """From `time` on the packets of a pair travelled so; `encapsulation` is unseen while none came through."""

    time: float
    source: str
    destination: str
    path: str
    encapsulation: str


class Message(msgspec.Struct, frozen=True, array_like=True):
    """A BGP message as it left its sender."""

    time: float
    sender: str
    receiver: str
    kind: str
    text: str


class Change(msgspec.Struct, frozen=True, array_like=True):
    """A change of a node's routes, nexthops or links, in the words of `ip monitor`."""

    time: float
    node: str
    text: str


class Record(msgspec.Struct, frozen=True):
    """A whole run of a scenario. `dropped`: packets, messages or changes that came after there was no more room."""

    scenario: str
    lab: str
    machine: str
    started: str
    seconds: float
    quiet: float
    rate: int
    width: float
    steps: list[StepRecord]
    pairs: list[PairRecord]
    seen: list[Seen]
    messages: list[Message]
    changes: list[Change]
    dropped: int = 0

    @property
    def passed(self) -> bool:
        """Whether every step was done and every expectation met."""
        return all(step.outcome in ("done", "met") for step in self.steps)

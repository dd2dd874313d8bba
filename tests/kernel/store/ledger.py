"""What users of IPAM were told, from their own words; and whether all of that can be true. Pure.

A handle is asked for, held, releasing and freed, each said with the time of the machine's monotonic clock in ns: held
once it was acknowledged, releasing before it is given back. In between, the address is this handle's and nobody else's,
whatever was killed meanwhile.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from math import inf


class State(Enum):
    ASKING = "asking"
    HELD = "held"
    RELEASING = "releasing"
    FREED = "freed"


@dataclass
class Span:
    """`handle` had an address from `start` on, until `end`, for certain."""

    handle: str
    start: float
    end: float = inf


@dataclass
class Ledger:
    states: dict[str, State] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    spans: dict[str, list[Span]] = field(default_factory=lambda: defaultdict(list))
    doubtful: set[str] = field(default_factory=set)  # an answer was lost: may be carried out, be it late
    wrong: list[str] = field(default_factory=list)
    loaded: set[str] = field(default_factory=set)  # users that have begun
    given: int = 0
    faults: int = 0
    _found: set[str] = field(default_factory=set)
    _open: dict[str, Span] = field(default_factory=dict)

    def hear(self, line: str) -> None:
        """One line of one user, whose handles begin with its name and a dot."""
        match line.split():
            case [_, "asking", handle]:
                self.states[handle] = State.ASKING
            case [at, "held", handle, address]:
                self.given += 1
                self.states[handle], self.addresses[handle] = State.HELD, address
                self._open[handle] = Span(handle, float(at))
                self.spans[address].append(self._open[handle])
            case [at, "releasing", handle]:
                if handle in self._open:
                    self._open.pop(handle).end = float(at)
                self.states[handle] = State.RELEASING
            case [_, "freed", handle]:
                self.states[handle] = State.FREED
            case [_, "fault", handle]:
                self.faults += 1
                self.doubtful.add(handle)
            case [_, "found", handle, address]:
                self._found.add(handle)
                if self.states[handle] is State.HELD and self.addresses[handle] != address:
                    self.wrong.append(f"{handle} was given {self.addresses[handle]} and has {address} after a restart")
                if self.states[handle] is State.FREED and handle not in self.doubtful:
                    self.wrong.append(f"{handle} was freed and has {address} after a restart")
            case [_, "loaded", user]:
                self.wrong += [f"{each} is lost after a restart" for each in self.held(user).keys() - self._found]
                self._found.clear()
                self.loaded.add(user)
            case _:
                self.wrong.append(f"what is said by {line!r}?")

    def killed(self, user: str) -> list[str]:
        """The handles of `user` of which nobody knows whether they are held, now that it was killed."""
        unsure = [
            handle
            for handle, state in self.states.items()
            if handle.startswith(f"{user}.") and state in (State.ASKING, State.RELEASING)
        ]
        self.doubtful.update(unsure)
        self.loaded.discard(user)
        return unsure

    def held(self, user: str = "") -> dict[str, str]:
        """Address by handle, of one user or of all."""
        begin = f"{user}." if user else ""
        return {
            handle: self.addresses[handle]
            for handle, state in self.states.items()
            if state is State.HELD and handle.startswith(begin)
        }

    def judged(self) -> list[str]:
        """All that cannot be: what was heard, and addresses that were two handles' at one time."""
        found = list(self.wrong)
        for address, spans in self.spans.items():
            ordered = sorted(spans, key=lambda span: span.start)
            for before, after in pairwise(ordered):
                if before.end > after.start:
                    found.append(f"{address} was given to {after.handle} while {before.handle} had it")
        return found

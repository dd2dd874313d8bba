"""Two BFD sessions and a wire between them, in simulated time."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable

from routed_bgp.bfd.packet import Packet, State, decode, encode
from routed_bgp.bfd.session import Session

DELAY = 0.004  # seconds on the wire


def packet(state: State, **fields: object) -> Packet:
    """A packet of a peer that wants 100 ms x 3 and has the discriminator 7."""
    known = {
        "my_discriminator": 7,
        "your_discriminator": 1,
        "desired_min_tx": 100_000,
        "required_min_rx": 100_000,
        "multiplier": 3,
    }
    return Packet(state=state, **{**known, **fields})  # type: ignore[arg-type]


def session(interval: int = 100_000, multiplier: int = 3, now: float = 0.0) -> Session:
    return Session(1, interval=interval, multiplier=multiplier, now=now)


def up(interval: int = 100_000, multiplier: int = 3, now: float = 0.0) -> Session:
    """A session that is up at `now`, all timers agreed."""
    made = session(interval, multiplier, now)
    made.tick(now, 1.0)
    made.receive(packet(State.INIT), now, 1.0)
    made.receive(packet(State.UP, final=True), now, 1.0)
    assert made.state is State.UP
    return made


class Wire:
    """Carries what the two ends send; `loses` says which packets do not arrive."""

    def __init__(self, ends: tuple[Session, Session], seed: int) -> None:
        self.ends = ends
        self.now = 0.0
        self.random = random.Random(seed)
        self.loses: Callable[[], bool] = lambda: False
        self.sent: list[tuple[float, int, Packet]] = []
        self._serial = itertools.count()
        self._flying: list[tuple[float, int, int, bytes]] = []

    def run(self, until: float) -> None:
        while (at := self._next()) <= until:
            self.now = max(self.now, at)
            while self._flying and self._flying[0][0] <= self.now:
                _, _, to, data = heapq.heappop(self._flying)
                self._carry(to, self.ends[to].receive(decode(data), self.now, self.random.random()))
            for number, end in enumerate(self.ends):
                if (deadline := end.next_deadline) is not None and deadline <= self.now:
                    self._carry(number, end.tick(self.now, self.random.random()))
        self.now = until

    def _next(self) -> float:
        deadlines = [end.next_deadline for end in self.ends]
        flying = [self._flying[0][0]] if self._flying else []
        return min([deadline for deadline in deadlines if deadline is not None] + flying, default=float("inf"))

    def _carry(self, number: int, packets: list[Packet]) -> None:
        for each in packets:
            self.sent.append((self.now, number, each))
            if not self.loses():
                entry = (self.now + DELAY, next(self._serial), 1 - number, encode(each))
                heapq.heappush(self._flying, entry)

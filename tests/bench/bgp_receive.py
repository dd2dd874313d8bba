"""How soon a receiver has a table: session up to Loc-RIB complete, ours over BIRD's and GoBGP's.

Two senders. **BIRD** with static routes sends what the keys name: one attribute set, which it groups; or, where no two
routes have the same attributes, one prefix per UPDATE, the only way to make BIRD do that. It is what a node has at the
other end, and what the targets were made with. 2.0.12 stalls for 3.0 s as a sender: its loop goes to sleep for that
long (its poll timeout) while it has events of its own queued, unless a socket wakes it; on this subnet it did so in
every run. So it is asked something every 2 ms while it sends, and a run in which nothing moved for about 3 s all the
same is repeated, and counted in the detail.

And the **replay** of UPDATEs that were encoded beforehand (`simulator`), the same bytes for every receiver, written at
once: a sender that has no speed of its own behind which a receiver could hide. Its figures are in the detail.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bgp_peers import BirdFeeder
from bgp_tables import BirdReceiver, GobgpReceiver, OurReceiver, Receiver, up
from bgp_world import FEEDER, ROUTER_AS, Agent, World, peer_address
from harness import Json, say, spread
from simulator import attributes, grouped, nlri, single

SETS = 1000
"""Attribute sets in the replay of single-prefix UPDATEs, in turn: a fabric of so many nodes whose blocks come mixed."""

STALL = 2.7, 3.4
"""Seconds without progress that are BIRD's."""
_TRIES = 6


@dataclass
class Progress:
    """A receiver on its way to `count` prefixes."""

    receiver: Receiver
    count: int
    last: int = 0
    moved_at: float = field(default_factory=time.monotonic)
    longest: float = 0.0
    complete_at: float = 0.0

    def complete(self) -> bool:
        """Whether it has arrived; to be asked again and again."""
        prefixes, at = self.receiver.received()
        if prefixes != self.last:
            self.longest = max(self.longest, at - self.moved_at)
            self.last, self.moved_at = prefixes, at
        if prefixes >= self.count:
            self.complete_at = at
        return prefixes >= self.count


def replayed(world: World, receiver: Receiver, table: bytes, count: int) -> float:
    """Seconds from session up until `receiver`, started afresh, has what the simulator sends."""
    receiver.start(kernel=False)
    try:
        session = up(world, receiver.address, table)
        progress = Progress(receiver, count)
        world.simulator.run(progress.complete, 120, f"{receiver.name}: {count} routes", every=receiver.every)
        world.simulator.close(session, notification=(6, 3))
        return progress.complete_at - session.established_at
    finally:
        receiver.stop()


def sent_by_bird(world: World, receiver: Receiver, feeder: BirdFeeder, count: int) -> tuple[float, bool]:
    """Seconds from the moment that BIRD has the session up until `receiver` has all; and whether BIRD stalled."""
    receiver.start(kernel=False, peer=FEEDER)
    try:
        feeder.open(receiver.address)
        world.simulator.run(lambda: feeder.established(receiver.address), 60, "BIRD's session", every=0.001)
        established_at = time.monotonic()
        progress = Progress(receiver, count)
        ask_at = 0.0

        def complete() -> bool:
            nonlocal ask_at
            feeder.wake()
            if time.monotonic() < ask_at:
                return False
            ask_at = time.monotonic() + receiver.every
            return progress.complete()

        world.simulator.run(complete, 120, f"{receiver.name}: {count} routes", every=0.002)
        return progress.complete_at - established_at, STALL[0] <= progress.longest <= STALL[1]
    finally:
        feeder.close(receiver.address)
        receiver.stop()


def taken(receivers: Sequence[Receiver], repeats: int, take: Callable[[Receiver], tuple[float, bool]]) -> Taken:
    """All runs, the receivers in turn; a run in which the sender stalled does not count."""
    found = Taken({receiver.name: [] for receiver in receivers})
    for _ in range(repeats):
        for receiver in receivers:
            for _ in range(_TRIES):
                seconds, stalled = take(receiver)
                if not stalled:
                    break
                found.stalls += 1
            found.seconds[receiver.name].append(seconds)
    return found


@dataclass
class Taken:
    """Seconds of each receiver, and how many runs were repeated because the sender stalled."""

    seconds: dict[str, list[float]]
    stalls: int = 0

    def over(self, name: str) -> float:
        """Our median over that of another receiver."""
        return statistics.median(self.seconds["ours"]) / statistics.median(self.seconds[name])

    @property
    def detail(self) -> Json:
        """All medians and spreads."""
        return {**{name: spread(found) for name, found in self.seconds.items()}, "stalled_runs": self.stalls}


def receive(world: World, agent: Agent, quick: bool) -> tuple[dict[str, float], Json]:
    """All `receive_` figures."""
    small, large, repeats = (5_000, 20_000, 1) if quick else (100_000, 500_000, 3)
    ours, bird, gobgp = OurReceiver(agent), BirdReceiver(world.bird), GobgpReceiver(world.gobgp)
    figures: dict[str, float] = {}
    detail: Json = {}
    tables: list[tuple[str, int, bool, Sequence[Receiver]]] = [
        ("100k_single", small, False, (bird, gobgp, ours)),
        ("100k_grouped", small, True, (bird, ours)),
        ("500k_grouped", large, True, (bird, ours)),
    ]
    for name, count, alike, receivers in tables:
        say(f"receive {name}, BIRD sends")
        feeder = world.feeder
        feeder.start(count, alike=alike, receivers=[receiver.address for receiver in receivers])
        try:

            def take(receiver: Receiver, feeder: BirdFeeder = feeder, count: int = count) -> tuple[float, bool]:
                return sent_by_bird(world, receiver, feeder, count)

            found = taken(receivers, repeats, take)
        finally:
            feeder.stop()
        detail[f"receive_{name}_seconds"] = found.detail
        figures[f"receive_{name}_vs_bird"] = found.over("bird")
        if "gobgp" in found.seconds:
            figures[f"receive_{name}_vs_gobgp"] = found.over("gobgp")
    hop = peer_address(1)
    mixed = [attributes(hop, [ROUTER_AS], tag=number) for number in range(1, SETS + 1)]
    replays = [
        ("100k_single", single(small, mixed), (bird, gobgp, ours)),
        ("100k_grouped", grouped(map(nlri, range(small)), attributes(hop, [ROUTER_AS])), (bird, ours)),
    ]
    for name, table, receivers in replays:
        say(f"receive {name}, a replay sends")

        def again(receiver: Receiver, table: bytes = table) -> tuple[float, bool]:
            return replayed(world, receiver, table, small), False

        detail[f"receive_{name}_replayed_seconds"] = taken(receivers, repeats, again).detail
    return figures, detail

"""Figures about tables: how soon they are in the kernel, how soon one UPDATE is in, and what it costs to keep them.

`bgp_receive` has how soon they are in the Loc-RIB. The sender here is the simulator: it writes UPDATEs that were
encoded beforehand, the same bytes for BIRD and ours.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Protocol

from bgp_peers import Bird, Gobgp
from bgp_world import FEEDER, ROUTER_AS, Agent, World, configuration, node, peer_address, resident_mb, router
from harness import Json, say, spread
from simulator import END_OF_RIB, Plan, Session, attributes, grouped, nlri

FIRST = peer_address(1)


class Receiver(Protocol):
    """Whoever takes a table from a router. `start`: afresh."""

    name: str
    address: str
    namespace: str
    every: float  # seconds between two questions

    def start(self, *, kernel: bool, peer: str = FIRST) -> None:
        """Run, with one session that `peer` opens."""
        ...

    def stop(self) -> None:
        """End, with nothing left."""
        ...

    def received(self) -> tuple[int, float]:
        """How many prefixes the table holds, and since when, monotonic seconds."""
        ...


class BirdReceiver:
    """BIRD, with its kernel protocol where the kernel is asked for."""

    name = "bird"
    every = 0.005

    def __init__(self, bird: Bird) -> None:
        self._bird = bird
        self.address, self.namespace = bird.address, bird.namespace

    def start(self, *, kernel: bool, peer: str = FIRST) -> None:
        self._bird.start(peer, ROUTER_AS, kernel=kernel)

    def stop(self) -> None:
        self._bird.stop()

    def received(self) -> tuple[int, float]:
        return self._bird.received(), now()


class GobgpReceiver:
    """GoBGP, which has no kernel."""

    name = "gobgp"
    every = 0.01

    def __init__(self, gobgp: Gobgp) -> None:
        self._gobgp = gobgp
        self.address, self.namespace = gobgp.address, gobgp.namespace

    def start(self, *, kernel: bool, peer: str = FIRST) -> None:
        assert not kernel
        self._gobgp.start(peer, ROUTER_AS)

    def stop(self) -> None:
        self._gobgp.stop()

    def received(self) -> tuple[int, float]:
        return self._gobgp.received(), now()


class OurReceiver:
    """The node's agent as a user runs it: speaker, RIBs and dataplane, whatever is asked for.

    It says itself when its Loc-RIB changed last, so it is asked seldom: answering takes time from the loop that works.
    """

    name = "ours"
    every = 0.05

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.address, self.namespace = agent.address, agent.namespace

    def start(self, *, kernel: bool, peer: str = FIRST) -> None:
        del kernel, peer  # it knows all of them
        self.agent.up()

    def stop(self) -> None:
        self.agent.down()

    def received(self) -> tuple[int, float]:
        return self.agent.loc_rib()


def one_router(world: World, peers: int = 1) -> Agent:
    """A node that has sessions with the first simulated peers as routers."""
    name = f"routers{peers}"
    resources = [*configuration(mesh=False), node("r1", "10.99.255.1")]
    routers = [peer_address(number) for number in range(1, peers + 1)] + [FEEDER] * (peers == 1)
    return world.agents(1, [*resources, *map(router, routers)], name)[0]


def plan(receiver_address: str, number: int = 1) -> Plan:
    """The session of a simulated router with a receiver."""
    return Plan(local=peer_address(number), remote=receiver_address, asn=ROUTER_AS)


def up(world: World, address: str, table: bytes, number: int = 1) -> Session:
    """A session that sends `table` the moment it is established."""
    (session,) = world.simulator.connect(plan(address, number), first=table + END_OF_RIB)
    world.simulator.settle([session], 60)
    return session


def now() -> float:
    """Monotonic seconds."""
    return time.monotonic()


def wire_to_fib(world: World, agent: Agent, quick: bool) -> tuple[dict[str, float], Json]:
    """Seconds from session up until the kernel's table has all, ours over BIRD's with its kernel protocol.

    The kernel is asked how many prefixes it has, which costs it some milliseconds at 100k: every 30 ms, for both.
    """
    count, repeats = (5_000, 1) if quick else (100_000, 3)
    table = grouped(map(nlri, range(count)), attributes(peer_address(1), [ROUTER_AS]))
    receivers = BirdReceiver(world.bird), OurReceiver(agent)
    seconds: dict[str, list[float]] = {receiver.name: [] for receiver in receivers}
    say("wire to FIB")
    for _ in range(repeats):
        for receiver in receivers:
            receiver.start(kernel=True)
            try:
                before = world.fib(receiver.namespace)
                session = up(world, receiver.address, table)
                programmed: Callable[[], bool] = lambda wanted=before + count, where=receiver.namespace: (  # noqa: E731
                    world.fib(where) >= wanted
                )
                world.simulator.run(programmed, 120, f"{receiver.name}: {count} kernel routes", every=0.03)
                seconds[receiver.name].append(now() - session.established_at)
                world.simulator.close(session, notification=(6, 3))
            finally:
                receiver.stop()
    ratio = statistics.median(seconds["ours"]) / statistics.median(seconds["bird"])
    return {"wire_to_fib_100k_vs_bird": ratio}, {
        "wire_to_fib_100k_seconds": {receiver: spread(found) for receiver, found in seconds.items()}
    }


def latency(world: World, agent: Agent, quick: bool) -> tuple[dict[str, float], Json]:
    """Milliseconds from the write of one UPDATE to its prefix in the Loc-RIB, one after the other on a quiet node.

    From just before `send` in the simulator to the moment that the agent notes when its Loc-RIB changed: the network
    stack, the speaker's process, the agent's loop, decoder, import policy and decision are in it, the kernel is not.
    """
    count = 100 if quick else 1000
    say("one UPDATE at a time")
    receiver = OurReceiver(agent)
    receiver.start(kernel=False)
    found: list[float] = []
    try:
        session = up(world, agent.address, b"")
        attribute_block = attributes(peer_address(1), [ROUTER_AS])
        for number in range(count):
            update = grouped([nlri(number)], attribute_block)
            sent = now()
            session.send(update)
            at: list[float] = []

            def changed(number: int = number, at: list[float] = at) -> bool:
                prefixes, moment = receiver.received()
                at.extend([moment] * (prefixes > number))
                return bool(at)

            world.simulator.turn(0.004)  # the question must not be what the loop is busy with when the UPDATE comes
            world.simulator.run(changed, 10, "an UPDATE in the Loc-RIB")
            found.append((at[0] - sent) * 1000)
        world.simulator.close(session)
    finally:
        receiver.stop()
    percentiles = statistics.quantiles(found, n=100)
    return {"update_p50_ms": percentiles[49], "update_p99_ms": percentiles[98]}, {"update_ms": spread(found)}


def memory(world: World, quick: bool) -> tuple[dict[str, float], Json]:
    """Resident set of the agent and its speaker with the same 100k prefixes from two routers; medians."""
    count, repeats = (5_000, 1) if quick else (100_000, 3)
    say("memory with two peers")
    agent = one_router(world, 2)
    receiver = OurReceiver(agent)
    found: list[dict[str, float]] = []
    for _ in range(repeats):
        receiver.start(kernel=False)
        try:
            sessions = [
                up(
                    world, agent.address,
                    grouped(map(nlri, range(count)), attributes(peer_address(number), [ROUTER_AS])), number,
                )
                for number in (1, 2)
            ]  # fmt: skip

            def complete() -> bool:
                received = [session["received"] for session in agent.bgp()["sessions"]]
                return len(received) == 2 and min(received) >= count

            world.simulator.run(complete, 60, "both tables", every=0.1)
            world.simulator.run(lambda: world.fib(agent.namespace) >= count, 60, "the kernel's table", every=0.1)
            found.append({name: resident_mb(pid) for name, pid in agent.processes().items()})
            world.simulator.close(*sessions)
        finally:
            receiver.stop()
    totals = [each["agent"] + each["speaker"] for each in found]
    return {"rss_100k_2peers_mb": statistics.median(totals)}, {
        "rss_mb": found[-1],
        "rss_100k_2peers_mb": spread(totals),
    }

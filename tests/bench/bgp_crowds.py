"""Figures about many peers: how soon all are told, what it costs to keep them, and how a fabric mends itself."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from bgp_peers import ASN
from bgp_world import Agent, World, configuration, cpu_seconds, node, peer_address, reflection, resident_mb
from harness import Json, say, spread
from simulator import END_OF_RIB, Plan, Session, attributes, grouped, nlri


def member_plans(numbers: Sequence[int], reflector: str) -> list[Plan]:
    """Sessions of simulated members with one of our nodes."""
    return [Plan(local=peer_address(number), remote=reflector, asn=ASN) for number in numbers]


def table_of(number: int, prefixes: Sequence[int]) -> bytes:
    """UPDATEs of a simulated member: it is the next hop, as a node's own blocks have it."""
    return grouped(map(nlri, prefixes), attributes(peer_address(number), local_pref=100)) + END_OF_RIB


def announce_table(world: World, quick: bool) -> tuple[dict[str, float], Json]:
    """Seconds from session up until BIRD has the whole table of a node that is a reflector.

    The table has one attribute set; it came from a member before BIRD's session was there.
    """
    count, repeats = (5_000, 1) if quick else (100_000, 3)
    say("announce a table to BIRD")
    (agent,) = world.agents(1, reflection(1, [peer_address(1), world.bird.address]), "announce")
    found: list[float] = []
    agent.up()
    try:
        (feeder,) = world.simulator.connect(*member_plans([1], agent.address), first=table_of(1, range(count)))
        world.simulator.settle([feeder], 60)
        world.simulator.run(lambda: agent.loc_rib()[0] >= count, 60, f"{count} routes in the reflector", every=0.1)
        for _ in range(repeats):
            world.bird.start(agent.address, ASN, active=True)
            try:
                # both states are asked for every 2 ms: the difference of two moments that were seen
                world.simulator.run(world.bird.established, 30, "BIRD's session", every=0.002)
                start = time.monotonic()
                world.simulator.run(lambda: world.bird.received() >= count, 60, f"{count} routes in BIRD", every=0.002)
                found.append(time.monotonic() - start)
            finally:
                world.bird.stop()
    finally:
        agent.down()
    return {"announce_100k_seconds": statistics.median(found)}, {"announce_100k_seconds": spread(found)}


def announce_crowd(world: World, quick: bool) -> tuple[dict[str, float], Json]:
    """Seconds from the write of 1,000 routes by one member until 100 others have all of them, through a reflector.

    What the node needs to take them in is part of it.
    """
    peers, count, repeats = (20, 1_000, 1) if quick else (100, 1_000, 3)
    say(f"announce to {peers} peers")
    numbers = range(1, peers + 2)
    (agent,) = world.agents(1, reflection(1, [peer_address(number) for number in numbers]), "crowd")
    found: list[float] = []
    agent.up()
    try:
        feeder, *others = world.simulator.connect(*member_plans(numbers, agent.address), first=END_OF_RIB)
        world.simulator.settle([feeder, *others], 120)
        for repeat in range(repeats):
            mine = range(repeat * count, repeat * count + count)
            start = time.monotonic()
            feeder.send(table_of(1, mine))
            wanted = (repeat + 1) * count
            world.simulator.run(
                lambda wanted=wanted: all(len(each.routes) >= wanted for each in others), 30, "all peers told",
                every=0.001,
            )  # fmt: skip
            found.append(max(each.changed_at for each in others) - start)
        world.simulator.close(feeder, *others)
    finally:
        agent.down()
    key = "announce_1k_to_100_peers_seconds"
    return {key: statistics.median(found)}, {key: spread(found)}


def idle(world: World, quick: bool) -> tuple[dict[str, float], Json]:
    """What the speaker's process takes for 200 members of a mesh that say nothing but KEEPALIVE."""
    peers, seconds, repeats = (50, 3.0, 1) if quick else (200, 30.0, 3)
    say(f"{peers} idle peers")
    addresses = [peer_address(number) for number in range(1, peers + 1)]
    members = [node(f"c{number}", address) for number, address in enumerate(addresses, 1)]
    (agent,) = world.agents(1, [*configuration(mesh=True), node("r1", "10.99.255.1"), *members], "idle")
    percent, megabytes, whole = [], [], {}
    agent.up()
    try:
        plans = member_plans(range(1, peers + 1), agent.address)
        sessions = world.simulator.connect(*plans, first=END_OF_RIB)
        start = time.monotonic()
        world.simulator.settle(sessions, 120)
        whole["all_up_seconds"] = max(session.established_at for session in sessions) - start
        for _ in range(repeats):
            processes = agent.processes()
            before, began = {name: cpu_seconds(pid) for name, pid in processes.items()}, time.monotonic()
            world.simulator.run(
                lambda until=began + seconds: time.monotonic() > until, seconds + 5, "idling", every=0.05
            )
            share = {
                name: (cpu_seconds(pid) - before[name]) / (time.monotonic() - began) * 100
                for name, pid in processes.items()
            }
            percent.append(share["speaker"])
            megabytes.append(resident_mb(processes["speaker"]))
            whole["cpu_percent"] = share
        if not all(session.up for session in sessions):
            raise SystemExit("bench: an idle session was lost")
        world.simulator.close(*sessions)
    finally:
        agent.down()
    return (
        {
            "idle_200_peers_cpu_percent": statistics.median(percent),
            "idle_200_peers_rss_mb": statistics.median(megabytes),
        },
        {"idle_200_peers": {**whole, "speaker_cpu_percent": spread(percent), "speaker_rss_mb": spread(megabytes)}},
    )


class Fabric:
    """Simulated nodes with one block each, all clients of both reflectors."""

    def __init__(self, world: World, reflectors: Sequence[Agent], count: int) -> None:
        self.simulator = world.simulator
        self.count = count
        self.reflectors = reflectors
        self.sessions: list[list[Session]] = []
        self.wanted = {nlri(number) for number in range(1, count + 1)}

    def up(self) -> None:
        """All sessions up, and every node has the block of every other from both reflectors."""
        for reflector in self.reflectors:
            plans = member_plans(range(1, self.count + 1), reflector.address)
            sessions = self.simulator.connect(*plans)
            for number, session in enumerate(sessions, 1):
                session.on_established = table_of(number, [number])
            self.sessions.append(sessions)
        for sessions in self.sessions:
            self.simulator.settle(sessions, 120)
        missing = [
            (session, self.wanted - {nlri(number)})
            for sessions in self.sessions
            for number, session in enumerate(sessions, 1)
        ]

        def converged() -> bool:
            while missing and missing[-1][0].routes >= missing[-1][1]:
                missing.pop()
            return not missing

        self.simulator.run(converged, 240, "every node has every block", every=0.2)

    def reachable(self, number: int) -> set[bytes]:
        """The blocks of others in the Loc-RIB of a node: what any reflector that it has a session with told it.

        Its own may come back to it (RFC 4456 section 8: it ignores what it originated).
        """
        mine = [sessions[number - 1] for sessions in self.sessions]
        return set[bytes]().union(*(session.routes for session in mine if session.up)) & self.wanted - {nlri(number)}

    def without_node(self, number: int) -> float:
        """A node dies. Seconds from the end of its sessions until no other node has its block."""
        lost = nlri(number)
        dead = [sessions[number - 1] for sessions in self.sessions]
        others = [session for sessions in self.sessions for session in sessions if session not in dead]
        self.simulator.close(*dead)
        down = min(session.closed_at for session in dead)
        self.simulator.run(
            lambda: not any(lost in session.routes for session in others), 60, "the block is withdrawn", every=0.001
        )
        return max(session.changed_at for session in others) - down

    def without_reflector(self, dead: frozenset[int]) -> float:
        """The first reflector dies. Seconds from the first session down until the last node has all there is.

        What a node had from both it keeps from the other, but only if that one told it all.
        """
        sessions = self.sessions[0]
        alive = [number for number in range(1, self.count + 1) if number not in dead]
        present = self.wanted - {nlri(number) for number in dead}
        self.reflectors[0].crash()
        last = 0.0

        def mended() -> bool:
            nonlocal last
            if any(not sessions[number - 1].closed_at for number in alive):
                return False
            right = all(self.reachable(number) == present - {nlri(number)} for number in alive)
            last = time.monotonic()
            return right

        self.simulator.run(mended, 60, "every node has what there is", every=0.001)
        return last - min(sessions[number - 1].closed_at for number in alive)


def repair(world: World, quick: bool) -> tuple[dict[str, float], Json]:
    """The slower of the two repairs of a fabric with two reflectors that are ours."""
    count, repeats = (30, 1) if quick else (500, 3)
    say(f"two reflectors and {count} nodes")
    addresses = [peer_address(number) for number in range(1, count + 1)]
    reflectors = world.agents(2, reflection(2, addresses), "reflectors")
    nodes, slowest, reflector = [], [], []
    for _ in range(repeats):
        for agent in reflectors:
            agent.up()
        fabric = Fabric(world, reflectors, count)
        try:
            fabric.up()
            nodes.append(fabric.without_node(1))
            reflector.append(fabric.without_reflector(frozenset({1})))
            slowest.append(max(nodes[-1], reflector[-1]))
        finally:
            world.simulator.close(*(session for sessions in fabric.sessions for session in sessions))
            for agent in reflectors:
                agent.down()
    return {"rr_500_nodes_repair_seconds": statistics.median(slowest)}, {
        "rr_500_nodes_repair_seconds": {"node": spread(nodes), "reflector": spread(reflector)}
    }

"""./dev bench bgp: how fast routes come in and go out beside BIRD 2 and GoBGP, and what many peers cost.

Ours is the node's agent as a user runs it, with its speaker, RIBs and dataplane. What exactly is measured stands at
each figure in `bgp_receive`, `bgp_tables` and `bgp_crowds`.
"""

from __future__ import annotations

from collections.abc import Mapping

from bgp_crowds import announce_crowd, announce_table, idle, repair
from bgp_receive import receive
from bgp_tables import latency, memory, one_router, wire_to_fib
from bgp_world import World
from harness import Json, at_most, main, under

FIGURES = (
    at_most("receive_100k_single_vs_bird", 2.5, "100k routes, one per UPDATE, session up to Loc-RIB, over BIRD's time"),
    at_most("receive_100k_single_vs_gobgp", 0.33, "the same over GoBGP's time"),
    at_most("receive_100k_grouped_vs_bird", 1.5, "100k routes with one attribute set, over BIRD's time"),
    at_most("receive_500k_grouped_vs_bird", 1.5, "500k routes with one attribute set, over BIRD's time"),
    under("announce_100k_seconds", 0.5, "100k routes, session up until BIRD has all"),
    under("announce_1k_to_100_peers_seconds", 0.1, "1,000 routes, received until 100 peers have all"),
    under("update_p50_ms", 0.5, "one UPDATE from wire to Loc-RIB, median"),
    under("update_p99_ms", 2, "one UPDATE from wire to Loc-RIB, 99 of 100"),
    at_most("wire_to_fib_100k_vs_bird", 1.5, "100k routes, session up to the last kernel route, over BIRD's time"),
    under("rss_100k_2peers_mb", 150, "speaker and RIB with 100k routes from each of two peers"),
    under("idle_200_peers_cpu_percent", 5, "the speaker's process with 200 idle peers"),
    under("idle_200_peers_rss_mb", 60, "its memory"),
    under("rr_500_nodes_repair_seconds", 1, "500 nodes, two reflectors of ours: one reflector or one node dies"),
)


def measure(quick: bool) -> tuple[Mapping[str, float], Json]:
    """All figures, one after the other on one subnet."""
    figures: dict[str, float] = {}
    detail: Json = {"senders": "receive_*: BIRD 2, but where it says replayed; wire_to_fib, rss, update: replay"}
    with World(peers=500) as world:
        agent = one_router(world)
        for taken, more in (
            receive(world, agent, quick), wire_to_fib(world, agent, quick), latency(world, agent, quick),
            memory(world, quick), announce_table(world, quick), announce_crowd(world, quick), idle(world, quick),
            repair(world, quick),
        ):  # fmt: skip
            figures |= taken
            detail |= more
    return figures, detail


if __name__ == "__main__":
    main("bgp", FIGURES, measure)

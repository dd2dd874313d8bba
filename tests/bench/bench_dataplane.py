"""./dev bench dataplane: how fast the kernel has what is wanted, beside BIRD 2 and a C program, and what that costs.

`dataplane_ours` has what is measured of ours, `dataplane_peers` how the peers are, `dataplane_agent` what is measured
of a whole agent. Each run has network namespaces of its own. Figures are medians of three repeats (nine where a run
takes a second), in which ours and the peers take turns. `program_100k_vs_c` is over C's routes by one gateway each, as
the facts have it; those by a nexthop group are in the detail.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from dataplane_agent import agent_figures
from dataplane_peers import Fib, bird
from dataplane_rig import Rig
from harness import Json, at_least, at_most, main, say, spread, under

OURS = Path(__file__).with_name("dataplane_ours.py")


FIGURES = (
    at_least("program_100k_vs_bird", 2.0, "100k routes, list handed to calc until in the kernel: rate over BIRD's"),
    at_least("program_100k_vs_c", 0.7, "the same over a C program that writes the same batches"),
    under("rss_1m_mb", 1024, "most memory of the process that programmes 1M routes, its table included"),
    at_least("program_1m_vs_100k", 0.75, "rate at 1M over rate at 100k"),
    under("repoint_1k_ms", 2, "all 1k prefixes of one member go another way, event to the kernel's answer"),
    under("repoint_100k_ms", 2, "the same with 100k"),
    at_most("repoint_100k_vs_bird", 0.01, "the same over BIRD's time"),
    under("tor_death_ms", 5, "one of two ToRs dies under 100k prefixes, event to repaired forwarding"),
    at_most("tor_death_lost", 5, "packets lost meanwhile, at 1 kHz"),
    under("resync_100k_ms", 300, "everything read and compared, all being right"),
    at_most("resync_100k_writes", 0, "netlink messages of it that are no question"),
    under("resync_100k_extra_mb", 100, "memory that it took on top"),
    under("repair_p99_ms", 100, "a deleted or replaced route of ours is back, 99 of 100"),
    under("idle_100k_cpu_percent", 1, "an agent with 100k routes, at rest"),
    under("calc_one_of_100k_ms", 1, "one path of 100k changes: until the change for the kernel is known"),
)


def ours(job: str, count: int) -> Json:
    """One job of `dataplane_ours`, on a node of its own."""
    with Rig() as rig:
        argv = ["nsenter", f"--net=/run/netns/{rig.node}", sys.executable, str(OURS), job, str(count)]
        argv += [rig.tor1, rig.tor2] if job == "tor_death" else []
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise SystemExit(f"bench: {job}: {done.stderr.strip()[-2000:]}")
    found: Json = json.loads(done.stdout)
    return found


def repeated(job: str, count: int, repeats: int) -> dict[str, list[float]]:
    """All values of a job, by their names."""
    say(f"{job} {count}")
    runs = [ours(job, count) for _ in range(repeats)]
    return {name: [float(run[name]) for run in runs] for name in runs[0]}


def program(hundred: int, million: int, repeats: int) -> tuple[dict[str, float], Json]:
    """What a first start costs, ours and the peers' in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in ("ours", "bird", "c", "c_by_nexthop_group", "ours_1m")}
    peaks: list[float] = []
    with Fib() as fib:
        for _ in range(repeats):
            say(f"program {hundred}: ours, C, BIRD")
            for _ in range(repeats):  # what is short is taken more often: a noisy neighbour hits one of them
                seconds["ours"].append(ours("program", hundred)["seconds"])
                for name, group in (("c", False), ("c_by_nexthop_group", True)):
                    with Rig() as rig:
                        seconds[name].append(fib.program(rig, hundred, group=group))
                with Rig() as rig, bird(rig, hundred) as peer:
                    seconds["bird"].append(peer.program(hundred))
            say(f"program {million}")
            run = ours("program", million)
            seconds["ours_1m"].append(run["seconds"])
            peaks.append(run["peak_mb"])
    median = {name: statistics.median(found) for name, found in seconds.items()}
    figures = {
        "program_100k_vs_bird": median["bird"] / median["ours"],
        "program_100k_vs_c": median["c"] / median["ours"],
        "rss_1m_mb": statistics.median(peaks),
        "program_1m_vs_100k": (million / median["ours_1m"]) / (hundred / median["ours"]),
    }
    return figures, {"program_seconds": detail(seconds), "rss_1m_mb": spread(peaks)}


def repoint(thousand: int, hundred: int, repeats: int) -> tuple[dict[str, float], Json]:
    """A member's prefixes go another way, ours and BIRD's."""
    few, many = repeated("repoint", thousand, repeats), repeated("repoint", hundred, repeats)
    say(f"repoint {hundred}: BIRD")
    birds: list[float] = []
    for _ in range(repeats):
        with Rig() as rig, bird(rig, hundred, recursive=True) as peer:
            peer.program(hundred)
            birds.append(peer.repoint(hundred))
    figures = {
        "repoint_1k_ms": statistics.median(few["ms"]),
        "repoint_100k_ms": statistics.median(many["ms"]),
        "repoint_100k_vs_bird": statistics.median(many["ms"]) / statistics.median(birds),
    }
    return figures, {
        "repoint_1k": detail(few), "repoint_100k": detail(many), "repoint_100k_bird_ms": with_repeats(birds),
    }  # fmt: skip


def detail(found: Mapping[str, list[float]]) -> Json:
    """`with_repeats` of each."""
    return {name: with_repeats(values) for name, values in found.items()}


def with_repeats(values: list[float]) -> Json:
    """All values and how far they were apart."""
    return {**spread(values), "all": values}


def measure(quick: bool) -> tuple[Mapping[str, float], Json]:
    """All figures, one after the other."""
    thousand, hundred, million, repeats = (200, 2_000, 10_000, 1) if quick else (1_000, 100_000, 1_000_000, 3)
    figures, told = program(hundred, million, repeats)
    more, also = repoint(thousand, hundred, repeats)
    figures |= more
    told |= also
    found = repeated("tor_death", hundred, repeats)
    figures["tor_death_ms"] = statistics.median(found["ms"])
    figures["tor_death_lost"] = statistics.median(found["lost"])
    told["tor_death"] = detail(found)
    found = repeated("resync", hundred, repeats)
    figures |= {f"resync_100k_{name}": statistics.median(values) for name, values in found.items()}
    told["resync_100k"] = detail(found)
    found = repeated("calc_one", hundred, repeats)
    figures["calc_one_of_100k_ms"] = statistics.median(found["ms"])
    told["calc_one"] = detail(found)
    more, also = agent_figures(quick)
    return figures | more, told | also


if __name__ == "__main__":
    main("dataplane", FIGURES, measure)

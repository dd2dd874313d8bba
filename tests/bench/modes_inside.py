"""The measuring itself, run inside of one User-mode Linux kernel by `bench_modes`: raw samples as JSON on stdout.

    modes_inside.py PLAN        PLAN as JSON: see `Plan`

The modes take turns at each size, and who goes first changes from turn to turn: what a noisy neighbour takes, it takes
from all of them.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass

from harness import Json, in_namespace, say
from modes_world import MODES, MTU, Way, World, ip

_PORT = "45670"
_FIRST_ANSWER = 30.0


@dataclass(frozen=True)
class Plan:
    """What to measure: `probe` is latency.c compiled, sizes in bytes, `exchanges` of a probe.

    `amount` is how much a stream is to send, in iperf3's own options.
    """

    probe: str
    stream_rounds: int
    probe_rounds: int
    stream_sizes: tuple[int, ...]
    probe_sizes: tuple[int, ...]
    amount: tuple[str, ...]
    exchanges: int

    def text(self) -> str:
        """As `of` reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, text: str) -> Plan:
        """The plan that `text` writes."""
        value = json.loads(text)
        return cls(**{**value, **{name: tuple(value[name]) for name in ("stream_sizes", "probe_sizes", "amount")}})


@contextmanager
def serving(plan: Plan, way: Way) -> Iterator[None]:
    """iperf3 and the probe answer at the way's far end."""
    enter = ("nsenter", f"--net=/run/netns/{way.server}")
    commands = (("iperf3", "--server"), (plan.probe, "serve", _PORT))
    quiet = subprocess.DEVNULL  # iperf3 complains of its end, and the client tells of anything else
    running = [subprocess.Popen((*enter, *command), stdin=quiet, stdout=quiet, stderr=quiet) for command in commands]
    try:
        yield
    finally:
        for each in running:
            each.terminate()
            each.wait()


def stream(plan: Plan, way: Way, size: int) -> float:
    """Gbit/s that arrive by one TCP connection whose writes have `size` bytes."""
    command = ("iperf3", "--client", way.address, "--length", str(size), *plan.amount, "--json")
    told = in_namespace(way.client, *command)
    return float(json.loads(told)["end"]["sum_received"]["bits_per_second"]) / 1e9


def exchange(plan: Plan, way: Way, size: int) -> float:
    """Microseconds of the median UDP round trip of `size` bytes."""
    told = in_namespace(way.client, plan.probe, "ask", way.address, _PORT, str(size), str(plan.exchanges))
    return float(json.loads(told)["p50_ns"]) / 1e3


def first_answer(plan: Plan, way: Way, mode: str) -> None:
    """Wait until the way carries packets: routes, neighbours and both servers are there."""
    deadline = time.monotonic() + _FIRST_ANSWER
    while True:
        try:
            in_namespace(way.client, plan.probe, "ask", way.address, _PORT, "64", "1")
            in_namespace(way.client, "iperf3", "--client", way.address, "--bytes", "64K")
        except subprocess.CalledProcessError as error:
            if time.monotonic() > deadline:
                raise SystemExit(f"bench: {mode}: no answer from {way.address}: {error.stderr}{error.stdout}") from None
        else:
            return


def same_mtu(ways: dict[str, Way]) -> None:
    """All ends have the same MTU, or the comparison says nothing."""
    for mode, way in ways.items():
        route = json.loads(ip(way.client, "-j", "route", "get", way.address))[0]
        links = json.loads(ip(way.client, "-j", "link", "show", "dev", route["dev"]))
        found = next((each["mtu"] for each in route.get("metrics", ()) if "mtu" in each), links[0]["mtu"])
        if found != MTU:
            raise SystemExit(f"bench: {mode} has an MTU of {found}, expected {MTU}")


def turns(rounds: int, sizes: tuple[int, ...]) -> Iterator[tuple[int, str]]:
    """Size and mode of each measurement: all modes at a size before the next, beginning with another one each time."""
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        for place, size in enumerate(sizes):
            first = (number + place) % len(MODES)
            for mode in MODES[first:] + MODES[:first]:
                yield size, mode


def samples(plan: Plan, ways: dict[str, Way]) -> Json:
    """All samples: {"stream" or "probe": {mode: {size: [one per round]}}}."""
    found: Json = {}
    for kind, rounds, sizes, once in (
        ("probe", plan.probe_rounds, plan.probe_sizes, exchange),
        ("stream", plan.stream_rounds, plan.stream_sizes, stream),
    ):
        say({"probe": "UDP round trips", "stream": "TCP streams"}[kind])
        found[kind] = {mode: {size: [] for size in sizes} for mode in MODES}
        for size, mode in turns(rounds, sizes):
            found[kind][mode][size].append(once(plan, ways[mode], size))
    return found


def main() -> None:
    """Build the world, measure, print."""
    plan = Plan.of(sys.argv[1])
    with World() as world:
        same_mtu(world.ways)
        with ExitStack() as servers:
            for way in world.ways.values():
                servers.enter_context(serving(plan, way))
            for mode, way in world.ways.items():
                first_answer(plan, way, mode)
            found = samples(plan, world.ways)
    print(json.dumps({"kernel": platform.release(), "mtu": MTU, "samples": found}))


if __name__ == "__main__":
    main()

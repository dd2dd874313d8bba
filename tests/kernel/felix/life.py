"""One life of the route programmer as the agent leads it: calc, dataplane and monitor, on a `World`'s node a1."""

from __future__ import annotations

import select
import time
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Network
from typing import Self

from tests.kernel.felix.world import World
from tests.unit.felix import words

from routed.model.nlri import Nlri
from routed.model.path import Path
from routed_felix.calc import Calculator
from routed_felix.dataplane import Dataplane, Kernel
from routed_felix.monitor import Monitor
from routed_felix.state import Report, Settings

TOR, NEIGHBOUR = "10.1.1.1", "10.1.1.12"
CLUSTER = words.cluster("Never")


def prefixes(first: int, last: int) -> list[str]:
    """The /26s of these numbers in the pool, none of them in a block that is stated."""
    return [str(IPv4Network((0xC0A88000 + 64 * number, 26))) for number in range(first, last)]


class Life:
    """`best` is the next hop of each prefix; `report` what the last round made of it."""

    def __init__(self, world: World, best: dict[str, str]) -> None:
        self.plane = Dataplane(Settings(), world.path)
        self.monitor = Monitor(Settings(), world.path, own_port=self.plane.port)
        self.report = Report()
        self._whole = False
        self._changed = set[Nlri]()
        self._calculator = Calculator()
        self._best: dict[Nlri, tuple[Path, ...]] = words.learned(dict(best))
        self._view = words.view(cluster=CLUSTER, best=self._best, blocks=(), tunnel=False, tunnel_address=None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.monitor.close()
        self.plane.close()

    def begin(self) -> Report:
        """Compare everything, as at a start and with every resync."""
        self._see(self.plane.read())
        change = self._calculator.update(self._view)
        self.report = self.plane.sync(change.node, self._calculator)
        return self.report

    def round(self, changes: Mapping[str, str | None] | None = None, *, retry: bool = False) -> Report:
        """Act on what the monitor says, and on paths that changed; None for none.

        Where the kernel does not answer, the next round compares everything.
        """
        for prefix, hop in (changes or {}).items():
            if hop is None:
                self._best.pop(words.nlri(prefix), None)
            else:
                self._best[words.nlri(prefix)] = words.paths((hop,))
        self._changed |= {words.nlri(prefix) for prefix in changes or {}}
        self.plane.take(self.monitor.read())
        whole, self._whole = self._whole, True
        try:
            self._see(self.plane.read() if whole else self.plane.reread())
            change = self._calculator.update(self._view, self._changed)
            self._changed = set()
            if whole:
                self.report = self.plane.sync(change.node, self._calculator)
            else:
                self.report = self.plane.change(change, self._calculator, retry=retry)
        except OSError as error:
            self.report = Report(failures={"": str(error)})
        else:
            self._whole = False
        return self.report

    def settle(self, seconds: float = 20) -> None:
        """Rounds until nothing is left to do and nothing more is heard; all is as wanted then."""
        deadline = time.monotonic() + seconds
        while True:
            self.round(retry=True)
            if self.report.complete and not self.plane.pending and not select.select([self.monitor], [], [], 0.05)[0]:
                return
            assert time.monotonic() < deadline, f"not settled: {self.report}"

    def _see(self, kernel: Kernel) -> None:
        self._view = replace(self._view, interfaces=kernel.interfaces, underlay=kernel.underlay)


def ways(world: World, of: list[str]) -> dict[str, tuple[str, str]]:
    """How the kernel forwards: device and gateway, by prefix."""
    found: dict[str, tuple[str, str]] = {}
    for prefix in of:
        (route,) = world.look("route", "get", str(IPv4Network(prefix)[1]))
        found[prefix] = route["dev"], route.get("gateway", "")
    return found


def strangers(world: World) -> dict[str, list[str]]:
    """What is not ours: routes of all tables, nexthops, rules and addresses."""
    kinds = {"route": ("-4", "route", "show", "table", "all"), "nexthop": ("nexthop", "show"), "rule": ("rule", "show")}
    found = {
        kind: sorted(str(each) for each in world.look(*argv) if str(each.get("protocol")) != "114")
        for kind, argv in kinds.items()
    }
    return {**found, "address": world.addresses("eth1")}

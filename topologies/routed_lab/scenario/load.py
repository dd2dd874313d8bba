"""Read a `*.scenario.yml`. Reading the file is the only I/O here; docs/reference/scenarios.md is its reference."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from routed.errors import OperatorError
from routed.model.resources import EncapsulationMode
from routed_lab import expect
from routed_lab.scenario.model import (
    EVERY_SECOND,
    PATIENCE,
    Act,
    Carried,
    Daemon,
    Expectation,
    Impair,
    Join,
    Life,
    LinkState,
    Lost,
    Pair,
    Pool,
    Probes,
    Rib,
    Scenario,
    SessionState,
    Step,
    Traffic,
    crossing,
    other_end,
)
from routed_lab.topology import End, Pod, Role, Topology
from routed_lab.topology.document import Value, parse

SUFFIX: Final = ".scenario.yml"
_TRAFFIC = ("pairs", "within", "converged", "reachable", "encapsulation", "path")
_RATES = (1, 10_000)
_LONGEST = 600.0  # seconds that one step may wait; the probes of a scenario are kept in memory
_MOST_LOST = 10_000_000
_MOST_PROBED = 16  # pairs: at 1000 probes a second one process can do no more


def beside(topology: Path) -> Path:
    """Where the scenario of a topology file is looked for: `racks.scenario.yml` beside `racks.clab.yml`."""
    name = topology.name
    for ending in (".clab.yml", ".clab.yaml", ".yml", ".yaml"):
        if name.endswith(ending):
            return topology.with_name(name.removesuffix(ending) + SUFFIX)
    return topology.with_name(name + SUFFIX)


def load(path: Path, topology: Topology) -> Scenario:
    """The scenario that the file at `path` describes for `topology`; OperatorError says which line and why not."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise OperatorError(f"{path}: cannot read the scenario: {error.strerror}", hint="check the path") from error
    except UnicodeDecodeError as error:
        raise OperatorError(f"{path}: the scenario is not UTF-8 text: byte {error.start}") from error
    top = parse(text, path).named("the scenario")
    keys = top.fields(("name", "absent", "probes", "steps"), required=("name", "probes", "steps"))
    reader = _Reader(topology, {pod.name: pod for pod in topology.pods})
    steps = tuple(reader.step(item.named(f"step {number}")) for number, item in enumerate(keys["steps"].list(), 1))
    if not steps:
        raise keys["steps"].error("the scenario has no steps", hint="add one, such as: - expect: {converged: yes}")
    absent = reader.absent(keys["absent"]) if "absent" in keys else ()
    return Scenario(path, keys["name"].text(), reader.probes(keys["probes"].named("probes"), absent), steps, absent)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads values that speak of `topology`."""

    topology: Topology
    pods: Mapping[str, Pod]

    def absent(self, value: Value) -> tuple[str, ...]:
        return tuple(self._member(item) for item in value.list())

    def probes(self, value: Value, absent: Collection[str]) -> Probes:
        keys = value.fields(("pairs", "rate", "quiet"), required=("pairs",))
        pairs = tuple(self._pair(item) for item in keys["pairs"].list())
        if missing := [pod.name for pair in pairs for pod in pair if pod.node in absent]:
            raise keys["pairs"].error(f"{missing[0]} is probed, and absent when the probes begin")
        if not 0 < len(pairs) <= _MOST_PROBED:
            raise keys["pairs"].error(f"{len(pairs)} pairs are probed, expected 1 to {_MOST_PROBED}")
        rate = int(_number(keys["rate"], *_RATES, "probes a second")) if "rate" in keys else EVERY_SECOND
        return Probes(pairs, rate, _number(keys["quiet"], 0, _LONGEST, "seconds") if "quiet" in keys else 2.0)

    def step(self, value: Value) -> Step:
        acts: Mapping[str, Callable[[Value], tuple[Act | Expectation, str]]] = {
            "link-down": lambda given: self._link(given, up=False),
            "link-up": lambda given: self._link(given, up=True),
            "impair": self._impair,
            "kill": lambda given: self._daemon(given, Life.KILL),
            "start": lambda given: self._daemon(given, Life.START),
            "restart": lambda given: self._daemon(given, Life.RESTART),
            "add": self._add,
            "partition": lambda given: self._partition(given, up=False),
            "rejoin": lambda given: self._partition(given, up=True),
            "session-down": lambda given: self._session(given, up=False),
            "session-up": lambda given: self._session(given, up=True),
            "pool": self._pool,
            "expect": self._expect,
        }
        keys = value.fields(("after", *acts))
        after = _number(keys.pop("after"), 0, _LONGEST, "seconds") if "after" in keys else 0.0
        if len(keys) != 1:
            raise value.error(
                f"{value.what} does {len(keys)} things ({', '.join(keys) or 'none'}), expected one",
                hint=f"give it one of {', '.join(acts)}",
            )
        ((name, given),) = keys.items()
        does, text = acts[name](given.named(f"{name} of {value.what}"))
        return Step(value.line, after, does, text)

    # -- acts

    def _link(self, value: Value, *, up: bool) -> tuple[LinkState, str]:
        end = self._end(value)
        return LinkState((end,), up), f"link {self._both(end)} is set {'up' if up else 'down'}"

    def _impair(self, value: Value) -> tuple[Impair, str]:
        keys = value.fields(("link", "loss", "delay"), required=("link",))
        end = self._end(keys["link"])
        loss = _number(keys["loss"], 0, 100, "percent") if "loss" in keys else 0.0
        delay = _number(keys["delay"], 0, 10_000, "milliseconds") if "delay" in keys else 0.0
        what = [f"loses {loss:g} %"] * bool(loss) + [f"delays by {delay:g} ms"] * bool(delay)
        return Impair(end, loss, delay), f"link {self._both(end)} {' and '.join(what) or 'is sound again'}"

    def _daemon(self, value: Value, act: Life) -> tuple[Daemon, str]:
        running = tuple(node.name for node in self.topology.nodes.values() if node.role is not Role.PLAIN)
        name = self._one_of(value, running, "node with an agent or a router")
        what = "router" if self.topology.nodes[name].role is Role.ROUTER else "agent"
        words = {Life.KILL: f"kill -9 of the {what} of", Life.START: f"start the {what} of"}
        return Daemon(name, act), f"{words.get(act, f'restart the {what} of')} {name}"

    def _add(self, value: Value) -> tuple[Join, str]:
        name = self._member(value)
        return Join(name), f"node {name} is added"

    def _partition(self, value: Value, *, up: bool) -> tuple[LinkState, str]:
        names = [self._one_of(item, tuple(self.topology.nodes), "node") for item in value.list()]
        links = crossing(self.topology, frozenset(names))
        if not links:
            raise value.error(f"no link leads from {', '.join(names) or 'no node'} to the other nodes")
        part = ", ".join(names)
        return LinkState(links, up), f"{part} rejoined" if up else f"partition: {part} cut off from the others"

    def _session(self, value: Value, *, up: bool) -> tuple[SessionState, str]:
        name = self._member(value)
        try:
            sessions = expect.sessions_of(self.topology, name)
        except OperatorError as error:
            raise value.error(error.message, error.hint) from None
        routers = ", ".join(session.router for session in sessions)
        return SessionState(name, up), f"BGP session {name} - {routers} {'up' if up else 'down'}"

    def _pool(self, value: Value) -> tuple[Pool, str]:
        keys = value.fields(("name", "ipipMode", "vxlanMode"), required=("name",))
        name = self._one_of(keys["name"], tuple(self.topology.cluster.pools), "pool")
        modes = [_mode(keys[key]) if key in keys else EncapsulationMode.NEVER for key in ("ipipMode", "vxlanMode")]
        if EncapsulationMode.NEVER not in modes:
            raise value.error(f"pool {name} would have both ipipMode and vxlanMode; a pool has one of the two")
        return Pool(name, *modes), f"pool {name}: ipipMode {modes[0]}, vxlanMode {modes[1]}"

    # -- expectations

    def _expect(self, value: Value) -> tuple[Expectation, str]:
        keys = value.fields((*_TRAFFIC, "rib", "lost"))
        kinds = [kind for kind in ("rib", "lost") if kind in keys]
        if len(kinds) + any(key in keys for key in _TRAFFIC if key != "within") != 1:
            raise value.error(
                f"{value.what} asks {'nothing' if not keys else 'several things: ' + ', '.join(keys)}; expected one of"
                " what pairs show (converged, reachable, encapsulation, path), rib, or lost"
            )
        within = _number(keys["within"], 0, _LONGEST, "seconds") if "within" in keys else PATIENCE
        if "lost" in keys:
            most = int(_number(keys["lost"], 0, _MOST_LOST, "probes"))
            return Lost(most), f"at most {most} probes of a pair lost"
        if "rib" in keys:
            return self._rib(keys["rib"], within)
        return self._traffic(value, keys, within)

    def _traffic(self, value: Value, keys: Mapping[str, Value], within: float) -> tuple[Traffic, str]:
        pairs: tuple[Pair, ...] = ()
        whose = "all pairs"
        if "pairs" in keys:
            pairs = tuple(self._pair(item) for item in keys["pairs"].list())
            whose = ", ".join(f"{source.name} > {destination.name}" for source, destination in pairs)
        converged = _flag(keys["converged"]) if "converged" in keys else False
        reachable = _flag(keys["reachable"]) if "reachable" in keys else None
        carried = _carried(keys["encapsulation"]) if "encapsulation" in keys else None
        path = tuple(self._path(keys["path"])) if "path" in keys else None
        if ("pairs" in keys and not pairs) or (
            not converged and reachable is None and carried is None and path is None
        ):
            raise value.error(f"{value.what} names pairs and asks nothing of them")
        asked = (
            ["as the topology implies"] * converged
            + ([] if reachable is None else ["reachable" if reachable else "unreachable"])
            + ([] if carried is None else [f"carried {carried}"])
            + ([] if path is None else [f"by {' > '.join(path)}"])
        )
        return (
            Traffic(pairs, within, converged, reachable, carried, path),
            f"{whose} {', '.join(asked)} within {within:g} s",
        )

    def _rib(self, value: Value, within: float) -> tuple[Rib, str]:
        keys = value.fields(("router", "command", "has", "lacks"), required=("router",))
        router = self._one_of(keys["router"], tuple(node.name for node in self.topology.routers), "router")
        if ("has" in keys) == ("lacks" in keys):
            raise value.error(f"{value.what} needs exactly one of has and lacks, a regular expression each")
        found = "has" in keys
        given = keys["has" if found else "lacks"]
        try:
            re.compile(given.text())
        except re.error as error:
            raise given.error(f'"{given.text()}" is no regular expression: {error}') from None
        command = keys["command"].text() if "command" in keys else ""
        try:
            words = tuple(shlex.split(command))
        except ValueError as error:
            raise keys["command"].error(f"{keys['command'].what} is no command line: {error}") from error
        shown = f'"{command}"' if command else "its BGP table"
        text = f'{router}: {shown} {"has" if found else "lacks"} "{given.text()}" within {within:g} s'
        return Rib(router, words, given.text(), found, within), text

    # -- parts

    def _pair(self, value: Value) -> Pair:
        names = [name.strip() for name in value.text().split(">")]
        if len(names) != 2 or names[0] == names[1]:
            raise value.error(f'{value.what} is "{value.text()}", expected two pods: POD > POD')
        for name in names:
            if name not in self.pods:
                raise value.error(
                    f'{value.what} names "{name}", which is no pod', hint=f"the pods are {', '.join(self.pods)}"
                )
        return self.pods[names[0]], self.pods[names[1]]

    def _path(self, value: Value) -> list[str]:
        names = [name.strip() for name in value.text().split(">")]
        for name in names:
            if name not in self.topology.nodes:
                raise value.error(f'{value.what} names "{name}"', hint=f"nodes are {', '.join(self.topology.nodes)}")
        return names

    def _end(self, value: Value) -> End:
        ends = {str(end): end for end in other_end(self.topology)}
        return ends[self._one_of(value, tuple(ends), "end of a link")]

    def _member(self, value: Value) -> str:
        return self._one_of(value, tuple(node.name for node in self.topology.members), "node with pods")

    def _both(self, end: End) -> str:
        return f"{end} - {other_end(self.topology)[end]}"

    def _one_of(self, value: Value, names: tuple[str, ...], what: str) -> str:
        if (name := value.text()) not in names:
            raise value.error(f'{value.what} is "{name}", which is no {what}', hint=f"there are {', '.join(names)}")
        return name


def _number(value: Value, least: float, most: float, unit: str) -> float:
    try:
        number = float(value.text())
    except ValueError:
        number = math.nan
    if not least <= number <= most:
        raise value.error(f'{value.what} is "{value.text()}", expected {least:g} to {most:g} {unit}')
    return number


def _flag(value: Value) -> bool:
    words = {"yes": True, "true": True, "no": False, "false": False}
    if value.text() not in words:
        raise value.error(f'{value.what} is "{value.text()}", expected yes or no')
    return words[value.text()]


def _mode(value: Value) -> EncapsulationMode:
    try:
        return EncapsulationMode(value.text())
    except ValueError:
        raise value.error(f'{value.what} is "{value.text()}", expected one of {", ".join(EncapsulationMode)}') from None


def _carried(value: Value) -> Carried:
    try:
        return Carried(value.text())
    except ValueError:
        raise value.error(f'{value.what} is "{value.text()}", expected one of {", ".join(Carried)}') from None

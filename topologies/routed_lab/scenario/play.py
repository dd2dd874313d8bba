"""Plays a scenario in a lab that is up: acts, looks, and records. Runs in the lab's runner, inside its kernel."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from routed.errors import RoutedError
from routed_lab import expect
from routed_lab.probe import Probe
from routed_lab.runner.recorder import Capture, Monitor
from routed_lab.scenario import acts, losses, pcapng, prober, story
from routed_lab.scenario.load import load
from routed_lab.scenario.model import Join, Lost, Rib, Scenario, Step, Traffic
from routed_lab.scenario.record import Record, Seen, StepRecord
from routed_lab.wire import CHUNK, Row

if TYPE_CHECKING:
    from routed_lab.expect import Encapsulation, Pair, Verdict
    from routed_lab.runner.lab import Lab
    from routed_lab.wire import Json

Sink = Callable[[bytes], Awaitable[None]]
_REPLY: Final = 1.0  # seconds after which a ping of an expectation is lost
_GLANCE_REPLY: Final = 0.2  # the same between expectations, where a pair that is cut off is no surprise
_GLANCE: Final = 0.25  # seconds between looks at the way the probed pairs take
_PAUSE: Final = 0.2  # seconds between tries of an expectation
_PROBER_ENDS: Final = 20.0
_TOLD: Final = 20_000  # messages and changes, each, that a record holds


async def play(lab: Lab, file: Path, capture: Sink, progress: Callable[[str], None]) -> Json:
    """Play the scenario in `file`; `capture` gets the packets as a pcapng file. Returns the JSON of a Record.

    A step that fails ends it; that is part of the record, not an error. OperatorError when the file is wrong,
    EnvironmentFault when the lab is broken before the first step, or what records it ends.
    """
    scenario = load(file, lab.whole)
    lab.require_alive()
    player = _Player(lab, scenario, progress)
    record = await player.run()
    buffer = b""
    for piece in pcapng.write(player.packets):
        buffer += piece
        while len(buffer) >= CHUNK:
            await capture(buffer[:CHUNK])
            buffer = buffer[CHUNK:]
    await capture(buffer)
    value: Json = msgspec.to_builtins(record)
    return value


class _Player:
    """One run. All times of its record count from `_origin`, when the probes began, in nanoseconds of the clock."""

    def __init__(self, lab: Lab, scenario: Scenario, progress: Callable[[str], None]) -> None:
        self.packets: Sequence[pcapng.Packet] = ()
        self._lab = lab
        self._scenario = scenario
        self._progress = progress
        self._world = acts.World(lab, progress)
        self._looking = asyncio.Lock()
        self._seen: dict[Pair, list[Seen]] = {pair: [] for pair in scenario.probes.pairs}
        self._lost: list[story.Asked] = []
        self._origin = 0

    async def run(self) -> Record:
        """Play and record; the recorders are gone afterwards."""
        lab, probes = self._lab, self._scenario.probes
        started = datetime.now(tz=UTC)
        out = lab.directory / "probes"
        with ExitStack() as stack:
            listening = Capture(lab.topology, lab.namespaces)
            stack.callback(listening.stop)
            self._probe = self._pinger()
            stack.callback(self._hush)
            listening.start()
            monitors = [Monitor(name, lab.sandbox_of(name), lab.directory) for name in lab.namespaces]
            try:
                async with self._probing(out), self._glancing():
                    self._progress(f"probing {len(probes.pairs)} pairs at {probes.rate}/s")
                    await asyncio.sleep(probes.quiet)
                    steps = await self._steps()
                    end = self._now()
            finally:
                await asyncio.gather(*(monitor.stop() for monitor in monitors))
        self.packets = listening.packets
        probed = [
            losses.Probed(
                source.name,
                destination.name,
                [(at - self._origin) / 1e9 for at in result.sent],
                result.trips,
                result.late,
            )
            for (source, destination), result in zip(probes.pairs, prober.read(out), strict=True)
        ]
        wide = losses.width(end)
        messages = story.messages(lab.topology, self.packets, self._origin)
        changes = story.changes([(monitor.node, monitor.lines()) for monitor in monitors], self._origin / 1e9)
        return Record(
            scenario=self._scenario.name,
            lab=lab.topology.name,
            machine=f"{os.uname().sysname} {os.uname().release}",
            started=started.isoformat(timespec="seconds"),
            seconds=end,
            quiet=probes.quiet,
            rate=probes.rate,
            width=wide,
            steps=story.with_losses(steps, self._lost, probed),
            pairs=[losses.summary(one, quiet=probes.quiet, wide=wide) for one in probed],
            seen=[seen for pair in self._seen.values() for seen in pair],
            messages=messages[:_TOLD],
            changes=changes[:_TOLD],
            dropped=listening.dropped + max(0, len(messages) - _TOLD) + max(0, len(changes) - _TOLD),
        )

    def _now(self) -> float:
        return (time.time_ns() - self._origin) / 1e9

    @asynccontextmanager
    async def _probing(self, out: Path) -> AsyncGenerator[None]:
        """The prober runs meanwhile; EnvironmentFault when it does not end well."""
        child = acts.start_prober(self._lab, self._scenario.probes, out)
        try:
            self._origin = await acts.begun(child, out)
            yield
        finally:
            await child.stop(_PROBER_ENDS)
        if await child.wait():
            raise child.died()

    @asynccontextmanager
    async def _glancing(self) -> AsyncGenerator[None]:
        """Look every now and then which way the probed pairs take."""

        async def glance() -> None:
            while True:
                await self._look(self._scenario.probes.pairs, _GLANCE_REPLY)
                await asyncio.sleep(_GLANCE)

        task = asyncio.create_task(glance())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _look(self, pairs: Sequence[Pair], reply: float) -> Sequence[Verdict]:
        """One round of pings; what it says of probed pairs is recorded where it is news."""
        implied = self._world.implied()
        asked: dict[Pair, Encapsulation] = {pair: implied[pair] for pair in pairs or implied}
        async with self._looking:
            at = self._now()
            round_ = asyncio.ensure_future(asyncio.to_thread(self._probe.round, asked, reply))
            try:
                verdicts = await asyncio.shield(round_)
            except asyncio.CancelledError:
                await asyncio.wait([round_])  # a thread cannot be cancelled, and its sockets are about to close
                raise
        for verdict in verdicts:
            known = self._seen.get((verdict.source, verdict.destination))
            if known is not None:
                seen = story.seen(verdict, at)
                if not known or (known[-1].path, known[-1].encapsulation) != (seen.path, seen.encapsulation):
                    known.append(seen)
        return verdicts

    async def _steps(self) -> list[StepRecord]:
        """All steps in their order; after one that fails the rest is skipped."""
        records: list[StepRecord] = []
        failed = False
        for number, step in enumerate(self._scenario.steps):
            kind: Literal["act", "expectation"] = (
                "expectation" if isinstance(step.does, Traffic | Rib | Lost) else "act"
            )
            if failed:
                records.append(StepRecord(step.text, kind, "skipped", self._now(), self._now()))
                continue
            await asyncio.sleep(step.after)
            self._progress(f"step {number + 1} of {len(self._scenario.steps)}: {step.text}")
            begin = self._now()
            outcome: Literal["done", "met", "failed"] = "done" if kind == "act" else "met"
            rows: list[Row] = []
            try:
                detail = await self._step(number, step, rows)
            except RoutedError as error:
                detail = f"{error.message}\n{error.hint}" if error.hint else error.message
            if detail:
                outcome, failed = "failed", True
            records.append(StepRecord(step.text, kind, outcome, begin, self._now(), detail, rows))
        return records

    async def _step(self, number: int, step: Step, rows: list[Row]) -> str:
        """Do it; why it failed, or nothing. Raises RoutedError when the lab refuses an act."""
        match step.does:
            case Traffic():
                return await self._traffic(step.does, rows)
            case Rib():
                return await self._rib(step.does)
            case Lost():
                self._lost.append(story.Asked(number, step.does.most, self._now()))
                await asyncio.sleep(_REPLY)  # the last of them may still come back
                return ""
            case Join():
                await self._world.do(step.does)
                async with self._looking:
                    self._probe.close()
                    self._probe = self._pinger()
                return ""
            case _:
                await self._world.do(step.does)
                return ""

    def _hush(self) -> None:
        self._probe.close()  # the one there is by then

    def _pinger(self) -> Probe:
        """Pings between all pods that there are now."""
        pods = {pod: (wired.namespace, wired.address) for pod, wired in self._lab.pods.items()}
        return Probe(self._lab.topology, self._lab.namespaces, pods)

    async def _traffic(self, asked: Traffic, rows: list[Row]) -> str:
        deadline = time.monotonic() + asked.within
        while True:
            verdicts = await self._look(asked.pairs, _REPLY)
            if not asked.pairs:
                rows[:] = [Row(*expect.row(verdict)) for verdict in verdicts]  # type: ignore[arg-type]
            wrong = [told for verdict in verdicts if (told := story.complaint(asked, verdict))]
            if not wrong:
                return ""
            if time.monotonic() > deadline:
                return f"after {asked.within:g} s {len(wrong)} of {len(verdicts)} pairs: " + "; ".join(wrong[:5])
            await asyncio.sleep(_PAUSE)

    async def _rib(self, asked: Rib) -> str:
        deadline = time.monotonic() + asked.within
        while True:
            answer = await acts.rib(self._lab, asked.router, asked.command)
            if story.matches(asked, answer):
                return ""
            if time.monotonic() > deadline:
                return f"after {asked.within:g} s it printed: {answer.strip()[-800:]}"
            await asyncio.sleep(_PAUSE)

"""The acts of a scenario, done to a lab that is up. Thin: each is a command to a daemon, the kernel or the store."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, assert_never

import msgspec

from routed.errors import EnvironmentFault
from routed_lab import expect
from routed_lab.runner import links, process
from routed_lab.runner.checker import switch
from routed_lab.runner.daemons import environment
from routed_lab.runner.process import Child
from routed_lab.scenario import prober, story
from routed_lab.scenario.model import Act, Daemon, Impair, Join, Life, LinkState, Pool, Probes, SessionState, other_end

if TYPE_CHECKING:
    from routed_lab.expect import Encapsulation, Pair
    from routed_lab.runner.lab import Lab
    from routed_lab.topology import End

_POLL: Final = 0.02
_PROBER_STARTS: Final = 20.0


class World:
    """A lab and what a scenario has changed in it so far: that is what the topology implies now."""

    def __init__(self, lab: Lab, progress: Callable[[str], None]) -> None:
        self._lab = lab
        self._progress = progress
        self._topology = lab.topology
        self._without: set[str] = set()

    def implied(self) -> Mapping[Pair, Encapsulation]:
        """The encapsulation of each pair by the topology, the store and the sessions as they are by now."""
        return expect.expected(self._topology, without_tor=self._without)

    async def do(self, act: Act) -> None:
        """Do it; what the network makes of it is still to come. Raises RoutedError when it cannot be done."""
        match act:
            case LinkState():
                for end in act.ends:
                    links.switch(self._lab.namespace_of(end.node), end.interface, up=act.up)
            case Impair():
                for side in (act.link, other_end(self._topology)[act.link]):
                    await self._impair(side, act)
            case Daemon():
                await self._daemon(act)
            case Join():
                await self._lab.join(act.node, self._progress)
                self._topology = self._topology.joined(act.node, self._lab.whole.resources_of(act.node))
            case SessionState():
                for session in expect.sessions_of(self._topology, act.node):
                    await switch(self._lab, session, up=act.up)
                (self._without.discard if act.up else self._without.add)(act.node)
            case Pool():
                self._topology, pool = story.pool_changed(self._topology, act)
                await self._lab.apply([pool])
                self._lab.topology = self._topology  # for the next play, and check
            case _:
                assert_never(act)

    async def _daemon(self, act: Daemon) -> None:
        match act.act:
            case Life.KILL:
                await self._lab.kill(act.node)
            case Life.START:
                await self._lab.start(act.node, self._progress)
            case Life.RESTART:
                await self._lab.restart(act.node, self._progress)

    async def _impair(self, side: End, act: Impair) -> None:
        """Netem on what leaves an interface, tc-netem(8)."""
        log = self._lab.directory / "tc.log"
        log.unlink(missing_ok=True)
        words = ["loss", f"{act.loss:g}%"] * bool(act.loss) + ["delay", f"{act.delay:g}ms"] * bool(act.delay)
        queue = ["replace", "dev", side.interface, "root", "netem", "limit", "100000", *words]
        argv = ["tc", "qdisc", *(queue if words else ["delete", "dev", side.interface, "root"])]
        status = await process.run(
            " ".join(argv), argv, sandbox=self._lab.sandbox_of(side.node), env=environment(None), log=log
        )
        if status and words:
            raise EnvironmentFault(
                f"link {side} cannot be impaired: tc ended with status {status}{process.tail(log)}",
                hint="the kernel needs sch_netem: --kernel uml has it",
            )


def start_prober(lab: Lab, probes: Probes, out: Path) -> Child:
    """Start the prober of a scenario; its results go to `out` when it gets SIGTERM."""
    out.unlink(missing_ok=True)
    routes = [
        prober.Route(str(lab.pods[source].namespace), str(lab.pods[destination].address))
        for source, destination in probes.pairs
    ]
    job = prober.Job(routes, probes.rate, str(out), str(out.with_suffix(".begun")))
    Path(job.begun).unlink(missing_ok=True)
    return Child(
        "the prober",
        [sys.executable, "-m", "routed_lab.scenario.prober", msgspec.json.encode(job).decode()],
        env=environment(None),
        log=lab.directory / "prober.log",
    )


async def begun(child: Child, out: Path) -> int:
    """Wait until the prober has sent its first probe: when that was, in nanoseconds of the clock."""
    told = out.with_suffix(".begun")
    deadline = time.monotonic() + _PROBER_STARTS
    while not told.exists():
        if not child.alive or time.monotonic() > deadline:
            raise child.died() if not child.alive else EnvironmentFault(f"{child.what} did not begin{child.tail()}")
        await asyncio.sleep(_POLL)
    return int(told.read_text(encoding="ascii"))


async def rib(lab: Lab, name: str, command: Sequence[str]) -> str:
    """What a router's own command line prints, errors too; EnvironmentFault when the router does not run."""
    router = lab.routers[name]
    if not router.children or not all(child.alive for child in router.children):
        raise EnvironmentFault(f"{name} does not run, so it can print nothing", hint=f"start it before: start: {name}")
    try:
        return await router.cli(*command) if command else await router.rib()
    except EnvironmentFault as error:  # birdc ends with 1 for "Network not found", which is an answer too
        return error.message

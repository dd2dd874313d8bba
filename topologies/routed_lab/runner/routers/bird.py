"""BIRD 2 in the foreground, its control socket where birdc looks for it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from routed_lab import birdc
from routed_lab.runner.process import Child, deadline, fitting
from routed_lab.runner.routers.router import POLL, READY, Progress, Router
from routed_lab.session import Session


class Bird(Router):
    """The whole of it is one process."""

    name = "BIRD"
    package = "bird2"
    programs = ("bird", "birdc")
    checking = ("bird", "-p", "-c")

    async def start(self, progress: Progress) -> None:
        """Start it; ready is when its control socket answers."""
        progress(f"starting BIRD on {self.node.name}")
        directory = self.home / "run" / "bird"
        directory.mkdir(exist_ok=True)
        control = fitting(directory / "bird.ctl")
        control.unlink(missing_ok=True)
        argv = ["bird", "-f", "-c", str(self.node.config), "-s", "/run/bird/bird.ctl", "-P", "/run/bird/bird.pid"]
        child = Child(f"bird of {self.node.name}", argv, sandbox=self.sandbox, env=self.env, log=self.log)
        self.children = (child,)
        async with deadline(child, READY):
            while child.alive and not _answers(str(control)):  # noqa: ASYNC110  BIRD tells nobody that it listens
                await asyncio.sleep(POLL)
        if not child.alive:
            raise child.died()

    async def sessions(self) -> Sequence[Session]:
        """What `show protocols all` says of those of kind BGP."""
        return tuple(birdc.sessions(await self.ask("birdc", "show", "protocols", "all")))

    async def switch(self, session: Session, *, up: bool) -> None:
        """`birdc enable` or `disable`."""
        await self.ask("birdc", "enable" if up else "disable", session.protocol)

    async def cli(self, *words: str) -> str:
        """`birdc WORDS`."""
        return await self.ask("birdc", *words)

    async def rib(self) -> str:
        """`birdc show route all`."""
        return await self.cli("show", "route", "all")


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(path) == 0

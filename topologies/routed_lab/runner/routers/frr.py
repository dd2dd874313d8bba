"""FRR: zebra and the daemons that the node asks for, each in the foreground, configured by vtysh as FRR's start does.

A node sees its own /etc/frr and /run/frr, so that a recipe written for FRR's container image works as it is.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from routed.errors import OperatorError
from routed_lab import frr
from routed_lab.runner import process
from routed_lab.runner.process import Child, deadline, fitting
from routed_lab.runner.routers.router import GRACE, POLL, READY, Progress, Router
from routed_lab.runner.sandbox import Mount
from routed_lab.session import Session

if TYPE_CHECKING:
    from routed_lab.topology import LabNode

_DIRECTORY: Final = "/usr/lib/frr"
_OWNER: Final = "frr"


class Frr(Router):
    """`children` are zebra and then the others."""

    name = "FRR"
    package = "frr"
    programs = (f"{_DIRECTORY}/zebra", "vtysh")
    checking = ("vtysh", "--dryrun", "--inputfile")

    @classmethod
    def furnish(cls, node: LabNode, home: Path) -> Sequence[Mount]:
        """Fill /etc/frr: copies, because the daemons' user has to read them, and `vtysh write` writes them."""
        assert node.config is not None
        etc = home / "etc-frr"
        etc.mkdir(exist_ok=True)
        (etc / "vtysh.conf").write_text("service integrated-vtysh-config\n", encoding="ascii")
        for name, source in node.files.items():
            shutil.copyfile(source, etc / name)
        shutil.copyfile(node.config, etc / "frr.conf")
        run = home / "run" / "frr"
        log = home / "var-log" / "frr"
        for path in (run, log):
            path.mkdir(exist_ok=True)
        for path in (run, log, etc, *etc.iterdir()):
            shutil.chown(path, _OWNER, _OWNER)
            path.chmod(0o755)
        return (Mount(etc, "/etc/frr"),)

    async def start(self, progress: Progress) -> None:
        """Start all daemons and give them their configuration; ready is when vtysh has done so."""
        progress(f"starting FRR on {self.node.name}")
        for old in self._run.iterdir():
            old.unlink()
        zebra, *others = self._daemons()
        self.children = [self._launch(zebra)]
        await self._until(self._run / "zserv.api", self.children[0])
        started = {daemon.name: self._launch(daemon) for daemon in others}
        self.children = [*self.children, *started.values()]
        for name, child in {"zebra": self.children[0], **started}.items():
            await self._until(self._run / f"{name}.vty", child)
        output = process.fresh(self.home / "vtysh.log")
        what = f"vtysh -b on {self.node.name}"
        if await process.run(what, ["vtysh", "-b"], sandbox=self.sandbox, env=self.env, log=output, limit=READY):
            raise OperatorError(
                f"{self.node.config}: FRR's daemons do not accept this configuration{process.tail(output)}",
                hint="correct the lines it names",
            )

    async def stop(self) -> None:
        """Zebra last, which then takes the others' routes along."""
        zebra, others = self.children[:1], self.children[1:]
        await asyncio.gather(*(child.stop(GRACE) for child in others))
        for child in zebra:
            await child.stop(GRACE)

    async def sessions(self) -> Sequence[Session]:
        """What `show bgp neighbors json` says."""
        return tuple(frr.sessions(await self.ask("vtysh", "-c", "show bgp neighbors json")))

    async def switch(self, session: Session, *, up: bool) -> None:
        """`neighbor ... shutdown`, or its removal, in the one BGP instance there is."""
        line = f"{'no ' if up else ''}neighbor {session.neighbor} shutdown"
        await self.ask("vtysh", "-c", "configure terminal", "-c", "router bgp", "-c", line)

    async def cli(self, *words: str) -> str:
        """`vtysh -c WORDS`."""
        return await self.ask("vtysh", "-c", " ".join(words))

    async def rib(self) -> str:
        """`show bgp ipv4 unicast` and the same of IPv6."""
        return await self.ask("vtysh", "-c", "show bgp ipv4 unicast", "-c", "show bgp ipv6 unicast")

    @property
    def _run(self) -> Path:
        return self.home / "run" / "frr"

    def _daemons(self) -> tuple[frr.FrrDaemon, ...]:
        etc = self.home / "etc-frr"
        if (source := self.node.files.get("daemons")) is not None:
            return frr.asked_for((etc / "daemons").read_text(encoding="utf-8", errors="replace"), str(source))
        return frr.needed_by((etc / "frr.conf").read_text(encoding="utf-8", errors="replace"))

    def _launch(self, daemon: frr.FrrDaemon) -> Child:
        fitting(self._run / f"{daemon.name}.vty")
        argv = [f"{_DIRECTORY}/{daemon.name}", *daemon.options, "--log", "stdout", "--log-level", "informational"]
        what = f"{daemon.name} of {self.node.name}"
        return Child(what, argv, sandbox=self.sandbox, env=self.env, log=self.log)

    async def _until(self, path: Path, child: Child) -> None:
        async with deadline(child, READY):
            while child.alive and not _there(path):  # noqa: ASYNC110  FRR tells only its own watcher
                await asyncio.sleep(POLL)
        if not child.alive:
            raise child.died()


def _there(path: Path) -> bool:
    return path.exists()

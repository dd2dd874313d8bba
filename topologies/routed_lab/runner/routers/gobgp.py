"""GoBGP, and what brings its best paths into the kernel, which it does not do itself.

Its own way there is FRR's zebra, but GoBGP 3.10 ends with a panic on what the zebra of Debian's FRR 8.4 says to it. So
the lab follows `gobgp monitor` and writes the routes, their gateways resolved by what the kernel knows at that moment.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from routed.errors import EnvironmentFault, RoutedError
from routed_lab import gobgp
from routed_lab.runner import process
from routed_lab.runner.process import Child, deadline
from routed_lab.runner.routers.router import POLL, READY, Progress, Router
from routed_lab.session import Session

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

    from routed_lab.runner.sandbox import Sandbox
    from routed_lab.topology import LabNode

_FAMILIES: Final = ("ipv4", "ipv6")


class Gobgp(Router):
    """gobgpd, its API on the port where the command gobgp looks for it."""

    name = "GoBGP"
    package = "gobgpd"
    programs = ("gobgpd", "gobgp")
    checking = ("gobgpd", "--log-plain", "--dry-run", "--config-file")

    def __init__(self, node: LabNode, home: Path, sandbox: Sandbox, env: Mapping[str, str]) -> None:
        super().__init__(node, home, sandbox, env)
        self._written: gobgp.Fib = {}
        self._following: asyncio.Task[None] | None = None

    async def start(self, progress: Progress) -> None:
        """Start it; ready is when its API answers. From then on the kernel follows its table."""
        progress(f"starting GoBGP on {self.node.name}")
        restarted = ("--graceful-restart",) if self.children else ()
        argv = ["gobgpd", "--config-file", str(self.node.config), "--log-plain", "--pprof-disable", *restarted]
        child = Child(f"gobgpd of {self.node.name}", argv, sandbox=self.sandbox, env=self.env, log=self.log)
        self.children = (child,)
        async with deadline(child, READY):
            while child.alive and not await self._answers():  # noqa: ASYNC110  GoBGP tells systemd only
                await asyncio.sleep(POLL)
        if not child.alive:
            raise child.died()
        self._following = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """End it, and take its routes from the kernel."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
            self._following = None
        await super().stop()
        with suppress(RoutedError):
            await self._write({})

    async def sessions(self) -> Sequence[Session]:
        """What `gobgp neighbor` says."""
        return tuple(gobgp.sessions(await self.ask("gobgp", "-j", "neighbor")))

    async def switch(self, session: Session, *, up: bool) -> None:
        """`gobgp neighbor ... enable` or `disable`."""
        await self.ask("gobgp", "neighbor", str(session.neighbor), "enable" if up else "disable")

    async def cli(self, *words: str) -> str:
        """`gobgp WORDS`."""
        return await self.ask("gobgp", *words)

    async def rib(self) -> str:
        """`gobgp global rib` of both families."""
        return "".join([await self.ask("gobgp", "global", "rib", "-a", family) for family in _FAMILIES])

    async def _answers(self) -> bool:
        try:
            await self.ask("gobgp", "-j", "global")
        except EnvironmentFault:
            return False
        return True

    async def _follow(self) -> None:
        """Write what the table says whenever it changes, until the daemon ends."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        argv = ["gobgp", "-j", "monitor", "global", "rib", "-a"]
        try:
            monitors = [
                Child(
                    f"gobgp monitor of {self.node.name}",
                    [*argv, family],
                    sandbox=self.sandbox,
                    env=self.env,
                    log=self.home / "monitor.log",
                    stdout=writer,
                )
                for family in _FAMILIES
            ]
        finally:
            os.close(writer)
        stream = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reader, "rb", buffering=0)
        )
        try:
            while True:
                await self._write(await self._table())
                if not await stream.read(1 << 16):
                    return
        except RoutedError as error:
            print(f"{self.node.name}: its routes are not in the kernel: {error}", file=sys.stderr, flush=True)
        finally:
            transport.close()
            for monitor in monitors:
                monitor.signal(signal.SIGKILL)

    async def _table(self) -> gobgp.Fib:
        found = {
            prefix: gateway
            for family in _FAMILIES
            for prefix, gateway in gobgp.fib(await self.ask("gobgp", "-j", "global", "rib", "-a", family)).items()
        }
        neighbours = {gateway: await self._neighbour(gateway) for gateway in set(found.values())}
        return {
            prefix: neighbour for prefix, gateway in found.items() if (neighbour := neighbours[gateway]) is not None
        }

    async def _neighbour(self, gateway: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address | None:
        """The neighbour through which a gateway is reached, None if it is not."""
        try:
            return gobgp.resolved(await self.ask("ip", "-j", "route", "get", str(gateway)))
        except EnvironmentFault:  # unreachable by now
            return None

    async def _write(self, wanted: gobgp.Fib) -> None:
        lines = gobgp.changes(self._written, wanted)
        self._written = wanted
        if not lines:
            return
        batch = self.home / "routes.batch"
        batch.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
        # -force: go on after what the kernel refuses, which its log then has
        await process.run(
            f"ip -batch on {self.node.name}",
            ["ip", "-force", "-batch", str(batch)],
            sandbox=self.sandbox,
            env=self.env,
            log=self.home / "routes.log",
        )

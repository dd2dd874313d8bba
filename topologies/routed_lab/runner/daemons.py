"""The agent of a node, and what it has in common with a router: both start, stop and start again."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from routed_lab.runner.process import Child, deadline, fitting

if TYPE_CHECKING:
    from routed_lab.runner.sandbox import Sandbox

_READY: Final = 240.0  # seconds an agent may take: an emulated CPU is slow, and slower where others want the real one
_GRACE: Final = 10.0
_DATAGRAM: Final = 4096


Progress = Callable[[str], None]


class Daemon(Protocol):
    """What the lab does with either."""

    @property
    def children(self) -> Sequence[Child]:
        """The processes, once started; none of them may end by itself."""
        ...

    async def start(self, progress: Progress) -> None:
        """Start it and wait until it says that it is ready; raises EnvironmentFault with the tail of its log.

        `progress` gets what it says of itself meanwhile.
        """
        ...

    async def stop(self) -> None:
        """SIGTERM, and wait for its end; nothing if it does not run."""
        ...


class Agent:
    """`routed agent` on a configuration of its own, all that it keeps in `directory`."""

    def __init__(
        self,
        name: str,
        store: Path,
        sandbox: Sandbox,
        directory: Path,
        env: Mapping[str, str],
    ) -> None:
        self.name = name
        self.children: Sequence[Child] = ()
        self.cni_socket = fitting(directory / "cni.sock")
        self._sandbox = sandbox
        self._config = directory / "agent.toml"
        self._log = directory / "log"
        self._notify = fitting(directory / "notify")
        self._env = env
        values = {"node": name, "store": f"sqlite://{store}", "run_dir": str(directory), "state_dir": str(directory)}
        # a JSON string is a TOML basic string
        lines = (f"{key} = {json.dumps(value)}\n" for key, value in values.items())
        self._config.write_text("".join(lines), encoding="utf-8")

    async def start(self, progress: Progress) -> None:
        """Start it; ready is READY=1 on its notify socket, systemd's protocol (sd_notify(3))."""
        self._notify.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(self._notify))
            notify.setblocking(False)
            child = Child(
                f"agent of {self.name}",
                [sys.executable, "-m", "routed", "agent", "--config", str(self._config)],
                sandbox=self._sandbox,
                env=dict(self._env) | {"NOTIFY_SOCKET": str(self._notify)},
                log=self._log,
            )
            self.children = (child,)
            ended = asyncio.ensure_future(child.wait())
            ready = asyncio.ensure_future(self._told_ready(notify, progress))
            try:
                async with deadline(child, _READY):
                    await asyncio.wait({ended, ready}, return_when=asyncio.FIRST_COMPLETED)
                if ended.done():
                    raise child.died()
            finally:
                ready.cancel()
                ended.cancel()
                with suppress(asyncio.CancelledError):
                    await ready

    async def stop(self) -> None:
        """SIGTERM: the agent leaves the kernel's state as it is."""
        for child in self.children:
            await child.stop(_GRACE)

    async def _told_ready(self, notify: socket.socket, progress: Progress) -> None:
        loop = asyncio.get_running_loop()
        while True:
            datagram = await loop.sock_recv(notify, _DATAGRAM)
            for line in datagram.decode(errors="replace").splitlines():
                key, _, value = line.partition("=")
                if key == "STATUS":
                    progress(f"{self.name}: {value}")
                elif (key, value) == ("READY", "1"):
                    return


def environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    """What a container's programs see: the runner's environment and the node's `env`; `routed` is in PATH as here."""
    ours = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", os.defpath)
    searched = path if ours in path.split(":") else f"{ours}:{path}"
    return dict(os.environ) | {"PATH": searched} | dict(extra or {})

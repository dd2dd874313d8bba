"""The long-lived process of each container: BIRD on a router, the agent on a node. Both start, stop and start again."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from routed.errors import EnvironmentFault, OperatorError
from routed_lab.runner import process
from routed_lab.runner.process import Child

_READY: Final = 90.0  # seconds an agent may take: its wait for End-of-RIB is bounded, and an emulated CPU is slow
_BIRD_READY: Final = 20.0
_GRACE: Final = 10.0
_POLL: Final = 0.02
_DATAGRAM: Final = 4096
_LONGEST_SOCKET_PATH: Final = 107  # struct sockaddr_un, unix(7)


Progress = Callable[[str], None]


class Daemon(Protocol):
    """What the lab does with either."""

    @property
    def child(self) -> Child | None:
        """The process, once started."""
        ...

    async def start(self, progress: Progress) -> None:
        """Start it and wait until it says that it is ready; raises EnvironmentFault with the tail of its log.

        `progress` gets what it says of itself meanwhile.
        """
        ...

    async def stop(self) -> None:
        """SIGTERM, and wait for its end; nothing if it does not run."""
        ...


class Bird:
    """BIRD 2 in the foreground on `config`, its control socket and log in `directory`."""

    def __init__(self, name: str, config: Path, namespace: Path, directory: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self.child: Child | None = None
        self._config = config
        self._namespace = namespace
        self._env = env
        self._socket = fitting(directory / "bird.ctl")
        self._pid_file = directory / "bird.pid"
        self._log = directory / "log"

    @staticmethod
    async def check(config: Path, log: Path) -> None:
        """Let BIRD read `config` without running it; OperatorError with its words when it cannot."""
        if await process.run(f"bird -p -c {config}", ["bird", "-p", "-c", str(config)], log=log):
            raise OperatorError(
                f"{config}: BIRD does not accept this configuration{process.tail(log)}",
                hint=f"correct it and try: bird -p -c {config}",
            )

    async def start(self, progress: Progress) -> None:
        """Start it; ready is when its control socket answers."""
        progress(f"starting BIRD on {self.name}")
        self._socket.unlink(missing_ok=True)
        argv = ["bird", "-f", "-c", str(self._config), "-s", str(self._socket), "-P", str(self._pid_file)]
        self.child = Child(f"bird of {self.name}", argv, namespace=self._namespace, env=self._env, log=self._log)
        async with _deadline(self.child, _BIRD_READY):
            while self.child.alive and not self._answers():  # noqa: ASYNC110  BIRD tells nobody that it listens
                await asyncio.sleep(_POLL)
        if not self.child.alive:
            raise self.child.died()

    async def stop(self) -> None:
        """SIGTERM: BIRD closes its sessions and takes its routes along."""
        if self.child is not None:
            await self.child.stop(_GRACE)

    async def birdc(self, *words: str) -> str:
        """The answer of `birdc WORDS`; EnvironmentFault when it cannot be asked."""
        output = self._log.with_name("birdc.out")
        with output.open("wb") as out:
            status = await process.run(
                f"birdc of {self.name}", ["birdc", "-s", str(self._socket), *words], log=self._log, stdout=out
            )
        answer = output.read_text(encoding="utf-8", errors="replace")
        if status:
            raise EnvironmentFault(f"birdc {' '.join(words)} on {self.name} ended with status {status}: {answer}")
        return answer

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(str(self._socket)) == 0


class Agent:
    """`routed agent` on a configuration of its own, all that it keeps in `directory`."""

    def __init__(
        self,
        name: str,
        store: Path,
        namespace: Path,
        directory: Path,
        env: Mapping[str, str],
    ) -> None:
        self.name = name
        self.child: Child | None = None
        self.cni_socket = fitting(directory / "cni.sock")
        self._namespace = namespace
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
            self.child = Child(
                f"agent of {self.name}",
                [sys.executable, "-m", "routed", "agent", "--config", str(self._config)],
                namespace=self._namespace,
                env=dict(self._env) | {"NOTIFY_SOCKET": str(self._notify)},
                log=self._log,
            )
            ended = asyncio.ensure_future(self.child.wait())
            ready = asyncio.ensure_future(self._told_ready(notify, progress))
            try:
                async with _deadline(self.child, _READY):
                    await asyncio.wait({ended, ready}, return_when=asyncio.FIRST_COMPLETED)
                if ended.done():
                    raise self.child.died()
            finally:
                ready.cancel()
                ended.cancel()
                with suppress(asyncio.CancelledError):
                    await ready

    async def stop(self) -> None:
        """SIGTERM: the agent leaves the kernel's state as it is."""
        if self.child is not None:
            await self.child.stop(_GRACE)

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


def fitting(path: Path) -> Path:
    """`path` if a unix socket may be there; OperatorError when the names of the lab make it too long."""
    if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
        raise OperatorError(
            f"{path}: {len(os.fsencode(path))} characters, and a unix socket's path has at most {_LONGEST_SOCKET_PATH}",
            hint="give the lab or the node a shorter name",
        )
    return path


@asynccontextmanager
async def _deadline(child: Child, seconds: float) -> AsyncGenerator[None, None]:
    """A timeout whose error says what the child had logged until then."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise EnvironmentFault(f"{child.what} was not ready after {seconds:.0f} s{child.tail()}") from None

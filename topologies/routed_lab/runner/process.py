"""Child processes in sandboxes: started without threads, watched by pidfd, dead when the runner is."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from routed.errors import EnvironmentFault, OperatorError

if TYPE_CHECKING:
    from routed_lab.runner.sandbox import Sandbox

_TAIL: Final = 12  # lines of a log that an error shows
_LONGEST_TAIL: Final = 8192  # bytes
_LONGEST_SOCKET_PATH: Final = 107  # struct sockaddr_un, unix(7)


class Child:
    """One process. `log` takes its output; `stdin` and pipes are the caller's."""

    def __init__(
        self,
        what: str,
        argv: Sequence[str],
        *,
        sandbox: Sandbox | None = None,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = None,
        stderr: int | IO[bytes] | None = None,
        new_session: bool = True,
    ) -> None:
        """Start `argv` in `sandbox` if given, as the leader of a session of its own unless it makes one itself.

        A child inherits the namespaces of the thread that forks it, `nsenter` brings it among the sandbox's mounts, and
        it dies with PID 1 of the sandbox; outside of one, `setpriv` asks the kernel to kill it with the runner. So it
        needs no code between fork and exec, and vfork serves, which is several times cheaper.
        Raises EnvironmentFault when it cannot be started.
        """
        self.what = what
        self.log = log
        sink: IO[bytes] | int = subprocess.DEVNULL if log is None else log.open("ab")
        try:
            with nullcontext() if sandbox is None else sandbox.entered():
                self._process = subprocess.Popen(
                    ["setpriv", "--pdeathsig", "KILL", "--", *argv] if sandbox is None else sandbox.argv(argv),
                    stdin=stdin,
                    stdout=sink if stdout is None else stdout,
                    stderr=sink if stderr is None else stderr,
                    env=dict(os.environ if env is None else env),
                    start_new_session=new_session,
                )
        except (OSError, ValueError) as error:  # the latter: a NUL, or a variable's name with =
            raise EnvironmentFault(f"cannot start {what}: {error}") from error
        finally:
            if not isinstance(sink, int):
                sink.close()
        self._loop = asyncio.get_running_loop()
        self._exited: asyncio.Future[int] = self._loop.create_future()
        self._pidfd = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._pidfd, self._reap)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs, as far as the loop has heard."""
        return not self._exited.done()

    @property
    def stdin(self) -> IO[bytes] | None:
        """Its standard input, when that is a pipe."""
        return self._process.stdin

    async def wait(self) -> int:
        """Its exit status, 128 + N when signal N ended it."""
        return await asyncio.shield(self._exited)

    def when_done(self, call: Callable[[Child], None]) -> None:
        """Call `call` with this process once it has ended."""
        self._exited.add_done_callback(lambda _: call(self))

    def signal(self, number: int) -> None:
        """Send a signal to its whole session's process group; nothing happens when it is gone."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def stop(self, grace: float) -> None:
        """SIGTERM to the process alone, which ends its own children; SIGKILL to its group after `grace` seconds."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
            try:
                await asyncio.wait_for(self.wait(), grace)
            except TimeoutError:
                self.signal(signal.SIGKILL)
                await self.wait()

    def died(self) -> EnvironmentFault:
        """What to say of a process that should be running and is not."""
        return EnvironmentFault(f"{self.what} ended {_ending(self._exited.result())}{self.tail()}")

    def tail(self) -> str:
        """The end of its log, as the rest of an error message."""
        return "" if self.log is None else tail(self.log)

    def _reap(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        status = self._process.wait()
        self._exited.set_result(status if status >= 0 else 128 - status)


def fresh(log: Path) -> Path:
    """`log` without what an earlier run of the same command said."""
    log.unlink(missing_ok=True)
    return log


def fitting(path: Path) -> Path:
    """`path` if a unix socket may be there; OperatorError when the names of the lab make it too long."""
    if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
        raise OperatorError(
            f"{path}: {len(os.fsencode(path))} characters, and a unix socket's path has at most {_LONGEST_SOCKET_PATH}",
            hint="give the lab or the node a shorter name",
        )
    return path


@asynccontextmanager
async def deadline(child: Child, seconds: float) -> AsyncGenerator[None, None]:
    """A timeout whose error says what the child had logged until then."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise EnvironmentFault(f"{child.what} was not ready after {seconds:.0f} s{child.tail()}") from None


async def run(
    what: str,
    argv: Sequence[str],
    *,
    log: Path,
    sandbox: Sandbox | None = None,
    env: Mapping[str, str] | None = None,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: IO[bytes] | None = None,
    limit: float = 60.0,
) -> int:
    """Run a program to its end and return its exit status; EnvironmentFault if it takes longer than `limit` seconds."""
    child = Child(what, argv, sandbox=sandbox, env=env, log=log, stdin=stdin, stdout=stdout)
    try:
        return await asyncio.wait_for(child.wait(), limit)
    except TimeoutError:
        raise EnvironmentFault(f"{what} did not end within {limit:.0f} s{child.tail()}") from None
    finally:
        child.signal(signal.SIGKILL)


def tail(log: Path) -> str:
    """The last lines of a log, indented below a colon; nothing if it is empty."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LONGEST_TAIL))
            lines = file.read().decode(errors="replace").splitlines()[-_TAIL:]
    except FileNotFoundError:
        return ""
    return ":" + "".join(f"\n  {line}" for line in lines) if lines else ""


def _ending(status: int) -> str:
    if status > 128:
        with suppress(ValueError):
            return f"by {signal.Signals(status - 128).name}"
    return f"with status {status}"

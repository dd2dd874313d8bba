"""What makes a container of a namespace: mount, UTS and PID namespaces around a network namespace.

A node has a process of its own as PID 1, forked from the runner and held by it: when the runner ends, however it does,
the kernel ends PID 1, and with it everything in the node. A pod lives inside its node, in another network and UTS
namespace. pid_namespaces(7), uts_namespaces(7), mount_namespaces(7).
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from routed.errors import EnvironmentFault
from routed.netlink.socket import inside
from routed_lab.runner import mounts as binding
from routed_lab.topology import Bind
from routed_lab.uml import system
from routed_lab.uml.system import CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS, MS_BIND, MS_REC, MS_SLAVE

_READY: Final = b"+"
_OWN: Final = "/proc/thread-self/ns"


@dataclass(frozen=True, slots=True)
class Mount:
    """`source` (a file or directory) seen at `target` in a node, and nowhere else."""

    source: Path
    target: str


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The namespaces that a program of a node or pod runs in. `uts` and `pids` are open descriptors of them."""

    network: Path
    uts: int
    pids: int
    mounts: str

    @contextmanager
    def entered(self) -> Generator[None]:
        """Run a block in which what this thread starts is born in the sandbox, but for its mounts: see `argv`."""
        with inside(self.network), _as(self.uts, "uts", CLONE_NEWUTS), _as(self.pids, "pid", CLONE_NEWPID):
            yield

    def argv(self, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` among the sandbox's mounts; it becomes `argv` and stays one process.

        A thread that shares its working directory with others cannot change its mount namespace, a new process can.
        """
        return ["nsenter", f"--mount={self.mounts}", "--", *argv]

    def pod(self, name: str, network: Path) -> Sandbox:
        """A sandbox inside this one, with `network` and the host name `name`; close its `uts` when done."""
        with _as(self.uts, "uts", CLONE_NEWUTS):
            system.unshare(CLONE_NEWUTS)
            system.set_hostname(name[:64])  # __NEW_UTS_LEN: a node's name of 63 and -podN are more
            uts = os.open(f"{_OWN}/uts", os.O_RDONLY | os.O_CLOEXEC)
        return Sandbox(network, uts, self.pids, self.mounts)


class Container:
    """A node's sandbox and the PID 1 that holds it."""

    def __init__(self, name: str, network: Path, mounts: Sequence[Mount], binds: Sequence[Bind], scratch: Path) -> None:
        """Make it, `mounts` first and the file's `binds` over them, for which `scratch` is an empty directory.

        Raises EnvironmentFault with the kernel's reason when that cannot be.
        """
        reader, writer = os.pipe2(os.O_CLOEXEC)
        with os.fdopen(reader, "rb") as told:
            try:
                with inside(network):
                    self._pid = _fork_into_new_pid_namespace()
                    if self._pid == 0:
                        _be_init(name, mounts, binds, scratch, writer)
            except OSError as error:
                raise EnvironmentFault(f"cannot make the namespaces of {name}: {error.strerror}") from error
            finally:
                os.close(writer)
            said = told.read(4096)
        if said[-1:] != _READY:
            os.waitpid(self._pid, 0)
            raise EnvironmentFault(f"cannot make the namespaces of {name}: {said.decode(errors='replace')}")
        namespaces = f"/proc/{self._pid}/ns"
        self.sandbox = Sandbox(
            network,
            os.open(f"{namespaces}/uts", os.O_RDONLY | os.O_CLOEXEC),
            os.open(f"{namespaces}/pid", os.O_RDONLY | os.O_CLOEXEC),
            f"{namespaces}/mnt",
        )

    async def close(self) -> None:
        """End all processes of the node.

        PID 1 is gone only once the runner has reaped its own children in there, so the loop has to go on meanwhile.
        """
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        pidfd = os.pidfd_open(self._pid)

        def end() -> None:
            loop.remove_reader(pidfd)
            ended.set_result(None)

        loop.add_reader(pidfd, end)
        try:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            await ended
        finally:
            loop.remove_reader(pidfd)
            os.close(pidfd)
        self._release()

    def _release(self) -> None:
        os.waitpid(self._pid, os.WNOHANG)
        os.close(self.sandbox.uts)
        os.close(self.sandbox.pids)


def _fork_into_new_pid_namespace() -> int:
    """fork(2), the child being PID 1 of a new PID namespace; this thread's next child is born in the old one."""
    home = os.open(f"{_OWN}/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        system.unshare(CLONE_NEWPID)
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pid:
                _return(home, CLONE_NEWPID)
    finally:
        os.close(home)
    return pid


def _be_init(name: str, mounts: Sequence[Mount], binds: Sequence[Bind], scratch: Path, writer: int) -> None:
    """Be PID 1: furnish the node, tell `writer` that it is ready or why not, then reap orphans until killed."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_IGN)  # of SIGCHLD: the kernel reaps
        os.setsid()
        system.die_with_parent(0)
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        # the lab's lock and the wire are not for us to hold
        os.closerange(3, writer)
        os.closerange(writer + 1, 1 << 20)
        system.unshare(CLONE_NEWNS | CLONE_NEWUTS)
        system.set_hostname(name)
        system.mount("none", "/", None, MS_REC | MS_SLAVE)
        system.mount("proc", "/proc", "proc")
        system.mount("sysfs", "/sys", "sysfs")  # of our network namespace
        for each in mounts:
            system.mount(str(each.source), each.target, None, MS_BIND | MS_REC)
        if binds:
            binding.mount(binds, scratch, {Path(each.target) for each in mounts})
        os.write(writer, _READY)
        os.close(writer)
        while True:
            signal.pause()
    except OSError as error:
        os.write(writer, (error.strerror or str(error)).encode())
    finally:
        os._exit(1)


@contextmanager
def _as(descriptor: int, kind: str, flag: int) -> Generator[None]:
    """Run a block with this thread in another namespace; one that cannot come back ends the process."""
    home = os.open(f"{_OWN}/{kind}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        system.setns(descriptor, flag)
        try:
            yield
        finally:
            _return(home, flag)
    finally:
        os.close(home)


def _return(home: int, flag: int) -> None:
    """Bring this thread home, or end the process: the next thing that it started would go astray."""
    try:
        system.setns(home, flag)
    except OSError:
        os._exit(70)

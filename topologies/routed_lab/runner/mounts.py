"""The binds of a node: files and directories of the machine seen at other places, in the node and nowhere else.

Where a bind's destination does not exist, the machine is not to get one: the nearest directory above it is covered by
an overlay whose upper layer is a tmpfs in the mount namespace, and the destination is made there. mount_namespaces(7),
Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from routed.errors import EnvironmentFault
from routed_lab.topology import Bind
from routed_lab.uml import system
from routed_lab.uml.system import CLONE_NEWNS, MS_BIND, MS_REC

_MS_SLAVE: Final = 1 << 19
_READY: Final = b"+"
_LONGEST_ANSWER: Final = 4096


def mount(binds: Sequence[Bind], scratch: Path) -> None:
    """Mount `binds` in the mount namespace of this process, which must be its own; destinations differ.

    `scratch` is a directory that exists; a tmpfs on it holds what binds need besides their sources. Raises OSError.
    """
    system.mount("tmpfs", str(scratch), "tmpfs")
    # by descriptors: what is made in a directory above covers the paths of what is mounted below it
    room = f"/proc/self/fd/{os.open(scratch, os.O_PATH)}"
    sources: dict[str, tuple[str, bool]] = {}
    for number, bind in enumerate(binds):
        if bind.source is None:
            os.mkdir(f"{room}/volume-{number}")  # noqa: PTH102  not a path to join
        opened = os.open(bind.source or f"{room}/volume-{number}", os.O_PATH)
        sources[bind.target] = (f"/proc/self/fd/{opened}", stat.S_ISDIR(os.fstat(opened).st_mode))
    _place({bind.target: bind for bind in binds}, sources, room, set())


def _place(binds: Mapping[str, Bind], sources: Mapping[str, tuple[str, bool]], room: str, writable: set[Path]) -> None:
    """Mount those whose destinations are in no other's, all places being made before, and then what is in each.

    A place in a `writable` bind is made in its source, as Docker does: an overlay there would swallow what the node
    writes.
    """
    outer = {Path(target) for target in binds if not any(str(parent) in binds for parent in Path(target).parents)}
    missing = [target for target in sorted(outer) if not target.exists()]
    nearest = {
        next(parent for parent in target.parents if parent.is_dir())
        for target in missing
        if not writable.intersection(target.parents)
    }
    for directory in nearest:
        if not nearest.intersection(directory.parents):
            _cover(directory, f"{room}{directory}")
    for target in missing:
        _make(target, is_directory=sources[str(target)][1])
    for target in outer:
        system.mount(sources[str(target)][0], str(target), None, MS_BIND | MS_REC)
        if binds[str(target)].read_only:
            system.set_read_only(str(target), True)
    inner = {text: bind for text, bind in binds.items() if Path(text) not in outer}
    if inner:
        _place(inner, sources, f"{room}/below", {each for each in outer if not binds[str(each)].read_only})


def _cover(directory: Path, room: str) -> None:
    """Let what is made in `directory` be seen here alone. What is mounted in it is no longer seen."""
    if str(directory) == "/":
        raise OSError(errno.ENOENT, "a destination is in no directory of the machine but /")
    upper, work = Path(room, "upper"), Path(room, "work")
    upper.mkdir(parents=True)
    work.mkdir()
    upper.chmod(directory.stat().st_mode & 0o7777)
    system.mount("overlay", str(directory), "overlay", 0, f"lowerdir={directory},upperdir={upper},workdir={work}")


def _make(target: Path, *, is_directory: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_directory:
        target.mkdir()
    else:
        target.touch()


class Furnished:
    """A mount namespace with binds, held by a process that ends with this one."""

    def __init__(self, node: str, binds: Sequence[Bind], scratch: Path) -> None:
        """Make it for `node`; raises EnvironmentFault with the kernel's reason when that cannot be."""
        scratch.mkdir(exist_ok=True)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        us = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            _hold(binds, scratch, writer, us)
        os.close(writer)
        with os.fdopen(reader, "rb") as told:
            said = told.read(_LONGEST_ANSWER)
        if said != _READY:
            os.waitpid(self._pid, 0)
            raise EnvironmentFault(f"cannot mount the binds of {node}: {said.decode(errors='replace')}")

    def argv(self, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` among the binds."""
        return ["nsenter", f"--mount=/proc/{self._pid}/ns/mnt", "--", *argv]

    def close(self) -> None:
        """Let go of the namespace; it goes with the last process in it."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def _hold(binds: Sequence[Bind], scratch: Path, writer: int, parent: int) -> None:
    """Be the process that holds a namespace: tell `writer` that it is ready, or why not, and wait to be killed."""
    try:
        system.die_with_parent(parent)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        os.setsid()
        # the lab's lock, the wire and the other end of the pipe are not for us to hold
        os.closerange(3, writer)
        os.closerange(writer + 1, 1 << 16)
        system.unshare(CLONE_NEWNS)
        system.mount("none", "/", None, MS_REC | _MS_SLAVE)
        mount(binds, scratch)
        os.write(writer, _READY)
        os.close(writer)
        while True:
            signal.pause()
    except OSError as error:
        os.write(writer, (error.strerror or str(error)).encode()[:_LONGEST_ANSWER])
    finally:
        os._exit(1)

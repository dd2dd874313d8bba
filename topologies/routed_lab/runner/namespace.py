"""Named network namespaces, as `ip netns` keeps them: a bind mount below /run/netns holds each."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from routed.errors import ConflictError, EnvironmentFault

HOME: Final = Path("/run/netns")

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_MS_BIND = 0x1000
_MNT_DETACH = 2
_OWN = "/proc/thread-self/ns/net"


def path(name: str) -> Path:
    """Where the namespace called `name` is held."""
    return HOME / name


def create(name: str) -> Path:
    """Make the namespace `name` and return its path.

    Raises ConflictError when the name is taken, EnvironmentFault when the process may not make namespaces.
    """
    target = path(name)
    HOME.mkdir(parents=True, exist_ok=True)
    try:
        os.close(os.open(target, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
    except FileExistsError:
        raise ConflictError(
            f"the network namespace {name} exists already and is not this lab's",
            hint=f"if nothing needs it, remove it with: ip netns delete {name}",
        ) from None
    try:
        _make(target)
    except OSError as error:
        target.unlink()
        hint = "run as root, or use --kernel uml" if error.errno == errno.EPERM else None
        raise EnvironmentFault(f"cannot make the network namespace {name}: {error.strerror}", hint=hint) from error
    return target


def _make(target: Path) -> None:
    """Enter a new namespace, hold it by a mount on `target`, and come back."""
    home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call(_libc.unshare(_CLONE_NEWNET))
        try:
            _call(_libc.mount(_OWN.encode(), os.fsencode(target), b"none", ctypes.c_ulong(_MS_BIND), None))
        finally:
            if _libc.setns(home, _CLONE_NEWNET):
                os._exit(70)  # the next thing this thread made would go astray
    finally:
        os.close(home)


def delete(name: str) -> None:
    """Let go of the namespace; the kernel removes it and its links when no process is in it. Gone is no error."""
    target = path(name)
    _libc.umount2(os.fsencode(target), _MNT_DETACH)  # EINVAL: nothing was mounted there, half-made
    target.unlink(missing_ok=True)


def processes(names: Iterable[str]) -> Iterator[int]:
    """The processes that are in one of the namespaces now."""
    wanted: set[tuple[int, int]] = set()
    for name in names:
        try:
            held = path(name).stat()
        except FileNotFoundError:
            continue
        wanted.add((held.st_dev, held.st_ino))
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal():
            continue
        try:
            own = (process / "ns/net").stat()
        except OSError:  # it ended meanwhile
            continue
        if (own.st_dev, own.st_ino) in wanted:
            yield int(process.name)


def _call(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))

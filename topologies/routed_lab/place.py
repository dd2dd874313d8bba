"""Where a lab that is up is found: a directory per lab name, locked by its keeper for as long as it lives.

    $XDG_RUNTIME_DIR/routed-lab/NAME/     or /run/routed-lab for root, else /tmp/routed-lab-UID
        keeper.sock     speaks routed_lab.wire
        keeper.json     Card: who it is
        keeper.log      the keeper's and the runner's standard error

The lock is a flock on the directory itself: it ends with the keeper, however that ends, and needs no file of its own.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from routed.errors import ConflictError, EnvironmentFault, OperatorError

SOCKET: Final = "keeper.sock"
CARD: Final = "keeper.json"
LOG: Final = "keeper.log"

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")


class Card(msgspec.Struct, frozen=True):
    """What a keeper says about its lab: topology file, kernel (host or uml), process id, start in Unix seconds."""

    lab: str
    file: str
    kernel: str
    pid: int
    since: float
    ended: str = ""  # why, of a lab that ended by itself

    @property
    def started(self) -> str:
        """The start in local time, for a person."""
        today = time.strftime("%Y-%m-%d")
        started = time.localtime(self.since)
        same_day = time.strftime("%Y-%m-%d", started) == today
        return time.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M:%S", started)


def base() -> Path:
    """Return the directory that holds this user's labs, made if need be.

    EnvironmentFault when it is, or could be, in somebody else's hands.
    """
    uid = os.geteuid()
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and Path(runtime).is_dir() and Path(runtime).stat().st_uid == uid:
        path = Path(runtime, "routed-lab")
    elif uid == 0:
        path = Path("/run/routed-lab")
    else:
        path = Path(f"/tmp/routed-lab-{uid}")  # noqa: S108  checked below: ours and closed to others
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != uid or status.st_mode & 0o077:
        raise EnvironmentFault(
            f"{path} is no directory that belongs to user {uid} alone",
            hint="remove it, or set XDG_RUNTIME_DIR to a private directory",
        )
    return path


def of(lab: str) -> Path:
    """Return the directory of the lab called `lab`, which need not exist; OperatorError if that is no name."""
    if not _NAME.fullmatch(lab):
        raise OperatorError(f"{lab!r} is no name for a lab", hint="use letters, digits, '-', '_' and '.', at most 63")
    return base() / lab


def take(directory: Path) -> int:
    """Make the directory if need be, lock and empty it; return the descriptor that holds the lock.

    What a keeper that was killed has left in it goes. ConflictError when a living keeper holds it.
    """
    while True:
        directory.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_ino == directory.stat().st_ino:
                break
        except FileNotFoundError:
            pass  # its keeper removed it just now
        except BlockingIOError:
            os.close(lock)
            raise _taken(directory) from None
        os.close(lock)
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    return lock


def _taken(directory: Path) -> ConflictError:
    card = read_card(directory)
    if card is None:
        return ConflictError(f'lab "{directory.name}" is being brought up or taken down right now', hint="try again")
    return ConflictError(
        f'lab "{card.lab}" is already up (since {card.started}, kernel {card.kernel})',
        hint=f"take it down with: routed lab down {card.file}",
    )


def write_card(directory: Path, card: Card) -> None:
    """Say who keeps the lab."""
    (directory / CARD).write_bytes(msgspec.json.encode(card) + b"\n")


def read_card(directory: Path) -> Card | None:
    """Return what the keeper says about itself; None if there is none, or its words make no sense."""
    try:
        return msgspec.json.decode((directory / CARD).read_bytes(), type=Card)
    except (OSError, msgspec.MsgspecError):
        return None


def listen(directory: Path) -> socket.socket:
    """Return the socket on which the keeper of this directory serves."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    _with_short_path(directory, server.bind)
    server.listen(64)
    return server


def connect(directory: Path) -> socket.socket | None:
    """Return a connection to the keeper of this directory; None if none lives there."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _with_short_path(directory, client.connect)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        client.close()
        return None
    return client


def _with_short_path(directory: Path, act: Callable[[str], object]) -> None:
    """A socket's path has room for 107 bytes, and XDG_RUNTIME_DIR may take them all: go by a descriptor."""
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        act(f"/proc/self/fd/{fd}/{SOCKET}")
    finally:
        os.close(fd)


def give_up(directory: Path, lock: int) -> None:
    """Remove the directory, then let go of it."""
    shutil.rmtree(directory, ignore_errors=True)
    os.close(lock)


def leave_word(directory: Path, lock: int, why: str) -> None:
    """Leave the log and the reason for whoever looks for a lab that ended by itself, then let go of the directory."""
    card = read_card(directory)
    if card is not None:
        write_card(directory, msgspec.structs.replace(card, ended=why))
    (directory / SOCKET).unlink(missing_ok=True)
    os.close(lock)


def tail(directory: Path, lines: int = 20) -> str:
    """Return the last lines of the log, empty if there is none."""
    try:
        text = (directory / LOG).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.rstrip().splitlines()[-lines:])

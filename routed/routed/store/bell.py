"""Waking the watchers of other processes: each listens on a datagram socket in a directory beside the database.

A writer sends one byte to every socket there after its commit. Sockets with a path work across network namespaces, so
the agents of a whole lab hear one another. A bell may be missed (its writer killed between commit and ring): a watcher
also looks by itself now and then.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

_SUN_PATH_MAX = 107  # bytes, sockaddr_un.sun_path less its final NUL (unix(7))


class Bell:
    """The sockets in `directory`. `ring` is for the writer's thread, `listen` for the event loop's."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._sender: socket.socket | None = None

    def listen(self) -> Listener:
        """A new socket that every later `ring` makes readable. Raises OSError."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        name = f"{os.getpid()}-{os.urandom(8).hex()}"  # never used twice: removing a dead one cannot hit a new one
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            with _Address(self._directory) as address:
                bound.bind(address.of(name))
        except BaseException:
            bound.close()
            raise
        return Listener(bound, self._directory / name)

    def ring(self) -> None:
        """Wake every listener, and remove the sockets that dead processes left.

        Raises nothing: what it tells of is committed, and a watcher that is not woken looks by itself.
        """
        with suppress(OSError):
            self._ring()

    def _ring(self) -> None:
        names = os.listdir(self._directory)  # noqa: PTH208  a name is all that is needed, on every commit
        if self._sender is None:
            self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        with _Address(self._directory) as address:
            for name in names:
                try:
                    self._sender.sendto(b"\0", address.of(name))
                except ConnectionRefusedError:  # nobody has it open any more
                    (self._directory / name).unlink(missing_ok=True)
                except OSError:  # full: it has a wake-up waiting already; gone or not ours to wake: it looks by itself
                    continue

    def close(self) -> None:
        """Let go of the sending socket."""
        if self._sender is not None:
            self._sender.close()
            self._sender = None


class Listener:
    """One bound socket."""

    def __init__(self, bound: socket.socket, path: Path) -> None:
        self._bound = bound
        self._path = path

    def fileno(self) -> int:
        """For a selector; readable when rung."""
        return self._bound.fileno()

    def drain(self) -> None:
        """Take all pending rings."""
        try:
            while True:
                self._bound.recv(1)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Remove the socket."""
        self._path.unlink(missing_ok=True)
        self._bound.close()


class _Address:
    """Socket addresses in `directory`, by way of /proc/self/fd where the path is too long for one."""

    def __init__(self, directory: Path) -> None:
        self._base = str(directory)
        self._descriptor: int | None = None

    def __enter__(self) -> _Address:
        longest = len(os.fsencode(self._base)) + 1 + 10 + 1 + 16  # "/", pid, "-", token
        if longest > _SUN_PATH_MAX:
            self._descriptor = os.open(self._base, os.O_PATH | os.O_DIRECTORY)
            self._base = f"/proc/self/fd/{self._descriptor}"
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def of(self, name: str) -> str:
        """The address of the socket `name`."""
        return f"{self._base}/{name}"

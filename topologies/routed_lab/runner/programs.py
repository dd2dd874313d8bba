"""Programs that an operator runs in a node or pod: streams, signals and, if asked, a terminal."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal

from routed_lab.runner.process import Child
from routed_lab.wire import CHUNK

if TYPE_CHECKING:
    from routed_lab.runner.sandbox import Sandbox

Sink = Callable[[Literal[1, 2], bytes], Awaitable[None]]
_LAST_WORDS: Final = (
    0.5  # seconds for what a program wrote before its end; its children may keep the pipe open for ever
)


class Program:
    """A program being run. `feed` and `signal` may be called as soon as it exists."""

    def __init__(
        self, argv: Sequence[str], *, sandbox: Sandbox | None, env: Mapping[str, str], tty: bool, stdin: bool
    ) -> None:
        """Start `argv`; raises EnvironmentFault when that is not possible."""
        self._readers: dict[int, Literal[1, 2]] = {}
        self._input: int | None = None
        what = f"exec {argv[0]}"
        if tty:
            self._input, inner = pty.openpty()
            try:
                # setsid makes the terminal the controlling one of a session of its own, for Ctrl-C and job control
                with os.fdopen(inner, "r+b", buffering=0, closefd=False) as end:
                    self._child = Child(
                        what,
                        ["setsid", "--ctty", *argv],
                        sandbox=sandbox,
                        env=env,
                        stdin=end,
                        stdout=end,
                        stderr=end,
                        new_session=False,  # setsid would fork if it led one, and we would wait for the wrong process
                    )
            finally:
                os.close(inner)
            self._readers[os.dup(self._input)] = 1
        else:
            ends = [os.pipe2(os.O_CLOEXEC) for _ in range(2)]
            source = os.pipe2(os.O_CLOEXEC) if stdin else None
            try:
                self._child = Child(
                    what,
                    argv,
                    sandbox=sandbox,
                    env=env,
                    stdin=source[0] if source is not None else subprocess.DEVNULL,
                    stdout=ends[0][1],
                    stderr=ends[1][1],
                )
            finally:
                for _, inner in ends:
                    os.close(inner)
                if source is not None:
                    os.close(source[0])
            self._readers = {ends[0][0]: 1, ends[1][0]: 2}
            self._input = source[1] if source is not None else None
        self._tty = tty
        self._pending: asyncio.Queue[bytes | None] = asyncio.Queue()
        for descriptor in self._readers:
            os.set_blocking(descriptor, False)
        if self._input is not None:
            os.set_blocking(self._input, False)

    def feed(self, data: bytes, *, eof: bool) -> None:
        """Give the program input; with `eof` its end. Dropped when it takes none."""
        if data:
            self._pending.put_nowait(data)
        if eof:
            self._pending.put_nowait(None)

    def resize(self, rows: int, columns: int) -> None:
        """Tell the program's terminal its size, if it has one and both are above 0."""
        if self._tty and self._input is not None and rows > 0 and columns > 0:
            fcntl.ioctl(self._input, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def signal(self, number: int) -> None:
        """Send a signal to the program and what it started."""
        self._child.signal(number)

    async def run(self, sink: Sink) -> int:
        """Pass its output to `sink` until it ends; its exit status, 128 + N when signal N ended it.

        Cancelled, it kills the program.
        """
        writer = asyncio.ensure_future(self._write())
        readers = [asyncio.ensure_future(self._read(descriptor, fd, sink)) for descriptor, fd in self._readers.items()]
        try:
            status = await self._child.wait()
            await asyncio.wait(readers, timeout=_LAST_WORDS)
            return status
        finally:
            self._child.signal(signal.SIGKILL)
            for task in (writer, *readers):
                task.cancel()
            await asyncio.gather(writer, *readers, return_exceptions=True)
            for descriptor in self._readers:
                os.close(descriptor)
            self._close_input()

    async def _read(self, descriptor: int, fd: Literal[1, 2], sink: Sink) -> None:
        while True:
            try:
                data = os.read(descriptor, CHUNK)
            except BlockingIOError:
                await _ready(descriptor, writing=False)
                continue
            except OSError:  # EIO: nobody holds the other end of the terminal any more
                return
            if not data:
                return
            await sink(fd, data)

    async def _write(self) -> None:
        while True:
            data = await self._pending.get()
            if self._input is None:
                continue
            if data is None:
                if self._tty:
                    data = b"\x04"  # what a terminal sends for the end of input
                else:
                    self._close_input()
                    continue
            await self._write_all(data)

    async def _write_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if (descriptor := self._input) is None:
                return
            try:
                view = view[os.write(descriptor, view) :]
            except BlockingIOError:
                await _ready(descriptor, writing=True)
            except OSError:  # it reads no more
                self._close_input()

    def _close_input(self) -> None:
        if self._input is not None:
            os.close(self._input)
            self._input = None


async def _ready(descriptor: int, *, writing: bool) -> None:
    """Wait until a descriptor can be read or written."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    add, remove = (loop.add_writer, loop.remove_writer) if writing else (loop.add_reader, loop.remove_reader)

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    add(descriptor, wake)
    try:
        await ready
    finally:
        with suppress(ValueError):
            remove(descriptor)

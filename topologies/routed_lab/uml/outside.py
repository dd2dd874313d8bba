"""The calling process: starts the sandbox, relays streams and signals, keeps the deadlines, ends all with itself."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Final

from routed.errors import OperatorError
from routed_lab.uml import frames, needs, sandbox

if TYPE_CHECKING:
    from routed_lab.uml.guest import Config

GRACE: Final = 10.0
"""Seconds the command has to end after a signal that was passed on."""

BOOT_SECONDS: Final = 120.0
"""Seconds the kernel has to boot; it takes two on an idle machine."""

_PIPE_BUF = 4096  # poll calls a pipe writable when this much fits: a write of no more does not block
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOG_KEPT = 64 << 10
_LOG_SHOWN = 6000
_HIDDEN = frozenset({"proc", "sys", "dev", "run"})


@dataclass(frozen=True, slots=True)
class Boot:
    """What to run in a new kernel, and with what.

    `memory` is in bytes and also holds all files written; `writable` are the directories that the command may really
    write to; `modules` are loaded before it starts; `timeout` is in seconds, boot included, None for none.
    `environment` is the command's whole environment but for PATH, HOME, LANG and TERM, which have defaults.
    """

    command: tuple[str, ...]
    modules: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    directory: str = "/"
    memory: int = 1 << 30
    timeout: float | None = None
    stdin: bool = False
    pinned: bool = True
    verbose: bool = False


def run(boot: Boot) -> int:
    """Boot a kernel, run the command in it with our own streams, and return its exit status.

    128 + N if signal N killed the command; 124 after the timeout; 125 when the kernel did not boot or died; 130 when
    interrupted. SIGINT, SIGTERM and SIGHUP are passed on to the command; a second one, or GRACE seconds without an end,
    stops the kernel. For the main thread of a process that has nothing else to do: it takes over these signals.
    Raises EnvironmentFault when the machine cannot run User-mode Linux, OperatorError for a directory that cannot be
    shared.
    """
    kernel = needs.require()
    writable = tuple(_shareable(directory) for directory in boot.writable)
    return _Kernel(boot, sandbox.Machine(kernel, boot.memory, writable, boot.pinned)).run()


def _shareable(directory: str) -> str:
    path = os.path.realpath(directory)
    if not os.path.isdir(path) or path == "/":  # noqa: PTH112
        raise OperatorError(f"--rw {directory}: not a directory to share", hint="name an existing directory, not /")
    top = path.split("/")[1]
    if top in _HIDDEN:
        raise OperatorError(
            f"--rw {directory}: hidden by the new kernel's own /{top}", hint="name a directory elsewhere"
        )
    return path


def _config(boot: Boot, machine: sandbox.Machine) -> Config:
    modules_dir = needs.MODULES if os.path.isdir(needs.MODULES) and not os.environ.get("ROUTED_UML") else ""  # noqa: PTH112
    return {
        "command": list(boot.command),
        "env": {
            "PATH": needs.PATH,
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "TERM": os.environ.get("TERM", "dumb"),
            **boot.environment,
        },
        "cwd": boot.directory,
        "writable": list(machine.writable),
        "stdin": boot.stdin,
        "hostname": "routed-uml",
        "modules": list(boot.modules),
        "modules_dir": modules_dir,
        "time": time.time(),
        "seed": os.urandom(64).hex(),
    }


class _Kernel:
    def __init__(self, boot: Boot, machine: sandbox.Machine) -> None:
        self._boot, self._machine = boot, machine
        self._start = time.monotonic()
        self._deadline = self._start + boot.timeout if boot.timeout else None
        self._interruptions = 0
        self._kill_at: float | None = None
        self._timed_out = False
        self._ready = False
        self._code: int | None = None
        self._why = ""
        self._log = bytearray()
        self._frames = frames.Frames(synced=False)
        self._outgoing = bytearray()
        self._credit = frames.STDIN_WINDOW
        self._stdin_open = boot.stdin
        self._inflows = {stream: frames.Inflow(frames.WINDOW) for stream in (frames.STDOUT, frames.STDERR)}
        self._gone: set[int] = set()
        self._channel, self._theirs = socket.socketpair()
        self._channel.setblocking(False)
        self._log_fd, self._log_writer = os.pipe()
        os.set_blocking(self._log_fd, False)
        self._wake, self._wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        child = self._fork()
        self._theirs.close()
        os.close(self._log_writer)
        signal.set_wakeup_fd(self._wake_writer)
        for number in _SIGNALS:
            signal.signal(number, _ignore)
        try:
            self._loop()
        finally:
            os.kill(child, signal.SIGKILL)  # its child, PID 1 of the namespace, dies with it, and all in there
            os.waitpid(child, 0)
        with suppress(BlockingIOError):
            while self._read_log():
                pass
        return self._verdict()

    def _fork(self) -> int:
        parent = os.getpid()
        child = os.fork()
        if child:
            return child
        try:
            self._channel.close()
            os.close(self._log_fd)
            config = _config(self._boot, self._machine)
            sandbox.run(self._machine, config, self._theirs.fileno(), self._log_writer, parent)
        except BaseException as error:  # noqa: BLE001  a forked child must not run the caller's code
            os.write(self._log_writer, f"routed: cannot set up the sandbox: {error}\n".encode())
        finally:
            os._exit(1)

    def _verdict(self) -> int:
        if self._code is None:
            self._code = 125
            os.write(2, self._log[-_LOG_SHOWN:])
            self._say(self._why or ("the kernel died" if self._ready else "the kernel did not boot"))
        elif self._why:
            self._say(self._why)
        if self._boot.verbose:
            self._say(f"ended, exit status {self._code}")
        return self._code

    def _say(self, text: str) -> None:
        os.write(2, f"routed uml: [{time.monotonic() - self._start:6.2f} s] {text}\n".encode())

    def _loop(self) -> None:
        while True:
            events = self._wait()
            if self._wake in events:
                for number in os.read(self._wake, 64):
                    if number in _SIGNALS:
                        self._interrupt(number, "interrupted")
            if self._log_fd in events:
                self._read_log()
            if 0 in events and self._stdin_open:
                self._read_stdin()
            for stream, inflow in self._inflows.items():
                if stream in events and inflow:
                    self._write_stream(stream, inflow)
            if self._channel.fileno() in events and self._exchange():
                break
            if self._late(time.monotonic()):
                break
        # What the command wrote before it ended is still ours to deliver.
        for stream, inflow in self._inflows.items():
            while inflow:
                self._write_stream(stream, inflow)

    def _wait(self) -> frozenset[int]:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if self._log_fd not in self._gone:
            poll.register(self._log_fd, select.POLLIN)
        poll.register(self._channel, select.POLLIN | (select.POLLOUT if self._outgoing else 0))
        if self._stdin_open and self._ready and self._credit:
            poll.register(0, select.POLLIN)
        for stream, inflow in self._inflows.items():
            if inflow:
                poll.register(stream, select.POLLOUT)
        moments = [moment for moment in (self._kill_at, None if self._timed_out else self._deadline) if moment]
        if not self._ready:
            moments.append(self._start + BOOT_SECONDS)
        timeout = max(0.0, min(moments) - time.monotonic()) * 1000 + 1 if moments else None
        return frozenset(fd for fd, _ in poll.poll(timeout))

    def _late(self, now: float) -> bool:
        if self._kill_at is not None and now >= self._kill_at:
            self._code = 124 if self._timed_out else 130
            return True
        if self._deadline is not None and not self._timed_out and now >= self._deadline:
            self._timed_out = True
            self._interrupt(signal.SIGINT, f"timeout after {self._boot.timeout:g} s")
        if not self._ready and now >= self._start + BOOT_SECONDS:
            self._why = f"no kernel after {BOOT_SECONDS:g} s"
            return True
        return False

    def _interrupt(self, number: int, why: str) -> None:
        self._interruptions += 1
        self._why = self._why or why
        if self._ready and self._interruptions == 1:
            self._outgoing += frames.frame(frames.SIGNAL, bytes((number,)))
            self._kill_at = time.monotonic() + GRACE
        else:
            self._kill_at = time.monotonic()

    def _read_log(self) -> bool:
        data = os.read(self._log_fd, 65536)
        if not data:
            self._gone.add(self._log_fd)
        self._log += data
        del self._log[:-_LOG_KEPT]
        return bool(data)

    def _read_stdin(self) -> None:
        data = os.read(0, min(frames.CHUNK, self._credit))
        self._credit -= len(data)
        self._outgoing += frames.data(frames.STDIN, data)
        if not data:
            self._stdin_open = False

    def _write_stream(self, stream: int, inflow: frames.Inflow) -> None:
        try:
            size = os.write(stream, inflow.head(_PIPE_BUF))
        except BlockingIOError:  # the caller made it non-blocking
            select.select([], [stream], [])
            return
        except BrokenPipeError:
            self._gone.add(stream)
            self._give(stream, inflow.drop())
            # As a program that writes into a closed pipe itself: SIGPIPE ends it.
            self._outgoing += frames.frame(frames.SIGNAL, bytes((signal.SIGPIPE,)))
            return
        self._give(stream, inflow.wrote(size))

    def _give(self, stream: int, size: int) -> None:
        if size:
            self._outgoing += frames.credit(stream, size)

    def _exchange(self) -> bool:
        """Send and receive on the channel what can be; return whether the command, or the kernel, has ended."""
        try:
            if self._outgoing:
                del self._outgoing[: self._channel.send(self._outgoing[:65536])]
        except BlockingIOError:
            pass
        except OSError:
            self._outgoing.clear()  # the kernel is gone: the read side tells
        try:
            received = self._channel.recv(65536)
        except BlockingIOError:
            return False
        except ConnectionError:
            received = b""
        for kind, payload in self._frames.feed(received):
            if self._handle(kind, payload):
                return True
        if not received:  # the kernel has ended without a word
            self._code = 124 if self._timed_out else 130 if self._interruptions else None
            return True
        return False

    def _handle(self, kind: int, payload: bytes) -> bool:
        if kind == frames.DATA:
            stream = payload[0]
            if stream in self._gone:
                self._give(stream, len(payload) - 1)
            else:
                self._inflows[stream].add(payload[1:])
        elif kind == frames.CREDIT:
            self._credit += frames.credit_of(payload)[1]
        elif kind == frames.READY:
            self._ready = True
            if self._boot.verbose:
                release, uptime = payload.decode().split()
                self._say(f"ready: Linux {release}, uptime {uptime} s")
        elif kind == frames.EXIT:
            self._code = 124 if self._timed_out else payload[0]
            self._why = payload[1:].decode(errors="replace") or self._why
            return True
        return False


def _ignore(_signum: int, _frame: FrameType | None) -> None:
    """A handler, so that the wake-up descriptor is written."""

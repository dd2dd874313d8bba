"""How a command talks to a lab: connect to its keeper, send requests, read answers."""

from __future__ import annotations

import itertools
import os
import select
import signal
import socket
import termios
import time
import tty
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Final, Self

import msgspec

from routed.errors import ConflictError, EnvironmentFault, OperatorError
from routed_lab import place, wire

TICK: Final = 1.0
"""Seconds between two calls of a `waiting` function."""

_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_SIGNALS = (*_PASSED_ON, signal.SIGWINCH)


class _ExecResult(msgspec.Struct):
    status: int


class Client:
    """A connection to a lab's keeper. One request at a time; not for several threads."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._lines = wire.Lines()
        self._ids = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up: what still runs for us is cancelled."""
        self._socket.close()

    def new_id(self) -> int:
        """Return an id for the next request."""
        return next(self._ids)

    def call(
        self,
        request: wire.Request,
        progress: Callable[[str | None], None],
        output: Callable[[bytes], object] = bytes,
    ) -> wire.Json:
        """Send `request` and return the value of its Result; raise the error of its Failed.

        `output` gets the bytes of the answers that carry some; `progress` each line of progress, and None about every
        TICK seconds while nothing comes.
        EnvironmentFault when the keeper ends before it has answered.
        """
        self._send(request)
        while True:
            self._socket.settimeout(TICK)
            try:
                answers = self._receive(request.id)
            except TimeoutError:
                progress(None)
                continue
            finally:
                self._socket.settimeout(None)
            for answer in answers:
                if isinstance(answer, wire.Progress):
                    progress(answer.text)
                elif isinstance(answer, wire.Output):
                    output(answer.data)
                elif isinstance(answer, wire.Result):
                    return answer.value

    def execute(self, node: str, argv: Sequence[str]) -> int:
        """Run a program in the namespaces of `node` with our own standard streams; return its exit status.

        SIGINT, SIGTERM, SIGHUP and SIGQUIT are passed on to it meanwhile. Raises as `call` does.
        """
        return self._attend(wire.Exec(id=self.new_id(), node=node, argv=list(argv), stdin=True), stdin=True)

    def logs(self, node: str, *, follow: bool) -> int:
        """Print the log of a node's daemons, and with `follow` what comes to it until a signal; the exit status."""
        return self._attend(wire.Logs(id=self.new_id(), node=node, follow=follow), stdin=False)

    def shell(self, node: str, argv: Sequence[str]) -> int:
        """Run a program in `node` on our terminal, as if it had been started here; without one as `execute` does."""
        if not os.isatty(0):
            return self.execute(node, argv)
        size = os.get_terminal_size(0)
        request = wire.Exec(
            id=self.new_id(),
            node=node,
            argv=list(argv),
            tty=True,
            stdin=True,
            rows=size.lines,
            columns=size.columns,
        )
        before = termios.tcgetattr(0)
        tty.setraw(0, termios.TCSADRAIN)  # what was typed ahead is for the shell
        try:
            return self._attend(request, stdin=True)
        finally:
            termios.tcsetattr(0, termios.TCSADRAIN, before)

    def _attend(self, request: wire.Exec | wire.Logs, *, stdin: bool) -> int:
        """Be the standard streams of a program in the lab until it ends, and pass signals on; its exit status."""
        with _caught_signals() as signals:
            self._send(request)
            poll = select.poll()
            poll.register(signals, select.POLLIN)
            poll.register(self._socket, select.POLLIN)
            if stdin:
                poll.register(0, select.POLLIN)
            while True:
                ready = {fd for fd, _ in poll.poll()}
                if signals in ready:
                    for number in os.read(signals, 64):
                        if number == signal.SIGWINCH and os.isatty(0):
                            size = os.get_terminal_size(0)
                            self._send(wire.Resize(id=request.id, rows=size.lines, columns=size.columns))
                        elif number in _PASSED_ON:
                            self._send(wire.Signal(id=request.id, number=number))
                if 0 in ready:
                    data = _read_stdin()
                    self._send(wire.Stdin(id=request.id, data=data, eof=not data))
                    if not data:
                        poll.unregister(0)
                if self._socket.fileno() in ready:
                    for answer in self._receive(request.id):
                        if isinstance(answer, wire.Output):
                            _write_all(answer.fd, answer.data)
                        elif isinstance(answer, wire.Result):
                            return msgspec.convert(answer.value, _ExecResult).status

    def wait_end(self, seconds: float = 10) -> None:
        """Wait until the keeper has ended, at most `seconds`."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                if not self._socket.recv(1 << 16):
                    return
            except OSError:
                return

    def _send(self, message: wire.Request) -> None:
        with suppress(
            BrokenPipeError, ConnectionResetError
        ):  # what the keeper said before it ended is still to be read
            self._socket.sendall(wire.encode(message))

    def _receive(self, request: int) -> Iterator[wire.Answer]:
        """Wait for the next piece of the stream; return the answers to `request` in it, raise the error of a Failed."""
        try:
            data = self._socket.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            raise EnvironmentFault(
                "the lab's keeper ended before it had answered",
                hint="another command took the lab down, or the keeper was killed; look with: routed lab inspect FILE",
            )
        return self._answers(data, request)

    def _answers(self, data: bytes, request: int) -> Iterator[wire.Answer]:
        for line in self._lines.feed(data):
            answer = wire.decode_answer(line)
            if answer.id not in (request, 0):  # to one that we gave up before
                continue
            if isinstance(answer, wire.Failed):
                raise wire.error_of(answer)
            yield answer


def connect(lab: str, file: str) -> tuple[Client, place.Card]:
    """Return a connection to the lab called `lab`, and what its keeper says about itself.

    OperatorError when it is not up, which says how to bring it up from `file`; ConflictError when another file's lab
    has the name, whose answers would be taken for those about `file`.
    """
    directory = place.of(lab)
    connection = place.connect(directory)
    card = place.read_card(directory)
    if connection is not None and card is not None:
        if _differ(card.file, file):
            connection.close()
            raise ConflictError(
                f'lab "{lab}" is up from another file, {card.file}',
                hint=f"name that file, or give the topology in {file} another name",
            )
        return Client(connection), card
    if connection is not None:
        connection.close()
    hint = f"bring it up with: routed lab up {file}"
    if card is not None and card.ended:
        raise OperatorError(
            f'lab "{lab}" is not up any more: {card.ended}', hint=f"its log is {directory / place.LOG}; {hint}"
        )
    raise OperatorError(f'lab "{lab}" is not up', hint=hint)


def up_from(file: str) -> str | None:
    """Return the name of this user's lab that was brought up from `file`, whatever the file says by now."""
    cards = (place.read_card(directory) for directory in place.base().iterdir())
    return next((card.lab for card in cards if card is not None and card.file == file), None)


def _differ(kept: str, file: str) -> bool:
    """Whether these are two files; one that was moved away meanwhile does not count as another."""
    try:
        return kept != file and not Path(kept).samefile(file)
    except FileNotFoundError:
        return False


def forget(lab: str) -> None:
    """Remove what a keeper that is gone has left of its directory; ConflictError when it is not gone."""
    directory: Path = place.of(lab)
    if directory.exists():
        place.give_up(directory, place.take(directory))


def _read_stdin() -> bytes:
    try:
        return os.read(0, wire.CHUNK)
    except OSError:  # EIO: we are in the background of a terminal
        return b""


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _note(_number: int, _frame: FrameType | None) -> None:
    """A handler, so that the wake-up descriptor is written."""


@contextmanager
def _caught_signals() -> Generator[int]:
    """Give a descriptor from which the numbers of the signals to pass on can be read, instead of dying of them."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = {number: signal.signal(number, _note) for number in _SIGNALS}
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)

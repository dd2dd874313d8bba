"""Keeps a lab: one background process per lab that is up, between its runner and everyone who asks something of it.

    client 1 ----+
    client 2 ----+--- unix socket --- keeper --- stdin, stdout --- runner
    leash -------+                                                 (on the host kernel, or inside User-mode Linux)

The process that brings the lab up holds the first connection, the leash. While the lab is being brought up, and for
`routed lab run` always, the lab goes down when the leash breaks, however that process ended. The keeper ends when the
lab is down, the runner has died, or it gets SIGTERM; the runner dies with the keeper, even one that is killed.

    starting --Up--> rising --Result--> up --Down, leash, SIGTERM--> falling --> gone
                        +-----Failed, leash, Down, SIGTERM------------->+

Started as `python -m routed_lab.keeper SETTINGS LEASH`, by `launch.start_keeper`; puts itself into the background.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NoReturn

import msgspec

from routed.errors import ConflictError, EnvironmentFault, OperatorError, RoutedError
from routed_lab import launch, place, wire
from routed_lab.launch import Settings
from routed_lab.uml import system

DOWN_SECONDS: Final = 60.0
"""How long the runner may take to take a lab down before it is killed."""

END_SECONDS: Final = 5.0
"""How long the runner may take to end once the lab is down, and again after SIGTERM."""

BACKLOG: Final = 64 << 20
"""Bytes that wait for one client at most. One that lets more pile up is cut off: it must not hold up the others."""

_State = Literal["starting", "rising", "up", "falling"]


@dataclass(eq=False, slots=True)
class _Client:
    """One connection, and its running requests: the runner's id by the client's."""

    writer: asyncio.StreamWriter
    running: dict[int, int] = field(default_factory=dict[int, int])

    def send(self, answer: wire.Answer) -> None:
        if self.writer.is_closing():
            return
        self.writer.write(wire.encode(answer))
        if self.writer.transport.get_write_buffer_size() > BACKLOG:
            self.writer.transport.abort()

    async def flush(self) -> None:
        with suppress(OSError, TimeoutError):
            self.writer.transport.set_write_buffer_limits(0)
            await asyncio.wait_for(self.writer.drain(), 2)


class Keeper:
    """The keeper of one lab. `directory` is locked for it; `leash` is its first connection."""

    def __init__(self, settings: Settings, directory: Path, leash: socket.socket) -> None:
        self._settings, self._directory, self._leash_socket = settings, directory, leash
        self._state: _State = "starting"
        self._leash: _Client | None = None
        self._clients: set[_Client] = set()
        self._owners: dict[int, tuple[_Client, int]] = {}
        self._programs: set[int] = set()
        self._last_id = 0
        self._up_id = 0
        self._down: tuple[int, asyncio.Future[wire.Result | wire.Failed | None]] | None = None
        self._runner: asyncio.subprocess.Process | None = None
        self._sending = asyncio.Lock()
        self._end = asyncio.Event()
        self._downers: list[tuple[_Client, int]] = []
        self._last_words: list[tuple[_Client, wire.Answer]] = []
        self._tasks: set[asyncio.Future[None]] = set()
        self.died = ""

    async def keep(self) -> None:
        """Start the runner, serve all clients; return when the lab is down and the runner gone.

        `died` then says why if the lab was up and its runner ended by itself.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._end.set)
        us = os.getpid()
        # On the host kernel it is asked, so that it can take down what it made; in uml all goes with the kernel.
        last_word = signal.SIGTERM if self._settings.kernel == "host" else signal.SIGKILL
        self._runner = await asyncio.create_subprocess_exec(
            *launch.runner_command(self._settings),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            preexec_fn=lambda: system.die_with_parent(us, last_word),  # the only way to set it before exec
            start_new_session=True,
        )
        self._start(self._hear_runner(self._runner))
        server = await asyncio.start_unix_server(self._serve, sock=place.listen(self._directory))
        reader, writer = await asyncio.open_unix_connection(sock=self._leash_socket)
        self._leash = _Client(writer)
        self._start(self._converse(self._leash, reader))
        await self._end.wait()
        self._state = "falling"
        await self._take_down(self._runner)
        server.close()

    async def farewell(self) -> None:
        """Say what is to be said when nothing of the lab is left.

        The connections stay open: they end with this process, so who waits for that waits for the end of all.
        """
        for client, answer in self._last_words:
            client.send(answer)
        for client in tuple(self._clients):
            await client.flush()

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- clients

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._converse(_Client(writer), reader)

    async def _converse(self, client: _Client, reader: asyncio.StreamReader) -> None:
        self._clients.add(client)
        lines = wire.Lines()
        try:
            while data := await reader.read(1 << 16):
                for line in lines.feed(data):
                    await self._take(client, wire.decode_request(line))
        except OSError:
            pass
        except RoutedError as error:
            client.send(wire.failed(0, error))
        finally:
            self._clients.discard(client)
        client.writer.close()
        if client is self._leash and (self._settings.leashed or self._state in {"starting", "rising"}):
            self._end.set()
        for theirs in client.running.values():
            number = signal.SIGHUP if theirs in self._programs else signal.SIGINT
            await self._tell_runner(wire.Signal(id=theirs, number=number))

    async def _take(self, client: _Client, message: wire.Request) -> None:
        """Pass one message of a client on, or answer it."""
        if isinstance(message, wire.Notice):
            if theirs := client.running.get(message.id):
                await self._tell_runner(msgspec.structs.replace(message, id=theirs))
        elif isinstance(message, wire.Down):
            self._downers.append((client, message.id))
            self._end.set()
        elif refusal := self._refusal(client, message):
            client.send(wire.failed(message.id, refusal))
        else:
            self._last_id += 1
            self._owners[self._last_id] = (client, message.id)
            client.running[message.id] = self._last_id
            if isinstance(message, wire.Exec | wire.Logs):
                self._programs.add(self._last_id)
            elif isinstance(message, wire.Up):
                self._state, self._up_id = "rising", self._last_id
                if self._settings.kernel == "uml":
                    client.send(wire.Progress(id=message.id, text="booting User-mode Linux"))
            await self._tell_runner(msgspec.structs.replace(message, id=self._last_id))

    def _refusal(self, client: _Client, message: wire.Request) -> RoutedError | None:
        if message.id < 1 or message.id in client.running:
            return OperatorError(f"the request's id {message.id} is in use or below 1", hint="choose another")
        if isinstance(message, wire.Up):
            if client is self._leash and self._state == "starting":
                return None
            return ConflictError(f'lab "{self._settings.lab}" is up, or on its way', hint="take it down first")
        if self._state in {"starting", "rising"}:
            return EnvironmentFault(
                f'lab "{self._settings.lab}" is still being brought up', hint="try again when it is"
            )
        if self._state == "falling":
            return self._gone()
        return None

    def _gone(self) -> RoutedError:
        return EnvironmentFault(f'lab "{self._settings.lab}" was taken down')

    # -- runner

    async def _tell_runner(self, message: wire.Request) -> None:
        runner = self._runner
        assert runner is not None
        assert runner.stdin is not None
        async with self._sending:
            with suppress(OSError):  # it has ended: its standard output tells
                runner.stdin.write(wire.encode(message))
                await runner.stdin.drain()

    async def _hear_runner(self, runner: asyncio.subprocess.Process) -> None:
        assert runner.stdout is not None
        lines = wire.Lines()
        while data := await runner.stdout.read(1 << 16):
            try:
                for line in lines.feed(data):
                    self._pass_on(wire.decode_answer(line))
            except RoutedError as error:
                print(f"from the runner: {error}", file=sys.stderr, flush=True)
        status = await runner.wait()
        if self._state != "falling":
            death = self._runner_died(status)
            if self._state == "up":
                self.died = death.message
            self._fail_all(death)
            self._end.set()
        if self._down is not None and not self._down[1].done():
            self._down[1].set_result(None)

    def _runner_died(self, status: int) -> RoutedError:
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        message = f'the runner of lab "{self._settings.lab}" {how}'
        words = place.tail(self._directory)
        return EnvironmentFault(message, hint="its last words:\n  " + words.replace("\n", "\n  ") if words else None)

    def _pass_on(self, answer: wire.Answer) -> None:
        if self._down is not None and answer.id == self._down[0]:
            if isinstance(answer, wire.Result | wire.Failed) and not self._down[1].done():
                self._down[1].set_result(answer)
            return
        if answer.id not in self._owners:
            return
        client, theirs = self._owners[answer.id]
        ours = msgspec.structs.replace(answer, id=theirs)
        if isinstance(answer, wire.Result | wire.Failed):
            del self._owners[answer.id]
            self._programs.discard(answer.id)
            client.running.pop(theirs, None)
            if answer.id == self._up_id and self._state == "rising":
                if isinstance(answer, wire.Failed):  # told when all is down again
                    self._last_words.append((client, ours))
                    self._end.set()
                    return
                self._state = "up"
        client.send(ours)

    def _fail_all(self, error: RoutedError) -> None:
        for client, theirs in self._owners.values():
            client.running.pop(theirs, None)
            self._last_words.append((client, wire.failed(theirs, error)))
        self._owners.clear()

    async def _take_down(self, runner: asyncio.subprocess.Process) -> None:
        """Have the runner remove the lab, see that it ends, and note what to answer to those who asked for it."""
        self._fail_all(self._gone())
        trouble: wire.Failed | None = None
        orderly = False
        if runner.returncode is None:
            self._last_id += 1
            self._down = (self._last_id, asyncio.get_running_loop().create_future())
            try:
                async with asyncio.timeout(DOWN_SECONDS):
                    await self._tell_runner(wire.Down(id=self._last_id))
                    outcome = await self._down[1]
            except TimeoutError:
                print(f"the runner did not take the lab down in {DOWN_SECONDS:g} s", file=sys.stderr, flush=True)
                outcome = None
            trouble = outcome if isinstance(outcome, wire.Failed) else None
            orderly = isinstance(outcome, wire.Result)
            await self._see_off(runner)
        if self._settings.kernel == "host" and not orderly:
            try:
                launch.sweep(self._settings.lab, self._settings.runner)  # blocks: nobody is served any more
                trouble = None
            except RoutedError as error:
                trouble = trouble or wire.failed(0, error)
        elif self._settings.kernel == "uml":
            trouble = None  # all that could not be removed went with the kernel
        for client, theirs in self._downers:
            answer = msgspec.structs.replace(trouble, id=theirs) if trouble else wire.Result(id=theirs)
            self._last_words.append((client, answer))
        if trouble:
            print(f"taking the lab down: {wire.error_of(trouble)}", file=sys.stderr, flush=True)

    async def _see_off(self, runner: asyncio.subprocess.Process) -> None:
        assert runner.stdin is not None
        runner.stdin.close()
        for step in (None, runner.terminate, runner.kill):
            if step is not None:
                with suppress(ProcessLookupError):
                    step()
            with suppress(TimeoutError):
                await asyncio.wait_for(runner.wait(), END_SECONDS)
                return


async def _keep(keeper: Keeper, directory: Path, lock: int) -> NoReturn:
    await keeper.keep()
    if keeper.died:
        place.leave_word(directory, lock, keeper.died)
    else:
        place.give_up(directory, lock)
    await keeper.farewell()
    sys.stderr.flush()
    os._exit(0)  # at once: the end of asyncio's loop would close the connections well before that of the process


def _to_background(directory: Path) -> None:
    """Leave the starter's session, and its standard streams for the log."""
    if os.fork():
        os._exit(0)
    os.setsid()
    os.umask(0o077)
    null = os.open(os.devnull, os.O_RDONLY)
    log = os.open(directory / place.LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(log)
    os.chdir("/")


def main(argv: list[str]) -> int:
    """Become the keeper that `argv` (SETTINGS, LEASH) describes; return only if it cannot be."""
    settings = msgspec.json.decode(argv[0], type=Settings)
    with socket.socket(fileno=int(argv[1])) as leash:
        try:
            directory = place.of(settings.lab)
            lock = place.take(directory)
        except RoutedError as error:
            leash.sendall(wire.encode(wire.failed(0, error)))
            return 1
        _to_background(directory)
        place.write_card(
            directory, place.Card(settings.lab, settings.file, settings.kernel, pid=os.getpid(), since=time.time())
        )
        keeper = Keeper(settings, directory, leash)
        return asyncio.run(_keep(keeper, directory, lock))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

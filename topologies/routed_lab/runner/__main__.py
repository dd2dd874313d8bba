"""The runner's loop: requests in, answers out, each request a task of its own.

Standard output belongs to the wire; what programs or a traceback print goes to standard error. End of input means
`Down` without an answer. SIGTERM and SIGINT mean the same: a runner that is asked to end leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from routed.errors import Bug, ConflictError, EnvironmentFault, RoutedError
from routed_lab import wire

if TYPE_CHECKING:
    from routed_lab.runner.lab import Lab
    from routed_lab.runner.programs import Program

_CANCELLING: Final = (signal.SIGINT, signal.SIGTERM)


class Runner:
    """One lab at most, and the requests about it."""

    def __init__(
        self, write: Callable[[wire.Answer], None], drain: Callable[[], Awaitable[None]], end: Callable[[], None]
    ) -> None:
        """`write` queues an answer, `drain` waits until the queue is short, `end` ends the runner."""
        self._write = write
        self._drain = drain
        self._end = end
        self._removal: asyncio.Task[None] | None = None
        self._lab: Lab | None = None
        self._building: asyncio.Task[None] | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._programs: dict[int, Program] = {}
        self._playing = False

    def accept(self, request: wire.Request) -> None:
        """Begin a request, or pass a signal or input on to one that runs."""
        match request:
            case wire.Signal(id=number, number=what):
                if program := self._programs.get(number):
                    program.signal(what)
                elif what in _CANCELLING and (task := self._tasks.get(number)):
                    task.cancel()
            case wire.Stdin(id=number, data=data, eof=eof):
                if program := self._programs.get(number):
                    program.feed(data, eof=eof)
            case wire.Resize(id=number, rows=rows, columns=columns):
                if program := self._programs.get(number):
                    program.resize(rows, columns)
            case _:
                task = asyncio.create_task(self._answer(request))
                self._tasks[request.id] = task
                task.add_done_callback(lambda _: self._tasks.pop(request.id, None))

    async def close(self) -> None:
        """Cancel what runs and take the lab down."""
        running = list(self._tasks.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._down(_quiet)

    async def _answer(self, request: wire.Request) -> None:
        number = request.id

        def progress(text: str) -> None:
            self._write(wire.Progress(id=number, text=text))

        try:
            value = await self._do(request, progress)
        except RoutedError as error:
            answer: wire.Answer = wire.failed(number, error)
        except asyncio.CancelledError:
            answer = wire.Failed(id=number, message="interrupted")
        except Exception as error:  # noqa: BLE001  a bug in one request must not take the lab from under the others
            import traceback

            traceback.print_exc()
            answer = wire.failed(number, Bug(f"{type(error).__name__}: {error}"))
        else:
            answer = wire.Result(id=number, value=value)
        self._write(answer)
        if isinstance(request, wire.Down):
            self._end()

    async def _do(self, request: wire.Request, progress: Callable[[str], None]) -> wire.Json:
        match request:
            case wire.Up():
                await self._up(request, progress)
                return None
            case wire.Down(lab=name):
                if self._building is not None:  # it takes down itself what it has built so far
                    self._building.cancel()
                    await asyncio.gather(self._building, return_exceptions=True)
                if self._lab is None and name is not None:
                    _sweep(name)
                await self._down(progress)
                return None
            case wire.Check(without_tor=without_tor):
                from routed_lab.runner.checker import check

                return await check(self._up_lab(), without_tor, progress)
            case wire.Exec():
                return {"status": await self._exec(request)}
            case wire.Logs():
                return {"status": await self._logs(request)}
            case wire.Inspect():
                from routed_lab.runner.inspection import inspect

                return await inspect(self._up_lab())
            case wire.Restart(node=node):
                await self._up_lab().restart(node, progress)
                return None
            case wire.Play():
                return await self._play(request, progress)
            case wire.Signal() | wire.Stdin() | wire.Resize():
                raise Bug("a signal or input is no request")

    def _up_lab(self) -> Lab:
        if self._lab is None or self._building is not None:
            raise EnvironmentFault("the lab is not up", hint="bring it up first: routed lab up FILE")
        return self._lab

    async def _up(self, request: wire.Up, progress: Callable[[str], None]) -> None:
        if self._lab is not None:
            raise ConflictError(f"the lab {self._lab.topology.name} is up here already")
        from routed_lab import topology
        from routed_lab.runner.directory import RunDirectory
        from routed_lab.runner.lab import Lab

        loaded = topology.load(Path(request.file), request.variant, {**os.environ, **request.environment})
        directory = RunDirectory.claim(loaded.name, leftovers=request.leftovers)
        lab = self._lab = Lab(loaded, directory, request.absent)
        self._building = self._tasks[request.id]
        try:
            await lab.up(progress)
        except BaseException:
            await self._down(progress)
            raise
        finally:
            self._building = None

    async def _down(self, progress: Callable[[str], None]) -> None:
        """Take the lab down, to the end even if the request is cancelled meanwhile."""
        lab, self._lab = self._lab, None
        if lab is not None:
            self._removal = asyncio.create_task(lab.down(progress))
        if self._removal is not None:
            await asyncio.shield(self._removal)

    async def _play(self, request: wire.Play, progress: Callable[[str], None]) -> wire.Json:
        from routed_lab.scenario.play import play

        async def capture(data: bytes) -> None:
            self._write(wire.Output(id=request.id, fd=1, data=data))
            await self._drain()

        lab = self._up_lab()
        if self._playing:
            raise ConflictError(f"a scenario is being played in lab {lab.topology.name}", hint="wait for its end")
        self._playing = True
        try:
            return await play(lab, Path(request.file), capture, progress)
        finally:
            self._playing = False

    async def _exec(self, request: wire.Exec) -> int:
        from routed_lab.runner.programs import Program

        lab = self._up_lab()
        program = Program(
            request.argv,
            sandbox=lab.sandbox_of(request.node),
            env=lab.environment_of(request.node),
            tty=request.tty,
            stdin=request.stdin,
        )
        program.resize(request.rows, request.columns)
        return await self._run(request.id, program)

    async def _logs(self, request: wire.Logs) -> int:
        from routed_lab.runner.programs import Program

        follow = ("--follow",) if request.follow else ()
        argv = ("tail", "--lines=+1", *follow, "--", str(self._up_lab().log_of(request.node)))
        return await self._run(request.id, Program(argv, sandbox=None, env=os.environ, tty=False, stdin=False))

    async def _run(self, number: int, program: Program) -> int:
        self._programs[number] = program

        async def sink(fd: Literal[1, 2], data: bytes) -> None:
            self._write(wire.Output(id=number, fd=fd, data=data))
            await self._drain()

        try:
            return await program.run(sink)
        finally:
            del self._programs[number]


def _sweep(lab: str) -> None:
    """Remove what a killed run of `lab` left in this kernel; ConflictError when the lab is up."""
    from routed_lab.runner.directory import RunDirectory

    RunDirectory.claim(lab, leftovers=True).remove()


def _quiet(text: str) -> None:
    """Progress that nobody waits for."""


async def _main() -> None:
    loop = asyncio.get_running_loop()
    # keep the wire for ourselves: whatever else this process or a child prints must not land between two answers
    out = os.dup(1)
    os.dup2(2, 1)
    reader = asyncio.StreamReader(limit=wire.LINE_LIMIT)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(0, "rb", buffering=0))
    transport, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(out, "wb", buffering=0)
    )
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    ended = asyncio.Event()

    def write(answer: wire.Answer) -> None:
        writer.write(wire.encode(answer))

    async def drain() -> None:
        try:
            await writer.drain()
        except ConnectionError:  # nobody listens any more
            ended.set()

    runner = Runner(write, drain, ended.set)
    for number in _CANCELLING:
        loop.add_signal_handler(number, ended.set)
    reading = asyncio.create_task(read(reader, runner))
    stopping = asyncio.create_task(ended.wait())
    await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
    reading.cancel()
    stopping.cancel()
    await runner.close()
    await drain()
    writer.close()


async def read(reader: asyncio.StreamReader, runner: Runner) -> None:
    """Accept requests until the end of input."""
    while line := await reader.readline():
        try:
            request = wire.decode_request(line)
        except RoutedError as error:
            print(error, file=sys.stderr)  # there is no id to answer to
            continue
        runner.accept(request)
        # The request's task takes its first step before the next request: lines often come together, and input or a
        # signal for a program that is not there yet would be lost.
        await asyncio.sleep(0)


if __name__ == "__main__":
    asyncio.run(_main())

"""A running launcher: the process, the socket to it, commands one at a time, and whether it is alive."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from asyncio.subprocess import Process
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from routed.errors import EnvironmentFault
from routed_bgp.exabgp.events import Answer, Reader, Told
from routed_bgp.exabgp.frames import Kind, Splitter, pack
from routed_bgp.speaker import UpdatesReceived

log = logging.getLogger("routed.bgp.exabgp")

SILENT_SECONDS = 10  # a launcher that is asked and says nothing for so long is stuck
STARTING_SECONDS = 60  # the same before its first answer: it reads much of Python, slowly where many start at once
_BEAT_SECONDS = 1.0
_STOP_SECONDS = 5.0
_LAST_BREATH_SECONDS = 1.0  # between closing its socket and its end
_BUFFER = 1 << 20
_QUEUE_HIGH, _QUEUE_LOW = 32 << 20, 8 << 20  # octets that wait for the reader of the events


class Stuck(Exception):  # noqa: N818  a state, seen only here
    """The child does not do as it is told: start another."""


class Gone(Exception):  # noqa: N818
    """The child has closed its socket: it ends."""


class Link(asyncio.BufferedProtocol):
    """Our end of the socket. `tell` is called with everything but answers, in order."""

    def __init__(self, tell: Callable[[Told], None]) -> None:
        self.reader = Reader()
        self.answers: deque[asyncio.Future[bool]] = deque()
        self.heard = 0  # how often something came
        self.lost = asyncio.get_running_loop().create_future()
        self.paused = False
        self._tell = tell
        self._splitter = Splitter()
        self._buffer = memoryview(bytearray(_BUFFER))
        self._transport: asyncio.Transport | None = None
        self._waiting = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  asyncio's signature
        """Asyncio's."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Asyncio's: so much is in the buffer."""
        self.heard += 1
        for frame in self._splitter.feed(self._buffer[:nbytes]):
            told = self.reader.read(frame)
            if isinstance(told, Answer):
                if self.answers and not (answer := self.answers.popleft()).done():
                    answer.set_result(told.done)
            elif told is not None:
                if isinstance(told, UpdatesReceived):
                    self._waiting += len(told.messages)
                self._tell(told)
        if self._waiting > _QUEUE_HIGH and not self.paused and self._transport:
            self.paused = True
            self._transport.pause_reading()

    def taken(self, octets: int) -> None:
        """So much of what was told is dealt with."""
        self._waiting = max(0, self._waiting - octets)  # what an earlier child told may come before
        if self.paused and self._waiting < _QUEUE_LOW and self._transport and not self.lost.done():
            self.paused = False
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        """Asyncio's."""
        if not self.lost.done():
            self.lost.set_result(None)
        for answer in self.answers:
            if not answer.done():
                answer.set_exception(Gone())
        self.answers.clear()

    def write(self, data: bytes) -> None:
        """Send, or keep until it can be sent."""
        if self._transport and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """End the conversation."""
        if self._transport:
            self._transport.close()


class Child:
    """See the module; make it with `start`."""

    def __init__(self, process: Process, link: Link) -> None:
        self.process = process
        self.link = link
        self._plain = False
        self._understood = asyncio.Event()
        self._answered = False
        self._turn = asyncio.Lock()
        self._last_words: deque[str] = deque(maxlen=5)

    @classmethod
    async def start(
        cls, arguments: Sequence[str], environment: Mapping[str, str], tell: Callable[[Told], None]
    ) -> Child:
        """Start a launcher with `arguments` behind the descriptor of its socket and our process id."""
        ours, theirs = socket.socketpair()
        with theirs:
            for end in (ours, theirs):
                end.setblocking(False)
            _, link = await asyncio.get_running_loop().create_connection(lambda: Link(tell), sock=ours)
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-m", "routed_bgp.exabgp.launcher", str(theirs.fileno()), str(os.getpid()), *arguments),
                    pass_fds=[theirs.fileno()],
                    env={**os.environ, **environment},
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.STDOUT,
                )
            except BaseException:
                link.close()
                raise
        return cls(process, link)

    def speak(self, *, stock: bool) -> None:
        """How it wants to be spoken to: in stock mode ExaBGP reads lines itself."""
        self._plain = stock
        self._understood.set()

    async def command(self, text: str) -> bool:
        """Give one command; return whether it was done. Raises Gone without child."""
        async with self._turn:  # ExaBGP stops for good when commands pile up
            await self._understood.wait()
            if self.link.lost.done():
                raise Gone
            answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self.link.answers.append(answer)
            line = text.encode("ascii")
            self.link.write(line + b"\n" if self._plain else pack(Kind.LINE, line))
            done = await answer
            self._answered = True
            return done

    async def watch(self) -> None:
        """Ask now and then whether it is alive; raises Stuck when it does not answer, Gone when it has ended.

        Seconds count only while we listen: after a long sleep of ours, what it said meanwhile is still to be read.
        """
        silent, heard = 0, -1
        beat: asyncio.Task[bool] | None = None
        try:
            while True:
                await asyncio.wait([self.link.lost], timeout=_BEAT_SECONDS)
                if self.link.lost.done():
                    raise Gone
                if beat is None or beat.done():
                    beat = asyncio.create_task(self.command("#"))
                silent = 0 if self.link.heard != heard or self.link.paused else silent + 1
                heard = self.link.heard
                patience = SILENT_SECONDS if self._answered else STARTING_SECONDS
                if silent >= patience:
                    raise Stuck(f"it has not answered for {patience} s")
        finally:
            if beat:
                beat.cancel()
                with contextlib.suppress(asyncio.CancelledError, Gone):
                    await beat

    async def log(self) -> None:
        """Pass on what the child prints. It has no levels there, and is dramatic about an ordinary end."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            text = " ".join(line.decode(errors="replace").split())
            if text:
                self._last_words.append(text)
                log.info("%s", text)

    async def stop(self) -> None:
        """End it politely, then not."""
        if self.process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), _STOP_SECONDS)
        except TimeoutError:
            log.warning("ExaBGP did not end within %.0f s, killing it", _STOP_SECONDS)
            await self.kill()

    async def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    async def breathe_out(self) -> None:
        """Wait a little for the end that a closed socket announces."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), _LAST_BREATH_SECONDS)

    def fault(self, what: str = "") -> EnvironmentFault:
        """Why it does not run any more; `what` unless it ended by itself."""
        if not what:
            status = self.process.returncode
            how = (
                f"was killed by signal {-status}"
                if status is not None and status < 0
                else f"ended with status {status}"
            )
            what = how
        words = " | ".join(self._last_words)
        hint = f"it is started again; its last words: {words}" if words else "it is started again"
        return EnvironmentFault(f"ExaBGP {what}", hint=hint)

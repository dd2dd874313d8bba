"""The agent's side of BFD: keeps the BFD process running and tells what its sessions do."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass

from routed.errors import EnvironmentFault
from routed_bgp.bfd import messages
from routed_bgp.bfd.ledger import BfdChange, BfdStatus, Ledger
from routed_bgp.bfd.messages import BfdSession, Deaf, Refusals, Report

log = logging.getLogger("routed.bgp.bfd")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0  # seconds before the second process in a row is started, doubled each time
_LONG_LIFE = 30.0  # seconds after which a death counts as the first again, and the next process starts at once
_LEAVE_SECONDS = 2.0  # the process itself takes 1 s at most

_REASONS = {
    errno.EADDRINUSE: (
        "another process listens there",
        "find its owner with `ss -lunp 'sport = :{port}'` (bfdd, bird?) and stop its BFD, or ask for no BFD here",
    ),
    errno.EADDRNOTAVAIL: ("no interface has this address", "put the address on an interface, or correct the peer's"),
    errno.ENODEV: ("its interface is not there", "make the interface, or correct the peer's"),
    errno.EACCES: ("not permitted", "run as root or with CAP_NET_BIND_SERVICE"),
}


@dataclass(frozen=True, slots=True)
class BfdFault:
    """BFD does not do what it should, because of `fault`; it is tried again. None: it does now."""

    fault: EnvironmentFault | None


BfdEvent = BfdChange | BfdFault


@dataclass(slots=True)
class _Child:
    process: Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    last_words: str = ""


class Bfd:
    """See the module, and the package for what its events ask of the agent.

    Use it in the main thread's event loop: the kernel ends the process when the thread that started it ends.
    """

    def __init__(self) -> None:
        self._wanted: tuple[BfdSession, ...] = ()
        self._ledger = Ledger()
        self._events: asyncio.Queue[BfdEvent | BaseException | None] = asyncio.Queue()
        self._child: _Child | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._grace: asyncio.TimerHandle | None = None
        self._died = self._deaf = self._closed = False

    @property
    def pid(self) -> int | None:
        """The process while it runs; none is started before a session is wanted."""
        return self._child.process.pid if self._child else None

    async def set(self, wanted: Collection[BfdSession]) -> None:
        """Want exactly these sessions, one for a peer. Those that stay, stay up, with other timers if need be.

        A session that is no longer wanted ends as AdminDown, which is no failure to the peer.
        """
        self._wanted = tuple(wanted)
        self._tell(self._ledger.want(self._wanted, self._now()))
        if self._child:
            # it resumes nothing: what it does not run yet it shall begin
            self._child.writer.write(messages.encode_want(self._wanted, {}))
        elif self._wanted and self._supervisor is None and not self._closed:
            self._supervisor = asyncio.create_task(self._supervise(), name="bfd")
            self._supervisor.add_done_callback(self._supervised)

    def states(self) -> tuple[BfdStatus, ...]:
        """All wanted sessions as they are now, sorted by address."""
        return self._ledger.status()

    async def events(self) -> AsyncIterator[BfdEvent]:
        """What happens, in order, until `close`. For one reader. Raises what ended the supervision, which is a bug."""
        while (event := await self._events.get()) is not None:
            if isinstance(event, BaseException):
                raise event
            yield event

    async def close(self) -> None:
        """Tell all peers AdminDown, so that none thinks that we failed, and end. Close BGP before, see the package."""
        self._closed = True
        child = self._child
        if child and child.process.returncode is None:
            child.writer.write(messages.encode_leave())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.process.wait(), _LEAVE_SECONDS)
        if self._supervisor:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])
        if self._grace:
            self._grace.cancel()
        self._events.put_nowait(None)

    def _supervised(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self._events.put_nowait(error)

    async def _supervise(self) -> None:
        """Keep the process running."""
        pause = 0.0
        while not self._closed:
            started = self._now()
            try:
                await self._run()
            except OSError as error:
                self._fault(EnvironmentFault(f"BFD does not start: {error}", hint="it is tried again"))
            pause = 0.0 if self._now() - started > _LONG_LIFE else pause
            if not self._closed:
                await asyncio.sleep(pause)  # the first time at once: a peer notices in three packets' time
            pause = min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE)

    async def _run(self) -> None:
        """Run one process to its end."""
        child = self._child = await self._spawn()
        words = asyncio.create_task(self._listen(child), name="bfd last words")
        try:
            # it hears the orders in turn, so that what `set` says from now on comes after
            child.writer.write(messages.encode_want(self._wanted, self._ledger.resumable()))
            self._ledger.started(self._now())
            self._watch_grace()
            with contextlib.suppress(ConnectionError):
                async for line in child.reader:
                    self._take(messages.decode_message(line))
            await child.process.wait()
            await words
            if not self._closed:
                self._fault(_death(child))
        finally:
            self._child = None
            self._ledger.died()
            words.cancel()
            child.writer.close()
            if child.process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    child.process.kill()
                await child.process.wait()

    async def _spawn(self) -> _Child:
        ours, theirs = socket.socketpair()
        try:
            reader, writer = await asyncio.open_unix_connection(sock=ours)
        except BaseException:
            ours.close()
            theirs.close()
            raise
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "routed_bgp.bfd", str(theirs.fileno()), str(os.getpid())),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        except BaseException:
            writer.close()
            raise
        finally:
            theirs.close()
        return _Child(process, reader, writer)

    async def _listen(self, child: _Child) -> None:
        """It prints nothing but the traceback that it dies of."""
        assert child.process.stderr is not None
        async for line in child.process.stderr:
            child.last_words = " ".join(line.decode(errors="replace").split()) or child.last_words
            log.warning("%s", child.last_words)

    def _take(self, message: Report | Deaf | Refusals) -> None:
        match message:
            case Report(peer, snapshot):
                self._well()
                self._tell(self._ledger.report(peer, snapshot, self._now()))
            case Refusals(count, source, reason):
                log.warning("%d BFD packets refused, the last one, of %s, because %s", count, source, reason)
            case Deaf(None):
                self._deaf = False
                self._events.put_nowait(BfdFault(None))
            case Deaf(local, port, number):
                self._deaf = True
                self._events.put_nowait(BfdFault(_deaf(str(local), port, number)))

    def _tell(self, changes: Iterable[BfdChange]) -> None:
        for change in changes:
            self._events.put_nowait(change)

    def _fault(self, fault: EnvironmentFault) -> None:
        self._died, self._deaf = True, False  # a process that is new says anew that it cannot listen
        self._events.put_nowait(BfdFault(fault))

    def _well(self) -> None:
        """The process that was started again runs."""
        if self._died and not self._deaf:
            self._events.put_nowait(BfdFault(None))
        self._died = False

    def _watch_grace(self) -> None:
        """See that the ledger looks again when a grace ends."""
        if self._grace:
            self._grace.cancel()
            self._grace = None
        if (deadline := self._ledger.next_deadline) is not None:
            self._grace = asyncio.get_running_loop().call_at(deadline, self._end_grace)

    def _end_grace(self) -> None:
        self._tell(self._ledger.expire(self._now()))
        self._watch_grace()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _deaf(local: str, port: int, number: int) -> EnvironmentFault:
    reason, hint = _REASONS.get(number, (os.strerror(number), "see the reason above"))
    return EnvironmentFault(f"BFD cannot listen on {local} port {port}: {reason}", hint=hint.format(port=port))


def _death(child: _Child) -> EnvironmentFault:
    status = child.process.returncode
    how = f"was killed by signal {-status}" if status is not None and status < 0 else f"ended with status {status}"
    words = f"; its last words: {child.last_words}" if child.last_words else ""
    return EnvironmentFault(f"the BFD process {how}", hint=f"it is started again{words}")

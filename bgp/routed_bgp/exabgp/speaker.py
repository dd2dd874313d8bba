"""ExaBGP as a `Speaker`: one child process, supervised, and told what to do over a socket.

Two tasks work on a running child. The *reader* turns its lines into events and answers. The *driver* brings it to
what is wanted: sessions by a new configuration file and `reload`, which leaves the sessions that stay alone;
announcements by commands, one at a time, each waiting for its answer, because ExaBGP stops for good when commands pile
up; and End-of-RIB to each peer after everything was announced to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from asyncio.subprocess import Process
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from routed.errors import EnvironmentFault, PeerError
from routed.model.address import Address
from routed_bgp import open as opens
from routed_bgp.exabgp import config
from routed_bgp.exabgp.events import Answer, Established, Line, Opened, parse
from routed_bgp.exabgp.port import require_port
from routed_bgp.open import Open
from routed_bgp.sessions import Advertisement, Session
from routed_bgp.speaker import (
    Ending,
    Event,
    SessionDown,
    SessionUp,
    Speaker,
    SpeakerFailed,
    SpeakerStarted,
    UpdateReceived,
)

log = logging.getLogger("routed.bgp.exabgp")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0  # seconds before a child is started again, doubled each time
_LONG_LIFE = 30.0  # seconds after which a child's death counts as the first again
_ANSWER_SECONDS = 20.0  # ExaBGP answers in milliseconds; this long only a stuck one takes
_STOP_SECONDS = 5.0
_LAST_BREATH_SECONDS = 1.0  # between a child's closing its socket and its end
_LINE = 1 << 20  # bytes; the longest line carries an UPDATE of 4096 octets as hexadecimal digits


@dataclass(slots=True)
class _Child:
    """A running ExaBGP, and what we know that it knows."""

    process: Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    answers: asyncio.Queue[bool] = field(default_factory=asyncio.Queue[bool])
    sessions: dict[Address, Session] = field(default_factory=dict[Address, Session])
    announced: dict[Address, frozenset[Advertisement]] = field(default_factory=dict[Address, frozenset[Advertisement]])
    opens: dict[Address, bytes] = field(default_factory=dict[Address, bytes])
    up: set[Address] = field(default_factory=set[Address])
    unended: set[Address] = field(default_factory=set[Address])  # up, and End-of-RIB not sent yet
    resets: set[Address] = field(default_factory=set[Address])
    last_words: deque[str] = field(default_factory=lambda: deque[str](maxlen=5))


class _Stuck(Exception):  # noqa: N818  a state, seen only here
    """The child does not do as it is told: start another."""


class ExaBGP(Speaker):
    """See the module, and `routed_bgp.speaker.Speaker` for the contract.

    Use it in the main thread's event loop: the kernel ends the child when the thread that started it ends.
    """

    def __init__(self, run_dir: Path) -> None:
        self._directory = run_dir
        self._wanted: tuple[tuple[Session, ...], frozenset[Advertisement]] = ((), frozenset())
        self._dropped: set[Address] = set()  # not wanted for a moment that the driver has not seen
        self._events: asyncio.Queue[Event | BaseException | None] = (
            asyncio.Queue()
        )  # without bound: a full one would cost sessions
        self._changed = asyncio.Event()
        self._child: _Child | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The process id of ExaBGP while it runs."""
        return self._child.process.pid if self._child else None

    async def set(self, sessions: Sequence[Session], advertisements: Sequence[Advertisement]) -> None:
        """Want exactly these, from now on; the work is done in the background, failures come as events."""
        same = {session.identity for session in sessions}
        self._dropped |= {session.peer for session in self._wanted[0] if session.identity not in same}
        self._wanted = tuple(sessions), frozenset(advertisements)
        self._changed.set()
        if self._supervisor is None and not self._closed:
            self._supervisor = asyncio.create_task(self._supervise(), name="bgp speaker")
            self._supervisor.add_done_callback(self._supervised)

    async def reset(self, peer: Address) -> None:
        """Close the session with `peer`; ExaBGP opens it again at once."""
        if self._child:
            self._child.resets.add(peer)
            self._changed.set()

    async def events(self) -> AsyncIterator[Event]:
        """What happens, in order, until `close`. Raises what ended the supervision, which is a bug."""
        while (event := await self._events.get()) is not None:
            if isinstance(event, BaseException):
                raise event
            yield event

    async def close(self) -> None:
        """End the child by SIGTERM: with graceful restart negotiated it closes its sessions without NOTIFICATION."""
        self._closed = True
        if self._supervisor:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])
        self._events.put_nowait(None)

    def _supervised(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self._events.put_nowait(error)

    async def _supervise(self) -> None:
        """Keep a child running while sessions are wanted."""
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE
        while True:
            if not self._wanted[0]:
                self._changed.clear()
                await self._changed.wait()
                continue
            started = loop.time()
            try:
                again = await self._run()
            except (EnvironmentFault, OSError) as error:
                fault = error if isinstance(error, EnvironmentFault) else EnvironmentFault(f"ExaBGP: {error}")
                self._events.put_nowait(SpeakerFailed(fault))
                again = False
            if again:
                continue
            pause = _FIRST_PAUSE if loop.time() - started > _LONG_LIFE else pause
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _run(self) -> bool:
        """Run one child to its end; True if we ended it because what is wanted needs another.

        Raises EnvironmentFault when it cannot run or died.
        """
        sessions = self._wanted[0]
        self._dropped.clear()
        local, port = _listener(sessions)
        require_port(local, port)
        child = self._child = await self._spawn(sessions, local, port)
        tasks = [
            asyncio.create_task(work, name=f"bgp {name}")
            for name, work in (
                ("log", self._log(child)),
                ("reader", self._read(child)),
                ("driver", self._drive(child, (local, port))),
            )
        ]
        try:
            await asyncio.wait(tasks[1:], return_when=asyncio.FIRST_COMPLETED)
            reader, driver = tasks[1:]
            with contextlib.suppress(ConnectionError):  # the driver noticed the death before the reader
                if driver.done():
                    driver.result()  # raises what went wrong
                    return True
                reader.result()
            # it is ending by itself; a signal now would make Python forget how (Popen.send_signal reaps a dead child)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.process.wait(), _LAST_BREATH_SECONDS)
            await self._stop(child)
            await tasks[0]
            raise _death(child)
        except _Stuck as error:
            raise EnvironmentFault(f"ExaBGP does not do as it is told: {error}", hint=_advice(child)) from None
        finally:
            self._child = None
            for task in tasks[1:]:
                task.cancel()
            await self._stop(child)
            await asyncio.wait(tasks)  # the log ends by itself, with the child
            child.writer.close()
            for peer in sorted(child.up):
                self._events.put_nowait(SessionDown(peer, Ending.LOCAL, "the speaker of this node ended"))

    async def _spawn(self, sessions: Sequence[Session], local: Address, port: int) -> _Child:
        """Write the files and start a child; it is on its own from the first instruction on."""
        self._directory.mkdir(parents=True, exist_ok=True)
        settings = self._directory / "exabgp.env"
        settings.write_text("")  # without such a file ExaBGP complains; ours are in the environment
        self._write_configuration(sessions)
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=_LINE)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "routed_bgp.exabgp.launcher"),
                *(str(theirs.fileno()), str(os.getpid()), str(self._configuration)),
                pass_fds=[theirs.fileno()],
                env={**os.environ, **config.settings(local, port), "EXABGP_ENVFILE": str(settings)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
        except BaseException:
            writer.close()
            raise
        finally:
            theirs.close()
        child = _Child(process, reader, writer)
        child.sessions = {session.peer: session for session in sessions}
        return child

    @property
    def _configuration(self) -> Path:
        return self._directory.absolute() / "exabgp.conf"

    def _write_configuration(self, sessions: Iterable[Session]) -> None:
        """Replace the configuration in one step, so that ExaBGP never reads half of it."""
        draft = self._configuration.with_suffix(".new")
        draft.write_text(config.configuration(sessions))
        draft.replace(self._configuration)

    async def _stop(self, child: _Child) -> None:
        """End the child politely, then not."""
        if child.process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            child.process.terminate()
        try:
            await asyncio.wait_for(child.process.wait(), _STOP_SECONDS)
        except TimeoutError:
            log.warning("ExaBGP did not end within %.0f s, killing it", _STOP_SECONDS)
            with contextlib.suppress(ProcessLookupError):
                child.process.kill()
            await child.process.wait()

    async def _log(self, child: _Child) -> None:
        """Pass on what the child prints. It has no levels there, and is dramatic about an ordinary end."""
        assert child.process.stdout is not None
        async for line in child.process.stdout:
            text = " ".join(line.decode(errors="replace").split())
            if text:
                child.last_words.append(text)
                log.info("%s", text)

    async def _read(self, child: _Child) -> None:
        """Turn the child's lines into events and answers until it closes the socket."""
        with contextlib.suppress(ConnectionError):
            async for line in child.reader:
                self._take(child, parse(line))

    def _take(self, child: _Child, line: Line) -> None:
        match line:
            case Answer(done):
                child.answers.put_nowait(done)
            case Opened(peer, body):
                child.opens[peer] = body
            case Established(peer):
                self._established(child, peer)
            case SessionDown(peer):
                child.up.discard(peer)
                child.unended.discard(peer)
                self._events.put_nowait(line)
            case UpdateReceived():
                self._events.put_nowait(line)
            case None:
                pass

    def _established(self, child: _Child, peer: Address) -> None:
        opened: Open
        try:
            opened = opens.decode(child.opens.pop(peer, b""))
        except PeerError as error:  # ExaBGP thought otherwise; without it we cannot read the peer's UPDATEs
            log.warning("%s: %s", peer, error)
            child.resets.add(peer)
        else:
            child.up.add(peer)
            child.unended.add(peer)
            self._events.put_nowait(SessionUp(peer, opened))
        self._changed.set()

    async def _drive(self, child: _Child, listener: tuple[Address, int]) -> None:
        """Bring the child to what is wanted, again after each change, until that takes another child."""
        await self._command(child, "#")  # answered when it is up and listens
        self._events.put_nowait(SpeakerStarted())
        while True:
            self._changed.clear()
            sessions, advertisements = self._wanted
            if not sessions or _listener(sessions) != listener:
                if not sessions or sessions[0].local != listener[0]:  # peers would keep paths through an old address
                    await self._withdraw(child, list(child.sessions))
                return
            # what such a peer has sent was forgotten above; if its session did not end by itself, it must end now
            known = {session.identity for session in child.sessions.values()}
            child.resets |= self._dropped & {session.peer for session in sessions if session.identity in known}
            self._dropped.clear()
            await self._configure(child, {session.peer: session for session in sessions})
            await self._announce(child, {session.peer: advertisements for session in sessions})
            while child.unended:
                peer = child.unended.pop()
                # refused when the session went down in between: it will come up again, and be told again
                await self._command(child, f"neighbor {peer} announce eor ipv4 unicast")
            while child.resets:
                await self._command(child, f"neighbor {child.resets.pop()} teardown 4")
            await self._changed.wait()

    async def _configure(self, child: _Child, sessions: dict[Address, Session]) -> None:
        """Make the child know exactly `sessions`."""
        if sessions == child.sessions:
            return
        gone = [peer for peer in child.sessions if peer not in sessions]
        # ExaBGP closes a removed session without NOTIFICATION, and the peer would keep our paths: take them back
        await self._withdraw(child, gone)
        self._write_configuration(sessions.values())
        await self._command(child, "reload")  # done at the start of the next round, before the next command is read
        await self._command(child, "#")
        for peer, session in child.sessions.items():
            if sessions.get(peer) != session:  # gone, or perhaps another: what it was told counts no more
                child.announced.pop(peer, None)
        child.sessions = sessions
        # a reload forgets End-of-RIB markers that are not sent yet; once more does no harm
        child.unended |= child.up & sessions.keys()

    async def _withdraw(self, child: _Child, peers: Sequence[Address]) -> None:
        """Take everything back from `peers`, and let the child go round so that it is sent."""
        await self._announce(child, {peer: frozenset[Advertisement]() for peer in peers})
        if peers:
            await self._command(child, "#")
            await self._command(child, "#")

    async def _announce(self, child: _Child, wanted: dict[Address, frozenset[Advertisement]]) -> None:
        """Send each peer the difference between what it was told and what is wanted."""
        commands: dict[str, list[Address]] = {}
        for peer, advertisements in wanted.items():
            told = child.announced.get(peer, frozenset())
            again = {advertisement.prefix for advertisement in advertisements}
            for old in sorted(told - advertisements, key=lambda old: old.prefix):
                if old.prefix not in again:  # a new next hop replaces the old, without a gap
                    commands.setdefault(f"withdraw route {old.prefix} next-hop {old.next_hop}", []).append(peer)
            for new in sorted(advertisements - told, key=lambda new: new.prefix):
                commands.setdefault(f"announce route {new.prefix} next-hop {new.next_hop}", []).append(peer)
        for command, peers in commands.items():
            selector = " , ".join(f"neighbor {peer}" for peer in peers)
            if not await self._command(child, f"{selector} {command}"):
                raise _Stuck(f"it refused `{command}` for {', '.join(map(str, peers))}")
        child.announced.update(wanted)

    async def _command(self, child: _Child, text: str) -> bool:
        """Send one command; return whether it was done. Raises _Stuck without answer, ConnectionError without child."""
        try:
            child.writer.write(text.encode("ascii") + b"\n")
            await child.writer.drain()
            return await asyncio.wait_for(child.answers.get(), _ANSWER_SECONDS)
        except TimeoutError:
            raise _Stuck(f"no answer to `{text}` within {_ANSWER_SECONDS:.0f} s") from None


def _listener(sessions: Sequence[Session]) -> tuple[Address, int]:
    """Where to listen: all sessions of a node start at its one address."""
    return sessions[0].local, sessions[0].listen_port


def _death(child: _Child) -> EnvironmentFault:
    status = child.process.returncode
    how = f"was killed by signal {-status}" if status is not None and status < 0 else f"ended with status {status}"
    return EnvironmentFault(f"ExaBGP {how}", hint=_advice(child))


def _advice(child: _Child) -> str:
    words = " | ".join(child.last_words)
    return f"it is started again; its last words: {words}" if words else "it is started again"

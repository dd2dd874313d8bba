"""ExaBGP as a `Speaker`: one child process, supervised, and told what to do over a socket.

`child` has the process and the socket, `events` reads what it says. Here: what is wanted and what the child was told,
the *driver* that makes the second equal to the first, and the supervision. Sessions change by a new configuration file
and `reload`, which leaves those that stay alone; what has to be told to a peer first (that it is not wanted any more,
that it is to start again) by commands of `connections`. Messages go to the child as they are; in stock mode `commands`
turns them into text.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from routed.errors import EnvironmentFault
from routed.files import write_whole
from routed.model.address import AnyAddress, Family
from routed_bgp.dialect import Dialect
from routed_bgp.exabgp import config
from routed_bgp.exabgp.child import Child, Gone, Stuck
from routed_bgp.exabgp.commands import Commands
from routed_bgp.exabgp.events import Hello, Told, Unreadable, Up
from routed_bgp.exabgp.frames import Kind, pack
from routed_bgp.exabgp.port import require_port
from routed_bgp.open import Open
from routed_bgp.sessions import Session
from routed_bgp.speaker import (
    Ending,
    Event,
    SessionDown,
    SessionUp,
    Speaker,
    SpeakerFailed,
    SpeakerStarted,
    UpdatesReceived,
)

log = logging.getLogger("routed.bgp.exabgp")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0  # seconds before a child is started again, doubled each time
_LONG_LIFE = 30.0  # seconds after which a child's death counts as the first again
_PORT_SECONDS = 2.0  # between two tries to listen where we could not
_TURN_SECONDS = 0.02  # of events in a row before others have their turn in the loop
_CEASE, _DECONFIGURED, _RESET = 6, 3, 4  # RFC 4486
_SUSPENDED = {(6, 1), (6, 8)}  # too many prefixes, out of resources: said also where the session is not wanted now


class ExaBGP(Speaker):
    """See the module, and `routed_bgp.speaker.Speaker` for the contract.

    Use it in the main thread's event loop: the kernel ends the child when the thread that started it ends. `stock` asks
    for ExaBGP's own, slower ways with UPDATEs, which are used without asking where ours do not fit.
    """

    def __init__(self, run_dir: Path, *, stock: bool = False) -> None:
        self._directory = run_dir
        self._mode = "stock" if stock else "seams"
        self._wanted: dict[AnyAddress, Session] = {}
        self._told: dict[AnyAddress, Session] = {}  # what the child has been told
        self._dropped: set[AnyAddress] = set()  # not wanted for a moment that the driver has not seen
        self._resets: dict[AnyAddress, tuple[int, int]] = {}
        self._retries: set[AnyAddress] = set()
        # the sessions that the reader of our events knows to be up: their tags, and what the peers said
        self._up: dict[AnyAddress, tuple[int, Open]] = {}
        # without bound in number, but the socket is not read while too many octets are in it
        self._events: asyncio.Queue[tuple[Event, int] | BaseException | None] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._child: Child | None = None
        self._commands: Commands | None = None  # in stock mode
        self._started: asyncio.Future[Hello] | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The process id of ExaBGP while it runs."""
        return self._child.process.pid if self._child else None

    async def set(self, sessions: Sequence[Session]) -> None:
        """Want exactly these, from now on; the work is done in the background, failures come as events.

        Raises OperatorError, and changes nothing, when one of them cannot be told to ExaBGP.
        """
        config.check(sessions)
        same = {session.identity for session in sessions}
        self._dropped |= {peer for peer, session in self._wanted.items() if session.identity not in same}
        self._wanted = {session.peer: session for session in sessions}
        self._changed.set()
        if self._supervisor is None and not self._closed:
            self._supervisor = asyncio.create_task(self._supervise(), name="bgp speaker")
            self._supervisor.add_done_callback(self._supervised)

    def send(self, peers: Collection[AnyAddress], messages: bytes) -> None:
        """Send to those of `peers` whose session is up, as far as the events that were read tell."""
        tags = {peer: self._up[peer][0] for peer in peers if peer in self._up}
        if not tags or not messages or self._child is None:
            return
        if self._commands:
            self._commands.put(tags, messages)
        else:
            self._child.link.write(pack(Kind.MESSAGES, messages, tuple(tags.values())))

    async def reset(self, peer: AnyAddress, code: int = _CEASE, subcode: int = _RESET) -> None:
        """Close the session with `peer` by a NOTIFICATION; ExaBGP opens it again at once."""
        self._resets[peer] = code, subcode
        self._changed.set()

    async def retry(self, peer: AnyAddress) -> None:
        """End the pause before the next attempt to connect to `peer`."""
        self._retries.add(peer)
        self._changed.set()

    async def events(self) -> AsyncIterator[Event]:
        """What happens, in order, until `close`. Raises what ended the supervision, which is a bug."""
        loop = asyncio.get_running_loop()
        since = loop.time()
        while True:
            if loop.time() - since > _TURN_SECONDS:  # of a full queue `get` never waits
                await asyncio.sleep(0)
                since = loop.time()
            waits = self._events.empty()
            told = await self._events.get()
            since = loop.time() if waits else since
            if told is None:
                return
            if isinstance(told, BaseException):
                raise told
            event, tag = told
            if isinstance(event, SessionUp):
                self._up[event.peer] = tag, event.open
            elif isinstance(event, SessionDown):
                self._up.pop(event.peer, None)
            yield event
            if isinstance(event, UpdatesReceived) and self._child:
                self._child.link.taken(len(event.messages))

    async def close(self) -> None:
        """End the child by SIGTERM: with graceful restart negotiated it closes its sessions without NOTIFICATION."""
        self._closed = True
        if self._supervisor:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])
        self._events.put_nowait(None)

    def _dialect(self, peer: AnyAddress) -> Dialect | None:
        """How messages to `peer` are written; all families, because what we send need not be read as carefully."""
        if peer not in self._up or peer not in self._told:
            return None
        return Dialect(
            ebgp=self._told[peer].ebgp,
            asn4=self._up[peer][1].asn4,
            families=frozenset(Family),
            extended_next_hop=True,
        )

    def _put(self, event: Event, tag: int = 0) -> None:
        self._events.put_nowait((event, tag))

    def _supervised(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self._events.put_nowait(error)

    async def _supervise(self) -> None:
        """Keep a child running while sessions are wanted."""
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE
        while True:
            if not self._wanted:
                self._changed.clear()
                await self._changed.wait()
                continue
            started = loop.time()
            try:
                await self._run()
                continue
            except (EnvironmentFault, OSError) as error:
                fault = error if isinstance(error, EnvironmentFault) else EnvironmentFault(f"ExaBGP: {error}")
                self._put(SpeakerFailed(fault))
            pause = _FIRST_PAUSE if loop.time() - started > _LONG_LIFE else pause
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _run(self) -> None:
        """Run one child until no session is wanted. Raises EnvironmentFault when it cannot run or died."""
        self._dropped.clear()
        self._resets.clear()
        self._told = {}
        usable, faults = self._usable()
        if not usable:
            raise next(iter(faults.values()))
        self._write_files(usable.values())
        self._started = asyncio.get_running_loop().create_future()
        child = self._child = await Child.start(
            [self._mode, str(self._configuration)],
            {
                **config.settings(stock=self._mode == "stock"),
                "EXABGP_ENVFILE": str(self._directory.absolute() / "exabgp.env"),
            },
            self._take,
        )
        self._told = usable
        watch, drive = (
            asyncio.create_task(work, name=f"bgp {name}")
            for name, work in (("watch", child.watch()), ("driver", self._drive(child)))
        )
        logging_ = asyncio.create_task(child.log(), name="bgp log")
        try:
            await asyncio.wait([watch, drive], return_when=asyncio.FIRST_COMPLETED)
            for task in (watch, drive):
                if task.done():
                    task.result()  # raises what went wrong
        except Gone:
            # it is ending by itself; a signal now would make Python forget how (Popen.send_signal reaps a dead child)
            await child.breathe_out()
            await child.stop()
            await logging_
            raise child.fault() from None
        except Stuck as error:
            await child.kill()
            raise child.fault(f"does not do as it is told: {error}") from None
        finally:
            self._child = self._commands = None
            for task in (watch, drive):
                task.cancel()
            await child.stop()
            # the log ends by itself, with the child; how the others end counts only for the first
            await asyncio.gather(watch, drive, logging_, return_exceptions=True)
            child.link.close()
            for peer in child.link.reader.up():
                self._put(SessionDown(peer, Ending.LOCAL, "the speaker of this node ended"))

    def _usable(self) -> tuple[dict[AnyAddress, Session], dict[AnyAddress, EnvironmentFault]]:
        """The wanted sessions for which we can listen, and why not for the others, by peer."""
        ours = {(session.local, session.listen_port) for session in self._told.values()}
        asked: dict[tuple[AnyAddress, int], EnvironmentFault | None] = {}
        faults: dict[AnyAddress, EnvironmentFault] = {}
        for peer, session in self._wanted.items():
            place = session.local, session.listen_port
            if place not in ours and place not in asked:
                asked[place] = None
                try:
                    require_port(*place)
                except EnvironmentFault as error:
                    asked[place] = error
            if fault := asked.get(place):
                faults[peer] = fault
        return {peer: session for peer, session in self._wanted.items() if peer not in faults}, faults

    @property
    def _configuration(self) -> Path:
        return self._directory.absolute() / "exabgp.conf"

    def _write_files(self, sessions: Iterable[Session]) -> None:
        # without its file of settings ExaBGP complains; ours are in the environment
        write_whole(self._directory / "exabgp.env", b"", 0o600)
        write_whole(self._configuration, config.configuration(sessions).encode("ascii"), 0o600)  # it may have passwords

    def _take(self, told: Told) -> None:
        match told:
            case Hello():
                if self._started and not self._started.done():
                    self._started.set_result(told)
            case Up(event, tag):
                # a child that was told of a new session makes none before it answers, and `_told` is the new one then
                self._put(replace(event, offered=self._told.get(event.peer)), tag)
            case Unreadable(peer, error):
                log.warning("%s: %s", peer, error)
                self._resets[peer] = 2, 0
                self._changed.set()
            case _:
                self._put(told)  # type: ignore[arg-type]

    async def _drive(self, child: Child) -> None:
        """Bring the child to what is wanted, again after each change, until nothing is."""
        assert self._started
        await asyncio.wait([self._started, child.link.lost], return_when=asyncio.FIRST_COMPLETED)
        if not self._started.done():
            raise Gone
        note = self._started.result().note
        child.speak(stock=bool(note))
        await child.command("#")  # answered when it is up and listens
        self._put(SpeakerStarted(f"the speaker runs in ExaBGP's stock mode, which is slower: {note}" if note else ""))
        if note:
            self._commands = Commands(child, self._dialect)
        reported: dict[AnyAddress, str] = {}
        try:
            while True:
                self._changed.clear()
                usable, faults = self._usable()
                await self._configure(child, usable)
                if not self._wanted:
                    return
                await self._obey(child)
                for peer, fault in faults.items():
                    if reported.get(peer) != fault.message:
                        self._put(SessionDown(peer, Ending.LOCAL, fault.message))
                reported = {peer: fault.message for peer, fault in faults.items()}
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), _PORT_SECONDS if faults else None)
        finally:
            if self._commands:
                self._commands.close()

    async def _obey(self, child: Child) -> None:
        # what such a peer has sent was forgotten by who wants the sessions; if its session did not end by itself, it
        # must end now
        for peer in self._dropped & self._told.keys():
            self._resets.setdefault(peer, (_CEASE, _RESET))
        self._dropped.clear()
        while self._resets:
            peer, (code, subcode) = self._resets.popitem()
            await child.command(f"routed-close {peer} {code} {subcode} 0")
        while self._retries:
            await child.command(f"routed-retry {self._retries.pop()}")

    async def _configure(self, child: Child, sessions: dict[AnyAddress, Session]) -> None:
        """Make the child know exactly `sessions`."""
        if sessions == self._told:
            return
        gone = [
            peer
            for peer, session in self._told.items()
            if peer not in sessions or sessions[peer].identity != session.identity
        ]
        self._dropped.difference_update(gone)
        for peer in gone:  # ExaBGP would close without NOTIFICATION, and the peer would keep our paths
            said = self._resets.pop(peer, None)
            code, subcode = said if said in _SUSPENDED else (_CEASE, _DECONFIGURED)
            await child.command(f"routed-close {peer} {code} {subcode} 1")
        if gone:  # two rounds: the NOTIFICATION is sent, the session ends
            await child.command("#")
            await child.command("#")
        if sessions:
            self._write_files(sessions.values())
            await child.command("reload")  # done at the start of the next round, before the next command is read
            await child.command("#")
        self._told = sessions

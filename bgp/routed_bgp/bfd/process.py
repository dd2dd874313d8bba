"""The BFD process: `python -m routed_bgp.bfd FD PARENT`.

FD is one end of a socket pair with the agent, PARENT the agent, with which we end. It does nothing but BFD, imports
little, never waits for the agent, and runs before others where it may: 100 ms x 3 leaves no time to be late. What it
cannot tell a busy agent at once it tells later, the last state of each session and not every one between.
"""

from __future__ import annotations

import contextlib
import gc
import heapq
import os
import random
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass

from routed_bgp.bfd import messages
from routed_bgp.bfd.control import Control
from routed_bgp.bfd.messages import BfdSession, Deaf, Leave, Refusals, Want
from routed_bgp.bfd.packet import BadPacket, Packet, decode, encode
from routed_bgp.bfd.session import Session
from routed_bgp.bfd.snapshot import Snapshot
from routed_bgp.bfd.udp import HOPS, Arrival, Listener, Sender, index, name_of, plain, port
from routed_bgp.lifeline import follow

_MOST_AT_ONCE = 256  # datagrams of one socket before others have their turn
_LISTEN_AGAIN = 0.5  # seconds until a port that was taken is tried again
_REFUSALS_EVERY = 60.0  # seconds between two messages about refused packets
_LEAVE_SECONDS = 1.0  # the longest that leaving may take
_random = random.SystemRandom()  # a discriminator is what a forger would have to guess
_FOREVER = float("inf")

_Place = tuple[str, str, int]  # local address, its interface if link-local, port
_Name = tuple[str, str]  # the peer's address, its interface if link-local


@dataclass(slots=True)
class _Live:
    """A session that runs."""

    wanted: BfdSession
    session: Session
    listener: Listener
    sender: Sender
    reported: int = -1  # the version of the session that the agent knows
    scheduled: float = _FOREVER  # the earliest entry in the heap


@dataclass(slots=True)
class _Refused:
    count: int = 0
    last: tuple[str, str] = ("", "")
    told_at: float = -_FOREVER


class Process:
    """See the module."""

    def __init__(self, control: socket.socket) -> None:
        self._poller = select.epoll()
        self._control = Control(control, self._poller)
        self._want = Want((), {})
        self._live: dict[_Name, _Live] = {}
        self._known: dict[int, _Live] = {}  # by our discriminator, those that leave too
        self._listeners: dict[_Place, Listener] = {}
        self._sockets: dict[int, Listener] = {}  # by file descriptor
        self._timers: list[tuple[float, int]] = []
        self._unreported: dict[int, _Live] = {}
        self._deaf: Deaf | None = None
        self._listen_at = _FOREVER
        self._refused = _Refused()
        self._end_at = _FOREVER
        self._leaving = False

    def run(self) -> None:
        """Run until the agent says leave, or is gone."""
        while not self._done(time.monotonic()):
            self._poller.poll(self._timeout(time.monotonic()))
            now = time.monotonic()
            # asked again: what arrived before `now` is heard before it is missed, even if we were stopped meanwhile
            for descriptor, _ in self._poller.poll(0):
                listener = self._sockets.get(descriptor)
                if listener is not None:
                    self._hear(listener, now)
                elif not self._obey(now):
                    return
            self._tick(now)
            self._tell(now)

    def _done(self, now: float) -> bool:
        return self._leaving and (not self._known or now >= self._end_at)

    def _timeout(self, now: float) -> float | None:
        due = min(self._timers[0][0] if self._timers else _FOREVER, self._listen_at, self._end_at)
        return None if due == _FOREVER else max(0.0, due - now)

    # what the agent wants

    def _obey(self, now: float) -> bool:
        """Do what the agent says; False when it is gone."""
        for line in self._control.lines():
            match messages.decode_order(line):
                case Leave():
                    self._want, self._leaving, self._end_at = Want((), {}), True, now + _LEAVE_SECONDS
                case order:
                    self._want = order
            self._arrange(now)
        return not self._control.gone

    def _arrange(self, now: float) -> None:
        """Make the sessions those that are wanted."""
        wanted = {_name(session): session for session in self._want.sessions}
        for name, live in list(self._live.items()):
            new = wanted.get(name)
            if new is None or new.identity != live.wanted.identity:
                del self._live[name]
                self._send(live, live.session.leave(now, _random.random()))
                self._schedule(live)
            else:
                live.wanted = new
                live.session.configure(interval=new.interval * 1000, multiplier=new.multiplier)
                self._schedule(live)
        deaf = None
        for name, session in wanted.items():
            if name not in self._live:
                try:
                    self._begin(session, self._want.resume.get(session.peer), now)
                except OSError as error:
                    deaf = Deaf(str(session.local), port(multihop=session.multihop), error.errno or 0)
        self._listen_at = now + _LISTEN_AGAIN if deaf else _FOREVER
        if deaf != self._deaf:
            self._deaf = deaf
            self._control.say(messages.encode_deaf(deaf or Deaf()))
        self._close_unused()

    def _begin(self, wanted: BfdSession, resume: Snapshot | None, now: float) -> None:
        """Start a session. Raises OSError if we could not listen for it."""
        listener = self._listener(wanted)
        discriminator = 0
        while not discriminator or discriminator in self._known:
            discriminator = _random.getrandbits(32)
        session = Session(
            discriminator, interval=wanted.interval * 1000, multiplier=wanted.multiplier, now=now, resume=resume
        )
        live = _Live(wanted, session, listener, Sender(wanted))
        self._live[_name(wanted)] = self._known[session.discriminator] = live
        self._unreported[session.discriminator] = live
        self._schedule(live)

    def _listener(self, wanted: BfdSession) -> Listener:
        place = _place(wanted)
        listener = self._listeners.get(place)
        if listener is None:
            listener = self._listeners[place] = Listener(wanted)
            self._sockets[listener.socket.fileno()] = listener
            self._poller.register(listener.socket.fileno(), select.EPOLLIN)
        return listener

    def _close_unused(self) -> None:
        used = {id(live.listener) for live in self._known.values()}
        for place, listener in list(self._listeners.items()):
            if id(listener) not in used:
                del self._listeners[place], self._sockets[listener.socket.fileno()]
                self._poller.unregister(listener.socket.fileno())
                listener.close()

    # packets and time

    def _hear(self, listener: Listener, now: float) -> None:
        for _ in range(_MOST_AT_ONCE):
            arrival = listener.receive()
            if arrival is None:
                return
            try:
                packet = decode(arrival.data)
                live = self._select(listener, arrival, packet)
            except BadPacket as refusal:
                self._refused.count += 1
                self._refused.last = (arrival.source, str(refusal))
                continue
            self._send(live, live.session.receive(packet, now, _random.random()))
            self._schedule(live)

    def _select(self, listener: Listener, arrival: Arrival, packet: Packet) -> _Live:
        """The session that the packet is for (RFC 5880 section 6.3); BadPacket if there is none, or it came wrong."""
        if packet.your_discriminator:
            live = self._known.get(packet.your_discriminator)
        else:
            live = self._live.get((arrival.source, "")) or self._live.get((arrival.source, name_of(arrival.interface)))
        if live is None or live.listener is not listener:
            raise BadPacket("it belongs to no session")
        if not live.wanted.multihop:
            if arrival.hops != HOPS:
                raise BadPacket(f"it came over a router: {arrival.hops} hops left, expected {HOPS}")
            if live.wanted.interface is not None and arrival.interface != index(live.wanted.interface):
                raise BadPacket(f"it came over another interface than {live.wanted.interface}")
        return live

    def _tick(self, now: float) -> None:
        if self._listen_at <= now:
            self._arrange(now)
        while self._timers and self._timers[0][0] <= now:
            at, discriminator = heapq.heappop(self._timers)
            live = self._known.get(discriminator)
            if live is None or live.scheduled != at:  # forgotten, or an earlier entry took its place
                continue
            live.scheduled = _FOREVER
            deadline = live.session.next_deadline
            if deadline is not None and deadline <= now:
                self._send(live, live.session.tick(now, _random.random()))
            self._schedule(live)

    def _schedule(self, live: _Live) -> None:
        """See that the session is looked at in time. A later deadline is found when the earlier entry comes up."""
        if live.session.left:
            self._known.pop(live.session.discriminator, None)
            live.sender.close()
            self._close_unused()
            return
        deadline = live.session.next_deadline
        if deadline is not None and deadline < live.scheduled:
            live.scheduled = deadline
            heapq.heappush(self._timers, (deadline, live.session.discriminator))

    def _send(self, live: _Live, packets: list[Packet]) -> None:
        for packet in packets:
            live.sender.send(encode(packet))
        if live.session.version != live.reported:
            self._unreported[live.session.discriminator] = live

    # what the agent hears

    def _tell(self, now: float) -> None:
        """Tell the agent what is new, as far as it takes it now."""
        refused = self._refused
        due = now - refused.told_at >= _REFUSALS_EVERY and self._control.ready
        if refused.count and due and not self._leaving:  # to those we left, peers go on to send
            self._control.say(messages.encode_refusals(Refusals(refused.count, *refused.last)))
            self._refused = _Refused(told_at=now)
        while self._unreported and self._control.ready:
            discriminator = next(iter(self._unreported))
            live = self._unreported.pop(discriminator)
            live.reported = live.session.version
            if self._live.get(_name(live.wanted)) is live:  # of those that leave nobody asks
                self._control.say(messages.encode_report(live.wanted.peer, live.session.snapshot()))


def _scope(wanted: BfdSession) -> str:
    return wanted.interface or "" if wanted.peer.is_link_local else ""


def _place(wanted: BfdSession) -> _Place:
    return plain(wanted.local), _scope(wanted), port(multihop=wanted.multihop)


def _name(wanted: BfdSession) -> _Name:
    return plain(wanted.peer), _scope(wanted)


def _hurry() -> None:
    """Run before others as far as we may; real time is exempt from CPU quotas, a nice value is better than nothing."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except OSError:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, -20)


def main() -> None:
    """Run until the agent is gone, or says leave."""
    descriptor, parent = sys.argv[1:]
    follow(int(parent))
    # who stops the service sends these to all of its processes; the agent decides when BFD ends, and how
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _hurry()
    gc.freeze()
    Process(socket.socket(fileno=int(descriptor))).run()

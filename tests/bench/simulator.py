"""BGP sessions without a router: what benchmarks need at the other end, hundreds of them in one thread.

A `Session` opens a connection, exchanges OPEN and KEEPALIVE, sends what it is given as it is, and keeps which prefixes
the other end has announced. It has no policy, no best path and no hurry of its own, so that what is measured is the
other end. IPv4 unicast with four-octet AS numbers. Encoder and decoder are this module's own: a benchmark must not
find its subject right because both make the same mistake.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from routed.netlink.socket import inside

MARKER = b"\xff" * 16
OPEN, UPDATE, NOTIFICATION, KEEPALIVE = 1, 2, 3, 4
_HEADER = 19
_LONGEST = 4096
_SEND_BUFFER = 8 << 20
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_KEPT = 1 << 16  # decoded UPDATEs


def message(kind: int, body: bytes = b"") -> bytes:
    """A whole message."""
    return MARKER + struct.pack("!HB", _HEADER + len(body), kind) + body


def attributes(next_hop: str, as_path: Sequence[int] = (), *, local_pref: int | None = None, tag: int = 0) -> bytes:
    """Path attributes as they are in an UPDATE; `tag`, if not 0, is community 65000:0 and up, to tell sets apart."""
    path = struct.pack("!BB", 2, len(as_path)) + struct.pack(f"!{len(as_path)}I", *as_path) if as_path else b""
    found = b"\x40\x01\x01\x00" + b"\x40\x02" + bytes([len(path)]) + path
    found += b"\x40\x03\x04" + IPv4Address(next_hop).packed
    if local_pref is not None:
        found += b"\x40\x05\x04" + struct.pack("!I", local_pref)
    if tag:
        found += b"\xc0\x08\x08" + struct.pack("!II", 65001 << 16 | tag >> 16, 65000 << 16 | tag & 0xFFFF)
    return found


def nlri(number: int) -> bytes:
    """The prefix of that number: the /27s of 20.0.0.0/8 in order."""
    return b"\x1b" + struct.pack("!I", 20 << 24 | number << 5)


def single(count: int, sets: Sequence[bytes]) -> bytes:
    """`count` UPDATEs with one prefix each, the attributes taken in turn from `sets`."""
    heads = [struct.pack("!HH", 0, len(each)) + each for each in sets]
    return b"".join(message(UPDATE, heads[number % len(heads)] + nlri(number)) for number in range(count))


def grouped(nlris: Iterable[bytes], found: bytes) -> bytes:
    """UPDATEs with as many of `nlris` as they hold, all with the same attributes."""
    head = struct.pack("!HH", 0, len(found)) + found
    room = _LONGEST - _HEADER - len(head)
    messages, part, size = [], list[bytes](), 0
    for each in nlris:
        if size + len(each) > room:
            messages.append(message(UPDATE, head + b"".join(part)))
            part, size = [], 0
        part.append(each)
        size += len(each)
    if part:
        messages.append(message(UPDATE, head + b"".join(part)))
    return b"".join(messages)


END_OF_RIB = message(UPDATE, bytes(4))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A session: from which address to which, and what the OPEN says. The BGP identifier is the address."""

    local: str
    remote: str
    asn: int
    hold_time: int = 90
    port: int = 179

    @property
    def open(self) -> bytes:
        """The OPEN: multiprotocol IPv4 unicast, route refresh, four-octet AS numbers."""
        capabilities = b"\x01\x04\x00\x01\x00\x01" + b"\x02\x00" + b"\x41\x04" + struct.pack("!I", self.asn)
        options = b"\x02" + bytes([len(capabilities)]) + capabilities
        short = self.asn if self.asn < 1 << 16 else 23456
        body = struct.pack("!BHH", 4, short, self.hold_time) + IPv4Address(self.local).packed
        return message(OPEN, body + bytes([len(options)]) + options)


class Session:
    """One session, see the module. Times are monotonic seconds, 0 while the moment has not come.

    `routes`: the prefixes that the other end has announced and not withdrawn; `changed_at` when that changed last.
    """

    def __init__(self, plan: Plan, sock: socket.socket) -> None:
        self.plan = plan
        self.socket = sock
        self.routes: set[bytes] = set()
        self.established_at = self.closed_at = self.changed_at = self.sent_at = 0.0
        self.notification: tuple[int, int] | None = None
        self.on_established: bytes = b""
        self.connected = False
        self._in = b""
        self._out: list[memoryview] = []
        self.keepalive_at = 0.0

    @property
    def up(self) -> bool:
        """Whether it is established."""
        return self.established_at > 0 and not self.closed_at

    @property
    def sending(self) -> bool:
        """Whether something waits to be written."""
        return bool(self._out)

    def send(self, data: bytes) -> None:
        """Write `data`, now as much as the connection takes, the rest when it takes more."""
        self._out.append(memoryview(data))
        self.flush()

    def flush(self) -> None:
        """Write what waits."""
        with contextlib.suppress(BlockingIOError):
            while self._out:
                rest = self._out[0][self.socket.send(self._out[0]) :]
                if rest:
                    self._out[0] = rest
                else:
                    del self._out[0]
            self.sent_at = time.monotonic()

    def read(self, decode: Callable[[bytes], Decoded]) -> bool:
        """Take in what came; False when the other end has closed."""
        try:
            data = self.socket.recv(1 << 20)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        data = self._in + data
        at, size = 0, len(data)
        while size - at >= _HEADER:
            end = at + (data[at + 16] << 8 | data[at + 17])
            if end > size:
                break
            kind = data[at + 18]
            if kind == UPDATE:
                withdrawn, announced = decode(data[at + _HEADER : end])
                self.routes.difference_update(withdrawn)
                self.routes.update(announced)
                self.changed_at = time.monotonic()
            else:
                self._other(kind, data[at + _HEADER : end])
            at = end
        self._in = data[at:]
        return True

    def _other(self, kind: int, body: bytes) -> None:
        if kind == OPEN:
            self.send(message(KEEPALIVE))
        elif kind == KEEPALIVE and not self.established_at:
            self.established_at = time.monotonic()
            self.keepalive_at = self.established_at + self.plan.hold_time / 3
            if self.on_established:
                self.send(self.on_established)
        elif kind == NOTIFICATION:
            self.notification = body[0], body[1]


Decoded = tuple[tuple[bytes, ...], tuple[bytes, ...]]


class Simulator:
    """Sessions whose addresses are in one network namespace, served by whoever calls `run`."""

    def __init__(self, namespace: str) -> None:
        self._path = f"/run/netns/{namespace}"
        self._poll = select.epoll()
        self._sessions: dict[int, Session] = {}
        self._known: dict[bytes, Decoded] = {}

    def connect(self, *plans: Plan, first: bytes = b"") -> list[Session]:
        """Open these sessions, all at once; `first` is sent as soon as each is established."""
        made = []
        with inside(self._path):
            for plan in plans:
                sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
                sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BUFFER if first else 1 << 16)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.bind((plan.local, 0))
                sock.connect_ex((plan.remote, plan.port))
                session = Session(plan, sock)
                session.on_established = first
                self._sessions[sock.fileno()] = session
                self._poll.register(sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
                made.append(session)
        return made

    def close(self, *sessions: Session, notification: tuple[int, int] | None = None) -> None:
        """End these; without `notification` as a process that dies does."""
        for session in sessions:
            if session.closed_at:
                continue
            if notification is not None:
                with contextlib.suppress(OSError):
                    session.socket.send(message(NOTIFICATION, bytes(notification)))
            self._drop(session)

    def end(self) -> None:
        """End all."""
        self.close(*list(self._sessions.values()))
        self._poll.close()

    def run(self, until: Callable[[], bool], seconds: float, what: str, *, every: float = 0.005) -> None:
        """Serve the sessions until `until` holds; it is asked every `every` seconds at most.

        Fails with `what` after `seconds`.
        """
        deadline = time.monotonic() + seconds
        ask_at = 0.0
        while True:
            now = time.monotonic()
            if now >= ask_at:
                if until():
                    return
                ask_at = time.monotonic() + every
            if now > deadline:
                raise SystemExit(f"bench: {what}: not within {seconds} s")
            self.turn(max(0.0, ask_at - time.monotonic()))

    def turn(self, wait: float) -> None:
        """Serve what is ready now, or within `wait` seconds."""
        for number, events in self._poll.poll(wait, maxevents=256):
            session = self._sessions.get(number)
            if session is not None:
                self._serve(session, events)
        now = time.monotonic()
        for session in self._sessions.values():
            if session.established_at and now >= session.keepalive_at:
                session.keepalive_at = now + session.plan.hold_time / 3
                session.send(message(KEEPALIVE))

    def settle(self, sessions: Collection[Session], seconds: float) -> None:
        """Serve until all of `sessions` are established; a refused connection is tried again."""

        def ready() -> bool:
            for session in sessions:
                if session.closed_at and not session.established_at:
                    self._again(session)
            return all(session.up for session in sessions)

        self.run(ready, seconds, f"{len(sessions)} sessions", every=0.1 if len(sessions) > 1 else 0.002)

    def _again(self, session: Session) -> None:
        (fresh,) = self.connect(session.plan, first=session.on_established)
        del self._sessions[fresh.socket.fileno()]
        session.__dict__.update(fresh.__dict__)
        self._sessions[session.socket.fileno()] = session

    def _serve(self, session: Session, events: int) -> None:
        try:
            if not session.connected and events & select.EPOLLOUT:
                if session.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    self._drop(session)
                    return
                session.connected = True
                session.send(session.plan.open)
            elif events & select.EPOLLOUT:
                session.flush()
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR) and not session.read(self._decode):
                self._drop(session)
                return
        except OSError:
            self._drop(session)
            return
        wanted = select.EPOLLIN | (select.EPOLLOUT if session.sending or not session.connected else 0)
        self._poll.modify(session.socket.fileno(), wanted)

    def _drop(self, session: Session) -> None:
        del self._sessions[session.socket.fileno()]
        self._poll.unregister(session.socket.fileno())
        session.socket.close()
        session.closed_at = time.monotonic()

    def _decode(self, body: bytes) -> Decoded:
        found = self._known.get(body)
        if found is None:
            if len(self._known) > _KEPT:
                self._known.clear()
            found = self._known[body] = decoded(body)
        return found


def decoded(body: bytes) -> Decoded:
    """The prefixes that an UPDATE withdraws, and those that it announces."""
    end = 2 + (body[0] << 8 | body[1])
    start = end + 2 + (body[end] << 8 | body[end + 1])
    return _prefixes(body[2:end]), _prefixes(body[start:])


def _prefixes(field: bytes) -> tuple[bytes, ...]:
    found, at = [], 0
    while at < len(field):
        end = at + 1 + (field[at] + 7 >> 3)
        found.append(field[at:end])
        at = end
    return tuple(found)

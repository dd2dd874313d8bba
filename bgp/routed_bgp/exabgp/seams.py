"""The seams: where ExaBGP reads and writes UPDATEs, and waits for either, routed goes its own way.

Received UPDATEs and ROUTE-REFRESHes are cut out of the stream by their lengths and go to the agent as they are, many
in one frame, through one unix socket in order with the ups and downs of the sessions; what the agent sends is written
to the peers as it is. ExaBGP keeps everything else: configuration, OPEN, timers, NOTIFICATION.

- The agent may sleep: 64 MB wait here for it. When they are full, no more is read from peers, and the hold timers of
  those we do not listen to stand still, since it is us who would be late to hear a KEEPALIVE.
- A peer may not read: what waits for it is bounded, then its session ends. No other session waits for it.
- The reactor gives a turn only to peers that have something to do, and to all of them twice a second for their timers.
  Every socket ends its wait at once, the listening ones included.
"""

# ruff: noqa: SLF001  ExaBGP has no other parts to replace

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import Any

from routed_bgp.exabgp.connections import urgent, waits
from routed_bgp.exabgp.frames import Kind, Splitter, pack, pack_address
from routed_bgp.exabgp.pinned import module

AGENT_BUFFER = 64 << 20  # octets that wait for the agent before peers are no longer read
PEER_BUFFER = 32 << 20  # octets that wait for one peer before its session ends
_CHUNK = 1 << 18
_ROUND_SECONDS = 0.5  # between two turns of a peer that is up and silent
_MARKER = b"\xff" * 16
_HEADER, _MIN_UPDATE, _MAX_MESSAGE = 19, 23, 4096
_UPDATE = 2
_REFRESH = _MARKER + b"\0\x17\x05"  # a ROUTE-REFRESH of 23 octets
_READ = select.POLLIN | select.POLLPRI | select.POLLHUP | select.POLLERR | select.POLLNVAL


def whole_updates(data: bytearray) -> int:
    """How many octets at the beginning of `data` are whole UPDATEs, as far as their headers tell."""
    at, size = 0, len(data)
    while size - at >= _HEADER and data[at + 18] == _UPDATE and data.startswith(_MARKER, at):
        length = data[at + 16] << 8 | data[at + 17]
        if not _MIN_UPDATE <= length <= _MAX_MESSAGE or at + length > size:
            break
        at += length
    return at


class Seams:
    """The replaced parts of ExaBGP, and what they share."""

    def __init__(self, agent: socket.socket) -> None:
        self._agent = agent
        self._unsent = bytearray()  # for the agent
        self._frames = Splitter()
        self._tags: dict[str, int] = {}  # peer address -> tag of its session
        self._connections: dict[int, Any] = {}
        self._last_tag = 0
        self._blocked: set[Any] = set()  # connections that could not send all
        self._turns: set[str] = set()  # peers that have something to do now
        self._restless: set[str] = set()  # ... and in every round: those that are not up, or must not be any more
        self._looks = 1  # rounds in which to look at all peers, for something happened to them outside their turns
        self._sockets: dict[int, str] = {}
        self._listening: set[int] = set()
        self._next_round = 0.0

    def install(self) -> None:
        """Replace what the module says."""
        processes = module("reactor.api.processes").Processes
        reactor = module("reactor.loop").Reactor
        self._replace_reading()
        self._replace_writing()
        self._replace_turns(reactor, module("reactor.peer"))

        def up(_: Any, neighbor: Any) -> None:  # told when its first message is read, which knows the connection
            pass

        def packets(*_: Any) -> None:  # its OPEN, which comes with the news that the session is up
            pass

        def received(processes: Any) -> Iterator[tuple[str, str]]:
            return self._received(processes)

        def down(_: Any, neighbor: Any, reason: str) -> None:
            self._down(neighbor["peer-address"].top(), reason)

        processes.up = processes.connected = up
        processes.down = down
        processes.packets = packets
        processes.received = received
        self._agent.setblocking(False)

    # from ExaBGP to the agent

    def put(self, kind: Kind, payload: bytes | bytearray, tags: Sequence[int] = ()) -> None:
        """Send a frame, or let it wait."""
        self._unsent += pack(kind, payload, tags)
        self._send()

    def line(self, data: bytes) -> int:
        """Send a line of the API."""
        self.put(Kind.LINE, data)
        return len(data)

    def _send(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._agent.send(self._unsent)]
        except BlockingIOError:
            pass

    def _up(self, peer: Any, connection: Any) -> None:
        self._last_tag = tag = self._last_tag + 1
        address = peer.neighbor["peer-address"].top()
        self._tags[address] = connection.routed_tag = tag
        self._connections[tag] = connection
        self.put(Kind.UP, pack_address(ip_address(address)) + connection.routed_open, [tag])

    def _down(self, address: str, reason: str) -> None:
        self._connections.pop(self._tags.pop(address, 0), None)
        self.put(Kind.DOWN, pack_address(ip_address(address)) + reason.encode(errors="replace"))

    def _replace_reading(self) -> None:
        fsm, protocols = module("bgp.fsm").FSM, module("reactor.protocol")
        connections = module("reactor.network.connection")
        protocol, update, nothing = protocols.Protocol, protocols._UPDATE, module("bgp.message")._NOP
        ordinary = protocol.read_message

        def read_message(self: Any) -> Iterator[Any]:
            connection = self.connection
            if self.peer.fsm != fsm.ESTABLISHED or connection is None:
                yield from ordinary(self)
                return
            if connection.routed_tag == 0:
                seams._up(self.peer, connection)
            if len(seams._unsent) > AGENT_BUFFER:
                self.peer.recv_timer.last_read = int(time.time())
                yield nothing
                return
            data = connection.routed_in
            if not _whole(data) and not _fill(connection):
                yield nothing
            elif length := whole_updates(data):
                seams.put(Kind.MESSAGES, data[:length], [connection.routed_tag])
                del data[:length]
                yield update
            elif not _whole(data):
                yield nothing
            elif data.startswith(_REFRESH):  # of another length it is an error, which is ExaBGP's to find
                seams.put(Kind.REFRESH, data[_HEADER : _HEADER + 4], [connection.routed_tag])
                del data[: _HEADER + 4]
                yield update
            else:
                yield from ordinary(self)

        def reader(self: Any) -> Iterator[tuple[int, int, bytes, bytes, Any]]:
            """One message, as ExaBGP's own, from our buffer."""
            data = self.routed_in
            while True:
                while len(data) >= _HEADER:
                    head = bytes(data[:_HEADER])
                    length, kind = int.from_bytes(head[16:18]), head[18]
                    if error := _header_error(head, length):
                        yield length, 0, head, b"", error
                        return
                    if len(data) < length:
                        break
                    body = bytes(data[_HEADER:length])
                    del data[:length]
                    if kind == 1:
                        self.routed_open = body
                    yield length, kind, head, body, None
                    return
                if not _fill(self):
                    yield 0, 0, b"", b"", None

        def start(self: Any, *args: Any) -> None:
            begin(self, *args)
            self.routed_in, self.routed_out = bytearray(), bytearray()
            self.routed_open, self.routed_tag = b"", 0

        seams = self
        begin = connections.Connection.__init__
        connections.Connection.__init__ = start
        connections.Connection.reader = reader
        protocol.read_message = read_message

    # from the agent to ExaBGP

    def _received(self, processes: Any) -> Iterator[tuple[str, str]]:
        """In place of `Processes.received`: yield the commands of the agent."""
        self._send()
        commands: list[str] = []
        try:
            while data := self._agent.recv(1 << 20):
                for kind, tags, payload in self._frames.feed(data):
                    if kind == Kind.MESSAGES:
                        self._distribute(tags, payload)
                    else:
                        commands.append(payload.decode("ascii"))
                if len(data) < 1 << 20:
                    break
            else:
                raise SystemExit
        except BlockingIOError:
            pass
        if commands:
            self._looks = max(self._looks, 1)
        for service in list(processes._process):
            yield from ((service, command) for command in commands)

    def _distribute(self, tags: Sequence[int], messages: bytes) -> None:
        for tag in tags:
            if connection := self._connections.get(tag):
                self.write(connection, messages)

    def write(self, connection: Any, data: bytes) -> None:
        """Send to a peer, or let it wait; too much of that ends the connection."""
        waiting = connection.routed_out
        waiting += data
        if connection not in self._blocked:
            self.flush(connection)
        if len(waiting) > PEER_BUFFER:
            waiting.clear()
            connection.routed_fault = f"it does not read: {PEER_BUFFER >> 20} MB wait for it"
            with contextlib.suppress(OSError, AttributeError):  # reset or closed meanwhile: reading says so
                connection.io.shutdown(socket.SHUT_RDWR)

    def flush(self, connection: Any) -> None:
        """Send of what waits as much as the peer takes."""
        waiting = connection.routed_out
        try:
            while waiting:
                del waiting[: connection.io.send(waiting)]
        except BlockingIOError:
            self._blocked.add(connection)
            return
        except (OSError, AttributeError):  # lost or closed: reading says so, and how
            waiting.clear()
        self._blocked.discard(connection)

    def _replace_writing(self) -> None:
        connection = module("reactor.network.connection").Connection

        def writer(connection: Any, data: bytes) -> Iterator[bool]:
            if connection.io:
                self.write(connection, data)
            yield True

        connection.writer = writer
        connection.routed_fault = ""

    # turns

    def _replace_turns(self, reactor: Any, peers: Any) -> None:
        active, run, now = reactor.active_peers, peers.Peer.run, peers.ACTION.NOW

        def active_peers(reactor: Any) -> set[str]:
            peers = reactor._peers
            if (moment := time.monotonic()) >= self._next_round:
                self._next_round, self._looks = moment + _ROUND_SECONDS, max(self._looks, 1)
                self._turns = active(reactor)
            if self._looks:
                self._looks -= 1
                self._restless = {
                    key for key, peer in peers.items() if not waits(peer) and (not peer.established() or urgent(peer))
                }
            found = {key for key in self._turns | self._restless if key in peers}
            self._turns = set()
            return found

        def wait(reactor: Any, milliseconds: int) -> tuple[()]:
            return self._wait(reactor, milliseconds)

        def turn(peer: Any) -> Any:
            action = run(peer)
            if action == now:
                self._turns.add(peer.neighbor.name())
            elif not peer.established():
                self._restless.add(peer.neighbor.name())
            return action

        reactor.active_peers = active_peers
        reactor._wait_for_io = wait
        peers.Peer.run = turn

    def _wait(self, reactor: Any, milliseconds: int) -> tuple[()]:
        """In place of `Reactor._wait_for_io`. What is ready has its turn next; the reactor needs no list of it."""
        poller = reactor._poller
        listening = {sock.fileno() for sock in reactor.listener._sockets}
        for number in listening - self._listening:
            poller.register(number, select.POLLIN)
        self._listening = listening
        agent = self._agent.fileno()
        poller.register(agent, _READ | (select.POLLOUT if self._unsent else 0))
        blocked = {connection.fd(): connection for connection in self._blocked if connection.io}
        self._blocked = set(blocked.values())
        for number in blocked:
            poller.register(number, _READ | select.POLLOUT)
        found = poller.poll(0 if self._turns or self._looks else milliseconds)
        for number, event in found:
            if event & select.POLLNVAL:  # closed since
                poller.unregister(number)
            elif number == agent:
                self._send()
            elif number in listening:
                self._looks = 2  # it is accepted in the next round, and belongs to a peer in the one after
            else:
                if event & select.POLLOUT and number in blocked:
                    self.flush(blocked[number])
                    poller.register(number, _READ)
                if event & ~select.POLLOUT:
                    self._ready(reactor, number)
        return ()

    def _ready(self, reactor: Any, number: int) -> None:
        key = self._sockets.get(number)
        if key not in reactor._peers or reactor._peers[key].socket() != number:
            self._sockets = {peer.socket(): key for key, peer in reactor._peers.items()}
            key = self._sockets.get(number)
        if key is None:
            reactor._poller.unregister(number)
        elif not self._passed_on(reactor._peers[key]):
            self._turns.add(key)

    def _passed_on(self, peer: Any) -> bool:
        """Read what came from `peer`; whether that was UPDATEs and nothing else, so that it needs no turn.

        This takes a third off the time from wire to Loc-RIB of a single UPDATE. What cannot be dealt with here, errors
        included, is there still when the turn looks.
        """
        connection = peer.proto.connection if peer.proto and peer.established() else None
        if connection is None or not connection.io or not connection.routed_tag or len(self._unsent) > AGENT_BUFFER:
            return False
        data = connection.routed_in
        try:
            data += connection.io.recv(_CHUNK)
        except BlockingIOError:
            return False
        except OSError as error:
            connection.routed_fault = connection.routed_fault or str(error)
            return False
        length = whole_updates(data)
        if not length:
            return False
        self.put(Kind.MESSAGES, data[:length], [connection.routed_tag])
        del data[:length]
        peer.recv_timer.last_read = int(time.time())
        return not data


def _fill(connection: Any) -> bool:
    """Read what there is into the connection's buffer; whether there was something."""
    lost = module("reactor.network.error").LostConnection
    if not connection.io:
        raise lost(connection.routed_fault or "the connection is closed")
    try:
        data = connection.io.recv(_CHUNK)
    except BlockingIOError:
        return False
    except OSError as error:
        connection.close()
        raise lost(connection.routed_fault or str(error)) from None
    if not data:
        connection.close()
        raise lost(connection.routed_fault or "the peer closed the connection")
    connection.routed_in += data
    return True


def _whole(data: bytearray) -> bool:
    """Whether `data` begins with a whole message, or with something that will never be one."""
    if len(data) < _HEADER:
        return False
    length = data[16] << 8 | data[17]
    return len(data) >= length or length > _MAX_MESSAGE or not data.startswith(_MARKER)


def _header_error(head: bytes, length: int) -> Any:
    """What RFC 4271 section 6.1 has against a header, in ExaBGP's type."""
    error, message = module("reactor.network.error").NotifyError, module("bgp.message").Message
    if not head.startswith(_MARKER):
        return error(1, 1, "The packet received does not contain a BGP marker")
    allowed = message.Length.get(head[18])
    if not _HEADER <= length <= _MAX_MESSAGE or (allowed and not allowed(length)):
        return error(1, 2, f"invalid message length of {length}")
    return None


RELIED_ON: Sequence[str] = (
    "bgp.fsm:FSM",
    "bgp.message.message:Message",
    "bgp.timer:ReceiveTimer",
    "reactor.api.processes:Processes",
    "reactor.loop:Reactor",
    "reactor.network.connection:Connection",
    "reactor.network.error:NotifyError",
    "reactor.peer:Peer",
    "reactor.protocol:Protocol",
)

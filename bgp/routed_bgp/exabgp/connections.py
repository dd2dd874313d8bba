"""How ExaBGP's peers connect, collide, end: what its state machine does otherwise than routed needs it.

- A refused connection is tried again at once, a hundred times a second; an unanswered one for two minutes. Here once a
  second, 7 s long, and `retry` ends the pause.
- A passive peer never connects; here it does when it has been down for as long as `config` says.
- Of two connections the outgoing one is closed as soon as another comes in, whatever the identifiers: two speakers that
  do that lose both. Here the one that comes in waits until its OPEN tells who keeps which (RFC 4271 section 6.8).
- A connection of a peer whose session is up is refused. Here it takes the session's place if the session can restart
  gracefully: the peer has restarted before we noticed (RFC 4724 section 4.2).
- A session that is configured anew while its connection waits for the peer's OPEN goes on as it was for a minute. Here
  it begins anew at once.
- Where graceful restart was agreed, a session cannot be ended by a NOTIFICATION. Here `routed-close` does.
- The reason for an end lacks the NOTIFICATION's data, the system's error, and every failed attempt to connect.
"""

# ruff: noqa: SLF001  ExaBGP has no other parts to replace

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

from routed_bgp.exabgp.adaptations import RECONNECT_SECONDS, extras
from routed_bgp.exabgp.pinned import module

CLOSE, RETRY = "routed-close", "routed-retry"  # our commands
_SYN_RETRIES = 2
_RESTART_SECONDS = 1.0  # so long a connection beside a session waits: who is alive would close one of them
_OPEN_SECONDS = 10.0  # how long a colliding connection may take to send its OPEN
_HEADER, _OPEN_TYPE, _IDENTIFIER_END = 19, 1, 28
_CEASE, _COLLISION, _HARD_RESET = 6, 7, 9
_HARD = ((6, 2), (6, 3))  # what means "do not keep our paths", also where others mean it (RFC 8538 section 3.1)


@dataclass(slots=True)
class State:
    """What we keep beside ExaBGP's own peer."""

    closing: tuple[int, int] | None = None  # the NOTIFICATION to end the session with
    connecting: Any = None  # the protocol that connects or has connected from our side
    hurry: bool = False
    rival: Any = None  # a second connection, coming in
    rival_since: float = 0.0
    idle_since: float = field(default_factory=time.monotonic)
    failure: str = ""


def of(peer: Any) -> State:
    """The state of `peer`."""
    state: State | None = peer.__dict__.get("routed")
    if state is None:
        state = peer.routed = State()
    return state


def install() -> None:
    """Replace what the module says."""
    _attempt()
    _accept()
    _renew()
    _end()
    _command()


def _attempt() -> None:
    outgoing = module("reactor.network.outgoing").Outgoing
    protocol = module("reactor.protocol").Protocol
    reactor = module("reactor.loop").Reactor
    connect = protocol.connect

    def establish(self: Any) -> Iterator[Any]:
        while True:
            again = time.monotonic() + RECONNECT_SECONDS
            issue = self._connect()
            if issue is None:
                made: Any = self.io
                poller = select.poll()
                poller.register(made, select.POLLOUT)
                while not poller.poll(0):
                    yield False
                number = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if not number:
                    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self.success()
                    yield True
                    return
                made.close()
                self.io = None
                issue = os.strerror(number)
            self.failure = str(issue)
            while time.monotonic() < again and not self.hurry:
                yield False
            self.hurry = False

    def connecting(self: Any) -> Iterator[bool]:
        state = of(self.peer)
        state.connecting = self
        for connected in connect(self):
            failure = getattr(self.connection, "failure", "")
            if failure not in ("", state.failure):  # told once, not at each attempt
                state.failure = failure
                self.peer.reactor.processes.down(self.peer.neighbor, f"connecting failed: {failure}")
            yield connected

    def active(self: Any) -> set[Any]:
        return {key for key, peer in self._peers.items() if not waits(peer)}

    create = module("reactor.network.outgoing").create

    def impatient(*args: Any, **kwargs: Any) -> socket.socket:
        connection: socket.socket = create(*args, **kwargs)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, _SYN_RETRIES)
        return connection

    module("reactor.network.outgoing").create = impatient
    outgoing.hurry = False
    outgoing.establish = establish
    protocol.connect = connecting
    reactor.active_peers = active


def urgent(peer: Any) -> bool:
    """Whether `peer` must have a turn now, though nothing came for it."""
    state = of(peer)
    return state.closing is not None or state.rival is not None or peer._teardown is not None


def waits(peer: Any) -> bool:
    """Whether a passive peer waits for the other side to connect."""
    if not peer.neighbor["passive"] or peer.proto or peer.generator is not None or peer.stopping():
        return False
    state = of(peer)
    return state.rival is None and time.monotonic() - state.idle_since < extras(peer.neighbor).patience


def _accept() -> None:
    peer = module("reactor.peer").Peer
    run = peer.run

    def turn(self: Any) -> Any:
        if of(self).rival is not None:
            _settle(self)
        return run(self)

    peer.handle_connection = _handle_connection
    peer.run = turn


def _handle_connection(self: Any, connection: Any) -> Any:
    """A connection has come in. ExaBGP does nothing with what we return, except not to go on."""
    state = of(self)
    if self.stopping():
        return _refuse(connection, 3)
    if self.established():
        if not restarts(self):
            return _refuse(connection, _COLLISION)
        _keep(state, connection)
    elif ours := _outgoing(self):
        _keep(state, connection)
        state.connecting = ours
    else:
        _take(self, connection)
    return None


def _keep(state: State, connection: Any) -> None:
    """Let `connection` wait until it is known what it is."""
    if state.rival is not None:
        state.rival.close()
    state.rival, state.rival_since = connection, time.monotonic()


def _outgoing(peer: Any) -> Any:
    """The protocol of a connection that we made and that is not yet a session, if there is one."""
    if peer.proto:
        return peer.proto if peer.proto.connection.direction == "outgoing" else None
    proto = of(peer).connecting
    connection = proto.connection if proto and peer.generator else None
    if connection is None or connection.io is None:
        return None
    try:
        connection.io.getpeername()  # only a connection that is made has one
    except OSError:
        return None
    return proto


def _settle(peer: Any) -> None:
    """Decide between our connection and the one that came in, once it is known who the peer is."""
    state = of(peer)
    rival, waited = state.rival, time.monotonic() - state.rival_since
    up = peer.established()
    if not up and not _outgoing(peer):
        _take(peer, rival)
        return
    try:
        head = rival.io.recv(_IDENTIFIER_END, socket.MSG_PEEK)
    except BlockingIOError:
        head = None
    except OSError:
        head = b""
    opened = head is not None and len(head) == _IDENTIFIER_END and head[_HEADER - 1] == _OPEN_TYPE
    if head == b"":
        state.rival = None
        rival.close()
    elif up and opened and waited > _RESTART_SECONDS:
        peer._close("replaced by a new connection of the peer")
        peer.neighbor.reset_rib()
        _take(peer, rival)
    elif not up and opened and head:
        # RFC 4271 section 6.8, RFC 6286 section 2.3: the higher identifier, then the higher AS, keeps what it made
        ours = int(IPv4Address(str(peer.neighbor["router-id"]))), int(peer.neighbor["local-as"])
        theirs = int.from_bytes(head[-4:]), int(peer.neighbor["peer-as"])
        if ours > theirs:
            _refuse_rival(state)
        else:
            _take(peer, rival)
    elif waited > _OPEN_SECONDS:
        _refuse_rival(state)


def _refuse_rival(state: State) -> None:
    rival, state.rival = state.rival, None
    _refuse(rival, _COLLISION)


def _take(peer: Any, connection: Any) -> None:
    """Go on with `connection` and with no other."""
    state, fsm = of(peer), module("bgp.fsm").FSM
    protocol = module("reactor.protocol").Protocol
    if peer.proto:
        _say(peer.proto, _CEASE, _COLLISION)
        peer.fsm.change(fsm.IDLE)  # the peer never was up: nothing to tell
        peer._close()
    state.rival = state.connecting = None
    peer.generator = None
    peer.proto = protocol(peer).accept(connection)
    peer._delay.reset()


def _refuse(connection: Any, subcode: int) -> bool:
    for _, _ in zip(range(9), connection.notification(_CEASE, subcode, ""), strict=False):
        pass
    connection.close()
    return True


def _say(proto: Any, code: int, subcode: int) -> None:
    notify = module("bgp.message").Notify
    with contextlib.suppress(module("reactor.network.error").NetworkError):
        for _, _ in zip(range(9), proto.new_notification(notify(code, subcode, b"")), strict=False):
            pass


def _announced(peer: Any) -> list[Any]:
    """The graceful restart capabilities of both sides, as far as they were sent."""
    code = module("bgp.message.open.capability").Capability.CODE.GRACEFUL_RESTART
    negotiated = peer.proto.negotiated
    sent = [opened.capabilities.get(code) for opened in (negotiated.sent_open, negotiated.received_open) if opened]
    return [capability for capability in sent if capability is not None]


def restarts(peer: Any) -> bool:
    """Whether both sides of the session agreed to restart gracefully."""
    return len(_announced(peer)) == 2


def _keeps_on_notification(peer: Any) -> bool:
    """Whether both sides have the N bit, RFC 8538."""
    both = _announced(peer)
    return len(both) == 2 and extras(peer.neighbor).notification and bool(both[1].restart_flag & 0x4)


def _renew() -> None:
    """Give up an opening connection whose session has other settings now; silently, it is no error of the peer."""
    peer, error = module("reactor.peer").Peer, module("reactor.network.error").LostConnection

    def impatient(read: Any) -> Any:
        def reading(self: Any) -> Iterator[Any]:
            for item in read(self):
                if self._teardown is not None and self._restart:
                    raise error("configured anew")
                yield item

        return reading

    peer._read_open, peer._read_ka = impatient(peer._read_open), impatient(peer._read_ka)


def _end() -> None:
    peer = module("reactor.peer").Peer
    messages = module("bgp.message")
    notify, notification = messages.Notify, messages.Notification
    main, reset, close, unpack = peer._main, peer._reset, peer._close, notification.unpack_message

    def established(self: Any) -> Iterator[Any]:
        state = of(self)
        state.failure, state.connecting = "", None
        if state.rival is not None:
            _refuse_rival(state)
        for action in main(self):
            if state.closing is not None:
                code, subcode = state.closing
                data = b""
                if (code, subcode) in _HARD and _keeps_on_notification(self):
                    code, subcode, data = _CEASE, _HARD_RESET, bytes([code, subcode])
                raise notify(code, subcode, data)
            yield action

    def closed(self: Any, message: str = "", error: Any = "") -> None:
        close(self, message, error)
        of(self).idle_since = time.monotonic()

    def reset_(self: Any, message: str = "", error: Any = "") -> None:
        of(self).closing = None
        if raw := getattr(error, "routed_data", b""):
            message = f"{message} {raw.hex()}"
        elif message == "closing connection":
            message = f"closing connection: {error}"
        reset(self, message, error)

    def unpacked(cls: Any, data: bytes, direction: Any = None, negotiated: Any = None) -> Any:
        found = unpack.__func__(cls, data, direction, negotiated)
        found.routed_data = data[2:]
        return found

    notification.unpack_message = classmethod(unpacked)
    peer._main = established
    peer._close = closed
    peer._reset = reset_


def _command() -> None:
    register = module("reactor.api.command.command").Command.register

    def find(reactor: Any, address: str) -> list[Any]:
        return [peer for peer in reactor._peers.values() if peer.neighbor["peer-address"].top() == address]

    def close(self: Any, reactor: Any, service: Any, line: str, use_json: bool) -> bool:  # noqa: ARG001
        _, address, code, subcode, final = line.split()
        for peer in find(reactor, address):
            if peer.established():
                of(peer).closing = int(code), int(subcode)
                peer._restart = final != "1"
        reactor.processes.answer_done(service)
        return True

    def retry(self: Any, reactor: Any, service: Any, line: str, use_json: bool) -> bool:  # noqa: ARG001
        for peer in find(reactor, line.split()[1]):
            state = of(peer)
            state.idle_since = float("-inf")
            peer._delay.reset()
            if state.connecting is not None and state.connecting.connection is not None:
                state.connecting.connection.hurry = True
        reactor.processes.answer_done(service)
        return True

    register(CLOSE)(close)
    register(RETRY)(retry)


RELIED_ON: Sequence[str] = (
    "bgp.message.notification:Notification",
    "bgp.message.notification:Notify",
    "reactor.api:API",
    "reactor.api.command.command:Command",
    "reactor.network.connection:Connection.close",
    "reactor.network.incoming:Incoming",
    "reactor.network.outgoing:Outgoing",
    "reactor.peer:Peer",
    "reactor.protocol:Protocol.accept",
    "reactor.protocol:Protocol.connect",
    "reactor.protocol:Protocol.close",
    "reactor.protocol:Protocol.new_notification",
)

"""What the launcher sends, read in order: frames as events, and in stock mode the lines of ExaBGP's API."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address

import msgspec

from routed.errors import Bug, PeerError
from routed.model.address import AnyAddress
from routed_bgp import open as opens
from routed_bgp.exabgp.frames import Frame, Kind, split_address
from routed_bgp.notification import describe
from routed_bgp.speaker import (
    Ending,
    RefreshReceived,
    SessionDown,
    SessionUp,
    UpdatesReceived,
)
from routed_bgp.update import refresh

_OPEN, _UPDATE, _ROUTE_REFRESH = 1, 2, 5  # message types, RFC 4271 section 4.1, RFC 2918
_NOTIFICATION = re.compile(r"notification (sent|received) \((\d+),(\d+)\)(?: ([0-9a-f]*))?")
_LOCAL = {
    "graceful restarted negotiated": "closed by this node",
    "stop, message": "closed by this node",
    "closing connection: it does not read": "the peer does not read what we send",
    "closing outgoing connection": "connection collision: the other connection goes on",
    "connection received before": "connection collision: the other connection goes on",
}


@dataclass(frozen=True, slots=True)
class Hello:
    """The launcher runs; `note` says why it is the stock mode, and is empty with the seams."""

    note: str


@dataclass(frozen=True, slots=True)
class Up:
    """A session came up, and what is sent to it has this tag."""

    event: SessionUp
    tag: int


@dataclass(frozen=True, slots=True)
class Unreadable:
    """ExaBGP took an OPEN that we cannot read: the session is useless."""

    peer: AnyAddress
    error: PeerError


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of the answer to a command."""

    done: bool


Told = Hello | Up | Unreadable | SessionDown | UpdatesReceived | RefreshReceived | Answer


class Reader:
    """Reads the frames of one launcher."""

    def __init__(self) -> None:
        self._peers: dict[int, AnyAddress | None] = {}  # by tag; None: its OPEN was unreadable, as is what follows
        self._tags: dict[AnyAddress, int] = {}
        self._opens: dict[AnyAddress, bytes] = {}
        self._last_tag = 0
        # sessions with peers whose OPEN we could not read: what they say before they are closed means nothing
        self._deaf: dict[int, AnyAddress] = {}

    def tag(self, peer: AnyAddress) -> int | None:
        """The tag of the session that `peer` has now."""
        return self._tags.get(peer)

    def up(self) -> list[AnyAddress]:
        """The peers whose session is up."""
        return list(self._tags)

    def read(self, frame: Frame) -> Told | None:
        """What `frame` tells; None when it is nothing to us. Raises Bug when the launcher does not send such."""
        kind, tags, payload = frame
        try:
            match kind:
                case Kind.MESSAGES | Kind.REFRESH if tags[0] in self._deaf:
                    return None
                case Kind.MESSAGES:
                    peer = self._peers[tags[0]]
                    return UpdatesReceived(peer, payload) if peer else None
                case Kind.LINE:
                    return self._line(payload.strip())
                case Kind.UP:
                    peer, body = split_address(payload)
                    return self._up(peer, body, tags[0])
                case Kind.DOWN:
                    peer, reason = split_address(payload)
                    return self._down(peer, reason.decode(errors="replace"))
                case Kind.REFRESH:
                    peer = self._peers[tags[0]]
                    return _refresh(peer, payload) if peer else None
                case Kind.HELLO:
                    return Hello(payload.decode(errors="replace"))
        except (msgspec.MsgspecError, LookupError, ValueError) as error:
            raise Bug(f"ExaBGP's API: cannot read {payload[:200]!r}: {error}") from error

    def _up(self, peer: AnyAddress, body: bytes, tag: int) -> Told:
        self._tags[peer], self._peers[tag] = tag, None
        try:
            opened = opens.decode(body)
        except PeerError as error:
            self._deaf[tag] = peer
            return Unreadable(peer, error)
        self._peers[tag] = peer
        return Up(SessionUp(peer, opened), tag)

    def _down(self, peer: AnyAddress, reason: str) -> SessionDown:
        if (tag := self._tags.pop(peer, None)) is not None:
            del self._peers[tag]
        for deaf in [tag for tag, each in self._deaf.items() if each == peer]:
            del self._deaf[deaf]
        return ended(peer, reason)

    def _line(self, text: bytes) -> Told | None:
        """A line of the API: one of JSON for an event, `done` or `error` for an answer."""
        if not text.startswith(b"{"):
            return Answer(text == b"done") if text in (b"done", b"error") else None
        report = _decode(text).neighbor
        if report is None:
            return None
        peer = ip_address(report.address.peer)
        if message := report.message:
            return self._message(peer, message)
        if report.state == "up":
            self._last_tag += 1
            return self._up(peer, self._opens.pop(peer, b""), self._last_tag)
        return self._down(peer, report.reason) if report.state == "down" else None

    def _message(self, peer: AnyAddress, message: _Message) -> Told | None:
        body = bytes.fromhex(message.body.removeprefix("0x"))
        if message.category == _UPDATE:
            return UpdatesReceived(peer, bytes.fromhex(message.header.removeprefix("0x")) + body)
        if message.category == _OPEN:
            self._opens[peer] = body
        return _refresh(peer, body) if message.category == _ROUTE_REFRESH else None


class _Addresses(msgspec.Struct):
    peer: str


class _Message(msgspec.Struct):
    category: int
    header: str
    body: str


class _Neighbor(msgspec.Struct):
    address: _Addresses
    state: str = ""
    reason: str = ""
    message: _Message | None = None


class _Report(msgspec.Struct):
    neighbor: _Neighbor | None = None


_decode = msgspec.json.Decoder(_Report).decode


def _refresh(peer: AnyAddress, body: bytes) -> RefreshReceived | None:
    asked = refresh(body)
    return RefreshReceived(peer, *asked) if asked else None


def ended(peer: AnyAddress, reason: str) -> SessionDown:
    """What ExaBGP's reason for a closed session means."""
    if match := _NOTIFICATION.match(reason):
        direction, code, subcode, data = match.groups()
        words = describe(int(code), int(subcode), bytes.fromhex(data or ""))
        return SessionDown(
            peer, Ending.NOTIFICATION, f"NOTIFICATION {direction}: {words}", code=int(code), subcode=int(subcode)
        )
    for beginning, words in _LOCAL.items():
        if reason.startswith(beginning):
            return SessionDown(peer, Ending.LOCAL, words)
    known = reason.removeprefix("closing connection: ") if reason != "closing connection" else ""
    return SessionDown(peer, Ending.CLOSED, known or "the connection was lost, or closed without NOTIFICATION")

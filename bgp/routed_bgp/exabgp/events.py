"""What ExaBGP says on its API: one line of JSON for an event, `done` or `error` for an answer."""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

from routed.errors import Bug
from routed.model.address import Address
from routed_bgp.notification import describe
from routed_bgp.speaker import Ending, SessionDown, UpdateReceived

_OPEN, _UPDATE = 1, 2  # message types, RFC 4271 section 4.1
_NOTIFICATION = re.compile(r"notification (sent|received) \((\d+),(\d+)\)")
_OURS = ("graceful restarted negotiated", "stop, message")  # we closed: settings changed, session removed, shutdown
_COLLISION = "closing outgoing connection"


@dataclass(frozen=True, slots=True)
class Established:
    """The session is up; the OPEN came before, as `Opened`."""

    peer: Address


@dataclass(frozen=True, slots=True)
class Opened:
    """The peer's OPEN, without its header. The session may still fail."""

    peer: Address
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of the answer to a command."""

    done: bool


Line = Established | Opened | SessionDown | UpdateReceived | Answer | None


class _Addresses(msgspec.Struct):
    peer: str


class _Message(msgspec.Struct):
    category: int
    body: str


class _Neighbor(msgspec.Struct):
    address: _Addresses
    state: str = ""
    reason: str = ""
    message: _Message | None = None


class _Report(msgspec.Struct):
    neighbor: _Neighbor | None = None


_decode = msgspec.json.Decoder(_Report).decode


def parse(line: bytes) -> Line:
    """What `line` tells; None when it is nothing to us. Raises Bug when it is not what ExaBGP 5.0.15 writes."""
    text = line.strip()
    if not text.startswith(b"{"):
        return Answer(text == b"done") if text in (b"done", b"error") else None
    try:
        report = _decode(text).neighbor
        if report is None:
            return None
        peer = Address(report.address.peer)
        if message := report.message:
            body = bytes.fromhex(message.body.removeprefix("0x"))
            if message.category == _UPDATE:
                return UpdateReceived(peer, body)
            return Opened(peer, body) if message.category == _OPEN else None
    except (msgspec.MsgspecError, ValueError) as error:
        raise Bug(f"ExaBGP's API: cannot read {text[:200]!r}: {error}") from error
    if report.state == "up":
        return Established(peer)
    return SessionDown(peer, *_ending(report.reason)) if report.state == "down" else None


def _ending(reason: str) -> tuple[Ending, str]:
    """What ExaBGP's reason for a closed session means."""
    if match := _NOTIFICATION.match(reason):
        direction, code, subcode = match.groups()
        return Ending.NOTIFICATION, f"NOTIFICATION {direction}: {describe(int(code), int(subcode))}"
    if reason.startswith(_OURS):
        return Ending.LOCAL, "closed by this node"
    if reason.startswith(_COLLISION):
        return Ending.LOCAL, "connection collision: the other connection goes on"
    return Ending.CLOSED, "connection refused, lost, or closed without NOTIFICATION"

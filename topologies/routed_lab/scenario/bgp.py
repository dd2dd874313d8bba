"""BGP messages out of captured packets, in words. Pure.

Written from the RFCs, not with the agent's own decoder, so that the report and what it reports on share no mistake:
RFC 4271 section 4 (messages), RFC 4760 (MP_REACH_NLRI, MP_UNREACH_NLRI), RFC 4724 section 2 (End-of-RIB), RFC 9293
(TCP).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final

_TCP, _PORT = 6, 179
_MARKER = b"\xff" * 16
_HEADER = 19
_LONGEST = 4096  # 65535 with RFC 8654, which nothing in a lab negotiates
_SYN = 0x02
_ATTRIBUTE_NEXT_HOP, _ATTRIBUTE_REACH, _ATTRIBUTE_UNREACH = 3, 14, 15
_IPV4_UNICAST = b"\x00\x01\x01"
_SHOWN: Final = 6  # prefixes of one message that are spelt out

KINDS: Final = {1: "OPEN", 2: "UPDATE", 3: "NOTIFICATION", 4: "KEEPALIVE", 5: "ROUTE-REFRESH"}

_ERRORS = {
    1: "message header error",
    2: "OPEN error",
    3: "UPDATE error",
    4: "hold timer expired",
    5: "finite state machine error",
    6: "cease",
}
_CEASE = {
    1: "maximum number of prefixes",
    2: "administrative shutdown",
    3: "peer de-configured",
    4: "administrative reset",
    5: "connection rejected",
    6: "other configuration change",
    7: "connection collision resolution",
    8: "out of resources",
    9: "hard reset",
    10: "BFD down",
}


@dataclass(frozen=True, slots=True)
class Said:
    """A message: who said it to whom, its kind (a value of KINDS) and what it says."""

    sender: IPv4Address
    receiver: IPv4Address
    kind: str
    text: str


@dataclass(slots=True)
class _Flow:
    """One direction of a connection: the sequence number that comes next, and the bytes of an unfinished message."""

    expected: int | None = None
    rest: bytearray = field(default_factory=bytearray)


class Listener:
    """Puts the packets of all connections together; feed it each packet once, in the order they were sent."""

    def __init__(self) -> None:
        self._flows: dict[bytes, _Flow] = {}

    def feed(self, packet: bytes) -> Iterator[Said]:
        """The messages that an IPv4 packet completes. What was sent again, or is no BGP, gives none."""
        if len(packet) < 40 or packet[0] >> 4 != 4 or packet[9] != _TCP:
            return
        header = (packet[0] & 15) * 4
        segment = packet[header : int.from_bytes(packet[2:4])]
        if len(segment) < 20:
            return
        source, destination, sequence = struct.unpack_from("!HHI", segment)
        if _PORT not in (source, destination):
            return
        flow = self._flows.setdefault(packet[12:20] + segment[:4], _Flow())
        if segment[13] & _SYN:
            flow.expected, flow.rest = (sequence + 1) & 0xFFFFFFFF, bytearray()
            return
        data = segment[(segment[12] >> 4) * 4 :]
        if flow.expected is not None:
            ahead = (sequence - flow.expected + 0x80000000) % 0x100000000 - 0x80000000
            if ahead > 0:  # something was never seen: begin anew where a message begins
                flow.rest.clear()
            elif ahead < 0:
                data = data[-ahead:]
                sequence = flow.expected
        if not data:
            return
        flow.expected = (sequence + len(data)) & 0xFFFFFFFF
        flow.rest += data
        sender, receiver = IPv4Address(packet[12:16]), IPv4Address(packet[16:20])
        for kind, body in _messages(flow.rest):
            yield Said(sender, receiver, KINDS.get(kind, f"type {kind}"), _text(kind, body))


def _messages(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Take the whole messages off the front of `buffer`; what is before the first marker is dropped."""
    while True:
        start = buffer.find(_MARKER)
        if start < 0:
            del buffer[: max(0, len(buffer) - len(_MARKER))]
            return
        del buffer[:start]
        if len(buffer) < _HEADER:
            return
        length = int.from_bytes(buffer[16:18])
        if not _HEADER <= length <= _LONGEST:
            del buffer[: len(_MARKER)]
            continue
        if len(buffer) < length:
            return
        kind, body = buffer[18], bytes(buffer[_HEADER:length])
        del buffer[:length]
        yield kind, body


def _text(kind: int, body: bytes) -> str:
    try:
        match kind:
            case 1:
                _, system, hold = struct.unpack_from("!BHH", body)
                return f"AS {system}, hold time {hold} s, router id {IPv4Address(body[5:9])}"
            case 2:
                return _update(body)
            case 3:
                return _notification(body)
            case _:
                return ""
    except (IndexError, ValueError, struct.error):
        return f"{len(body)} bytes that this report cannot read"


def _update(body: bytes) -> str:
    withdrawn_size = int.from_bytes(body[0:2])
    withdrawn = list(_prefixes(body[2 : 2 + withdrawn_size]))
    at = 2 + withdrawn_size
    size = int.from_bytes(body[at : at + 2])
    announced = list(_prefixes(body[at + 2 + size :]))
    next_hop = ""
    ended = not withdrawn and not announced and not size
    for code, value in _attributes(body[at + 2 : at + 2 + size]):
        if code == _ATTRIBUTE_NEXT_HOP:
            next_hop = str(IPv4Address(value))
        elif code == _ATTRIBUTE_REACH and value[:3] == _IPV4_UNICAST:
            next_hop = str(IPv4Address(value[4:8])) if value[3] == 4 else f"{value[3]} bytes"
            announced += _prefixes(value[5 + value[3] :])
        elif code == _ATTRIBUTE_UNREACH:
            if value[:3] == _IPV4_UNICAST:
                withdrawn += _prefixes(value[3:])
            ended = len(value) == 3
    if ended:
        return "End-of-RIB"
    said = [f"withdraws {_listed(withdrawn)}"] * bool(withdrawn)
    said += [f"announces {_listed(announced)} by {next_hop or 'no next hop'}"] * bool(announced)
    return "; ".join(said) or "of another address family"


def _notification(body: bytes) -> str:
    code, subcode = body[0], body[1]
    text = _ERRORS.get(code, f"code {code}")
    if code == 6 and subcode in _CEASE:
        return f"{text}: {_CEASE[subcode]}"
    return f"{text}, subcode {subcode}" if subcode else text


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        wide = 2 if data[at] & 0x10 else 1  # the flag "extended length"
        size = int.from_bytes(data[at + 2 : at + 2 + wide])
        begin = at + 2 + wide
        yield data[at + 1], data[begin : begin + size]
        at = begin + size


def _prefixes(data: bytes) -> Iterator[str]:
    at = 0
    while at < len(data):
        length = data[at]
        if length > 32:
            raise ValueError(f"a prefix of {length} bits")
        size = (length + 7) // 8
        if at + 1 + size > len(data):
            raise ValueError("a prefix that is cut short")
        yield f"{IPv4Address(data[at + 1 : at + 1 + size].ljust(4, bytes(1)))}/{length}"
        at += 1 + size


def _listed(prefixes: Iterable[str]) -> str:
    every = list(prefixes)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more

"""ICMP echoes with a token, written and read. Pure: bytes in, values out.

A token is unique per pair and round, so a packet says by itself which ping it belongs to, bare, inside protocol 4 or
inside VXLAN, wherever it is seen. Headers: RFC 791 section 3.1, RFC 792 (echo), RFC 2003 (IP in IP), RFC 768, RFC 7348
section 5 (VXLAN).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import StrEnum

_MAGIC = b"routed-lab:ping\0"
_ECHO = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence number
_TOKEN = struct.Struct("!8sII")  # the run, the round, the pair
_REQUEST, _REPLY = 8, 0
_ICMP, _IPIP, _UDP = 1, 4, 17
_VXLAN_PORT = 4789  # that of the agents of a lab, whose configuration has the default
_UDP_HEADER, _VXLAN_HEADER, _ETHERNET_HEADER = 8, 8, 14
_ETHERTYPE_IPV4 = b"\x08\x00"
_SHORTEST = 20


@dataclass(frozen=True, slots=True)
class Token:
    """Which ping: `run` is 8 random bytes of this checker, so that two checkers do not take each other's."""

    run: bytes
    round: int
    pair: int


class Wrapping(StrEnum):
    """What a packet travels in."""

    BARE = "bare"
    IPIP = "ipip"
    VXLAN = "vxlan"


@dataclass(frozen=True, slots=True)
class Echo:
    """An echo request or reply of ours, and what it travelled in."""

    token: Token
    reply: bool
    wrapping: Wrapping


@dataclass(frozen=True, slots=True)
class Sighting:
    """An echo seen on an interface of a node at `time`, in nanoseconds of the kernel's clock."""

    node: str
    interface: str
    time: int
    reply: bool
    wrapping: Wrapping


def request(token: Token) -> bytes:
    """The ICMP message of an echo request that carries `token`."""
    payload = _MAGIC + _TOKEN.pack(token.run, token.round, token.pair)
    header = _ECHO.pack(_REQUEST, 0, 0, token.pair & 0xFFFF, token.round & 0xFFFF)
    return _ECHO.pack(_REQUEST, 0, checksum(header + payload), token.pair & 0xFFFF, token.round & 0xFFFF) + payload


def checksum(data: bytes) -> int:
    """The Internet checksum, RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def parse(packet: bytes) -> Echo | None:
    """The echo of ours that an IPv4 packet holds, itself or one encapsulation down; None for any other packet."""
    if _MAGIC not in packet:  # most packets on the fabric are BGP: say no before looking closer
        return None
    found = _payload(packet)
    if found is None:
        return None
    protocol, payload = found
    wrapping = Wrapping.BARE
    if protocol != _ICMP:
        wrapping, inner = (Wrapping.IPIP, payload) if protocol == _IPIP else (Wrapping.VXLAN, _in_vxlan(found))
        found = _payload(inner)
        if found is None:
            return None
        protocol, payload = found
    if protocol != _ICMP or len(payload) < _ECHO.size + len(_MAGIC) + _TOKEN.size:
        return None
    kind, code, _, _, _ = _ECHO.unpack_from(payload)
    if kind not in (_REQUEST, _REPLY) or code or not payload.startswith(_MAGIC, _ECHO.size):
        return None
    return Echo(Token(*_TOKEN.unpack_from(payload, _ECHO.size + len(_MAGIC))), kind == _REPLY, wrapping)


def _in_vxlan(outer: tuple[int, bytes]) -> bytes:
    """The IPv4 packet inside a VXLAN packet, given as protocol and payload; empty where there is none."""
    protocol, payload = outer
    start = _UDP_HEADER + _VXLAN_HEADER + _ETHERNET_HEADER
    to_vxlan = protocol == _UDP and int.from_bytes(payload[2:4]) == _VXLAN_PORT
    return payload[start:] if to_vxlan and payload[start - 2 : start] == _ETHERTYPE_IPV4 else b""


def _payload(packet: bytes) -> tuple[int, bytes] | None:
    """Protocol and payload of an unfragmented IPv4 packet."""
    if len(packet) < _SHORTEST or packet[0] >> 4 != 4:
        return None
    header = (packet[0] & 0xF) * 4
    total = int.from_bytes(packet[2:4])
    fragment = int.from_bytes(packet[6:8]) & 0x3FFF  # the offset and the flag "more fragments"
    if header < _SHORTEST or not header <= total <= len(packet) or fragment:
        return None
    return packet[9], packet[header:total]

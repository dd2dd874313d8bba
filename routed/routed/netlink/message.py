"""Encode and decode netlink messages. Pure: bytes in, bytes out. Layouts are those of linux/rtnetlink.h."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from routed.model.address import AnyAddress
from routed.netlink.constants import Flag, Msg

HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: len, type, flags, seq, pid
IFINFO = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
IFADDR = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefixlen, flags, scope, index
RTMSG = struct.Struct("=BBBBBBBBI")  # struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags
NDMSG = struct.Struct("=BxxxiHBB")  # struct ndmsg: family, ifindex, state, flags, type
_ATTR = struct.Struct("=HH")
_U32 = struct.Struct("=I")
_NESTED = 0x8000
_TYPE_MASK = 0x3FFF

AF_INET = 2
AF_INET6 = 10
AF_BRIDGE = 7


@dataclass(frozen=True, slots=True)
class Message:
    """One netlink message: its type, flags, sequence number, what follows the header, and the sender's port.

    In an event `pid` is the port (`Netlink.port`) of the socket whose request caused it, 0 if the kernel itself did.
    """

    type: int
    flags: int
    seq: int
    body: bytes
    pid: int = 0


def pack(kind: Msg, flags: int, seq: int, body: bytes) -> bytes:
    """A whole message, ready to send; padded to 4 bytes."""
    return HEADER.pack(HEADER.size + len(body), kind, Flag.REQUEST | flags, seq, 0) + body + bytes(-len(body) % 4)


def unpack(datagram: bytes) -> Iterator[Message]:
    """The messages of one datagram, in order."""
    offset = 0
    while offset + HEADER.size <= len(datagram):
        length, kind, flags, seq, pid = HEADER.unpack_from(datagram, offset)
        if length < HEADER.size:
            return
        yield Message(kind, flags, seq, datagram[offset + HEADER.size : offset + length], pid)
        offset += (length + 3) & ~3


def attr(kind: int, payload: bytes) -> bytes:
    """One attribute, padded."""
    return _ATTR.pack(_ATTR.size + len(payload), kind) + payload + bytes(-len(payload) % 4)


def nest(kind: int, *inner: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attr(kind | _NESTED, b"".join(inner))


def u32(kind: int, value: int) -> bytes:
    """An attribute of one native 32-bit number."""
    return attr(kind, _U32.pack(value))


def text(kind: int, value: str) -> bytes:
    """An attribute of a NUL-terminated string."""
    return attr(kind, value.encode() + b"\0")


def ip(kind: int, value: AnyAddress) -> bytes:
    """An attribute of an address: which family it is of, the header says."""
    return attr(kind, value.packed)


def attrs(body: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes in `body` from `offset` on, by type; of a repeated type the last."""
    found: dict[int, bytes] = {}
    while offset + _ATTR.size <= len(body):
        length, kind = _ATTR.unpack_from(body, offset)
        if length < _ATTR.size:
            break
        found[kind & _TYPE_MASK] = body[offset + _ATTR.size : offset + length]
        offset += (length + 3) & ~3
    return found


def as_u32(value: bytes) -> int:
    """The number in an attribute."""
    number: int = _U32.unpack_from(value)[0]
    return number


def as_text(value: bytes) -> str:
    """The string in an attribute."""
    return value.rstrip(b"\0").decode(errors="replace")

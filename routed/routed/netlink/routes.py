"""Routes by the hundred thousand: bodies taken apart and put together without an object for each. Pure.

A node's table has many prefixes and few ways. So a body is split into its prefix, in wire form, and the rest, which
many share: what the rest means is worked out once. Writing is the reverse: one message as a template, repeated, with
the addresses put in by strided slices.
"""

from __future__ import annotations

import struct
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network

from routed.model.address import AnyPrefix, Family
from routed.model.nlri import OCTETS, Nlri, from_prefix, to_prefix
from routed.netlink.constants import RT_TABLE_MAIN, Flag, Msg, Rta
from routed.netlink.message import AF_INET, AF_INET6, HEADER, RTMSG, pack, u32
from routed.netlink.objects import RouteEntry

_ATTR = struct.Struct("=HH")
_TABLE_AT = RTMSG.size
_DESTINATION_AT = _TABLE_AT + 8
_ADDRESS_AT = _DESTINATION_AT + _ATTR.size
_REST_AT, _REST6_AT = _ADDRESS_AT + 4, _ADDRESS_AT + 16
_MAIN = u32(Rta.TABLE, RT_TABLE_MAIN)
_MAIN_AND_DESTINATION = _MAIN + _ATTR.pack(8, Rta.DST)
_MAIN_AND_DESTINATION6 = _MAIN + _ATTR.pack(20, Rta.DST)
_FAMILY6 = bytes((AF_INET6,))
_ENDS = tuple(_ADDRESS_AT + octets for octets in OCTETS)
_SEQ_AT = 8  # in struct nlmsghdr
_FLAGS_AT = 6
ANYWHERE: dict[Family, AnyPrefix] = {Family.IPV4: IPv4Network((0, 0)), Family.IPV6: IPv6Network((0, 0))}
"""What stands for any prefix of a family."""


def split(body: bytes) -> tuple[Nlri, bytes]:
    """The prefix of a route's body, and what is left: equal for all routes that differ in nothing else.

    The kernel writes table and destination first; where it ever does not, the rest is the whole body.
    """
    start = body[_TABLE_AT:_ADDRESS_AT]
    if start == _MAIN_AND_DESTINATION and body[0] == AF_INET:
        return body[1:2] + body[_ADDRESS_AT : _ENDS[body[1]]], body[2:_TABLE_AT] + body[_REST_AT:]
    if start == _MAIN_AND_DESTINATION6 and body[0] == AF_INET6:
        return body[1:2] + body[_ADDRESS_AT : _ENDS[body[1]]], _FAMILY6 + body[2:_TABLE_AT] + body[_REST6_AT:]
    return from_prefix(RouteEntry.unpack(body).destination), body


def alike(bodies: Iterable[bytes], family: Family) -> Iterator[tuple[RouteEntry, list[Nlri]]]:
    """The routes of `family` in `bodies`, those together that differ in nothing but the prefix: one entry, which has
    `ANYWHERE` as its destination, and the prefixes. Another order of attributes than the kernel's is understood too.
    """
    rest_at = _REST_AT if family is Family.IPV4 else _REST6_AT
    start = _MAIN_AND_DESTINATION if family is Family.IPV4 else _MAIN_AND_DESTINATION6
    anywhere = ANYWHERE[family]
    groups: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for body in bodies:
        groups[body[:_ADDRESS_AT] + body[rest_at:]].append(body)
    for key, group in groups.items():
        if key[_TABLE_AT:_ADDRESS_AT] != start:
            for body in group:
                entry = RouteEntry.unpack(body)
                yield replace(entry, destination=anywhere), [from_prefix(entry.destination)]
            continue
        length, end = key[1:2], _ENDS[key[1]]
        entry = replace(RouteEntry.unpack(group[0]), destination=anywhere)
        yield entry, [length + body[_ADDRESS_AT:end] for body in group]


class RouteReader:
    """Turns bodies into prefix and entry, the entry shared by all that differ in the prefix only."""

    def __init__(self) -> None:
        self._entries: dict[bytes, RouteEntry] = {}

    def read(self, body: bytes) -> tuple[Nlri, RouteEntry]:
        """The prefix, and the route with that of its family that is `ANYWHERE` in its place."""
        nlri, rest = split(body)
        entry = self._entries.get(rest)
        if entry is None:
            if len(self._entries) > 4096:  # bodies of many kinds: what is kept here must not grow for ever
                self._entries.clear()
            whole_entry = RouteEntry.unpack(body)
            anywhere = ANYWHERE[Family.of(whole_entry.destination)]
            entry = self._entries[rest] = replace(whole_entry, destination=anywhere)
        return nlri, entry


def whole(nlri: Nlri, entry: RouteEntry) -> RouteEntry:
    """The route that `RouteReader.read` took apart."""
    return replace(entry, destination=to_prefix(nlri, Family.of(entry.destination)))


@dataclass(frozen=True, slots=True)
class Template:
    """One message for many prefixes of one `length`."""

    message: bytes
    length: int

    @classmethod
    def of(cls, kind: Msg, flags: int, entry: RouteEntry, length: int) -> Template:
        """`entry` with any destination of `length`, of the family of the one it has."""
        destination = to_prefix(bytes((length,)), Family.of(entry.destination))
        message = pack(kind, flags, 0, replace(entry, destination=destination).pack())
        return cls(message, length)

    def fill(self, nlris: Sequence[Nlri], seq: int) -> bytearray:
        """One message for each of `nlris`, numbered from `seq`; the last asks for an acknowledgement."""
        size, octets = len(self.message), OCTETS[self.length]
        out = bytearray(self.message * len(nlris))
        wire = b"".join(nlris)
        for octet in range(octets):
            out[HEADER.size + _ADDRESS_AT + octet :: size] = wire[1 + octet :: 1 + octets]
        numbers = array("I", range(seq, seq + len(nlris))).tobytes()
        for octet in range(4):
            out[_SEQ_AT + octet :: size] = numbers[octet::4]
        out[len(out) - size + _FLAGS_AT] |= Flag.ACK
        return out

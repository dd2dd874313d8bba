"""The frames on the unix socket between the agent and the launcher; both ends use this module.

A frame is a head (kind, number of tags, length of the payload), the tags, and the payload. A tag is the number of one
established session, never used again: what is sent to a session that has ended meanwhile cannot reach the next one.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from ipaddress import ip_address

from routed.model.address import AnyAddress

_HEAD = struct.Struct("!BxHI")


class Kind(IntEnum):
    """What a frame carries; from the launcher unless said otherwise."""

    HELLO = 1  # payload: why it is the stock mode, empty with the seams
    LINE = 2  # a line of ExaBGP's API: an answer, in stock mode also JSON; from the agent: a command
    UP = 3  # one tag; address and OPEN
    DOWN = 4  # address and reason
    MESSAGES = 5  # UPDATEs of one session; from the agent: whole messages for the tagged sessions
    REFRESH = 6  # one tag; a ROUTE-REFRESH without its header


Frame = tuple[Kind, tuple[int, ...], bytes]


def pack(kind: Kind, payload: bytes | bytearray, tags: Sequence[int] = ()) -> bytes:
    """One frame."""
    return b"".join((_HEAD.pack(kind, len(tags), len(payload)), struct.pack(f"!{len(tags)}I", *tags), payload))


class Splitter:
    """Cuts a stream into frames."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes | bytearray | memoryview) -> list[Frame]:
        """The frames that `data` completes."""
        rest = self._rest
        rest += data
        at = 0
        frames: list[Frame] = []
        with memoryview(rest) as view:
            while len(rest) - at >= _HEAD.size:
                kind, count, length = _HEAD.unpack_from(rest, at)
                start = at + _HEAD.size + 4 * count
                if start + length > len(rest):
                    break
                tags = struct.unpack_from(f"!{count}I", rest, at + _HEAD.size)
                frames.append((Kind(kind), tags, bytes(view[start : start + length])))
                at = start + length
        del rest[:at]
        return frames


def pack_address(address: AnyAddress) -> bytes:
    """An address in front of something else: one octet of length, then its octets."""
    return bytes([len(address.packed)]) + address.packed


def split_address(payload: bytes) -> tuple[AnyAddress, bytes]:
    """The address in front, and what follows."""
    end = 1 + payload[0]
    return ip_address(payload[1:end]), payload[end:]

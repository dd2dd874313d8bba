"""Packets as a pcapng file (draft-ietf-opsawg-pcapng), each under the interface it left by. Pure: values in, bytes out.

One interface block per (node, interface), named NODE:INTERFACE, so that a reader such as Wireshark shows the place of
each packet. Packets begin with their IPv4 header (LINKTYPE_RAW).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_ORDER = 0x1A2B3C4D
_RAW = 101  # LINKTYPE_RAW
_NAME, _RESOLUTION = 2, 9  # options if_name, if_tsresol
_NANOSECONDS = 9


@dataclass(frozen=True, slots=True)
class Packet:
    """An IPv4 packet that left `node` by `interface` at `time`, in nanoseconds since the epoch."""

    time: int
    node: str
    interface: str
    data: bytes


def write(packets: Iterable[Packet]) -> Iterator[bytes]:
    """The file, piece by piece."""
    yield _block(_SECTION, struct.pack("<IHHq", _ORDER, 1, 0, -1))
    interfaces: dict[tuple[str, str], int] = {}
    for packet in packets:
        place = packet.node, packet.interface
        if place not in interfaces:
            interfaces[place] = len(interfaces)
            options = _option(_NAME, ":".join(place).encode()) + _option(_RESOLUTION, bytes([_NANOSECONDS]))
            yield _block(_INTERFACE, struct.pack("<HHI", _RAW, 0, 0) + options + _option(0, b""))
        header = struct.pack(
            "<IIIII",
            interfaces[place],
            packet.time >> 32,
            packet.time & 0xFFFFFFFF,
            len(packet.data),
            len(packet.data),
        )
        yield _block(_PACKET, header + _padded(packet.data))


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)

"""AS_PATH and AS4_PATH on the wire: RFC 4271 section 4.3, RFC 6793, RFC 7606 section 7.2, RFC 7607."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from routed.model.path import Segment

AS_TRANS = 23456  # stands for a number that does not fit in two octets, RFC 6793 section 9

_AS_SET, _AS_SEQUENCE = 1, 2
_CONFEDERATION = (3, 4)  # AS_CONFED_SEQUENCE, AS_CONFED_SET: of a confederation we are no part, RFC 5065 section 5
_LONGEST = 255  # numbers in a segment
_TWO_OCTETS = 0xFFFF


def decode(value: bytes, size: int) -> tuple[Segment, ...]:
    """The segments of an AS_PATH with numbers of `size` octets. Raises ValueError if it is malformed."""
    return _segments(value, size)


def decode_as4(value: bytes) -> tuple[Segment, ...]:
    """The segments of an AS4_PATH; those of a confederation do not count (RFC 6793 section 6). Raises ValueError."""
    if not value:
        raise ValueError("it is empty")
    return _segments(value, 4, passed_over=_CONFEDERATION)


def encode(segments: Sequence[Segment], size: int) -> bytes:
    """The wire form with numbers of `size` octets; AS_TRANS where one does not fit, long segments in several."""
    packed = bytearray()
    for segment in segments:
        numbers = segment.numbers
        if size == 2:
            numbers = tuple(number if number <= _TWO_OCTETS else AS_TRANS for number in numbers)
        for at in range(0, len(numbers), _LONGEST):
            part = numbers[at : at + _LONGEST]
            packed += bytes((_AS_SEQUENCE if segment.ordered else _AS_SET, len(part)))
            packed += struct.pack(f">{len(part)}{_format(size)}", *part)
    return bytes(packed)


def needs_four_octets(segments: Sequence[Segment]) -> bool:
    """Whether a number does not fit in two octets, so that AS4_PATH is needed too (RFC 6793 section 4.2.2)."""
    return any(number > _TWO_OCTETS for segment in segments for number in segment.numbers)


def merge(as_path: tuple[Segment, ...], as4_path: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """The whole path from AS_PATH, in which old speakers have prepended, and AS4_PATH, RFC 6793 section 4.2.3."""
    excess = sum(map(len, as_path)) - sum(map(len, as4_path))
    if excess < 0:
        return as_path
    leading: list[Segment] = []
    for segment in as_path:
        if excess <= 0:
            break
        numbers = segment.numbers[:excess] if segment.ordered else segment.numbers
        leading.append(Segment(segment.ordered, numbers))
        excess -= len(leading[-1])
    return (*leading, *as4_path)


def _segments(value: bytes, size: int, passed_over: tuple[int, ...] = ()) -> tuple[Segment, ...]:
    found: list[Segment] = []
    at, length = 0, len(value)
    while at < length:
        kind, count = value[at], value[at + 1] if at + 1 < length else 0
        end = at + 2 + count * size
        if not count or end > length:
            raise ValueError("a segment is empty or runs past the end")
        if kind in (_AS_SET, _AS_SEQUENCE):
            numbers = struct.unpack_from(f">{count}{_format(size)}", value, at + 2)
            if 0 in numbers:
                raise ValueError("AS 0")  # RFC 7607 section 2
            found.append(Segment(kind == _AS_SEQUENCE, numbers))
        elif kind not in passed_over:
            raise ValueError(f"segment of type {kind}")
        at = end
    return tuple(found)


def _format(size: int) -> str:
    return "I" if size == 4 else "H"

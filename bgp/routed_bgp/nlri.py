"""Prefixes as they are on the wire (RFC 4271 section 4.3, RFC 4760 section 5), which is also how the RIBs hold them.

An `Nlri` is a length octet and as few octets as hold that many bits, the bits beyond being zero: unique within a
family, small, and hashed at the speed of bytes. A field in which all have one length is taken apart by `struct` (25 ns
each), any other by a regular expression (150 ns); a loop, which takes 600, is left with what is not canonical.
"""

from __future__ import annotations

import re
import struct
from ipaddress import IPv6Network

from routed.model import nlri as ipv4
from routed.model.address import AnyPrefix, Family
from routed.model.nlri import Nlri, from_prefix

__all__ = ["MalformedNlri", "Nlri", "canonical", "from_prefix", "split", "split_add_path", "to_prefix", "unicast"]

_PATH_ID = 4  # octets, RFC 7911 section 3
_UNICAST = {b"\0\1\1": Family.IPV4, b"\0\2\1": Family.IPV6}  # by AFI and SAFI


class MalformedNlri(ValueError):  # noqa: N818  what it is, and whose
    """A field of prefixes that cannot be taken apart, RFC 7606 section 5.3."""


def unicast(afi_safi: bytes) -> Family | None:
    """The family of two octets AFI and one octet SAFI; None if it is none of ours."""
    return _UNICAST.get(afi_safi)


def split(data: bytes, family: Family) -> list[Nlri]:
    """The prefixes of an NLRI field, in order; bits beyond a length are cleared. Raises MalformedNlri."""
    if data and _SIZES[family][data[0]] == len(data) and not data[-1] & _BEYOND[data[0]]:
        return [data]  # most UPDATEs have one
    return _split(data, family, 0, _TOKENS)


def split_add_path(data: bytes, family: Family) -> list[bytes]:
    """The same with four octets of path identifier in front of every prefix, RFC 7911 section 3, which remain there."""
    return _split(data, family, _PATH_ID, _ADD_PATH_TOKENS)


def to_prefix(nlri: Nlri, family: Family) -> AnyPrefix:
    """Decode one prefix."""
    if family is Family.IPV4:
        return ipv4.to_prefix(nlri)
    return IPv6Network((int.from_bytes(nlri[1:].ljust(16, b"\0")), nlri[0]))


def canonical(last_octets: bytes, length: int) -> bool:
    """Whether no bit is set beyond `length` in any of what are the last octets of prefixes so long."""
    return not _BEYOND[length] or not last_octets.translate(None, _CANONICAL[length % 8])


def _split(data: bytes, family: Family, ahead: int, tokens: dict[Family, re.Pattern[bytes]]) -> list[bytes]:
    """Take `data` apart into items of `ahead` octets and a prefix."""
    if len(data) > ahead and data[ahead] <= family.bits:
        length = data[ahead]
        size = ahead + _SIZES[family][length]
        count, rest = divmod(len(data), size)
        # by induction: the first item ends where the second begins, whose length octet is the same, and so on
        alike = not rest and data[ahead::size] == data[ahead : ahead + 1] * count
        if alike and canonical(data[size - 1 :: size], length):
            return list(struct.unpack(f"{size}s" * count, data))
    found: list[bytes] = tokens[family].findall(data)
    if sum(map(len, found)) == len(data):  # what the expression did not match was skipped, and is missed here
        return found
    return _split_slowly(data, family, ahead)


def _split_slowly(data: bytes, family: Family, ahead: int) -> list[bytes]:
    """What the expressions do for canonical prefixes, for all, and with the reason of a failure."""
    found: list[bytes] = []
    at = 0
    while at < len(data):
        length = data[at + ahead] if at + ahead < len(data) else 0
        end = at + ahead + _SIZES[family][length]
        if length > family.bits:
            raise MalformedNlri(f"prefix length {length} at octet {at + ahead}, expected at most {family.bits}")
        if end > len(data):
            raise MalformedNlri(f"the prefix at octet {at} runs past the end, at octet {len(data)}")
        found.append(data[at : end - 1] + bytes([data[end - 1] & ~_BEYOND[length]]) if length else data[at:end])
        at = end
    return found


def _sizes(family: Family) -> tuple[int, ...]:
    """For each value of the length octet, how many octets the prefix has with it; 0 where no prefix is so long."""
    return tuple(1 + (length + 7) // 8 if length <= family.bits else 0 for length in range(256))


def _pattern(family: Family, ahead: int) -> re.Pattern[bytes]:
    """An expression that matches one canonical prefix, common lengths first: alternatives are tried in order."""
    common = (26, 24, 32) if family is Family.IPV4 else (122, 64, 128, 48)
    lengths = (*common, *(length for length in range(family.bits, -1, -1) if length not in common))
    return re.compile(b"." * ahead + b"(?:" + b"|".join(map(_one_length, lengths)) + b")", re.DOTALL)


def _one_length(length: int) -> bytes:
    whole, bits = divmod(length, 8)
    choice = b"[" + b"".join(b"\\x%02x" % value for value in _CANONICAL[bits]) + b"]" if bits else b""
    return b"\\x%02x" % length + b"." * whole + choice


_CANONICAL = tuple(bytes(range(0, 256, 1 << (8 - bits))) for bits in range(8))  # last octets that have so many bits
_SIZES = {family: _sizes(family) for family in Family}
_BEYOND = tuple(0xFF >> (length % 8) if length % 8 else 0 for length in range(256))  # in the last octet; 0 for length 0
_TOKENS = {family: _pattern(family, 0) for family in Family}
_ADD_PATH_TOKENS = {family: _pattern(family, _PATH_ID) for family in Family}

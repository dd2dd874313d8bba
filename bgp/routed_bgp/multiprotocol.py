"""MP_REACH_NLRI and MP_UNREACH_NLRI: RFC 4760; next hops RFC 2545 and RFC 8950; errors RFC 7606 sections 3, 5 and 7.11.

What cannot be parsed here may hide prefixes, and resets the session.
"""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import NamedTuple

from routed.model.address import Address, AnyAddress, Family
from routed_bgp.attributes import EXTENDED_LENGTH, FLAGS, OPTIONAL, TRANSITIVE, Attribute, name
from routed_bgp.dialect import Dialect
from routed_bgp.nlri import unicast
from routed_bgp.notification import SessionReset

_BOTH = (Attribute.MP_REACH_NLRI, Attribute.MP_UNREACH_NLRI)
_IPV6_LENGTHS = (16, 32)  # a global address, and perhaps a link-local one, RFC 2545 section 3


class Cut(NamedTuple):
    """A block of attributes taken apart: the values of these two, None if absent, and the `rest` in order.

    `error` says why the prefixes are to be treated as withdrawn.
    """

    rest: bytes
    reach: bytes | None
    unreach: bytes | None
    error: str


class Routes(NamedTuple):
    """A field of prefixes; `family` is None if it was not agreed.

    `header` is what stands before them in MP_REACH_NLRI or MP_UNREACH_NLRI, without the reserved octet; the fields of
    RFC 4271 have none.
    """

    family: Family | None
    header: bytes
    nlri: bytes


def cut(block: bytes) -> Cut:
    """Take the two out of `block`; whatever else is in it, and wrong, is left in the rest."""
    found: dict[int, bytes] = {}
    rest, copied, at = b"", 0, 0
    error = ""
    while at + 3 <= len(block):
        flags, code = block[at], block[at + 1]
        start = at + (4 if flags & EXTENDED_LENGTH else 3)
        end = start + int.from_bytes(block[at + 2 : start])
        if start > len(block) or end > len(block):
            break
        if code in _BOTH:
            if code in found:
                raise SessionReset(f"malformed UPDATE: {name(code)} occurs twice", 3, 1)  # RFC 7606 section 3 g
            if (flags ^ FLAGS[code]) & (OPTIONAL | TRANSITIVE):  # RFC 7606 section 3 c
                error = error or f"{name(code)} has flags {flags:#04x}, expected {FLAGS[code]:#04x}"
            found[code] = block[start:end]
            rest += block[copied:at]
            copied = end
        at = end
    if at + 1 < len(block) and block[at + 1] in _BOTH:  # RFC 7606 section 3 j
        raise SessionReset(f"malformed UPDATE: {name(block[at + 1])} runs past the end of the attributes", 3, 5)
    return Cut(rest + block[copied:], found.get(_BOTH[0]), found.get(_BOTH[1]), error)


def reach(value: bytes, dialect: Dialect) -> Routes:
    """Take an MP_REACH_NLRI apart: AFI, SAFI, length and octets of the next hop, a reserved octet, prefixes."""
    end = 4 + value[3] if len(value) > 3 else 4
    if end >= len(value):
        raise SessionReset(f"malformed UPDATE: MP_REACH_NLRI ends inside its header, after {len(value)} octets", 3, 9)
    family = unicast(value[:3])
    if family is None or family not in dialect.families:
        return Routes(None, value[:end], value[end + 1 :])
    ipv4 = family is Family.IPV4
    if not (value[3] in _IPV6_LENGTHS and (dialect.extended_next_hop or not ipv4)) and not (
        value[3] == 4 and ipv4
    ):  # RFC 7606 section 7.11: where the prefixes begin is not known
        raise SessionReset(f"malformed UPDATE: next hop of {value[3]} octets for {family.name}", 3, 9)
    return Routes(family, value[:end], value[end + 1 :])


def unreach(value: bytes, dialect: Dialect) -> Routes:
    """Take an MP_UNREACH_NLRI apart: AFI, SAFI, prefixes."""
    if len(value) < 3:
        raise SessionReset(f"malformed UPDATE: MP_UNREACH_NLRI ends inside its header, after {len(value)} octets", 3, 9)
    family = unicast(value[:3])
    return Routes(family if family in dialect.families else None, value[:3], value[3:])


def next_hop(header: bytes) -> AnyAddress:
    """The next hop in a header whose length is right; the link-local one where a router has no other."""
    if header[3] == 4:
        return Address(header[4:8])
    shared = IPv6Address(header[4:20])
    return IPv6Address(header[20:36]) if header[3] == 32 and shared.is_unspecified else shared

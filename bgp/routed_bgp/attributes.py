"""Path attributes: RFC 4271 sections 4.3 and 5, and what RFC 7606 wants done when one is malformed.

MP_REACH_NLRI and MP_UNREACH_NLRI are not among those here: they are prefixes more than attributes, see `multiprotocol`.
Unknown well-known attributes reset the session (RFC 4271 section 6.3, which RFC 7606 leaves as it is). Whatever else is
wrong is told by the `Block`, with what is right.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

import msgspec

from routed.model.address import Address, AnyAddress
from routed.model.path import Origin, Segment, Unknown
from routed_bgp import as_path
from routed_bgp.as_path import AS_TRANS
from routed_bgp.dialect import Dialect
from routed_bgp.notification import SessionReset

OPTIONAL, TRANSITIVE, PARTIAL, EXTENDED_LENGTH = 0x80, 0x40, 0x20, 0x10


class Attribute(IntEnum):
    """Path attribute type codes that the codec knows, IANA "BGP Path Attributes"."""

    ORIGIN = 1
    AS_PATH = 2
    NEXT_HOP = 3
    MULTI_EXIT_DISC = 4
    LOCAL_PREF = 5
    ATOMIC_AGGREGATE = 6
    AGGREGATOR = 7
    COMMUNITIES = 8
    ORIGINATOR_ID = 9
    CLUSTER_LIST = 10
    MP_REACH_NLRI = 14
    MP_UNREACH_NLRI = 15
    EXTENDED_COMMUNITIES = 16
    AS4_PATH = 17
    AS4_AGGREGATOR = 18
    IPV6_EXTENDED_COMMUNITIES = 25
    LARGE_COMMUNITIES = 32


FLAGS: dict[int, int] = {
    Attribute.ORIGIN: TRANSITIVE,
    Attribute.AS_PATH: TRANSITIVE,
    Attribute.NEXT_HOP: TRANSITIVE,
    Attribute.MULTI_EXIT_DISC: OPTIONAL,
    Attribute.LOCAL_PREF: TRANSITIVE,
    Attribute.ATOMIC_AGGREGATE: TRANSITIVE,
    Attribute.AGGREGATOR: OPTIONAL | TRANSITIVE,
    Attribute.COMMUNITIES: OPTIONAL | TRANSITIVE,
    Attribute.ORIGINATOR_ID: OPTIONAL,
    Attribute.CLUSTER_LIST: OPTIONAL,
    Attribute.MP_REACH_NLRI: OPTIONAL,
    Attribute.MP_UNREACH_NLRI: OPTIONAL,
    Attribute.EXTENDED_COMMUNITIES: OPTIONAL | TRANSITIVE,
    Attribute.AS4_PATH: OPTIONAL | TRANSITIVE,
    Attribute.AS4_AGGREGATOR: OPTIONAL | TRANSITIVE,
    Attribute.IPV6_EXTENDED_COMMUNITIES: OPTIONAL | TRANSITIVE,
    Attribute.LARGE_COMMUNITIES: OPTIONAL | TRANSITIVE,
}
# RFC 7606 sections 7.5, 7.9 and 7.10: from an external neighbour these are ignored, malformed or not
_INTERNAL_ONLY = frozenset({Attribute.LOCAL_PREF, Attribute.ORIGINATOR_ID, Attribute.CLUSTER_LIST})
_FOR_OLD_SPEAKERS = frozenset({Attribute.AS4_PATH, Attribute.AS4_AGGREGATOR})
_MANDATORY = frozenset({Attribute.ORIGIN, Attribute.AS_PATH})  # and a next hop, of one attribute or another
_ORIGINS = tuple(Origin)


class Attributes(msgspec.Struct, frozen=True, gc=False):
    """The path attributes of an UPDATE, as the peer sent them (its LOCAL_PREF, not ours).

    AS numbers are the real ones, whether or not the peer could write them (RFC 6793). AGGREGATOR is in `unknown` in its
    eight-octet form, with the others that mean nothing to us. A struct for the reasons that `Path` is one.
    """

    origin: Origin
    as_path: tuple[Segment, ...]
    next_hop: AnyAddress
    med: int | None = None
    local_pref: int | None = None
    communities: tuple[int, ...] = ()
    large_communities: tuple[tuple[int, int, int], ...] = ()
    originator_id: Address | None = None
    cluster_list: tuple[Address, ...] = ()
    unknown: tuple[Unknown, ...] = ()
    atomic_aggregate: bool = False

    @property
    def as_numbers(self) -> tuple[int, ...]:
        """All numbers of the AS path, nearest first."""
        return tuple(number for segment in self.as_path for number in segment.numbers)

    @property
    def as_path_length(self) -> int:
        """RFC 4271 section 9.1.2.2 a: an AS_SET counts as one."""
        return sum(len(segment) for segment in self.as_path)


class Block(msgspec.Struct, frozen=True, gc=False):
    """What the attributes of an UPDATE come to.

    `error` says why its prefixes are to be treated as withdrawn, `missing` the same for want of a mandatory attribute,
    which only prefixes need; there are no `attributes` with either. `faults` are the attributes discarded.
    """

    attributes: Attributes | None
    error: str = ""
    missing: str = ""
    faults: tuple[str, ...] = ()


class _TreatAsWithdraw(Exception):  # noqa: N818  named after the RFC's term; never leaves this module
    """RFC 7606 section 2, treat-as-withdraw."""


class _DiscardAttribute(Exception):  # noqa: N818  likewise
    """RFC 7606 section 2, attribute discard."""


@dataclass(slots=True)
class _Fields:
    """Attributes as far as they are decoded."""

    dialect: Dialect
    next_hop: AnyAddress | None
    seen: set[int] = field(default_factory=set[int])
    origin: Origin = Origin.INCOMPLETE
    as_path: tuple[Segment, ...] = ()
    as4_path: tuple[Segment, ...] = ()
    med: int | None = None
    local_pref: int | None = None
    atomic_aggregate: bool = False
    aggregator: bytes = b""
    as4_aggregator: bytes = b""
    communities: tuple[int, ...] = ()
    large_communities: tuple[tuple[int, int, int], ...] = ()
    originator_id: Address | None = None
    cluster_list: tuple[Address, ...] = ()
    unknown: list[Unknown] = field(default_factory=list[Unknown])


def decode(block: bytes, dialect: Dialect, next_hop: AnyAddress | None = None) -> Block:
    """Decode the attributes of an UPDATE, without MP_REACH_NLRI and MP_UNREACH_NLRI.

    With `next_hop`, the one of MP_REACH_NLRI, the attribute NEXT_HOP is not needed, and ignored (RFC 4760 section 3).
    Raises SessionReset.
    """
    fields = _Fields(dialect, next_hop)
    faults: dict[str, None] = {}  # a peer can make the same mistake a thousand times in one message
    error = _walk(block, fields, faults)
    if next_hop is not None and not _is_host(next_hop.packed):
        error = error or f"next hop {next_hop} is no address of a host"
    if error:
        return Block(None, error=error, faults=tuple(faults))
    if fields.next_hop is None or not fields.seen >= _MANDATORY:  # RFC 7606 section 3 d
        missing = [code.name for code in sorted(_MANDATORY - fields.seen)]
        missing += [Attribute.NEXT_HOP.name] if fields.next_hop is None else []
        return Block(None, missing=f"mandatory {', '.join(missing)} missing", faults=tuple(faults))
    return Block(_attributes(fields, fields.next_hop), faults=tuple(faults))


def single(raw: bytes, dialect: Dialect, field_name: str) -> object:
    """What one attribute, header included, gives the field `field_name`; None if there is anything wrong with it."""
    fields = _Fields(dialect, None)
    try:
        _decode_attribute(raw[0], raw[1], raw[3:], fields)
    except (_DiscardAttribute, _TreatAsWithdraw):
        return None
    if dialect.ebgp and raw[1] in _INTERNAL_ONLY:  # ignored
        return None
    found: object = getattr(fields, field_name)
    return found


def name(code: int) -> str:
    """The name of an attribute, as far as it has one here."""
    try:
        return Attribute(code).name
    except ValueError:
        return f"attribute {code}"


def _attributes(fields: _Fields, next_hop: AnyAddress) -> Attributes:
    """Join what was decoded, RFC 6793 section 4.2.3."""
    path, aggregator = fields.as_path, fields.aggregator
    if len(aggregator) == 6:
        number = int.from_bytes(aggregator[:2])
        aggregator = number.to_bytes(4) + aggregator[2:]
        if fields.as4_aggregator and number != AS_TRANS:  # an old speaker aggregated: AS4_PATH is of no use either
            fields.as4_path = ()
        elif fields.as4_aggregator:
            aggregator = fields.as4_aggregator
    if aggregator:
        fields.unknown.append(Unknown(Attribute.AGGREGATOR, aggregator))
    return Attributes(
        origin=fields.origin,
        as_path=as_path.merge(path, fields.as4_path) if fields.as4_path else path,
        next_hop=next_hop,
        med=fields.med,
        local_pref=fields.local_pref,
        communities=fields.communities,
        large_communities=fields.large_communities,
        originator_id=fields.originator_id,
        cluster_list=fields.cluster_list,
        unknown=tuple(sorted(fields.unknown, key=lambda unknown: unknown.code)) if fields.unknown else (),
        atomic_aggregate=fields.atomic_aggregate,
    )


def _walk(block: bytes, fields: _Fields, faults: dict[str, None]) -> str:
    """Decode one attribute after the other, RFC 7606 sections 3 and 4; what is wrong with them, nothing if "".

    It goes on behind an error: a later one may be of the session-reset class.
    """
    at, size, seen = 0, len(block), fields.seen
    error = ""
    while at < size:
        flags = block[at]
        start = at + (4 if flags & EXTENDED_LENGTH else 3)
        if start > size:
            return error or "the attributes end inside an attribute's header"
        code = block[at + 1]
        end = start + (block[at + 2] << 8 | block[at + 3] if flags & EXTENDED_LENGTH else block[at + 2])
        if end > size:
            return error or f"{name(code)} runs past the end of the attributes"
        value = block[start:end]
        at = end
        if code in seen:
            faults[f"{name(code)} occurs twice: the first counts"] = None  # RFC 7606 section 3 g
            continue
        seen.add(code)
        try:
            _decode_attribute(flags, code, value, fields)
        except _DiscardAttribute as discarded:
            faults[str(discarded)] = None
        except _TreatAsWithdraw as problem:
            error = error or str(problem)
    return error


def _decode_attribute(flags: int, code: int, value: bytes, fields: _Fields) -> None:
    expected = FLAGS.get(code)
    if expected is None:
        if not flags & OPTIONAL:
            raise SessionReset(f"malformed UPDATE: well-known {name(code)} is not known", 3, 2)
        if flags & TRANSITIVE:
            fields.unknown.append(Unknown(code, value))
        return
    if fields.dialect.ebgp and code in _INTERNAL_ONLY:
        return
    if fields.dialect.asn4 and code in _FOR_OLD_SPEAKERS:  # RFC 6793 section 4.1
        raise _DiscardAttribute(f"{name(code)} from a peer with four-octet AS numbers")
    if (flags ^ expected) & (OPTIONAL | TRANSITIVE):  # RFC 7606 section 3 c
        raise _TreatAsWithdraw(f"{name(code)} has flags {flags:#04x}, expected {expected:#04x}")
    _DECODERS[code](value, fields)


def _origin(value: bytes, fields: _Fields) -> None:
    """RFC 7606 section 7.1."""
    if len(value) != 1 or value[0] >= len(_ORIGINS):
        raise _TreatAsWithdraw(f"ORIGIN is {value[:8].hex() or 'empty'}, expected 00, 01 or 02")
    fields.origin = _ORIGINS[value[0]]


def _as_path(value: bytes, fields: _Fields) -> None:
    """RFC 7606 section 7.2."""
    try:
        fields.as_path = as_path.decode(value, 4 if fields.dialect.asn4 else 2)
    except ValueError as error:
        raise _TreatAsWithdraw(f"AS_PATH is malformed: {error}") from None


def _as4_path(value: bytes, fields: _Fields) -> None:
    """RFC 6793 section 6."""
    try:
        fields.as4_path = as_path.decode_as4(value)
    except ValueError as error:
        raise _DiscardAttribute(f"AS4_PATH is malformed: {error}") from None


def _next_hop(value: bytes, fields: _Fields) -> None:
    """RFC 7606 section 7.3 (length); RFC 4271 section 6.3 (an address that no host can have)."""
    if fields.next_hop is not None:
        return
    _sized(value, Attribute.NEXT_HOP, 4)
    fields.next_hop = Address(value)
    if not _is_host(value):
        raise _TreatAsWithdraw(f"NEXT_HOP {fields.next_hop} is no address of a host")


def _med(value: bytes, fields: _Fields) -> None:
    """RFC 7606 section 7.4."""
    fields.med = int.from_bytes(_sized(value, Attribute.MULTI_EXIT_DISC, 4))


def _local_pref(value: bytes, fields: _Fields) -> None:
    """RFC 7606 section 7.5, internal neighbour."""
    fields.local_pref = int.from_bytes(_sized(value, Attribute.LOCAL_PREF, 4))


def _atomic_aggregate(value: bytes, fields: _Fields) -> None:
    """RFC 7606 section 7.6."""
    if value:
        raise _DiscardAttribute(f"ATOMIC_AGGREGATE has {len(value)} octets, expected none")
    fields.atomic_aggregate = True


def _aggregator(value: bytes, fields: _Fields) -> None:
    """RFC 7606 section 7.7, RFC 7607 section 2."""
    fields.aggregator = _aggregated(value, Attribute.AGGREGATOR, 8 if fields.dialect.asn4 else 6)


def _as4_aggregator(value: bytes, fields: _Fields) -> None:
    """RFC 6793 section 6."""
    fields.as4_aggregator = _aggregated(value, Attribute.AS4_AGGREGATOR, 8)


def _aggregated(value: bytes, code: Attribute, size: int) -> bytes:
    if len(value) != size or not any(value[:-4]):
        raise _DiscardAttribute(
            f"{code.name} is {value[:8].hex() or 'empty'}, expected {size} octets with an AS number"
        )
    return value


def _communities(value: bytes, fields: _Fields) -> None:
    """RFC 7606 section 7.8."""
    _multiple(value, Attribute.COMMUNITIES, 4)
    fields.communities = struct.unpack(f">{len(value) // 4}I", value)


def _originator_id(value: bytes, fields: _Fields) -> None:
    """RFC 7606 section 7.9, internal neighbour."""
    fields.originator_id = Address(_sized(value, Attribute.ORIGINATOR_ID, 4))


def _cluster_list(value: bytes, fields: _Fields) -> None:
    """RFC 7606 section 7.10, internal neighbour."""
    _multiple(value, Attribute.CLUSTER_LIST, 4)
    fields.cluster_list = tuple(Address(value[at : at + 4]) for at in range(0, len(value), 4))


def _extended_communities(value: bytes, fields: _Fields) -> None:
    """RFC 7606 section 7.14."""
    _multiple(value, Attribute.EXTENDED_COMMUNITIES, 8)
    fields.unknown.append(Unknown(Attribute.EXTENDED_COMMUNITIES, value))


def _ipv6_extended_communities(value: bytes, fields: _Fields) -> None:
    """RFC 7606 section 7.15."""
    _multiple(value, Attribute.IPV6_EXTENDED_COMMUNITIES, 20)
    fields.unknown.append(Unknown(Attribute.IPV6_EXTENDED_COMMUNITIES, value))


def _large_communities(value: bytes, fields: _Fields) -> None:
    """RFC 8092 section 6; the same value twice is once (section 5)."""
    _multiple(value, Attribute.LARGE_COMMUNITIES, 12)
    rows: dict[tuple[int, int, int], None] = dict.fromkeys(struct.iter_unpack(">III", value))
    fields.large_communities = tuple(rows)


def _is_host(address: bytes) -> bool:
    """Whether a host can have `address`, RFC 4271 section 6.3."""
    if len(address) == 4:
        return address[0] not in (0, 127) and address[0] < 224
    return address[0] != 0xFF and (any(address[:15]) or address[15] > 1)


def _sized(value: bytes, code: Attribute, size: int) -> bytes:
    if len(value) != size:
        raise _TreatAsWithdraw(f"{code.name} has {len(value)} octets, expected {size}")
    return value


def _multiple(value: bytes, code: Attribute, size: int) -> None:
    if not value or len(value) % size:
        raise _TreatAsWithdraw(f"{code.name} has {len(value)} octets, expected a multiple of {size}")


_DECODERS: dict[int, Callable[[bytes, _Fields], None]] = {
    Attribute.ORIGIN: _origin,
    Attribute.AS_PATH: _as_path,
    Attribute.NEXT_HOP: _next_hop,
    Attribute.MULTI_EXIT_DISC: _med,
    Attribute.LOCAL_PREF: _local_pref,
    Attribute.ATOMIC_AGGREGATE: _atomic_aggregate,
    Attribute.AGGREGATOR: _aggregator,
    Attribute.COMMUNITIES: _communities,
    Attribute.ORIGINATOR_ID: _originator_id,
    Attribute.CLUSTER_LIST: _cluster_list,
    Attribute.EXTENDED_COMMUNITIES: _extended_communities,
    Attribute.AS4_PATH: _as4_path,
    Attribute.AS4_AGGREGATOR: _as4_aggregator,
    Attribute.IPV6_EXTENDED_COMMUNITIES: _ipv6_extended_communities,
    Attribute.LARGE_COMMUNITIES: _large_communities,
}

"""UPDATE messages, IPv4 unicast: RFC 4271 section 4.3, four-octet AS numbers of RFC 6793, errors of RFC 7606.

An error in an UPDATE has one of three consequences (RFC 7606 section 2). *Session reset* is raised as `PeerError`.
*Treat-as-withdraw* turns every announced prefix into a withdrawn one. *Attribute discard* goes on without the
attribute. The last two leave a sentence in `Update.faults`. No other exception leaves this module, whatever the bytes.

Routes of other families (MP_REACH_NLRI, MP_UNREACH_NLRI) are passed over: we do not offer those families.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

from routed.errors import PeerError
from routed.model.address import Address, Prefix
from routed.model.path import Origin
from routed_bgp.notification import describe

_OPTIONAL, _TRANSITIVE, _EXTENDED_LENGTH = 0x80, 0x40, 0x10
_AS_SET, _AS_SEQUENCE = 1, 2
_AS_TRANS = 23456  # stands for a number that does not fit in two octets, RFC 6793 section 9
_MASKS = tuple((0xFFFFFFFF << (32 - length)) & 0xFFFFFFFF for length in range(33))


class Attribute(IntEnum):
    """Path attribute type codes that this module knows, IANA "BGP Path Attributes"."""

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
    LARGE_COMMUNITIES = 32


_WELL_KNOWN = _TRANSITIVE
_NON_TRANSITIVE = _OPTIONAL
_FLAGS: dict[int, int] = {
    Attribute.ORIGIN: _WELL_KNOWN,
    Attribute.AS_PATH: _WELL_KNOWN,
    Attribute.NEXT_HOP: _WELL_KNOWN,
    Attribute.MULTI_EXIT_DISC: _NON_TRANSITIVE,
    Attribute.LOCAL_PREF: _WELL_KNOWN,
    Attribute.ATOMIC_AGGREGATE: _WELL_KNOWN,
    Attribute.AGGREGATOR: _OPTIONAL | _TRANSITIVE,
    Attribute.COMMUNITIES: _OPTIONAL | _TRANSITIVE,
    Attribute.ORIGINATOR_ID: _NON_TRANSITIVE,
    Attribute.CLUSTER_LIST: _NON_TRANSITIVE,
    Attribute.MP_REACH_NLRI: _NON_TRANSITIVE,
    Attribute.MP_UNREACH_NLRI: _NON_TRANSITIVE,
    Attribute.EXTENDED_COMMUNITIES: _OPTIONAL | _TRANSITIVE,
    Attribute.AS4_PATH: _OPTIONAL | _TRANSITIVE,
    Attribute.AS4_AGGREGATOR: _OPTIONAL | _TRANSITIVE,
    Attribute.LARGE_COMMUNITIES: _OPTIONAL | _TRANSITIVE,
}
_MANDATORY = (Attribute.ORIGIN, Attribute.AS_PATH, Attribute.NEXT_HOP)  # with NLRI, RFC 4271 section 5
# RFC 7606 sections 7.5, 7.9 and 7.10: from an external neighbour these are ignored, malformed or not
_INTERNAL_ONLY = (Attribute.LOCAL_PREF, Attribute.ORIGINATOR_ID, Attribute.CLUSTER_LIST)


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of AS numbers: an AS_SEQUENCE, or, where `ordered` is False, an AS_SET."""

    ordered: bool
    numbers: tuple[int, ...]

    def __len__(self) -> int:
        """How much it counts in the AS path's length, RFC 4271 section 9.1.2.2 a."""
        return len(self.numbers) if self.ordered else 1


@dataclass(frozen=True, slots=True)
class Attributes:
    """The path attributes of one UPDATE, as the peer sent them (its LOCAL_PREF, not ours)."""

    origin: Origin
    as_path: tuple[Segment, ...]
    next_hop: Address
    med: int | None = None
    local_pref: int | None = None
    communities: tuple[int, ...] = ()

    @property
    def as_numbers(self) -> tuple[int, ...]:
        """All numbers of the AS path, nearest first."""
        return tuple(number for segment in self.as_path for number in segment.numbers)

    @property
    def as_path_length(self) -> int:
        """RFC 4271 section 9.1.2.2 a: an AS_SET counts as one."""
        return sum(len(segment) for segment in self.as_path)


@dataclass(frozen=True, slots=True)
class Update:
    """A decoded UPDATE. `attributes` belong to `announced` and are None without it.

    A prefix is never in both lists (RFC 4271 section 4.3: the announcement counts). `faults` says in words what was
    wrong and repaired as RFC 7606 wants it.
    """

    withdrawn: tuple[Prefix, ...] = ()
    announced: tuple[Prefix, ...] = ()
    attributes: Attributes | None = None
    end_of_rib: bool = False
    faults: tuple[str, ...] = ()


class _TreatAsWithdraw(Exception):  # noqa: N818  named after the RFC's term; never leaves this module
    """RFC 7606 section 2, treat-as-withdraw."""


class _DiscardAttribute(Exception):  # noqa: N818  likewise
    """RFC 7606 section 2, attribute discard."""


@dataclass(slots=True)
class _Fields:
    """Attributes as far as they are decoded."""

    asn4: bool
    seen: set[int] = field(default_factory=set[int])
    origin: Origin = Origin.INCOMPLETE
    as_path: tuple[Segment, ...] = ()
    as4_path: tuple[Segment, ...] = ()
    aggregator_is_old: bool = False
    next_hop: Address = Address(0)  # noqa: RUF009  immutable
    med: int | None = None
    local_pref: int | None = None
    communities: tuple[int, ...] = ()


def decode(body: bytes, *, asn4: bool, ebgp: bool) -> Update:
    """Decode an UPDATE without its 19-octet header.

    `asn4`: both sides announced four-octet AS numbers. `ebgp`: the peer is in another AS. Raises PeerError where RFC
    7606 wants the session reset: what cannot be parsed may hide prefixes.
    """
    if len(body) < 4:
        raise _reset(1, 2, f"{len(body)} octets, expected at least 4")
    attributes_at = 2 + int.from_bytes(body[:2])
    nlri_at = attributes_at + 2 + int.from_bytes(body[attributes_at : attributes_at + 2])
    if attributes_at + 2 > len(body) or nlri_at > len(body):
        raise _reset(3, 1, "the lengths of withdrawn routes and attributes exceed the message")
    withdrawn = _prefixes(body[2:attributes_at])
    announced = _prefixes(body[nlri_at:])
    block = body[attributes_at + 2 : nlri_at]
    if not block and not announced:
        return Update(withdrawn, end_of_rib=not withdrawn)  # RFC 4724 section 2: the shortest UPDATE ends the RIB
    fields, faults = _Fields(asn4), list[str]()
    try:
        _decode_attributes(block, fields, faults, ebgp=ebgp)
        if announced:
            _check_mandatory(fields)
    except _TreatAsWithdraw as error:
        if not announced and Attribute.MP_REACH_NLRI not in fields.seen:  # RFC 7606 section 5.2
            raise _reset(3, 1, f"{error}, and no prefix to withdraw") from None
        return Update(_merge(withdrawn, announced), faults=(*faults, str(error)))
    if not announced:
        return Update(withdrawn, faults=tuple(faults))
    known = Attributes(
        fields.origin, _whole_as_path(fields), fields.next_hop, fields.med, fields.local_pref, fields.communities
    )
    kept = set(announced)
    return Update(
        tuple(prefix for prefix in withdrawn if prefix not in kept), _merge(announced), known, faults=tuple(faults)
    )


def _merge(*lists: tuple[Prefix, ...]) -> tuple[Prefix, ...]:
    """All prefixes once, in order."""
    return tuple(dict.fromkeys(prefix for prefixes in lists for prefix in prefixes))


def _prefixes(data: bytes) -> tuple[Prefix, ...]:
    """Decode (length, octets) pairs; bits beyond the length mean nothing (RFC 4271 section 4.3)."""
    found: list[Prefix] = []
    at = 0
    while at < len(data):
        length = data[at]
        end = at + 1 + (length + 7) // 8
        if length > 32 or end > len(data):
            raise _reset(3, 10, f"prefix of length {length} at octet {at} of {len(data)}")
        number = int.from_bytes(data[at + 1 : end].ljust(4, b"\0")) & _MASKS[length]
        found.append(Prefix((number, length)))
        at = end
    return tuple(found)


def _decode_attributes(block: bytes, fields: _Fields, faults: list[str], *, ebgp: bool) -> None:
    """Walk the attributes, RFC 7606 sections 3 and 4."""
    at = 0
    failure: _TreatAsWithdraw | None = None
    while at < len(block):
        header = 4 if block[at] & _EXTENDED_LENGTH else 3
        if at + header > len(block):
            raise failure or _TreatAsWithdraw("the attributes end inside an attribute's header")
        flags, code = block[at], block[at + 1]
        end = at + header + int.from_bytes(block[at + 2 : at + header])
        if end > len(block):
            raise failure or _TreatAsWithdraw(f"{_name(code)} runs past the end of the attributes")
        value = block[at + header : end]
        at = end
        if code in fields.seen:
            if code in (Attribute.MP_REACH_NLRI, Attribute.MP_UNREACH_NLRI):
                raise _reset(3, 1, f"{_name(code)} occurs twice")
            faults.append(f"{_name(code)} occurs twice: the first counts")  # RFC 7606 section 3 g
            continue
        fields.seen.add(code)
        try:
            _decode_attribute(flags, code, value, fields, ebgp=ebgp)
        except _DiscardAttribute as error:
            faults.append(str(error))
        except _TreatAsWithdraw as error:
            failure = failure or error  # walk on: a later error may be of the session-reset class
    if failure:
        raise failure


def _decode_attribute(flags: int, code: int, value: bytes, fields: _Fields, *, ebgp: bool) -> None:
    expected = _FLAGS.get(code)
    if expected is None:
        if not flags & _OPTIONAL:  # RFC 4271 section 6.3, which RFC 7606 leaves as it is
            raise _reset(3, 2, f"well-known {_name(code)} is not known")
        return
    if ebgp and code in _INTERNAL_ONLY:
        return
    if (flags ^ expected) & (_OPTIONAL | _TRANSITIVE):  # RFC 7606 section 3 c
        raise _TreatAsWithdraw(f"{_name(code)} has flags {flags:#04x}, expected {expected:#04x}")
    decoder = _DECODERS.get(code)
    if decoder:
        decoder(value, fields)


def _origin(value: bytes, fields: _Fields) -> None:
    """RFC 7606 section 7.1."""
    if len(value) != 1 or value[0] > Origin.INCOMPLETE:
        raise _TreatAsWithdraw(f"ORIGIN is {value.hex() or 'empty'}, expected 00, 01 or 02")
    fields.origin = Origin(value[0])


def _as_path(value: bytes, fields: _Fields) -> None:
    """RFC 7606 section 7.2, RFC 7607 (AS 0)."""
    segments = _segments(value, 4 if fields.asn4 else 2)
    if segments is None:
        raise _TreatAsWithdraw(f"AS_PATH {value.hex()} is malformed")
    fields.as_path = segments


def _as4_path(value: bytes, fields: _Fields) -> None:
    """RFC 6793 section 6: a malformed one is discarded, as is any from a peer that speaks four octets itself."""
    if fields.asn4:
        raise _DiscardAttribute("AS4_PATH from a peer with four-octet AS numbers")
    segments = _segments(value, 4)
    if segments is None:
        raise _DiscardAttribute(f"AS4_PATH {value.hex()} is malformed")
    fields.as4_path = segments


def _segments(value: bytes, size: int) -> tuple[Segment, ...] | None:
    """Decode AS path segments with numbers of `size` octets; None if malformed, confederations included."""
    found: list[Segment] = []
    at = 0
    while at < len(value):
        if at + 2 > len(value) or value[at] not in (_AS_SET, _AS_SEQUENCE):
            return None
        start = at + 2
        end = start + value[at + 1] * size
        numbers = tuple(int.from_bytes(value[n : n + size]) for n in range(start, end, size))
        if end > len(value) or not numbers or 0 in numbers:
            return None
        found.append(Segment(value[at] == _AS_SEQUENCE, numbers))
        at = end
    return tuple(found)


def _next_hop(value: bytes, fields: _Fields) -> None:
    """RFC 7606 section 7.3 (length); RFC 4271 section 6.3 (an address that no host can have)."""
    if len(value) != 4:
        raise _TreatAsWithdraw(f"NEXT_HOP has {len(value)} octets, expected 4")
    address = Address(value)
    if value[0] in (0, 127) or value[0] >= 224:
        raise _TreatAsWithdraw(f"NEXT_HOP {address} is no address of a host")
    fields.next_hop = address


def _med(value: bytes, fields: _Fields) -> None:
    """RFC 7606 section 7.4."""
    fields.med = _number(value, Attribute.MULTI_EXIT_DISC)


def _local_pref(value: bytes, fields: _Fields) -> None:
    """RFC 7606 section 7.5, internal neighbour."""
    fields.local_pref = _number(value, Attribute.LOCAL_PREF)


def _originator_id(value: bytes, _: _Fields) -> None:
    """RFC 7606 section 7.9, internal neighbour."""
    _number(value, Attribute.ORIGINATOR_ID)


def _number(value: bytes, code: Attribute) -> int:
    if len(value) != 4:
        raise _TreatAsWithdraw(f"{code.name} has {len(value)} octets, expected 4")
    return int.from_bytes(value)


def _atomic_aggregate(value: bytes, _: _Fields) -> None:
    """RFC 7606 section 7.6."""
    if value:
        raise _DiscardAttribute(f"ATOMIC_AGGREGATE has {len(value)} octets, expected none")


def _aggregator(value: bytes, fields: _Fields) -> None:
    """RFC 7606 section 7.7."""
    expected = 8 if fields.asn4 else 6
    if len(value) != expected:
        raise _DiscardAttribute(f"AGGREGATOR has {len(value)} octets, expected {expected}")
    fields.aggregator_is_old = not fields.asn4 and int.from_bytes(value[:2]) != _AS_TRANS


def _communities(value: bytes, fields: _Fields) -> None:
    """RFC 7606 section 7.8."""
    _multiple(value, Attribute.COMMUNITIES, 4)
    fields.communities = tuple(int.from_bytes(value[at : at + 4]) for at in range(0, len(value), 4))


def _cluster_list(value: bytes, _: _Fields) -> None:
    """RFC 7606 section 7.10, internal neighbour."""
    _multiple(value, Attribute.CLUSTER_LIST, 4)


def _extended_communities(value: bytes, _: _Fields) -> None:
    """RFC 7606 section 7.14."""
    _multiple(value, Attribute.EXTENDED_COMMUNITIES, 8)


def _large_communities(value: bytes, _: _Fields) -> None:
    """RFC 8092 section 6."""
    _multiple(value, Attribute.LARGE_COMMUNITIES, 12)


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
    Attribute.LARGE_COMMUNITIES: _large_communities,
}


def _check_mandatory(fields: _Fields) -> None:
    """RFC 7606 section 3 d."""
    missing = [code.name for code in _MANDATORY if code not in fields.seen]
    if missing:
        raise _TreatAsWithdraw(f"mandatory {', '.join(missing)} missing")


def _whole_as_path(fields: _Fields) -> tuple[Segment, ...]:
    """AS_PATH with AS4_PATH merged in, RFC 6793 section 4.2.3."""
    excess = sum(map(len, fields.as_path)) - sum(map(len, fields.as4_path))
    if not fields.as4_path or fields.aggregator_is_old or excess < 0:
        return fields.as_path
    leading: list[Segment] = []
    for segment in fields.as_path:
        if excess <= 0:
            break
        numbers = segment.numbers[:excess] if segment.ordered else segment.numbers
        leading.append(Segment(segment.ordered, numbers))
        excess -= len(leading[-1])
    return (*leading, *fields.as4_path)


def _name(code: int) -> str:
    try:
        return Attribute(code).name
    except ValueError:
        return f"attribute {code}"


def _reset(code: int, subcode: int, what: str) -> PeerError:
    return PeerError(f"malformed UPDATE: {what}: {describe(code, subcode)}")

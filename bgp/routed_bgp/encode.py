"""UPDATE and ROUTE-REFRESH messages written: whole, headers included, at most 4096 octets each (RFC 4271 section 4.1).

Each message does one thing, as RFC 7606 section 5.1 wants it of a sender: it announces in one family or withdraws in
one.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from routed.errors import Bug
from routed.model.address import Family
from routed_bgp import as_path
from routed_bgp.as_path import AS_TRANS
from routed_bgp.attributes import EXTENDED_LENGTH, FLAGS, OPTIONAL, PARTIAL, TRANSITIVE, Attribute, Attributes
from routed_bgp.nlri import Nlri
from routed_bgp.speaker import Refresh
from routed_bgp.update import HEADER

_ROOM = 4096 - HEADER - 4  # what a message holds besides its header and two lengths
_ATTRIBUTE_HEADER = 4  # with extended length
_UPDATE, _ROUTE_REFRESH = 2, 5  # message types, RFC 4271 section 4.1, RFC 2918 section 3
_MARKER = b"\xff" * 16
_UNICAST = 1  # SAFI


def announce(attributes: Attributes, family: Family, nlris: Sequence[Nlri], *, asn4: bool, ebgp: bool) -> list[bytes]:
    """UPDATEs that announce `nlris` with `attributes`, to a peer that takes four-octet AS numbers (`asn4`) or not.

    To an external peer (`ebgp`) go no LOCAL_PREF and no attributes of route reflection. Where the attributes leave no
    room for a prefix the routes cannot be announced (RFC 4271 section 9.2), and must not live on as they were before:
    they are withdrawn.
    """
    classic = family is Family.IPV4 and attributes.next_hop.version == 4
    block = _block(attributes, asn4=asn4, ebgp=ebgp, next_hop=classic)
    fields: list[bytes] | None
    if classic:
        if (fields := _fields(nlris, _ROOM - len(block))) is not None:
            head = b"\0\0" + len(block).to_bytes(2) + block
            return [_message(_UPDATE, head + field) for field in fields]
    elif attributes.next_hop.version == 6:
        next_hop = attributes.next_hop.packed
        head = struct.pack(">HBB", family, _UNICAST, len(next_hop)) + next_hop + b"\0"
        if (fields := _fields(nlris, _ROOM - len(block) - _ATTRIBUTE_HEADER - len(head))) is not None:
            return [_multiprotocol(Attribute.MP_REACH_NLRI, head + field, block) for field in fields]
    else:
        raise Bug(f"IPv6 prefixes cannot be announced with the next hop {attributes.next_hop}")
    return withdraw(family, nlris)


def withdraw(family: Family, nlris: Sequence[Nlri]) -> list[bytes]:
    """UPDATEs that withdraw `nlris`."""
    fields = _fields(nlris, _ROOM - _ATTRIBUTE_HEADER - 3) or []
    if family is Family.IPV4:
        return [_message(_UPDATE, len(field).to_bytes(2) + field + b"\0\0") for field in fields]
    head = struct.pack(">HB", family, _UNICAST)
    return [_multiprotocol(Attribute.MP_UNREACH_NLRI, head + field, b"") for field in fields]


def end_of_rib(family: Family) -> bytes:
    """The End-of-RIB mark, RFC 4724 section 2."""
    if family is Family.IPV4:
        return _message(_UPDATE, bytes(4))
    return _multiprotocol(Attribute.MP_UNREACH_NLRI, struct.pack(">HB", family, _UNICAST), b"")


def refresh(family: Family, kind: Refresh) -> bytes:
    """A ROUTE-REFRESH message, RFC 2918 section 3, RFC 7313 section 3.2."""
    return _message(_ROUTE_REFRESH, struct.pack(">HBB", family, kind.value, _UNICAST))


def _message(kind: int, body: bytes) -> bytes:
    return _MARKER + (HEADER + len(body)).to_bytes(2) + bytes((kind,)) + body


def _multiprotocol(code: Attribute, value: bytes, block: bytes) -> bytes:
    """An UPDATE with this attribute before the others, RFC 7606 section 5.1."""
    whole = _attribute(code, value) + block
    return _message(_UPDATE, b"\0\0" + len(whole).to_bytes(2) + whole)


def _fields(nlris: Sequence[Nlri], room: int) -> list[bytes] | None:
    """`nlris` joined into fields of at most `room` octets; None if one alone has no room."""
    ends = list(accumulate(map(len, nlris)))
    fields: list[bytes] = []
    start = done = 0
    while start < len(nlris):
        stop = bisect_right(ends, done + room, start)
        if stop == start:
            return None
        fields.append(b"".join(nlris[start:stop]))
        start, done = stop, ends[stop - 1]
    return fields


def _block(attributes: Attributes, *, asn4: bool, ebgp: bool, next_hop: bool) -> bytes:
    """All attributes but MP_REACH_NLRI, in the order of their codes (RFC 4271 section 5)."""
    values = {unknown.code: unknown.value for unknown in attributes.unknown}
    values[Attribute.ORIGIN] = bytes((attributes.origin,))
    values[Attribute.AS_PATH] = as_path.encode(attributes.as_path, 4 if asn4 else 2)
    if next_hop:
        values[Attribute.NEXT_HOP] = attributes.next_hop.packed
    if attributes.med is not None:
        values[Attribute.MULTI_EXIT_DISC] = attributes.med.to_bytes(4)
    if attributes.atomic_aggregate:
        values[Attribute.ATOMIC_AGGREGATE] = b""
    if attributes.communities:
        values[Attribute.COMMUNITIES] = struct.pack(f">{len(attributes.communities)}I", *attributes.communities)
    if attributes.large_communities:
        values[Attribute.LARGE_COMMUNITIES] = b"".join(
            struct.pack(">III", *one) for one in attributes.large_communities
        )
    if not ebgp:
        _internal(attributes, values)
    if not asn4:
        _for_old_speaker(attributes, values)
    return b"".join(_attribute(code, values[code]) for code in sorted(values))


def _internal(attributes: Attributes, values: dict[int, bytes]) -> None:
    """What only peers in our AS are told: RFC 4271 section 5.1.5, RFC 4456 section 8."""
    if attributes.local_pref is not None:
        values[Attribute.LOCAL_PREF] = attributes.local_pref.to_bytes(4)
    if attributes.originator_id is not None:
        values[Attribute.ORIGINATOR_ID] = attributes.originator_id.packed
    if attributes.cluster_list:
        values[Attribute.CLUSTER_LIST] = b"".join(one.packed for one in attributes.cluster_list)


def _for_old_speaker(attributes: Attributes, values: dict[int, bytes]) -> None:
    """What an old speaker passes on for numbers that do not fit in two octets, RFC 6793 section 4.2.2."""
    if as_path.needs_four_octets(attributes.as_path):
        values[Attribute.AS4_PATH] = as_path.encode(attributes.as_path, 4)
    if aggregator := values.get(Attribute.AGGREGATOR):
        if any(aggregator[:2]):
            values[Attribute.AS4_AGGREGATOR] = aggregator
            values[Attribute.AGGREGATOR] = AS_TRANS.to_bytes(2) + aggregator[4:]
        else:
            values[Attribute.AGGREGATOR] = aggregator[2:]


def _attribute(code: int, value: bytes) -> bytes:
    flags = FLAGS.get(code, OPTIONAL | TRANSITIVE | PARTIAL)  # partial: passed on by one who does not know it
    if len(value) > 0xFF:
        return bytes((flags | EXTENDED_LENGTH, code)) + len(value).to_bytes(2) + value
    return bytes((flags, code, len(value))) + value

"""Attributes put together from pieces that were seen before, for the peer that sends other ones with every UPDATE.

A routing table of 100,000 sets of attributes has few origins, next hops and AS paths, and few of whatever else. So
single attributes are remembered by their bytes, and a block whose attributes are known, or are plain communities, needs
no decoding: 6 us instead of 30. Whatever is unusual (another order, a length of two octets, an error, what an old
speaker sends) is None here, and left to `attributes.decode`, which says what is right.
"""

from __future__ import annotations

import struct
from typing import Any

from routed_bgp import attributes
from routed_bgp.attributes import EXTENDED_LENGTH, Attribute, Attributes
from routed_bgp.dialect import Dialect

_Piece = tuple[int, int, object]  # code, position in `Attributes`, value

_POSITIONS = {name: index for index, name in enumerate(Attributes.__struct_fields__)}
_FIELDS = {
    Attribute.ORIGIN: _POSITIONS["origin"],
    Attribute.AS_PATH: _POSITIONS["as_path"],
    Attribute.NEXT_HOP: _POSITIONS["next_hop"],
    Attribute.MULTI_EXIT_DISC: _POSITIONS["med"],
    Attribute.LOCAL_PREF: _POSITIONS["local_pref"],
    Attribute.ORIGINATOR_ID: _POSITIONS["originator_id"],
    Attribute.CLUSTER_LIST: _POSITIONS["cluster_list"],
    Attribute.LARGE_COMMUNITIES: _POSITIONS["large_communities"],
}
_BY_CODE: dict[int, int] = {int(code): position for code, position in _FIELDS.items()}
_EMPTY: list[Any] = [*[None] * (len(_POSITIONS) - len(Attributes.__struct_defaults__)), *Attributes.__struct_defaults__]
_ORIGIN, _AS_PATH, _NEXT_HOP = (_FIELDS[code] for code in (Attribute.ORIGIN, Attribute.AS_PATH, Attribute.NEXT_HOP))
_COMMUNITIES = _POSITIONS["communities"]
_PLAIN_COMMUNITIES = attributes.FLAGS[Attribute.COMMUNITIES], int(Attribute.COMMUNITIES)
_MOST = 1 << 14  # pieces that are remembered, of at most 258 octets each
_UNPACKERS = tuple(struct.Struct(f">{count}I").unpack for count in range(64))


class Pieces:
    """What one peer's attributes are made of."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._known: dict[bytes, _Piece] = {}

    def assembled(self, block: bytes) -> Attributes | None:
        """The attributes in `block`, the same as decoding it would give; None where it has to be decoded."""
        known, values = self._known, _EMPTY.copy()
        at, last, size = 0, 0, len(block)
        while at + 2 < size:
            end = at + 3 + block[at + 2]
            raw = block[at:end]
            piece = known.get(raw)
            if piece is None:
                if end > size or raw[0] & EXTENDED_LENGTH:
                    return None
                if (raw[0], raw[1]) == _PLAIN_COMMUNITIES and len(raw) > 3 and not raw[2] & 3:
                    if last >= Attribute.COMMUNITIES:
                        return None
                    values[_COMMUNITIES] = _UNPACKERS[raw[2] >> 2](raw[3:])
                    last, at = Attribute.COMMUNITIES, end
                    continue
                piece = self._decoded(raw)
                if piece is None:
                    return None
            code, position, value = piece
            if code <= last:  # in another order than that of RFC 4271 section 5, or twice
                return None
            values[position] = value
            last, at = code, end
        if at != size or values[_ORIGIN] is None or values[_AS_PATH] is None or values[_NEXT_HOP] is None:
            return None
        return Attributes(*values)

    def _decoded(self, raw: bytes) -> _Piece | None:
        """One attribute, decoded and remembered; None if it is not one of the usual ones, or not right."""
        code = raw[1]
        position = _BY_CODE.get(code)
        if position is None or not self._dialect.asn4:
            return None
        value = attributes.single(raw, self._dialect, Attributes.__struct_fields__[position])
        if value is None:
            return None
        if len(self._known) >= _MOST:
            self._known.clear()
        piece = self._known[raw] = code, position, value
        return piece

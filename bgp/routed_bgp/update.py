"""UPDATE messages read: RFC 4271 section 4.3, RFC 4760, RFC 7911, with the errors of RFC 7606; ROUTE-REFRESH as well.

An error in an UPDATE has one of three consequences (RFC 7606 section 2). *Session reset* is raised as `SessionReset`.
*Treat-as-withdraw* turns every announced prefix into a withdrawn one. *Attribute discard* goes on without the
attribute. The last two leave a sentence in `Update.faults`. No other exception leaves this module, whatever the bytes.

Most UPDATEs of a peer repeat a block of attributes that was decoded before, so blocks are remembered by their bytes,
and the common forms of a message are decoded in one go; `_decode` is for all the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from routed.model.address import Family
from routed_bgp import attributes, multiprotocol
from routed_bgp.attributes import EXTENDED_LENGTH, OPTIONAL, TRANSITIVE, Attribute, Attributes, Block
from routed_bgp.columns import Columns, Run
from routed_bgp.dialect import Dialect
from routed_bgp.multiprotocol import Routes
from routed_bgp.nlri import MalformedNlri, split, split_add_path, unicast
from routed_bgp.notification import SessionReset
from routed_bgp.pieces import Pieces
from routed_bgp.speaker import Refresh

HEADER = 19  # octets, RFC 4271 section 4.1

_OPTIONAL_ATTRIBUTE, _NETWORK_FIELD = 9, 10  # subcodes: RFC 4760 section 7, RFC 4271 section 6.3
_MP_REACH, _MP_UNREACH = Attribute.MP_REACH_NLRI.value, Attribute.MP_UNREACH_NLRI.value
_REFRESHES = {kind.value: kind for kind in Refresh}

_MOST = 8 << 20  # octets that remembered blocks may take


@dataclass(slots=True)
class Update:
    """What an UPDATE says of the prefixes of one family; `attributes` belong to `announced` and are None without it.

    A prefix is `Nlri`, or in an add-path family the path identifier and `Nlri`. None is in both lists (RFC 4271 section
    4.3: the announcement counts). `end_of_rib`: this is the mark, and nothing else. `faults` says in words what was
    wrong and repaired as RFC 7606 wants it. `also` is the rest of a message that speaks of more than these.
    """

    family: Family
    announced: list[bytes] = field(default_factory=list[bytes])
    withdrawn: list[bytes] = field(default_factory=list[bytes])
    attributes: Attributes | None = None
    end_of_rib: Family | None = None
    faults: tuple[str, ...] = ()
    also: Update | None = None


class _Blocks(dict[bytes, Block]):
    """Blocks of attributes by their bytes, forgotten all at once when they may take 8 MiB.

    A peer of ours has tens of them. One with more distinct ones than fit, hostile or with the whole internet, gains
    nothing by a better rule.
    """

    __slots__ = ("_weight", "learnt")

    def __init__(self) -> None:
        super().__init__()
        self._weight = self.learnt = 0

    def pass_over(self, count: int, octets: int) -> None:
        """As many blocks of `octets` came and are not to be remembered."""
        self.learnt += count * _weight(octets)

    def remember(self, key: bytes, block: Block) -> None:
        weight = _weight(len(key))
        self._weight += weight
        self.learnt += weight
        if self._weight > _MOST:
            self.clear()
            self._weight = weight
        self[key] = block


def _weight(octets: int) -> int:
    """How many octets the attributes in a block of `octets` take when decoded, whatever they are."""
    return 800 + 24 * octets


class Decoder:
    """Decodes the UPDATEs of one session. The same attributes are one object while their block is remembered."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._add_path = dialect.add_path
        self._ipv4 = Family.IPV4 if Family.IPV4 in dialect.families else None
        self._pieces = Pieces(dialect)
        self._plain = _Blocks()  # attributes without MP_REACH_NLRI and MP_UNREACH_NLRI
        self._reaching = _Blocks()  # the same behind the header of an MP_REACH_NLRI
        self._columns = Columns()

    @property
    def learnt(self) -> int:
        """How many octets all the blocks took that were not known when they came; those that are forgotten count."""
        return self._plain.learnt + self._reaching.learnt

    def following(self, data: bytes, start: int, end: int, update: Update) -> Run | None:
        """The run of UPDATEs behind the one at `start` to `end`, decoded as `update`; see `Columns.following`.

        Their attributes are those of `update` with other communities, and are not remembered.
        """
        if update.family is not self._ipv4 or update.family in self._add_path or len(update.announced) != 1:
            return None
        run = self._columns.following(data, start, end, update.announced[0])
        if run is not None and run.nlris:
            self._plain.pass_over(len(run.nlris), run.octets)
        return run

    def decode(self, body: bytes) -> Update:
        """Decode an UPDATE without its 19-octet header. Raises SessionReset."""
        size = len(body)
        if size < 4:
            raise SessionReset(f"malformed UPDATE: {size} octets, expected at least 4", 1, 2)
        block_at = 4 + (body[0] << 8 | body[1])
        nlri_at = block_at + (body[block_at - 2] << 8 | body[block_at - 1]) if block_at <= size else block_at
        if nlri_at > size:  # RFC 7606 section 3 b
            raise SessionReset(
                "malformed UPDATE: the lengths of withdrawn routes and attributes exceed the message", 3, 1
            )
        if block_at == 4:
            if nlri_at < size:
                octets = body[4:nlri_at]
                block = self._plain.get(octets) or self._learnt(octets)
                if block and block.attributes and self._ipv4:
                    prefixes = self._split(body[nlri_at:], self._ipv4, _NETWORK_FIELD)
                    return Update(self._ipv4, prefixes, [], block.attributes, None, block.faults)
            elif size > 12:
                update = self._multiprotocol_first(body, size)
                if update:
                    return update
        elif block_at == size and self._ipv4:
            return Update(self._ipv4, [], self._split(body[2 : size - 2], self._ipv4, _NETWORK_FIELD))
        return self._decode(body[2 : block_at - 2], body[block_at:nlri_at], body[nlri_at:])

    def _multiprotocol_first(self, body: bytes, size: int) -> Update | None:
        """Decode an UPDATE that begins with MP_REACH_NLRI, or is MP_UNREACH_NLRI alone (RFC 7606 section 5.1).

        None if it is something else, has attributes not seen before, or has no prefixes.
        """
        if body[4] & (OPTIONAL | TRANSITIVE) != OPTIONAL:
            return None
        if body[4] & EXTENDED_LENGTH:
            at, end = 8, 8 + (body[6] << 8 | body[7])
        else:
            at, end = 7, 7 + body[6]
        family = unicast(body[at : at + 3])
        if not family:
            return None
        if body[5] == _MP_REACH:
            reserved = at + 4 + body[at + 3]
            if reserved + 1 < end <= size:
                block = self._reaching.get(body[at:reserved] + body[end:])
                if block and block.attributes:
                    prefixes = self._split(body[reserved + 1 : end], family, _OPTIONAL_ATTRIBUTE)
                    return Update(family, prefixes, [], block.attributes, None, block.faults)
        elif body[5] == _MP_UNREACH and at + 3 < end == size and family in self._dialect.families:
            return Update(family, [], self._split(body[at + 3 :], family, _OPTIONAL_ATTRIBUTE))
        return None

    def _decode(self, withdrawn: bytes, block: bytes, nlri: bytes) -> Update:
        """Decode any UPDATE."""
        cut = multiprotocol.cut(block)
        announcing = [Routes(self._ipv4, b"", nlri)] if nlri else []
        if cut.reach is not None:
            announcing.append(multiprotocol.reach(cut.reach, self._dialect))
        withdrawing = [Routes(self._ipv4, b"", withdrawn)] if withdrawn or not block else []
        if cut.unreach is not None:
            withdrawing.append(multiprotocol.unreach(cut.unreach, self._dialect))
        if not cut.rest and not announcing and len(withdrawing) == 1 and not withdrawing[0].nlri:
            family = withdrawing[0].family  # RFC 4724 section 2: the shortest UPDATE, or an empty MP_UNREACH_NLRI alone
            return Update(family or Family.IPV4, end_of_rib=family)

        parts, blocks = list[Update](), list[Block]()
        for family, header, prefixes in announcing:
            if family and prefixes:
                blocks.append(self._block(cut.rest, header))
                keys = self._split(prefixes, family, _subcode(header))
                parts.append(Update(family, keys, [], blocks[-1].attributes))
        gone: dict[Family, list[bytes]] = {}
        for family, header, prefixes in withdrawing:
            if family and prefixes:
                gone.setdefault(family, []).extend(self._split(prefixes, family, _subcode(header)))

        checked = blocks or [self._block(cut.rest)]
        error = next((block.error for block in checked if block.error), "")
        error = error or next((block.missing for block in blocks if block.missing), "")
        if error and not any(routes.nlri for routes in announcing):  # RFC 7606 section 5.2
            raise SessionReset(f"malformed UPDATE: {error}, and no prefix to withdraw", 3, 1)
        error = error or cut.error
        if error:
            for part in parts:
                part.announced, part.withdrawn, part.attributes = [], part.announced, None
        faults = [fault for block in checked for fault in block.faults]
        if any(routes.nlri and not routes.family for routes in (*announcing, *withdrawing)):
            faults.append("prefixes of a family that was not agreed are passed over")
        if error:
            faults.append(error)
        return _joined(parts, gone, tuple(dict.fromkeys(faults)))

    def _learnt(self, block: bytes) -> Block | None:
        """Decode and remember attributes that were not seen before; None if prefixes are among them."""
        assembled = self._pieces.assembled(block)
        if assembled is not None:
            found = Block(assembled)
            self._plain.remember(block, found)
            return found
        cut = multiprotocol.cut(block)
        return self._block(block) if cut.reach is None and cut.unreach is None else None

    def _block(self, rest: bytes, header: bytes = b"") -> Block:
        """The decoded attributes `rest`; with the next hop in `header`, that of an MP_REACH_NLRI, if there is one."""
        blocks, key = (self._reaching, header + rest) if header else (self._plain, rest)
        block = blocks.get(key)
        if block is None:
            next_hop = multiprotocol.next_hop(header) if header else None
            block = attributes.decode(rest, self._dialect, next_hop)
            blocks.remember(key, block)
        return block

    def _split(self, data: bytes, family: Family, subcode: int) -> list[bytes]:
        """The prefixes of `data`, RFC 7606 section 5.3."""
        try:
            return split_add_path(data, family) if family in self._add_path else split(data, family)
        except MalformedNlri as error:
            raise SessionReset(f"malformed UPDATE: {error}", 3, subcode) from None


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and body of the messages in `data`, one behind the other (RFC 4271 section 4.1). Raises SessionReset."""
    at = 0
    while at < len(data):
        end = message_end(data, at)
        yield data[at + 18], data[at + HEADER : end]
        at = end


def message_end(data: bytes, at: int) -> int:
    """Where the message at `at` ends, which has to be in `data`. Raises SessionReset."""
    end = at + int.from_bytes(data[at + 16 : at + 18])
    if end < at + HEADER or end > len(data):
        raise SessionReset(f"message of {end - at} octets where {len(data) - at} are left", 1, 2)
    return end


def refresh(body: bytes) -> tuple[Family, Refresh] | None:
    """Decode a ROUTE-REFRESH without its header; None if it means nothing to us. Raises SessionReset (RFC 7313)."""
    kind = _REFRESHES.get(body[2]) if len(body) >= 4 else None
    if len(body) < 4 or (kind in (Refresh.BEGIN, Refresh.END) and len(body) > 4):
        raise SessionReset(f"malformed ROUTE-REFRESH: {len(body)} octets, expected 4", 7, 1)
    family = unicast(body[:2] + body[3:4])
    return (family, kind) if family and kind else None


def _subcode(header: bytes) -> int:
    return _OPTIONAL_ATTRIBUTE if header else _NETWORK_FIELD


def _joined(parts: list[Update], gone: dict[Family, list[bytes]], faults: tuple[str, ...]) -> Update:
    """One message from what it announces, or would have, and what it withdraws."""
    kept = {(part.family, key) for part in parts for key in part.announced}
    for part in parts:
        part.withdrawn += gone.pop(part.family, [])
    parts += [Update(family, [], keys) for family, keys in gone.items()]
    for part, following in pairwise(parts):
        part.also = following
    for part in parts if kept else ():
        part.withdrawn = [key for key in part.withdrawn if (part.family, key) not in kept]
    whole = parts[0] if parts else Update(Family.IPV4)
    whole.faults = faults
    return whole

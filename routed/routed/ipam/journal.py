"""What became of addresses while the store was away, and how the store is told of it afterwards. Pure.

The journal is a list of entries in the order of their writing; of several about one address the last counts. It says
what the node has answered to pods, which nobody else knows: so about the node's own handles it is right and the store
is not, whatever a transaction did whose answer was lost. About other nodes the store is right: what they borrowed of
our block meanwhile is theirs, and an entry for the same address is lost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Annotated

import msgspec

from routed.errors import ConflictError, OperatorError
from routed.ipam.block import Block, Rules
from routed.model.address import AnyAddress, AnyPrefix

_NOBODY = "journal"  # has an address that was given and taken back within one absence, until it is taken back here too


@dataclass(frozen=True, slots=True)
class Entry:
    """`address` of block `cidr` was given to `handle` (`taken`), or came back, `at` a time in seconds of the epoch.

    `attributes` are those of the allocation.
    """

    cidr: AnyPrefix
    address: AnyAddress
    handle: str
    taken: bool
    at: int
    attributes: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Lost:
    """An address that was given while the store was away and turned out to be somebody else's."""

    entry: Entry
    reason: str

    def __str__(self) -> str:
        told = self.entry.attributes
        pod = "/".join(filter(None, (told.get("namespace"), told.get("pod")))) or self.entry.handle
        return (
            f"{pod} lost its address {self.entry.address}, given while the store was away: {self.reason}; "
            "the pod is cut off until it is made anew"
        )


@dataclass(frozen=True, slots=True)
class Replayed:
    """The blocks that are otherwise with the journal than without, and what could not be kept."""

    blocks: Mapping[AnyPrefix, Block]
    lost: tuple[Lost, ...]


def entries(before: Block, after: Block, node: str, now: float) -> Iterator[Entry]:
    """What happened to the addresses of `node` between two states of one block: what came back, then what was given."""
    if before.allocations is after.allocations:
        return
    changed = [
        ordinal
        for ordinal in before.allocations.keys() | after.allocations.keys()
        if before.allocations.get(ordinal) != after.allocations.get(ordinal)
    ]
    for ordinal in sorted(changed):
        if (held := before.allocations.get(ordinal)) is not None and before.node_of(ordinal) == node:
            yield Entry(before.cidr, before.address(ordinal), held.handle, taken=False, at=math.ceil(now))
    for ordinal in sorted(changed):
        if (held := after.allocations.get(ordinal)) is not None and after.node_of(ordinal) == node:
            yield Entry(after.cidr, after.address(ordinal), held.handle, True, held.since, held.attributes)


def last_words(written: Iterable[Entry]) -> list[Entry]:
    """Of each address the last entry, in the order of these."""
    last: dict[AnyAddress, Entry] = {}
    for entry in written:
        last.pop(entry.address, None)
        last[entry.address] = entry
    return list(last.values())


def replay(written: Sequence[Entry], blocks: Mapping[AnyPrefix, Block], node: str) -> Replayed:
    """`blocks`, as the store has them, with what `node` wrote down meanwhile. Doing it twice is doing it once."""
    last = last_words(written)
    after = _without_strays(written, blocks, node)
    for entry in last:
        if not entry.taken and entry.cidr in after:
            after[entry.cidr] = _came_back(after[entry.cidr], entry, node)
    lost = [Lost(entry, reason) for entry in last if entry.taken and (reason := _give(after, entry, node))]
    return Replayed({cidr: block for cidr, block in after.items() if block is not blocks[cidr]}, tuple(lost))


def _without_strays(written: Iterable[Entry], blocks: Mapping[AnyPrefix, Block], node: str) -> dict[AnyPrefix, Block]:
    """`blocks` without what handles of the journal hold in them that is not their last word on that family: of
    transactions whose answers were lost, or not theirs any more.
    """
    last: dict[tuple[str, int], Entry] = {(each.handle, each.address.version): each for each in written}
    after = dict(blocks)
    for cidr, block in blocks.items():
        for ordinal, held in block.allocations.items():
            word = last.get((held.handle, cidr.version))
            if word is None or block.node_of(ordinal) != node:
                continue
            if not word.taken or word.address != block.address(ordinal):
                after[cidr] = _released(after[cidr], held.handle, word.at)
    return after


def _came_back(block: Block, entry: Entry, node: str) -> Block:
    """The store may know nothing of an address that was given and taken back: it has to cool all the same."""
    ordinal = _ordinal(entry)
    held = block.allocations.get(ordinal)
    handle = entry.handle
    if held is None:
        if block.node != node or ordinal not in block.usable or _has_come_back(block, ordinal, entry.at):
            return block
        block, _ = block.assign(handle := _NOBODY, address=entry.address, rules=_rules(entry))
    elif held.handle != handle or block.node_of(ordinal) != node:
        return block
    return _released(block, handle, entry.at)


def _released(block: Block, handle: str, at: int) -> Block:
    """As if it had come back in its turn: what came back later is not to count as earlier for it."""
    return block.release(handle, now=max([at, *block.cooling[-1:]]))[0]


def _has_come_back(block: Block, ordinal: int, at: int) -> bool:
    """Whether the block knows that it came back at that time or later."""
    if ordinal not in block.released:
        return False
    place = block.released.index(ordinal) - (len(block.released) - len(block.cooling))
    return place >= 0 and block.cooling[place] >= at


def _give(blocks: dict[AnyPrefix, Block], entry: Entry, node: str) -> str:
    """Have `entry`'s handle hold its address, and say why it cannot be, if so."""
    block, ordinal = blocks.get(entry.cidr), _ordinal(entry)
    if block is None or block.node != node:
        return f"the block {entry.cidr} is node {node}'s no longer"
    held = block.allocations.get(ordinal)
    if held is not None and block.node_of(ordinal) != node:
        return f"node {block.node_of(ordinal)} has borrowed it meanwhile, for {held.handle}"
    if held is not None and (held.handle, held.since) != (entry.handle, entry.at):
        # of before, or of a transaction whose answer was lost: nobody goes by it
        block = _released(block, held.handle, entry.at)
    try:
        block, _ = block.assign(entry.handle, entry.attributes, entry.address, node=node, rules=_rules(entry))
    except ConflictError as error:
        return error.message
    blocks[entry.cidr] = block
    return ""


def _rules(entry: Entry) -> Rules:
    """As of then, with everything that cools left to cool."""
    return Rules(now=entry.at, cooldown=math.inf)


def _ordinal(entry: Entry) -> int:
    return int(entry.address) - int(entry.cidr.network_address)


# ---- as text


class JournalFormatError(OperatorError):
    """What stands in a journal is not what `encode` writes."""


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    block: str
    address: str
    handle: str
    taken: bool
    at: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
    attributes: dict[str, str] = {}


_decoder = msgspec.json.Decoder(_Line)


def encode(written: Iterable[Entry]) -> bytes:
    """The entries as lines of JSON."""
    return b"".join(
        msgspec.json.encode(
            _Line(str(each.cidr), str(each.address), each.handle, each.taken, each.at, dict(each.attributes))
        )
        + b"\n"
        for each in written
    )


def decode(data: bytes, *, source: str = "journal") -> list[Entry]:
    """The entries in `data`. What follows the last line's end was not written whole, so nobody was answered by it.

    Raises JournalFormatError, naming `source` and the line, for what is no entry.
    """
    found: list[Entry] = []
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        try:
            read = _decoder.decode(line)
            entry = Entry(
                ip_network(read.block), ip_address(read.address), read.handle, read.taken, read.at, read.attributes
            )
            if entry.address not in entry.cidr:
                raise ValueError(f"{entry.address} is not in {entry.cidr}")  # noqa: TRY301  as what cannot be read
        except ValueError as error:  # msgspec's errors are ValueErrors, as are ipaddress'
            raise JournalFormatError(
                f"{source}:{number}: is no entry of the journal: {error}",
                hint="move the file away to go on: pods that were added while the store was away lose their addresses",
            ) from error
        found.append(entry)
    return found

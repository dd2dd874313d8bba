"""A block of addresses as an immutable value: who holds which address, and which one is given next. Pure.

An address is its ordinal, the distance from the block's first address. Reuse is as late as possible: addresses that
were never used go first, ascending, then those given back, in the order in which they came back, and not before they
have cooled (`Rules`). That order is kept as a mark and a queue, so a block costs what was used of it and not what it
could hold.

A block belongs to a node, which alone announces it; single addresses of it may be borrowed by others, each of which
stands in its own allocation. A block without a node has lost it and waits for one that claims it.

The first and the last address (the block's network and broadcast address) are never given, except in a /31 or /32
(RFC 3021). Calico gives them and the kernel would carry them, but stacks inside pods may treat them as special. In an
IPv6 block that is the first alone, the routers' anycast address (RFC 4291 section 2.6.1), except in a /127 or /128
(RFC 6164); of one longer than 32 bits the first 2^32 addresses are given.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from types import MappingProxyType
from typing import Annotated

import msgspec

from routed.errors import ConflictError, EnvironmentFault, OperatorError
from routed.model.address import AnyAddress, AnyPrefix, Family

_TINY = 1  # with so many bits or fewer, every address is a host's
_MOST_PASSED = 1 << 16  # reserved addresses at a time: a block may be a /16
_SPAN = 1 << 32  # ordinals, and times in seconds, fit 4 bytes


class BlockFullError(EnvironmentFault):
    """No address of the block is free; one comes back when a pod goes."""


class AddressTakenError(ConflictError):
    """The address asked for is held by another handle, or cannot be held at all."""


class BlockFormatError(OperatorError):
    """What is stored under a block's key is not a block that this version reads."""


_Seconds = Annotated[int, msgspec.Meta(ge=0, lt=_SPAN)]


class Allocation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Who holds an address. `handle` is unique in a block; `attributes` say to a person and to the agent for what.

    `node` borrowed it; empty: it is the block's own node's. `since` is when it was given, in seconds of the epoch: with
    the handle it tells this allocation from an earlier one of the same address. It is stored as it is here.
    """

    handle: str
    attributes: dict[str, str] = {}
    node: str = ""
    since: _Seconds = 0


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for one moment: the time, in seconds of the epoch, for how many an address cools after it came back,
    and what is not to be given. `hot`: one that still cools will do, the one that came back first. `far`: the address
    that would be given last, which whoever borrows of the block at the same time is least likely to get.
    """

    now: float = 0.0
    cooldown: float = 0.0
    reserved: Sequence[AnyPrefix] = ()
    hot: bool = False
    far: bool = False


ANY_TIME = Rules()
"""Nothing cools and nothing is reserved."""


def _ordinals() -> array[int]:
    return array("I")


@dataclass(frozen=True, slots=True)
class Block:
    """One CIDR of `node`'s and its allocations, by ordinal. Operations return the block as it is afterwards.

    `fresh`: every ordinal from here on was never used, unless it was asked for by name. `released`: the queue of
    those given back, oldest first (an array: 4 bytes each; never changed once the block is made). `cooling` says when
    the last of these came back, in seconds of the epoch, for as many as it is long; before them none cools.
    """

    cidr: AnyPrefix
    node: str
    allocations: Mapping[int, Allocation] = field(default_factory=lambda: MappingProxyType[int, Allocation]({}))
    fresh: int = 0
    released: array[int] = field(default_factory=_ordinals)
    cooling: array[int] = field(default_factory=_ordinals)

    @property
    def usable(self) -> range:
        """The ordinals that may be given."""
        bits = self.cidr.max_prefixlen - self.cidr.prefixlen
        size = 1 << bits
        if bits <= _TINY:
            return range(size)
        return range(1, size - 1 if self.family is Family.IPV4 else min(size, _SPAN))

    @property
    def family(self) -> Family:
        """That of its addresses."""
        return Family.of(self.cidr)

    @property
    def free(self) -> int:
        """How many addresses can still be given."""
        return len(self.usable) - len(self.allocations)

    def address(self, ordinal: int) -> AnyAddress:
        """The address at `ordinal`."""
        return self.cidr.network_address + ordinal

    def ordinal(self, handle: str) -> int | None:
        """Where `handle`'s address is, if it holds one."""
        return next((ordinal for ordinal, held in self.allocations.items() if held.handle == handle), None)

    def node_of(self, ordinal: int) -> str:
        """On which node the address at `ordinal` is, which must be held (KeyError)."""
        return self.allocations[ordinal].node or self.node

    def assign(
        self,
        handle: str,
        attributes: Mapping[str, str] | None = None,
        address: AnyAddress | None = None,
        *,
        node: str = "",
        rules: Rules = ANY_TIME,
    ) -> tuple[Block, AnyAddress]:
        """Give `handle`, on `node` (empty: the block's), the address it holds already, else `address`, else the next.

        Raises `AddressTakenError` when `address` is another's or none of this block's, or when the handle holds a
        different one; `BlockFullError` when none can be given by `rules`.
        """
        held = self.ordinal(handle)
        if held is not None:
            if address not in (None, self.address(held)):
                raise AddressTakenError(f"{handle} already holds {self.address(held)}, it cannot also hold {address}")
            return self, self.address(held)
        before = self.cooled(rules)
        if address is not None:
            ordinal = before._asked(address, rules)  # noqa: SLF001  a block as well
            after = before._without(ordinal)  # noqa: SLF001
        else:
            found = before._far(rules) if rules.far else before._next(rules)  # noqa: SLF001
            if found is None:
                raise BlockFullError(self._nothing_to_give(rules), hint="delete pods that have addresses of it")
            after, ordinal = found
        given = Allocation(handle, dict(attributes or {}), "" if node == self.node else node, _moment(int(rules.now)))
        allocations = MappingProxyType({**self.allocations, ordinal: given})
        return replace(after, allocations=allocations), self.address(ordinal)

    def release(self, handle: str, *, now: float = 0.0) -> tuple[Block, AnyAddress | None]:
        """Take back what `handle` holds, to the end of the queue; None when it holds nothing."""
        ordinal = self.ordinal(handle)
        if ordinal is None:
            return self, None
        allocations = dict(self.allocations)
        del allocations[ordinal]
        queue, cooling = array("I", self.released), array("I", self.cooling)
        queue.append(ordinal)
        if now or cooling:
            came_back = _moment(math.ceil(now))  # rounded up: never cooled too early
            if cooling and cooling[-1] > came_back:  # the clock was ahead: else all that follow would wait for its time
                cooling = array("I", [min(since, came_back) for since in cooling])
            cooling.append(came_back)
        after = replace(self, allocations=MappingProxyType(allocations), released=queue, cooling=cooling)
        return after, self.address(ordinal)

    def given_to(self, node: str) -> Block:
        """The block as `node`'s; empty: nobody's. What its own node holds stays that node's."""
        kept = {
            ordinal: msgspec.structs.replace(held, node="" if (on := held.node or self.node) == node else on)
            for ordinal, held in self.allocations.items()
        }
        return replace(self, node=node, allocations=MappingProxyType(kept))

    def _next(self, rules: Rules) -> tuple[Block, int] | None:
        """The block without the next address to give, and that; None when there is none."""
        unused = range(max(self.fresh, self.usable.start), self.usable.stop)
        early = (
            {ordinal for ordinal in self.released if ordinal in unused} if unused else ()
        )  # asked for by name, then given back
        passed = list[int]()  # reserved: they go to the front of the queue, to be given once they are no longer
        for ordinal in unused:
            if ordinal in self.allocations or ordinal in early:
                continue
            if not self._reserved(ordinal, rules):
                after = replace(self, fresh=ordinal + 1, released=array("I", [*passed, *self.released]))
                return after, ordinal
            if len(passed) >= _MOST_PASSED:
                break
            passed.append(ordinal)
        cooled = len(self.released) if rules.hot else len(self.released) - len(self.cooling)
        for ordinal in self.released[:cooled]:
            if not self._reserved(ordinal, rules):
                return self._without(ordinal), ordinal
        return None

    def _far(self, rules: Rules) -> tuple[Block, int] | None:
        """As `_next`, from the other end."""
        unused = range(max(self.fresh, self.usable.start), self.usable.stop)
        early = set(self.released)
        for ordinal in unused[: -_MOST_PASSED - 1 : -1]:
            if not (ordinal in self.allocations or ordinal in early or self._reserved(ordinal, rules)):
                return self, ordinal
        cooled = len(self.released) if rules.hot else len(self.released) - len(self.cooling)
        for ordinal in reversed(self.released[:cooled]):
            if not self._reserved(ordinal, rules):
                return self._without(ordinal), ordinal
        return None

    def cooled(self, rules: Rules) -> Block:
        """The block, with what has cooled no longer among what cools."""
        late = rules.now - rules.cooldown
        cooled = next((number for number, since in enumerate(self.cooling) if since > late), len(self.cooling))
        return replace(self, cooling=self.cooling[cooled:]) if cooled else self

    def _without(self, ordinal: int) -> Block:
        """The block with `ordinal` out of its queue, if it was in it."""
        if ordinal not in self.released:
            return self
        at = self.released.index(ordinal)
        cooling, first = self.cooling, len(self.released) - len(self.cooling)
        if at >= first:
            cooling = cooling[: at - first] + cooling[at - first + 1 :]
        return replace(self, released=self.released[:at] + self.released[at + 1 :], cooling=cooling)

    def _reserved(self, ordinal: int, rules: Rules) -> bool:
        return bool(rules.reserved) and any(self.address(ordinal) in each for each in rules.reserved)

    def _nothing_to_give(self, rules: Rules) -> str:
        usable, held = len(self.usable), len(self.allocations)
        if held == usable:
            return f"block {self.cidr} is full: all {usable} usable addresses are in use"
        kept = sum(self._reserved(ordinal, rules) for ordinal in self.released) if rules.reserved else 0
        return (
            f"block {self.cidr} has no address to give: of {usable} usable ones {held} are in use, "
            f"the others are reserved or came back within {rules.cooldown:g} s"
            if not kept
            else f"block {self.cidr} has no address to give: of {usable} usable ones {held} are in use, {kept} reserved"
        )

    def _asked(self, address: AnyAddress, rules: Rules) -> int:
        ordinal = int(address) - int(self.cidr.network_address)
        if address.version != self.cidr.version or ordinal not in self.usable:
            raise AddressTakenError(
                f"{address} cannot be assigned from block {self.cidr}",
                hint=f"choose one of {self.address(self.usable[0])} to {self.address(self.usable[-1])}",
            )
        if ordinal in self.allocations:
            raise AddressTakenError(f"{address} is held by {self.allocations[ordinal].handle}")
        if self._reserved(ordinal, rules):
            raise AddressTakenError(f"{address} is reserved (IPReservation)", hint="choose another address")
        return ordinal


def _moment(seconds: int) -> int:
    """`seconds` of the epoch as they can be stored; a clock that is not set yet, or broken, may tell of any year."""
    return min(max(seconds, 0), _SPAN - 1)


class _StoredBlock(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The JSON in the store; `allocations` by ordinal."""

    cidr: str
    node: str
    fresh: Annotated[int, msgspec.Meta(ge=0)]
    released: list[int]
    allocations: dict[int, Allocation]
    cooling: list[_Seconds] = []


_decoder = msgspec.json.Decoder(_StoredBlock)


def encode(block: Block) -> bytes:
    """The block as the JSON that `decode` reads."""
    return msgspec.json.encode(
        _StoredBlock(
            cidr=str(block.cidr),
            node=block.node,
            fresh=block.fresh,
            released=block.released.tolist(),
            allocations=dict(block.allocations),
            cooling=block.cooling.tolist(),
        )
    )


def decode(data: bytes) -> Block:
    """The block in `data`; raises `BlockFormatError` for what is no block or contradicts itself."""
    try:
        stored = _decoder.decode(data)
        empty = Block(ip_network(stored.cidr), stored.node)
    except ValueError as error:  # msgspec's errors are ValueErrors, as are ipaddress'
        raise _damaged("a stored address block", str(error)) from error
    where = f"the stored address block {stored.cidr}"
    ordinals = [*stored.released, *stored.allocations]
    if len(set(ordinals)) != len(ordinals):
        raise _damaged(where, "an address occurs twice")
    if len({held.handle for held in stored.allocations.values()}) != len(stored.allocations):
        raise _damaged(where, "a handle occurs twice")
    if any(ordinal not in empty.usable for ordinal in ordinals):
        raise _damaged(where, "an address is outside the block")
    if len(stored.cooling) > len(stored.released):
        raise _damaged(where, "more addresses cool than were given back")
    used = range(empty.usable.start, min(stored.fresh, empty.usable.stop))
    if sum(ordinal in used for ordinal in ordinals) != len(used):
        raise _damaged(where, f"an address below {empty.address(used.stop)} is neither held nor given back")
    return replace(
        empty,
        allocations=MappingProxyType(stored.allocations),
        fresh=stored.fresh,
        released=array("I", stored.released),
        cooling=array("I", stored.cooling),
    )


def _damaged(where: str, reason: str) -> BlockFormatError:
    return BlockFormatError(
        f"{where} cannot be read: {reason}",
        hint="another version or another program wrote it: restore the store, or delete its key once no pod uses it",
    )

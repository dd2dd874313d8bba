"""A block of addresses as an immutable value: who holds which address, and which one is given next. Pure.

An address is its ordinal, the distance from the block's first address. Reuse is as late as possible: addresses that
were never used go first, ascending, then those given back, in the order in which they came back. That order is kept
as a mark and a queue, so a block costs what was used of it and not what it could hold.

The first and the last address (the block's network and broadcast address) are never given, except in a /31 or /32
(RFC 3021). Calico gives them and the kernel would carry them, but stacks inside pods may treat them as special. In an
IPv6 block that is the first alone, the routers' anycast address (RFC 4291 section 2.6.1), except in a /127 or /128
(RFC 6164); of one longer than 32 bits the first 2^32 addresses are given.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from types import MappingProxyType
from typing import Annotated

import msgspec

from routed.errors import ConflictError, EnvironmentFault, OperatorError
from routed.model.address import AnyAddress, AnyPrefix, Family

_TINY = 1  # with so many bits or fewer, every address is a host's
_SPAN = 1 << 32  # ordinals fit 4 bytes


class BlockFullError(EnvironmentFault):
    """No address of the block is free; one comes back when a pod goes."""


class AddressTakenError(ConflictError):
    """The address asked for is held by another handle, or cannot be held at all."""


class BlockFormatError(OperatorError):
    """What is stored under a block's key is not a block that this version reads."""


@dataclass(frozen=True, slots=True)
class Allocation:
    """Who holds an address. `handle` is unique in a block; `attributes` say to a person and to the agent for what."""

    handle: str
    attributes: Mapping[str, str] = field(default_factory=dict[str, str])


def _ordinals() -> array[int]:
    return array("I")


@dataclass(frozen=True, slots=True)
class Block:
    """One CIDR of `node`'s and its allocations, by ordinal. Operations return the block as it is afterwards.

    `fresh`: every ordinal from here on was never used, unless it was asked for by name. `released`: the queue of
    those given back, oldest first (an array: 4 bytes each; never changed once the block is made).
    """

    cidr: AnyPrefix
    node: str
    allocations: Mapping[int, Allocation] = field(default_factory=lambda: MappingProxyType[int, Allocation]({}))
    fresh: int = 0
    released: array[int] = field(default_factory=_ordinals)

    @property
    def usable(self) -> range:
        """The ordinals that may be given."""
        size = self.cidr.num_addresses
        if self.cidr.max_prefixlen - self.cidr.prefixlen <= _TINY:
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

    def assign(
        self, handle: str, attributes: Mapping[str, str] | None = None, address: AnyAddress | None = None
    ) -> tuple[Block, AnyAddress]:
        """Give `handle` an address: the one it holds already, else `address`, else the next in order.

        Raises `AddressTakenError` when `address` is another's or none of this block's, or when the handle holds a
        different one; `BlockFullError` when all are held.
        """
        held = self.ordinal(handle)
        if held is not None:
            if address not in (None, self.address(held)):
                raise AddressTakenError(f"{handle} already holds {self.address(held)}, it cannot also hold {address}")
            return self, self.address(held)
        fresh, queue = self.fresh, self.released
        if address is not None:
            ordinal = self._asked(address)
            queue = array("I", (other for other in queue if other != ordinal))
        elif (unused := self._never_used()) is not None:
            ordinal, fresh = unused, unused + 1
        elif queue:
            ordinal, queue = queue[0], queue[1:]
        else:
            raise BlockFullError(
                f"block {self.cidr} is full: all {len(self.usable)} usable addresses are in use",
                hint="remove pods from this node, or give it another podCIDR",
            )
        allocations = {**self.allocations, ordinal: Allocation(handle, dict(attributes or {}))}
        after = replace(self, allocations=MappingProxyType(allocations), fresh=fresh, released=queue)
        return after, self.address(ordinal)

    def release(self, handle: str) -> tuple[Block, AnyAddress | None]:
        """Take back what `handle` holds, to the end of the queue; None when it holds nothing."""
        ordinal = self.ordinal(handle)
        if ordinal is None:
            return self, None
        allocations = {other: held for other, held in self.allocations.items() if other != ordinal}
        queue = array("I", self.released)
        queue.append(ordinal)
        return replace(self, allocations=MappingProxyType(allocations), released=queue), self.address(ordinal)

    def _never_used(self) -> int | None:
        unused = range(max(self.fresh, self.usable.start), self.usable.stop)
        if not unused:
            return None
        early = {ordinal for ordinal in self.released if ordinal in unused}  # asked for by name, then given back
        return next((ordinal for ordinal in unused if ordinal not in self.allocations and ordinal not in early), None)

    def _asked(self, address: AnyAddress) -> int:
        ordinal = int(address) - int(self.cidr.network_address)
        if ordinal not in self.usable:
            raise AddressTakenError(
                f"{address} cannot be assigned from block {self.cidr}",
                hint=f"choose one of {self.address(self.usable[0])} to {self.address(self.usable[-1])}",
            )
        if ordinal in self.allocations:
            raise AddressTakenError(f"{address} is held by {self.allocations[ordinal].handle}")
        return ordinal


class _StoredAllocation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    handle: str
    attributes: dict[str, str] = {}


class _StoredBlock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON in the store; `allocations` by ordinal."""

    cidr: str
    node: str
    fresh: Annotated[int, msgspec.Meta(ge=0)]
    released: list[int]
    allocations: dict[int, _StoredAllocation]


_decoder = msgspec.json.Decoder(_StoredBlock)


def encode(block: Block) -> bytes:
    """The block as the JSON that `decode` reads."""
    return msgspec.json.encode(
        _StoredBlock(
            cidr=str(block.cidr),
            node=block.node,
            fresh=block.fresh,
            released=block.released.tolist(),
            allocations={
                ordinal: _StoredAllocation(held.handle, dict(held.attributes))
                for ordinal, held in block.allocations.items()
            },
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
    used = range(empty.usable.start, min(stored.fresh, empty.usable.stop))
    if sum(ordinal in used for ordinal in ordinals) != len(used):
        raise _damaged(where, f"an address below {empty.address(used.stop)} is neither held nor given back")
    allocations = {ordinal: Allocation(held.handle, held.attributes) for ordinal, held in stored.allocations.items()}
    return replace(
        empty,
        allocations=MappingProxyType(allocations),
        fresh=stored.fresh,
        released=array("I", stored.released),
    )


def _damaged(where: str, reason: str) -> BlockFormatError:
    return BlockFormatError(
        f"{where} cannot be read: {reason}",
        hint="another version or another program wrote it: restore the store, or delete its key once no pod uses it",
    )

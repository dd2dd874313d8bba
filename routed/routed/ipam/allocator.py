"""Durable assignment of this node's addresses: blocks in memory, one compare-and-swap transaction per change.

A change is computed from the block in memory (`routed.ipam.block`), written under the condition that the store still
holds that very block, and becomes visible here when the store has it. Whoever else wrote in between (a cleanup, a
former agent on its way out) makes the condition fail; then the block is read again and the change computed anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from routed.errors import ConflictError, EnvironmentFault, OperatorError
from routed.ipam.block import Allocation, Block, BlockFormatError, BlockFullError, decode, encode
from routed.model.address import Address, AnyAddress, AnyPrefix, Family
from routed.store import Compare, Delete, Put, Store

PREFIX = "/routed/v1/ipam/blocks/"
_log = logging.getLogger(__name__)
_ATTEMPTS = 16  # of one change; each lost one means that somebody else's was written


def key(cidr: AnyPrefix) -> str:
    """Where the block of `cidr` is kept in the store."""
    return PREFIX + str(cidr).replace("/", "-")


@dataclass(frozen=True, slots=True)
class _Held:
    """A block as the store holds it; `mod_revision` 0 when it does not hold it yet."""

    block: Block
    mod_revision: int


class Allocator:
    """Addresses out of the blocks of `node`.

    A handle holds at most one address of a family. Blocks that are no longer the node's (`set_blocks`) give no new
    addresses but keep those in use, over restarts too: the stored block names its node. All methods but `allocations`
    are for one event loop and may be called concurrently. They raise EnvironmentFault, with nothing changed, when the
    store cannot be reached, and ConflictError when another node holds addresses of a block of ours.
    """

    def __init__(self, store: Store, blocks: Sequence[AnyPrefix] = (), *, node: str) -> None:
        self._store = store
        self._own: tuple[AnyPrefix, ...] = tuple(blocks)
        self._node = node
        self._held: dict[AnyPrefix, _Held] = {}
        self._stale = True
        self._lock = asyncio.Lock()

    async def load(self) -> None:
        """Read the blocks from the store; the other methods do so by themselves if it was not done."""
        async with self._lock:
            await self._load()

    async def set_blocks(self, blocks: Sequence[AnyPrefix]) -> None:
        """From now on assign from `blocks`, the first with a free address first.

        When this raises for an unreachable store, the blocks change all the same, with the next call that reaches it;
        when it raises for another node's or a damaged block, they stay as they were.
        """
        async with self._lock:
            before, self._own = self._own, tuple(blocks)
            self._stale = True
            try:
                await self._load()
            except OperatorError:
                self._own = before
                raise

    def allocations(self) -> Mapping[AnyAddress, Allocation]:
        """Who holds what, as last read or written: empty before the first read."""
        return {
            held.block.address(ordinal): allocation
            for held in self._held.values()
            for ordinal, allocation in held.block.allocations.items()
        }

    async def assign(
        self,
        handle: str,
        attributes: Mapping[str, str] | None = None,
        address: Address | None = None,
    ) -> Address:
        """Give `handle` an IPv4 address durably: what it holds already, else `address`, else the next free one.

        Raises `AddressTakenError`, or `BlockFullError` when no block has a free address.
        """
        async with self._lock:
            given = await self._assign(handle, attributes, lambda: (Family.IPV4,), address)
        return next(each for each in given if isinstance(each, Address))

    async def assign_each(self, handle: str, attributes: Mapping[str, str] | None = None) -> tuple[AnyAddress, ...]:
        """Give `handle` an address of each family that the node has blocks of, IPv4 first: all at once, or none.

        What it holds already it keeps. Raises `BlockFullError` when one family has no free address.
        """
        async with self._lock:
            return await self._assign(handle, attributes, lambda: self._families(handle))

    async def release(self, handle: str) -> tuple[AnyAddress, ...]:
        """Take back durably what `handle` holds, which is returned."""
        async with self._lock:
            for _ in range(_ATTEMPTS):
                await self._load()
                changes: list[tuple[_Held, Block]] = []
                given: list[AnyAddress] = []
                for held in self._held.values():
                    after, address = held.block.release(handle)
                    if address is not None:
                        changes.append((held, after))
                        given.append(address)
                if not changes or await self._write(changes):
                    return tuple(given)
            raise _contended(handle)

    async def _assign(
        self,
        handle: str,
        attributes: Mapping[str, str] | None,
        families: Callable[[], Sequence[Family]],
        address: AnyAddress | None = None,
    ) -> tuple[AnyAddress, ...]:
        for _ in range(_ATTEMPTS):
            await self._load()
            changes: list[tuple[_Held, Block]] = []
            given: list[AnyAddress] = []
            for family in families():
                held = self._choose(handle, family, address)
                after, found = held.block.assign(handle, attributes, address)
                given.append(found)
                if after is not held.block:
                    changes.append((held, after))
            if not changes or await self._write(changes):
                return tuple(given)
        raise _contended(handle)

    def _families(self, handle: str) -> tuple[Family, ...]:
        """Of which `handle` is to have an address; IPv4 where there is nothing to give, which is then what is told."""
        own = {Family.of(cidr) for cidr in self._own}
        own |= {held.block.family for held in self._held.values() if held.block.ordinal(handle) is not None}
        return tuple(family for family in Family if family in own) or (Family.IPV4,)

    def _choose(self, handle: str, family: Family, address: AnyAddress | None) -> _Held:
        holding = self._find(lambda block: block.family is family and block.ordinal(handle) is not None)
        if holding is not None:
            return holding
        own = [cidr for cidr in self._own if Family.of(cidr) is family]
        if not own:
            raise BlockFullError(
                f"node {self._node} has no addresses to give",
                hint=f"apply the Node {self._node} with spec.podCIDRs in an IPPool that is not disabled",
            )
        if address is not None:
            named = self._find(lambda block: block.cidr in own and address in block.cidr)
            if named is None:
                raise ConflictError(
                    f"{address} is in no block of node {self._node}",
                    hint=f"choose one from {', '.join(map(str, own))}",
                )
            return named
        free = self._find(lambda block: block.cidr in own and block.free > 0)
        if free is None:
            usable = sum(len(self._held[cidr].block.usable) for cidr in own)
            raise BlockFullError(
                f"no free address on node {self._node}: all {usable} usable addresses of "
                f"{', '.join(map(str, own))} are in use",
                hint="remove pods from this node, or give it another podCIDR",
            )
        return free

    def _find(self, wanted: Callable[[Block], bool]) -> _Held | None:
        return next((held for held in self._held.values() if wanted(held.block)), None)

    async def _load(self) -> None:
        """Bring memory up to the store if it may be behind."""
        if not self._stale:
            return
        own_keys = {key(cidr) for cidr in self._own}
        stored: dict[str, _Held] = {}
        for item in (await self._store.range(PREFIX)).items:
            try:
                stored[item.key] = _Held(decode(item.value), item.mod_revision)
            except BlockFormatError as error:
                if item.key in own_keys:
                    raise
                _log.warning("%s: %s", item.key, error)  # most likely another node's: its damage must not stop us
        mine = {held.block.cidr: held for held in stored.values() if held.block.node == self._node}
        own: dict[AnyPrefix, _Held] = {}
        for cidr in self._own:
            held = stored.get(key(cidr), _Held(Block(cidr, self._node), 0))
            if held.block.node != self._node:
                if held.block.allocations:
                    raise ConflictError(
                        f"block {cidr} of node {self._node} is in use by node {held.block.node} "
                        f"({len(held.block.allocations)} addresses)",
                        hint="give each node its own podCIDR, or remove the other node's pods first",
                    )
                held = _Held(Block(cidr, self._node), held.mod_revision)  # given up by the other: taken over
            own[cidr] = held
        # own blocks first, in the order given: that is the order in which they are tried
        self._held = own | {cidr: held for cidr, held in mine.items() if cidr not in own}
        self._stale = False

    async def _write(self, changes: Sequence[tuple[_Held, Block]]) -> bool:
        """Put blocks in the place of what is held; False, and memory is to be read again, when the store has others."""
        conditions: list[Compare] = []
        writes: list[Put | Delete] = []
        for before, after in changes:
            where = key(after.cidr)
            conditions.append(Compare(where, before.mod_revision))
            writes.append(Delete(where) if self._retired(after) else Put(where, encode(after)))
        self._stale = True  # until it is known what the store did: a failed or cancelled call may have been carried out
        done = await self._store.txn(conditions, writes)
        if not done.succeeded:
            return False
        for _, after in changes:
            if self._retired(after):
                del self._held[after.cidr]
            else:
                self._held[after.cidr] = _Held(after, done.revision)
        self._stale = False
        return True

    def _retired(self, block: Block) -> bool:
        return block.cidr not in self._own and not block.allocations


def _contended(handle: str) -> EnvironmentFault:
    return EnvironmentFault(
        f"the address of {handle} could not be recorded: other writers changed its block {_ATTEMPTS} times meanwhile",
        hint="check that no second agent runs as this node",
    )

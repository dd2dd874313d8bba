"""Durable assignment of this node's addresses: blocks in memory, changes in compare-and-swap transactions.

A change is computed from the blocks in memory (`routed.ipam.block`), written under the condition that the store still
holds those very blocks, and becomes visible here when the store has it. Whoever else wrote in between (a node that
borrows, a cleanup, a former agent on its way out) makes the condition fail; then the blocks are read again and the
change computed anew. What is asked for while a transaction is under way goes into the next one together.

Where an address comes from, in this order: a block of the node's own; a block that it claims; an address of its own
that still cools; a block of another node, unless `strictAffinity`. A node with podCIDRs has these and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from routed.errors import ConflictError, EnvironmentFault, OperatorError, RoutedError
from routed.ipam.block import Allocation, Block, BlockFullError, Rules
from routed.ipam.claims import FreeBlocks, to_give_back
from routed.ipam.holdings import Held, Holdings
from routed.ipam.keys import PREFIX, key
from routed.ipam.wish import ANYTHING, Refusal, Wish, eligible, named
from routed.model.address import Address, AnyAddress, AnyPrefix, Family
from routed.model.cluster import Cluster
from routed.model.ipam import BlockState
from routed.model.prefixes import inside
from routed.model.resources import IPPool
from routed.store import Store

__all__ = ["PREFIX", "Allocator", "key"]

T = TypeVar("T")
_log = logging.getLogger(__name__)
_ATTEMPTS = 16  # of one transaction; each lost one means that somebody else's was written
_MOST_TOGETHER = 256  # changes in one transaction
COOLDOWN_SECONDS = 30.0  # connections to the pod before are forgotten by then, and its routes withdrawn
_LOOK_AGAIN_SECONDS = 5.0  # for room in others' blocks, when there was none


@dataclass(slots=True)
class _Draft:
    """The changes of one transaction, as far as they are computed. `read` are blocks of others."""

    holdings: Holdings
    changed: dict[AnyPrefix, Block] = field(default_factory=dict[AnyPrefix, Block])
    read: dict[AnyPrefix, Held] = field(default_factory=dict[AnyPrefix, Held])

    def blocks(self) -> Iterator[Block]:
        """All blocks of the node, changed ones as they are to be."""
        for cidr, held in [*self.holdings.blocks.items(), *self.read.items()]:
            yield self.changed.get(cidr, held.block)

    def of(self, handle: str, node: str) -> Iterator[Block]:
        """The blocks of which `handle` has an address on `node`."""
        for cidr in {*self.holdings.where(handle), *self.changed}:
            block = self.changed.get(cidr) or self.held(cidr).block
            ordinal = block.ordinal(handle)
            if ordinal is not None and block.node_of(ordinal) == node:
                yield block

    def held(self, cidr: AnyPrefix) -> Held:
        """As the store has it."""
        return self.holdings.blocks.get(cidr) or self.read[cidr]


_Change = Callable[[_Draft], Awaitable[Any]]


class Allocator:
    """Addresses for `node`, of `blocks` or, once a cluster is adopted, of what that gives the node.

    A handle holds at most one address of a family. Blocks that are no longer the node's give no new addresses but keep
    those in use, over restarts too. All methods but `allocations` are for one event loop and may be called
    concurrently. They raise EnvironmentFault, with nothing changed, when the store cannot be reached, and ConflictError
    when another node holds addresses of a podCIDR of ours. `clock` gives seconds of the epoch.
    """

    def __init__(
        self,
        store: Store,
        blocks: Sequence[AnyPrefix] = (),
        *,
        node: str,
        cooldown: float = COOLDOWN_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._node = node
        self._cooldown = cooldown
        self._clock = clock
        self._holdings = Holdings(store, node)
        self._holdings.static = tuple(blocks)
        self.cluster = Cluster()  # as adopted last
        self._cluster: Cluster | None = None  # the same, unless the node has podCIDRs: then nothing is claimed
        self._reserved: tuple[AnyPrefix, ...] = ()
        self._free: dict[str, FreeBlocks] = {}  # by pool, as of the cluster
        self._pools: dict[AnyPrefix, str] = {}  # by block of ours
        self._lost: set[AnyPrefix] = set()  # blocks that somebody has, as became known since
        self._others: dict[str, list[AnyPrefix]] = {}  # claimed blocks of others, by pool
        self._next: dict[str, int] = {}  # of those, where room was found last
        self._no_room: dict[str, float] = {}  # when there was none
        self._lock = asyncio.Lock()
        self._queue: list[tuple[_Change, asyncio.Future[Any]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Read the blocks from the store; the other methods do so by themselves if it was not done."""
        async with self._lock:
            await self._holdings.load()

    async def set_blocks(self, blocks: Sequence[AnyPrefix]) -> None:
        """From now on assign from `blocks`, the first with a free address first.

        When this raises for an unreachable store, the blocks change all the same, with the next call that reaches it;
        when it raises for another node's or a damaged block, they stay as they were.
        """
        async with self._lock:
            before, self._holdings.static = self._holdings.static, tuple(blocks)
            self._holdings.stale = True
            try:
                await self._holdings.load()
            except OperatorError:
                self._holdings.static = before
                raise

    async def adopt(self, cluster: Cluster) -> None:
        """From now on assign from what `cluster` gives the node. Raises as `set_blocks` does."""
        stated = cluster.assignable(self._node)
        known = {cidr for cidr, held in self._holdings.blocks.items() if held.affinity and not held.leaving}
        confirmed = {
            cidr
            for cidr, claim in cluster.affinities.items()
            if claim.node == self._node and claim.state is BlockState.CONFIRMED
        }
        if stated != self._holdings.static or self._cluster is None or confirmed - known:
            await self.set_blocks(stated)
        has_own = self._node in cluster.nodes and bool(cluster.nodes[self._node].spec.pod_cidrs)
        self._cluster = None if has_own or self._node not in cluster.nodes else cluster
        self.cluster, self._reserved = cluster, cluster.reserved
        self._free, self._others, self._no_room, self._pools = {}, {}, {}, {}
        self._lost.clear()

    def allocations(self) -> Mapping[AnyAddress, Allocation]:
        """Who on this node holds what, as last read or written: empty before the first read. The same object until that
        changes.
        """
        return self._holdings.allocations()

    def held_by(self, handle: str) -> tuple[AnyAddress, ...]:
        """What `handle` holds on this node, as last read or written."""
        return tuple(address for address, held in self.allocations().items() if held.handle == handle)

    def borrowed(self) -> tuple[AnyAddress, ...]:
        """The addresses on this node that are of other nodes' blocks."""
        return tuple(address for address, held in self.allocations().items() if held.node)

    async def assign(
        self,
        handle: str,
        attributes: Mapping[str, str] | None = None,
        address: Address | None = None,
        *,
        wish: Wish = ANYTHING,
    ) -> Address:
        """Give `handle` an IPv4 address durably: what it holds already, else `address`, else the next free one.

        Raises `AddressTakenError`, or `BlockFullError` when no block has a free address.
        """
        if address is not None:
            wish = Wish({Family.IPV4: address}, wish.pools, use=wish.use, said=wish.said)
        given = await self._change(lambda draft: self._assign(draft, handle, attributes, (Family.IPV4,), wish))
        return next(each for each in given if isinstance(each, Address))

    async def assign_each(
        self, handle: str, attributes: Mapping[str, str] | None = None, wish: Wish = ANYTHING
    ) -> tuple[AnyAddress, ...]:
        """Give `handle` an address of each family that is wanted or there, IPv4 first: all at once, or none.

        What it holds already it keeps. Raises `BlockFullError` when one family has no free address, OperatorError for
        what cannot be had.
        """
        return await self._change(
            lambda draft: self._assign(draft, handle, attributes, self._families(draft, handle, wish), wish)
        )

    async def release(self, *handles: str) -> tuple[AnyAddress, ...]:
        """Take back durably what `handles` hold on this node, all at once; that is returned."""
        return await self._change(lambda draft: self._release(draft, handles))

    async def tend(self) -> None:
        """Give back claimed blocks that are not needed: withdraw them, and delete those that were withdrawn before."""
        async with self._lock:
            await self._holdings.load()
            await self._holdings.give_back()
            await self._holdings.load()
            claimed = [held for held in self._holdings.blocks.values() if held.affinity and not held.leaving]
            wanted = [held.block.cidr for held in claimed if self._serves(held.block.cidr)]
            now = self._rules()
            idle = to_give_back([held.block.cooled(now) for held in claimed], wanted)
            await self._holdings.withdraw(idle)

    # ---- transactions

    async def _change(self, change: Callable[[_Draft], Awaitable[T]]) -> T:
        """Have `change` made in the next transaction. When the caller is cancelled it may be made all the same."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.append((change, future))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_all(), name="ipam")
        return cast("T", await future)

    async def _write_all(self) -> None:
        while self._queue:
            async with self._lock:
                batch, self._queue = self._queue[:_MOST_TOGETHER], self._queue[_MOST_TOGETHER:]
                batch = [(change, future) for change, future in batch if not future.done()]
                try:
                    outcomes = await self._write(batch)
                except asyncio.CancelledError:
                    for _, future in [*batch, *self._queue]:
                        future.cancel()
                    raise
                except Exception as error:  # noqa: BLE001  every caller is told
                    outcomes = [error] * len(batch)
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                _tell(future, outcome)

    async def _write(self, batch: Sequence[tuple[_Change, asyncio.Future[Any]]]) -> list[Any]:
        """What became of each change: its result, or its error."""
        for _ in range(_ATTEMPTS):
            await self._holdings.load()
            draft = _Draft(self._holdings)
            outcomes: list[Any] = []
            for change, _ in batch:
                try:
                    outcomes.append(await change(draft))
                except RoutedError as error:
                    outcomes.append(error)
            if self._holdings.stale:
                continue
            if not draft.changed or await self._holdings.write(draft.changed, draft.read):
                return outcomes
        raise EnvironmentFault(
            f"{len(batch)} changes of addresses could not be recorded: other writers changed their blocks {_ATTEMPTS} "
            "times meanwhile",
            hint="check that no second agent runs as this node",
        )

    async def _release(self, draft: _Draft, handles: Sequence[str]) -> tuple[AnyAddress, ...]:
        given: list[AnyAddress] = []
        for handle in handles:
            for block in list(draft.of(handle, self._node)):
                after, address = block.release(handle, now=self._clock())
                draft.changed[block.cidr] = after
                given += () if address is None else (address,)
        return tuple(sorted(given, key=lambda address: (address.version, address)))

    async def _assign(
        self,
        draft: _Draft,
        handle: str,
        attributes: Mapping[str, str] | None,
        families: Sequence[Family],
        wish: Wish,
    ) -> tuple[AnyAddress, ...]:
        given: list[AnyAddress] = []
        after: dict[AnyPrefix, Block] = {}
        for family in families:
            block, address = await self._place(draft, handle, attributes, family, wish)
            given.append(address)
            after[block.cidr] = block
        draft.changed |= {cidr: block for cidr, block in after.items() if block is not draft.held(cidr).block}
        return tuple(given)

    # ---- where an address comes from

    def _families(self, draft: _Draft, handle: str, wish: Wish) -> tuple[Family, ...]:
        """Of which `handle` is to have an address; IPv4 where there is nothing to give, which is then what is told."""
        if wish.families is not None:
            return wish.families
        has = {block.family for block in draft.of(handle, self._node)}
        has |= {Family.of(cidr) for cidr in self._holdings.static} | wish.addresses.keys() | wish.pools.keys()
        if self._cluster is not None:
            has |= {family for family in Family if eligible(self._cluster, self._node, family, wish)[0]}
        return tuple(family for family in Family if family in has) or (Family.IPV4,)

    async def _place(
        self, draft: _Draft, handle: str, attributes: Mapping[str, str] | None, family: Family, wish: Wish
    ) -> tuple[Block, AnyAddress]:
        """The block with an address of `family` given to `handle`, and that address."""
        address, rules = wish.addresses.get(family), self._rules()

        def give(block: Block, by: Rules = rules) -> tuple[Block, AnyAddress]:
            return block.assign(handle, attributes, address, node=self._node, rules=by)

        def first(blocks: Sequence[Block], by: Rules = rules) -> tuple[Block, AnyAddress] | None:
            for block in blocks:
                if block.free:
                    with suppress(BlockFullError):
                        return give(block, by)
            return None

        for block in draft.of(handle, self._node):
            if block.family is family:
                return give(block)
        if address is not None:
            return give(await self._block_with(draft, address))
        if self._cluster is None:
            own = self._stated(draft, family, wish)
            found = first(own) or first(own, self._rules(hot=True))
            if found is None:
                raise self._stated_full(own)
            return found
        pools, refusals = eligible(self._cluster, self._node, family, wish)
        own = self._own(draft, pools)
        if found := first(own):
            return found
        for pool in pools:
            if why := self._no_claim(draft, family):
                refusals.append(Refusal(pool.name, why))
            elif (claimed := await self._claim(pool)) is None:
                refusals.append(Refusal(pool.name, f"all blocks of {pool.spec.cidr} are claimed"))
            elif found := first([claimed]):
                return found
        if found := first(own, self._rules(hot=True)) or await self._borrow(draft, pools, refusals, first):
            return found
        why = "; ".join(map(str, refusals)) or f"there is no IPv{4 if family is Family.IPV4 else 6} pool"
        raise BlockFullError(
            f"no free address for {handle} on node {self._node}: {why}",
            hint="add an IPPool, or remove pods; `routed ipam show` tells how full each pool is",
        )

    def _rules(self, *, hot: bool = False) -> Rules:
        return Rules(self._clock(), self._cooldown, self._reserved, hot)

    def _own(self, draft: _Draft, pools: Sequence[IPPool]) -> list[Block]:
        """The claimed blocks in `pools`, in the order of these."""
        blocks = [block for block in draft.blocks() if (held := draft.held(block.cidr)).affinity and not held.leaving]
        return [block for pool in pools for block in blocks if self._pool_of(block.cidr) == pool.name]

    def _pool_of(self, cidr: AnyPrefix) -> str:
        """The name of the pool that `cidr` is of; empty: none. Looked up once, as it is asked for every address."""
        if cidr not in self._pools:
            pool = self.cluster.pool(cidr)
            self._pools[cidr] = pool.name if pool is not None else ""
        return self._pools[cidr]

    def _serves(self, cidr: AnyPrefix) -> bool:
        """Whether addresses of this claimed block may be given to whoever asks for nothing in particular."""
        if self._cluster is None:
            return False
        pools, _ = eligible(self._cluster, self._node, Family.of(cidr), ANYTHING)
        return any(inside(cidr, pool.spec.cidr) for pool in pools)

    def _no_claim(self, draft: _Draft, family: Family) -> str | None:
        """Why the node may not claim one more block, if so."""
        assert self._cluster is not None
        rules = self._cluster.ipam
        mine = sum(bool(held.affinity) for cidr, held in draft.holdings.blocks.items() if Family.of(cidr) is family)
        if not rules.auto_allocate_blocks:
            return "nodes claim no blocks (autoAllocateBlocks is false)"
        if rules.max_blocks_per_host and mine >= rules.max_blocks_per_host:
            return f"the node has its {mine} blocks (maxBlocksPerHost), and they are full"
        return None

    async def _claim(self, pool: IPPool, address: AnyAddress | None = None) -> Block | None:
        """A block of `pool` that is ours from now on, the one with `address` if given; None: there is none to claim."""
        assert self._cluster is not None
        spec = pool.spec
        if pool.name not in self._free:
            nodes = self._cluster.nodes.values()
            taken = [*self._cluster.affinities, *(cidr for node in nodes for cidr in node.spec.pod_cidrs)]
            self._free[pool.name] = FreeBlocks(spec.cidr, spec.block_length, [*taken, *self._wholly_reserved(pool)])
        candidates = self._free[pool.name].around(self._node, but=self._lost)
        if address is not None:
            network = type(spec.cidr)((int(address), spec.block_length), strict=False)
            candidates = iter([network])
        for cidr in candidates:
            held = await self._holdings.claim(cidr, pool)
            self._lost.add(cidr)
            if held is not None:
                _log.info("node %s has claimed %s of IPPool %s", self._node, cidr, pool.name)
                return held.block
        return None

    def _wholly_reserved(self, pool: IPPool) -> list[AnyPrefix]:
        return [cidr for cidr in self._reserved if cidr.prefixlen <= pool.spec.block_length]

    async def _borrow(
        self,
        draft: _Draft,
        pools: Sequence[IPPool],
        refusals: list[Refusal],
        first: Callable[[Sequence[Block]], tuple[Block, AnyAddress] | None],
    ) -> tuple[Block, AnyAddress] | None:
        """Of a block that another node has. Where one was found is where the next one is looked for."""
        assert self._cluster is not None
        if self._cluster.ipam.strict_affinity:
            refusals += [Refusal(pool.name, "nothing is borrowed of other nodes (strictAffinity)") for pool in pools]
            return None
        borrowed = [block for block in draft.blocks() if not draft.held(block.cidr).affinity]
        for pool in pools:
            if found := first([block for block in borrowed if inside(block.cidr, pool.spec.cidr)]):
                return found
            others = self._others_in(pool)
            since = self._clock() - self._no_room.get(pool.name, -1e9)
            start = self._next.get(pool.name, 0)
            for step in range(len(others) if not 0 <= since < _LOOK_AGAIN_SECONDS else 0):
                at = (start + step) % len(others)
                cidr = others[at]
                if cidr in draft.holdings.blocks or cidr in draft.read:
                    continue
                held = await self._holdings.borrow_from(cidr)
                if held is not None and (found := first([held.block])):
                    draft.read[cidr] = held
                    self._next[pool.name] = at
                    return found
            self._no_room.setdefault(pool.name, self._clock())
            if since >= _LOOK_AGAIN_SECONDS:
                self._no_room[pool.name] = self._clock()
            refusals.append(Refusal(pool.name, f"no other node's block of {pool.spec.cidr} has a free address"))
        return None

    def _others_in(self, pool: IPPool) -> list[AnyPrefix]:
        assert self._cluster is not None
        if pool.name not in self._others:
            self._others[pool.name] = [
                cidr
                for cidr, claim in self._cluster.affinities.items()
                if claim.state is BlockState.CONFIRMED and claim.node != self._node and inside(cidr, pool.spec.cidr)
            ]
        return self._others[pool.name]

    # ---- by name, and podCIDRs

    async def _block_with(self, draft: _Draft, address: AnyAddress) -> Block:
        """The block that is to give `address`: ours, claimed for it, or another node's."""
        if self._cluster is None:
            own = self._stated(draft, Family.of(address), ANYTHING)
            found = next((block for block in own if address in block.cidr), None)
            if found is None:
                listed = ", ".join(str(block.cidr) for block in own)
                raise ConflictError(
                    f"{address} is in no block of node {self._node}", hint=f"choose one from {listed or 'its podCIDRs'}"
                )
            return found
        pool = next((pool for pool in self._cluster.pools.values() if address in pool.spec.cidr), None)
        if pool is None:
            listed = ", ".join(f"{pool.name} {pool.spec.cidr}" for pool in self._cluster.pools.values()) or "none"
            raise ConflictError(f"{address} is in no IPPool", hint=f"choose one from a pool ({listed})")
        if pool.spec.disabled:
            raise ConflictError(f"{address} is of IPPool {pool.name}, which is disabled", hint="choose another pool")
        if reserved := next((cidr for cidr in self._reserved if address in cidr), None):
            raise ConflictError(f"{address} is reserved (IPReservation {reserved})", hint="choose another address")
        for block in draft.blocks():
            if address in block.cidr:
                return self._lent(block, address, draft)
        if not self._no_claim(draft, Family.of(address)):
            claimed = await self._claim(pool, address)
            if claimed is not None:
                return claimed
        cidr = type(pool.spec.cidr)((int(address), pool.spec.block_length), strict=False)
        held = await self._holdings.borrow_from(cidr)
        if held is None:
            raise EnvironmentFault(f"the block {cidr} of {address} cannot be claimed by node {self._node} now")
        draft.read[cidr] = held
        return self._lent(held.block, address, draft)

    def _lent(self, block: Block, address: AnyAddress, draft: _Draft) -> Block:
        """`block`, if addresses of it may be given here."""
        assert self._cluster is not None
        if self._cluster.ipam.strict_affinity and not draft.held(block.cidr).affinity:
            raise ConflictError(
                f"{address} is in the block {block.cidr} of node {block.node}, and strictAffinity lets no other use it",
                hint="choose an address of this node's blocks, or let the pod run there",
            )
        return block

    def _stated(self, draft: _Draft, family: Family, wish: Wish) -> list[Block]:
        """The podCIDRs of `family`, those in the pools that are asked for."""
        blocks = [block for block in draft.blocks() if block.cidr in self._holdings.static and block.family is family]
        asked = wish.pools.get(family)
        if asked is None:
            return blocks
        ranges = [pool.spec.cidr for pool in named(self.cluster, family, wish)]
        return [block for each in ranges for block in blocks if inside(block.cidr, each)]

    def _stated_full(self, own: Sequence[Block]) -> BlockFullError:
        if not own:
            return BlockFullError(
                f"node {self._node} has no addresses to give",
                hint=f"apply the Node {self._node} with spec.podCIDRs in an IPPool that is not disabled",
            )
        usable, listed = sum(len(block.usable) for block in own), ", ".join(str(block.cidr) for block in own)
        return BlockFullError(
            f"no free address on node {self._node}: all {usable} usable addresses of {listed} are in use or reserved",
            hint="remove pods from this node, or give it another podCIDR",
        )


def _tell(future: asyncio.Future[Any], outcome: object) -> None:
    if future.done():
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)

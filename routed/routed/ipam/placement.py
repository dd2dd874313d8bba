"""Where an address comes from, for one node: which block gives it, is claimed for it, or is borrowed of.

In this order: a block of the node's own; a block that it claims; an address of its own that still cools; a block of
another node, unless `strictAffinity`. A node with podCIDRs has these and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from routed.errors import ConflictError, EnvironmentFault
from routed.ipam.absence import Absence
from routed.ipam.block import Block, BlockFullError, Rules
from routed.ipam.claims import FreeBlocks
from routed.ipam.draft import Draft
from routed.ipam.holdings import Holdings
from routed.ipam.wish import ANYTHING, Refusal, Wish, eligible, named
from routed.model.address import AnyAddress, AnyPrefix, Family
from routed.model.cluster import Cluster
from routed.model.ipam import BlockState
from routed.model.prefixes import inside
from routed.model.resources import IPPool

_log = logging.getLogger(__name__)
_LOOK_AGAIN_SECONDS = 5.0  # for room in others' blocks, when there was none


class Placement:
    """See the module; for one task at a time. `clock` gives seconds of the epoch, addresses cool for `cooldown` s."""

    def __init__(
        self, node: str, holdings: Holdings, absence: Absence, cooldown: float, clock: Callable[[], float]
    ) -> None:
        self._node = node
        self._holdings = holdings
        self._absence = absence
        self._cooldown = cooldown
        self._clock = clock
        self.cluster = Cluster()  # as adopted last
        self._cluster: Cluster | None = None  # the same, unless the node has podCIDRs: then nothing is claimed
        self._reserved: tuple[AnyPrefix, ...] = ()
        self._free: dict[str, FreeBlocks] = {}  # by pool, as of the cluster
        self._pools: dict[AnyPrefix, str] = {}  # by block of ours
        self._lost: set[AnyPrefix] = set()  # blocks that somebody has, as became known since
        self._others: dict[str, list[AnyPrefix]] = {}  # claimed blocks of others, by pool
        self._next: dict[str, int] = {}  # of those, where room was found last
        self._no_room: dict[str, float] = {}  # when there was none

    @property
    def claims(self) -> bool:
        """Whether the node claims blocks of pools, as it does without podCIDRs."""
        return self._cluster is not None

    def adopt(self, cluster: Cluster) -> None:
        """From now on decide by `cluster`."""
        has_own = self._node in cluster.nodes and bool(cluster.nodes[self._node].spec.pod_cidrs)
        self._cluster = None if has_own or self._node not in cluster.nodes else cluster
        self.cluster, self._reserved = cluster, cluster.reserved
        self._free, self._others, self._no_room, self._pools = {}, {}, {}, {}
        self._lost.clear()

    def families(self, draft: Draft, handle: str, wish: Wish) -> tuple[Family, ...]:
        """Of which `handle` is to have an address; IPv4 where there is nothing to give, which is then what is told."""
        if wish.families is not None:
            return wish.families
        has = {block.family for block in draft.of(handle, self._node)}
        has |= {Family.of(cidr) for cidr in self._holdings.static} | wish.addresses.keys() | wish.pools.keys()
        if self._cluster is not None:
            has |= {family for family in Family if eligible(self._cluster, self._node, family, wish)[0]}
        return tuple(family for family in Family if family in has) or (Family.IPV4,)

    async def place(
        self, draft: Draft, handle: str, attributes: Mapping[str, str] | None, family: Family, wish: Wish
    ) -> tuple[Block, AnyAddress]:
        """The block with an address of `family` given to `handle`, and that address."""
        address, rules = wish.addresses.get(family), self.rules()

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
            found = first(own) or first(own, self.rules(hot=True))
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
        if found := first(own, self.rules(hot=True)) or await self._borrow(draft, pools, refusals, first):
            return found
        why = "; ".join(map(str, refusals)) or f"there is no IPv{4 if family is Family.IPV4 else 6} pool"
        raise BlockFullError(
            f"no free address for {handle} on node {self._node}: {why}",
            hint="add an IPPool, or remove pods; `routed ipam show` tells how full each pool is",
        )

    def rules(self, *, hot: bool = False) -> Rules:
        """What holds now; `hot`: what still cools may be given."""
        return Rules(self._clock(), self._cooldown, self._reserved, hot, far=self._absence.away)

    def _own(self, draft: Draft, pools: Sequence[IPPool]) -> list[Block]:
        """The claimed blocks in `pools`, in the order of these."""
        blocks = [block for block in draft.blocks() if (held := draft.held(block.cidr)).affinity and not held.leaving]
        return [block for pool in pools for block in blocks if self._pool_of(block.cidr) == pool.name]

    def _pool_of(self, cidr: AnyPrefix) -> str:
        """The name of the pool that `cidr` is of; empty: none. Looked up once, as it is asked for every address."""
        if cidr not in self._pools:
            pool = self.cluster.pool(cidr)
            self._pools[cidr] = pool.name if pool is not None else ""
        return self._pools[cidr]

    def serves(self, cidr: AnyPrefix) -> bool:
        """Whether addresses of this claimed block may be given to whoever asks for nothing in particular."""
        if self._cluster is None:
            return False
        pools, _ = eligible(self._cluster, self._node, Family.of(cidr), ANYTHING)
        return any(inside(cidr, pool.spec.cidr) for pool in pools)

    def _no_claim(self, draft: Draft, family: Family) -> str | None:
        """Why the node may not claim one more block, if so."""
        assert self._cluster is not None
        rules = self._cluster.ipam
        mine = sum(bool(held.affinity) for cidr, held in draft.holdings.blocks.items() if Family.of(cidr) is family)
        if self._absence.away:
            return "no block can be claimed while the store is away"
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
        draft: Draft,
        pools: Sequence[IPPool],
        refusals: list[Refusal],
        first: Callable[[Sequence[Block]], tuple[Block, AnyAddress] | None],
    ) -> tuple[Block, AnyAddress] | None:
        """Of a block that another node has. Where one was found is where the next one is looked for."""
        assert self._cluster is not None
        if self._absence.away:
            return None
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

    async def _block_with(self, draft: Draft, address: AnyAddress) -> Block:
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
        if self._absence.away:
            raise self._not_ours(address)
        held = await self._holdings.borrow_from(cidr)
        if held is None:
            raise EnvironmentFault(f"the block {cidr} of {address} cannot be claimed by node {self._node} now")
        draft.read[cidr] = held
        return self._lent(held.block, address, draft)

    def _lent(self, block: Block, address: AnyAddress, draft: Draft) -> Block:
        """`block`, if addresses of it may be given here."""
        assert self._cluster is not None
        if not self._absence.may_give(draft.held(block.cidr)):
            raise self._not_ours(address)
        if self._cluster.ipam.strict_affinity and not draft.held(block.cidr).affinity:
            raise ConflictError(
                f"{address} is in the block {block.cidr} of node {block.node}, and strictAffinity lets no other use it",
                hint="choose an address of this node's blocks, or let the pod run there",
            )
        return block

    def _not_ours(self, address: AnyAddress) -> EnvironmentFault:
        return EnvironmentFault(
            f"{address} is in no block of node {self._node}, and the store is away",
            hint="addresses of this node's own blocks can be given meanwhile",
        )

    def _stated(self, draft: Draft, family: Family, wish: Wish) -> list[Block]:
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

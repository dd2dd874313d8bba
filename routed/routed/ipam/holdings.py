"""What one node has of blocks, in memory as in the store: read, written, claimed and given back.

A block is claimed in two phases. First a pending BlockAffinity, which is the claim's alone and is seen by everybody who
changes pools or podCIDRs from then on; then, if the pool still is as it was and no podCIDR came in between, the block
and its confirmation in one transaction. It is given back in two as well: withdrawn first, deleted later, so that no
router sends its packets here any more when somebody else has it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from routed.errors import ConflictError, EnvironmentFault
from routed.ipam.block import Allocation, Block, BlockFormatError, decode, encode
from routed.ipam.keys import STATIC, affinity_key, cidr_of, holding_key, holdings, key, static_key
from routed.ipam.listing import Listing
from routed.model.address import AnyAddress, AnyPrefix
from routed.model.codec import decode_json, encode_json, resource_key
from routed.model.ipam import BlockAffinitySpec, BlockState, affinity_name
from routed.model.prefixes import inside, overlap
from routed.model.resources import BlockAffinity, IPPool, KubernetesNode, Metadata, Node
from routed.store import Compare, Delete, KeyValue, Put, Store
from routed.store.resources import SERIAL

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Held:
    """A block as the store holds it; `mod_revision` 0 when it does not hold it yet.

    `affinity` is the revision of our claim, 0 without one; `leaving`: the block is being given back.
    """

    block: Block
    mod_revision: int
    affinity: int = 0
    leaving: bool = False


class Holdings:
    """See the module. For one task at a time. Methods raise EnvironmentFault when the store cannot be reached."""

    def __init__(self, store: Store, node: str) -> None:
        self.blocks: dict[AnyPrefix, Held] = {}
        self.static: tuple[AnyPrefix, ...] = ()
        self.stale = True
        self._listing = Listing(node)
        self.loaded = False  # once at least
        self.overlay: Callable[[Mapping[AnyPrefix, Block]], Mapping[AnyPrefix, Block]] = lambda _: {}
        self.unsaved: Mapping[AnyPrefix, Block] = {}  # what `overlay` makes otherwise than the store has it
        self._listed: Mapping[AnyAddress, Allocation] | None = None
        self._where: dict[str, tuple[AnyPrefix, ...]] = {}  # the blocks with addresses of a handle
        self._store = store
        self._node = node
        self._noted: set[AnyPrefix] = set()  # what the store says that we have addresses of
        self._static_noted: set[AnyPrefix] = set()  # podCIDRs of whatever node that the store knows to be in use
        self._stated: dict[str, tuple[int, tuple[AnyPrefix, ...]]] = {}  # podCIDRs by Node, at its revision

    def allocations(self) -> Mapping[AnyAddress, Allocation]:
        """Who on this node holds what."""
        if self._listed is None:
            self._listed = self._listing.of(held.block for held in self.blocks.values())
        return self._listed

    def where(self, handle: str) -> tuple[AnyPrefix, ...]:
        """The blocks of which `handle` may have addresses; of the others it has none."""
        return self._where.get(handle, ())

    def _index(self, before: Block | None, after: Block) -> None:
        """Keep `where` true. A node may have thousands of addresses, and each change concerns one."""
        old = {held.handle for held in before.allocations.values()} if before is not None else set[str]()
        new = {held.handle for held in after.allocations.values()}
        for handle in old ^ new:
            others = tuple(cidr for cidr in self.where(handle) if cidr != after.cidr)
            if handle in new:
                self._where[handle] = (*others, after.cidr)
            elif others:
                self._where[handle] = others
            else:
                self._where.pop(handle, None)

    async def load(self) -> None:
        """Bring memory up to the store if it may be behind. ConflictError when another node uses a podCIDR of ours."""
        if not self.stale:
            return
        noted = {cidr_of(item.key) for item in (await self._store.range(holdings(self._node))).items}
        self._static_noted = {cidr_of(item.key) for item in (await self._store.range(STATIC)).items}
        found: dict[AnyPrefix, Held] = {}
        for cidr in self.static:  # first, in the order given: that is the order in which they are tried
            found[cidr] = self._stated_block(cidr, await self._store.get(key(cidr)))
        for cidr in sorted(noted - found.keys(), key=lambda each: (each.version, each)):
            held = await self._noted_block(cidr)
            if held is not None:
                found[cidr] = held
        self.unsaved = self.overlay({cidr: held.block for cidr, held in found.items()})
        found |= {cidr: replace(found[cidr], block=block) for cidr, block in self.unsaved.items()}
        self.blocks, self._noted, self.stale, self._listed, self._where = found, noted, False, None, {}
        self.loaded = True
        for held in found.values():
            self._index(None, held.block)

    def _stated_block(self, cidr: AnyPrefix, item: KeyValue | None) -> Held:
        if item is None:
            return Held(Block(cidr, self._node), 0)
        block = decode(item.value)
        if block.node == self._node:
            return Held(block, item.mod_revision)
        if block.allocations:
            raise ConflictError(
                f"block {cidr} of node {self._node} is in use by node {block.node} "
                f"({len(block.allocations)} addresses)",
                hint="give each node its own podCIDR, or remove the other node's pods first",
            )
        return Held(Block(cidr, self._node), item.mod_revision)  # given up by the other: taken over

    async def _noted_block(self, cidr: AnyPrefix) -> Held | None:
        """None when we have nothing of it after all."""
        item, claim = await self._store.get(key(cidr)), await self._store.get(affinity_key(cidr))
        spec = _claim_in(claim)
        mine = spec is not None and spec.node == self._node
        if item is None:
            if mine and claim is not None:  # a claim that did not come to its end
                await self._store.txn([Compare(claim.key, claim.mod_revision)], [Delete(claim.key)])
            return None
        try:
            block = decode(item.value)
        except BlockFormatError as error:
            if mine:
                raise
            _log.warning("%s: %s", item.key, error)  # another node's: its damage must not stop us
            return None
        if spec is not None and claim is not None and mine:
            if spec.state is not BlockState.PENDING:
                leaving = spec.state is BlockState.PENDING_DELETION
                return Held(block, item.mod_revision, claim.mod_revision, leaving)
            await self._store.txn([Compare(claim.key, claim.mod_revision)], [Delete(claim.key)])
        elif block.node == self._node and not block.allocations:  # a podCIDR of before, of which nothing is left
            await self._store.txn(
                [Compare(item.key, item.mod_revision)],
                [Delete(item.key), Delete(static_key(cidr)), Delete(holding_key(self._node, cidr))],
            )
            self._static_noted.discard(cidr)
        return Held(block, item.mod_revision) if has_addresses_of(block, self._node) else None

    async def borrow_from(self, cidr: AnyPrefix) -> Held | None:
        """The block of another node as it is now, to be passed to `write`; None: it cannot be read, or is gone."""
        item = await self._store.get(key(cidr))
        try:
            block = decode(item.value) if item is not None else None
        except BlockFormatError as error:
            _log.warning("%s: %s", key(cidr), error)
            return None
        if item is None or block is None or not block.node:
            return None
        return Held(block, item.mod_revision)

    async def ask(self) -> None:
        """Return when the store answers."""
        await self._store.get(SERIAL)

    # ---- changes of what is in blocks

    def amend(self, changes: Mapping[AnyPrefix, Block]) -> None:
        """Go by `changes` of what is held, which the store does not know."""
        self.stale, self._listed = True, None
        for cidr, after in changes.items():
            self._index(self.blocks[cidr].block, after)
            self.blocks[cidr] = replace(self.blocks[cidr], block=after)

    async def write(self, changes: Mapping[AnyPrefix, Block], read: Mapping[AnyPrefix, Held]) -> bool:
        """Put `changes` in the place of what was `read`, else of what is held; False, and memory is to be read again,
        when the store has others.
        """
        before = {cidr: self.blocks.get(cidr) or read[cidr] for cidr in changes}
        conditions = [Compare(key(cidr), held.mod_revision) for cidr, held in before.items()]
        writes: list[Put | Delete] = []
        for cidr, after in changes.items():
            writes += self._writes(after, before[cidr])
        self.stale = True  # until it is known what the store did: a failed or cancelled call may have been carried out
        done = await self._store.txn(conditions, writes)
        if not done.succeeded:
            return False
        self._listed = None
        for cidr, after in changes.items():
            self._index(self.blocks[cidr].block if cidr in self.blocks else None, after)
            if self._ours(after, before[cidr]):
                self.blocks[cidr] = replace(before[cidr], block=after, mod_revision=done.revision)
                self._noted.add(cidr)
            else:
                self.blocks.pop(cidr, None)
                self._noted.discard(cidr)
        self.stale = False
        self.unsaved = {cidr: block for cidr, block in self.unsaved.items() if cidr not in changes}
        return True

    def _writes(self, after: Block, before: Held) -> list[Put | Delete]:
        cidr = after.cidr
        stated = after.node == self._node and not before.affinity  # a podCIDR, of now or of before
        if not self._ours(after, before):
            gone: list[Put | Delete] = [Delete(holding_key(self._node, cidr))]
            if stated:
                gone.append(Delete(static_key(cidr)))
                self._static_noted.discard(cidr)
            kept = after.allocations or (after.node and not stated)  # one that nobody has goes with its last address
            return [Put(key(cidr), encode(after)) if kept else Delete(key(cidr)), *gone]
        writes: list[Put | Delete] = [Put(key(cidr), encode(after))]
        if cidr not in self._noted:
            writes.append(Put(holding_key(self._node, cidr), b""))
        if stated and cidr not in self._static_noted:
            self._static_noted.add(cidr)
            writes.append(Put(static_key(cidr), b""))
        return writes

    def _ours(self, block: Block, before: Held) -> bool:
        """Whether we have to remember the block."""
        return bool(block.cidr in self.static or before.affinity or has_addresses_of(block, self._node))

    # ---- claims

    async def claim(self, cidr: AnyPrefix, pool: IPPool) -> Held | None:
        """Claim a block of `pool`; None when it cannot be ours, as somebody else was faster or the pool changed."""
        claim = affinity_key(cidr)
        stale, self.stale = self.stale, True  # if anything fails from here on, the store tells what is left of it
        held = await self._claim_at(claim, cidr, pool)
        self.stale = stale
        if held is not None:
            self.blocks[cidr] = held
            self._noted.add(cidr)
            self._listed = None
            self._index(None, held.block)
        return held

    async def _claim_at(self, claim: str, cidr: AnyPrefix, pool: IPPool) -> Held | None:
        done = await self._store.txn(
            [Compare(claim, 0)],
            [
                Put(claim, self._claim(cidr, BlockState.PENDING)),
                Put(holding_key(self._node, cidr), b""),
                Put(SERIAL, b""),  # who changes pools or podCIDRs at this moment starts over, and sees the claim
            ],
        )
        if not done.succeeded:
            return None
        held = await self._confirm(cidr, pool, done.revision)
        if held is None:
            await self._store.txn(
                [Compare(claim, done.revision)], [Delete(claim), Delete(holding_key(self._node, cidr))]
            )
        return held

    async def _confirm(self, cidr: AnyPrefix, pool: IPPool, pending: int) -> Held | None:
        """What was read of the cluster may be old: a pool or podCIDR that came before the claim is looked up here."""
        there = await self._store.get(resource_key("IPPool", pool.name))
        if there is None or not _cuts(there, cidr) or await self._stated_anywhere(cidr):
            return None
        item = await self._store.get(key(cidr))
        block = Block(cidr, self._node)
        if item is not None:
            block = decode(item.value)
            if block.node:
                return None
            block = block.given_to(self._node)  # its node is gone, some of its addresses are lent still
        done = await self._store.txn(
            [
                Compare(affinity_key(cidr), pending),
                Compare(key(cidr), item.mod_revision if item else 0),
                Compare(there.key, there.mod_revision),
            ],
            [Put(affinity_key(cidr), self._claim(cidr, BlockState.CONFIRMED)), Put(key(cidr), encode(block))],
        )
        return Held(block, done.revision, done.revision) if done.succeeded else None

    async def _stated_anywhere(self, cidr: AnyPrefix) -> bool:
        """Whether `cidr` touches a podCIDR: one that a Node states, or one that is still in use."""
        nodes: dict[str, tuple[int, tuple[AnyPrefix, ...]]] = {}
        found = [
            *(await self._store.range(resource_key("Node", ""))).items,
            *(await self._store.range(resource_key("KubernetesNode", ""))).items,
        ]
        for item in found:
            known = self._stated.get(item.key)
            nodes[item.key] = known if known and known[0] == item.mod_revision else (item.mod_revision, _stated(item))
        self._stated = nodes
        used = [cidr_of(item.key) for item in (await self._store.range(STATIC)).items]
        return any(overlap(each, cidr) for each in (*used, *(each for _, stated in nodes.values() for each in stated)))

    async def reach(self) -> None:
        """Raise EnvironmentFault if the store cannot be reached now, which what is in memory does not tell."""
        await self._store.get(SERIAL)

    async def withdraw(self, cidrs: Collection[AnyPrefix]) -> None:
        """The first phase of giving back claimed blocks: from now on nothing is given of them, nor are they announced.

        One that somebody changed meanwhile stays.
        """
        for cidr in cidrs:
            held = self.blocks[cidr]
            stale, self.stale = self.stale, True  # if the answer is lost, the store tells what came of it
            done = await self._store.txn(
                [Compare(affinity_key(cidr), held.affinity), Compare(key(cidr), held.mod_revision)],
                [Put(affinity_key(cidr), self._claim(cidr, BlockState.PENDING_DELETION))],
            )
            if done.succeeded:
                self.blocks[cidr] = replace(held, affinity=done.revision, leaving=True)
                self.stale = stale

    async def give_back(self) -> None:
        """The second: what was withdrawn is deleted; a block of which somebody borrowed meanwhile is ours again."""
        for cidr, held in list(self.blocks.items()):
            if not held.leaving:
                continue
            claim = affinity_key(cidr)
            if held.block.allocations:
                done = await self._store.txn(
                    [Compare(claim, held.affinity)], [Put(claim, self._claim(cidr, BlockState.CONFIRMED))]
                )
                self.blocks[cidr] = replace(held, affinity=done.revision, leaving=False)
            else:
                done = await self._store.txn(
                    [Compare(claim, held.affinity), Compare(key(cidr), held.mod_revision)],
                    [Delete(claim), Delete(key(cidr)), Delete(holding_key(self._node, cidr))],
                )
                if done.succeeded:
                    del self.blocks[cidr]
                    self._noted.discard(cidr)
            self.stale = self.stale or not done.succeeded

    def _claim(self, cidr: AnyPrefix, state: BlockState) -> bytes:
        spec = BlockAffinitySpec(cidr=cidr, node=self._node, state=state)
        return encode_json(BlockAffinity(metadata=Metadata(affinity_name(cidr)), spec=spec))


def has_addresses_of(block: Block, node: str) -> bool:
    """Whether addresses of `block` are on `node`."""
    return any(block.node_of(ordinal) == node for ordinal in block.allocations)


def _claim_in(item: KeyValue | None) -> BlockAffinitySpec | None:
    resource = decode_json(item.value, key=item.key) if item is not None else None
    return resource.spec if isinstance(resource, BlockAffinity) else None


def _cuts(item: KeyValue, cidr: AnyPrefix) -> bool:
    """Whether `cidr` is a block of the pool that is stored as `item`."""
    try:
        pool = decode_json(item.value, key=item.key)
    except EnvironmentFault:
        return False
    return isinstance(pool, IPPool) and inside(cidr, pool.spec.cidr) and cidr.prefixlen == pool.spec.block_length


def _stated(item: KeyValue) -> tuple[AnyPrefix, ...]:
    try:
        node = decode_json(item.value, key=item.key)
    except EnvironmentFault:
        return ()
    if isinstance(node, KubernetesNode):
        return node.spec.stated
    return node.spec.pod_cidrs if isinstance(node, Node) else ()

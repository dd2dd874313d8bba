"""All of IPAM in a store, seen at one moment: how full it is, and what does not fit together. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from routed.errors import EnvironmentFault, OperatorError
from routed.ipam.block import Block, decode
from routed.ipam.keys import PREFIX, affinity_key, cidr_of
from routed.model.address import AnyAddress, AnyPrefix
from routed.model.cluster import Cluster
from routed.model.codec import RESOURCES, decode_json
from routed.model.ipam import BlockAffinitySpec, BlockState
from routed.model.prefixes import inside
from routed.model.resources import AnyResource, IPPool

EVERYTHING = "/routed/v1/"
"""The prefix to read for a survey, so that it is of one moment."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What there is. `revisions` tells when each key was last changed, `unreadable` which keys, with the reason."""

    cluster: Cluster
    blocks: Mapping[AnyPrefix, Block]
    revisions: Mapping[str, int]
    unreadable: Mapping[str, str]

    @classmethod
    def of(cls, items: Sequence[tuple[str, bytes, int]]) -> Survey:
        """Of keys below `EVERYTHING`, their values and revisions."""
        resources: list[AnyResource] = []
        blocks: dict[AnyPrefix, Block] = {}
        unreadable: dict[str, str] = {}
        for key, value, _ in items:
            try:
                if key.startswith(RESOURCES):
                    resources.append(decode_json(value, key=key))
                elif key.startswith(PREFIX):
                    block = decode(value)
                    if block.cidr != cidr_of(key):
                        unreadable[key] = f"it holds the block {block.cidr}"
                    else:
                        blocks[block.cidr] = block
            except (EnvironmentFault, OperatorError) as error:
                unreadable[key] = error.message
        return cls(Cluster.of(resources), blocks, {key: at for key, _, at in items}, unreadable)

    def claim(self, cidr: AnyPrefix) -> BlockAffinitySpec | None:
        """Who has claimed `cidr`."""
        return self.cluster.affinities.get(cidr)

    def holders(self) -> Iterator[tuple[AnyAddress, str, str]]:
        """Every address in use, with its node and its handle."""
        for block in self.blocks.values():
            for ordinal, held in block.allocations.items():
                yield block.address(ordinal), block.node_of(ordinal), held.handle


@dataclass(frozen=True, slots=True)
class BlockUse:
    """How full a block is: `used` of `usable` addresses, of which others than `node` have `lent`."""

    cidr: AnyPrefix
    node: str
    state: str
    used: int
    usable: int
    lent: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PoolUse:
    """How full a pool is; `most` blocks fit into it, and so many addresses are `usable` in them."""

    name: str
    cidr: AnyPrefix
    disabled: bool
    block_length: int
    most: int
    used: int
    usable: int
    blocks: tuple[BlockUse, ...]


def usage(survey: Survey) -> list[PoolUse]:
    """Of each pool, by name; blocks in the order of addresses. Last, without a name, blocks that are in no pool."""
    found: dict[str, list[BlockUse]] = {name: [] for name in survey.cluster.pools}
    stray: list[BlockUse] = []
    cidrs = survey.blocks.keys() | survey.cluster.affinities.keys()
    for cidr in sorted(cidrs, key=lambda each: (each.version, each)):
        pool = survey.cluster.pool(cidr)
        (found[pool.name] if pool is not None else stray).append(_block_use(survey, cidr))
    told = [_pool_use(survey.cluster.pools[name], blocks) for name, blocks in sorted(found.items())]
    if stray:
        used, usable = sum(each.used for each in stray), sum(each.usable for each in stray)
        told.append(PoolUse("", stray[0].cidr, True, 0, len(stray), used, usable, tuple(stray)))
    return told


def _pool_use(pool: IPPool, blocks: Sequence[BlockUse]) -> PoolUse:
    cidr, length = pool.spec.cidr, pool.spec.block_length
    most = 1 << (length - cidr.prefixlen)
    used = sum(each.used for each in blocks)
    usable = most * len(Block(type(cidr)((int(cidr.network_address), length)), "").usable)
    return PoolUse(pool.name, cidr, pool.spec.disabled, length, most, used, usable, tuple(blocks))


def _block_use(survey: Survey, cidr: AnyPrefix) -> BlockUse:
    claim, block = survey.claim(cidr), survey.blocks.get(cidr)
    if block is None:
        block = Block(cidr, claim.node if claim is not None else "")
    lent = Counter(node for ordinal in block.allocations if (node := block.node_of(ordinal)) != block.node)
    stated = block.node in survey.cluster.nodes and cidr in survey.cluster.nodes[block.node].spec.pod_cidrs
    state = claim.state.value if claim is not None else "podCIDR" if stated else "left over"
    return BlockUse(cidr, block.node, state, len(block.allocations), len(block.usable), dict(lent))


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not fit; `harmful` when an address may be given twice or never again by itself."""

    where: str
    what: str
    harmful: bool = True


def findings(survey: Survey) -> list[Finding]:
    """What does not fit together, the harmful first."""
    return sorted(_findings(survey), key=lambda each: (not each.harmful, each.where))


def _findings(survey: Survey) -> Iterator[Finding]:
    nodes = survey.cluster.nodes
    for key, reason in survey.unreadable.items():
        yield Finding(key, f"cannot be read: {reason}")
    outer: AnyPrefix | None = None
    for cidr in sorted(survey.blocks, key=lambda each: (each.version, each.network_address, each.prefixlen)):
        if outer is not None and inside(cidr, outer):
            yield Finding(str(cidr), f"overlaps the block {outer}: addresses may be given twice")
        else:
            outer = cidr
        yield from _of_block(survey, survey.blocks[cidr])
    for cidr, claim in survey.cluster.affinities.items():
        if claim.node not in nodes:
            yield Finding(str(cidr), f"is claimed by node {claim.node}, which is gone (routed ipam gc)", harmful=False)
        if claim.state is BlockState.CONFIRMED and cidr not in survey.blocks:
            yield Finding(str(cidr), f"is claimed by node {claim.node}, but is not there")
        if claim.state is BlockState.PENDING:
            yield Finding(str(cidr), f"is being claimed by node {claim.node}, or that did not end", harmful=False)
    families: dict[tuple[int, str, str], AnyAddress] = {}
    for address, node, handle in survey.holders():
        other = families.setdefault((address.version, node, handle), address)
        if other != address:
            yield Finding(str(address), f"is held by {handle} on node {node}, as is {other}")


def _of_block(survey: Survey, block: Block) -> Iterator[Finding]:
    cluster, claim, cidr = survey.cluster, survey.claim(block.cidr), block.cidr
    node = cluster.nodes.get(block.node)
    if cluster.pool(cidr) is None:
        yield Finding(str(cidr), "is in no pool: its addresses are not announced")
    if claim is not None and claim.node != block.node and claim.state is not BlockState.PENDING:
        yield Finding(str(cidr), f"is node {block.node}'s, but claimed by node {claim.node}")
    if block.node and claim is None and (node is None or cidr not in node.spec.pod_cidrs):
        yield Finding(str(cidr), f"was a podCIDR of node {block.node}, and {len(block.allocations)} are in use", False)
    gone = Counter(on for ordinal in block.allocations if (on := block.node_of(ordinal)) not in cluster.nodes)
    for name, count in gone.items():
        text = f"{count} addresses are of node {name}, which is gone (routed ipam gc)"
        yield Finding(str(cidr), text, harmful=False)
    reserved = [
        str(block.address(ordinal))
        for ordinal in block.allocations
        if any(block.address(ordinal) in each for each in cluster.reserved)
    ]
    if reserved:
        yield Finding(str(cidr), f"in use although reserved: {', '.join(reserved)}", harmful=False)


def revision_of_claim(survey: Survey, cidr: AnyPrefix) -> int:
    """When the claim of `cidr` was last changed; 0: there is none."""
    return survey.revisions.get(affinity_key(cidr), 0)

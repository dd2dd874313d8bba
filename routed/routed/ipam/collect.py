"""What nobody will give back any more, and giving it back. Pure.

A node that is gone gives back nothing: its addresses are collected, and its blocks. On a node that is there an address
is nobody's when the node's agent says that its interface is gone. As a Node may be away for a moment only, deleted and
applied again, what is to be collected has to be seen twice, unchanged, a grace time apart.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from routed.ipam.block import Block
from routed.ipam.keys import affinity_key, holding_key, key, static_key
from routed.ipam.survey import Survey, revision_of_claim
from routed.model.address import AnyAddress, AnyPrefix
from routed.model.codec import resource_key

Owner = tuple[str, str]
"""Node and handle."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """All that a handle holds on a node: each address with the time when it was given."""

    addresses: frozenset[tuple[AnyAddress, int]]


@dataclass(frozen=True, slots=True)
class Suspects:
    """What was seen: handles with their addresses, and what gone nodes claimed, with the revision of the claim."""

    handles: Mapping[Owner, Suspect]
    claims: Mapping[AnyPrefix, int]

    def confirmed_by(self, later: Suspects) -> Suspects:
        """What `later` shows unchanged: a handle with exactly what it held before, or nothing of it."""
        return Suspects(
            {owner: each for owner, each in self.handles.items() if later.handles.get(owner) == each},
            {cidr: at for cidr, at in self.claims.items() if later.claims.get(cidr) == at},
        )

    def __bool__(self) -> bool:
        return bool(self.handles or self.claims)


@dataclass(frozen=True, slots=True)
class Giving:
    """One transaction: if every key still is as of its revision (0: is not there), puts and deletions are done."""

    compares: Mapping[str, int]
    puts: Mapping[str, Block]
    deletes: frozenset[str]


def suspects(survey: Survey, leaks: Collection[Owner] = ()) -> Suspects:
    """What is of nodes that are gone, and what `leaks` hold, whose interfaces are."""
    found: dict[Owner, set[tuple[AnyAddress, int]]] = {}
    for block in survey.blocks.values():
        for ordinal, held in block.allocations.items():
            node = block.node_of(ordinal)
            if node not in survey.cluster.nodes or (node, held.handle) in leaks:
                found.setdefault((node, held.handle), set()).add((block.address(ordinal), held.since))
    claims = {
        cidr: revision_of_claim(survey, cidr)
        for cidr, claim in survey.cluster.affinities.items()
        if claim.node not in survey.cluster.nodes
    }
    return Suspects({owner: Suspect(frozenset(addresses)) for owner, addresses in found.items()}, claims)


def collect(survey: Survey, node: str, confirmed: Suspects, now: float) -> Giving | None:
    """Give back what is `confirmed` of `node`, which must still be gone at that moment; None: there is nothing.

    A block is deleted with its last address; before, it is nobody's, and the next node that wants it takes it over.
    """
    handles = {handle for on, handle in confirmed.handles if on == node}
    puts: dict[str, Block] = {}
    deletes = set[str]()
    compares = {resource_key("Node", node): 0}
    for cidr, block in survey.blocks.items():
        claim = survey.claim(cidr)
        lost = block.node == node and (claim is None or cidr in confirmed.claims)
        after = _without(block, node, handles, now)
        if after is block and not lost:
            continue
        if lost and all(after.node_of(ordinal) != node for ordinal in after.allocations):
            after = after.given_to("")
            deletes |= {static_key(cidr)} if claim is None else {affinity_key(cidr)}
            compares[affinity_key(cidr)] = revision_of_claim(survey, cidr)
        compares[key(cidr)] = survey.revisions[key(cidr)]
        deletes.add(holding_key(node, cidr))
        if after.node or after.allocations:
            puts[key(cidr)] = after
        else:
            deletes.add(key(cidr))
    for cidr, at in confirmed.claims.items():
        claim = survey.claim(cidr)
        if claim is not None and claim.node == node and cidr not in survey.blocks:  # a claim that did not end
            compares[affinity_key(cidr)] = at
            deletes |= {affinity_key(cidr), holding_key(node, cidr)}
    return Giving(compares, puts, frozenset(deletes)) if puts or deletes else None


def release(survey: Survey, addresses: Collection[AnyAddress], now: float) -> Giving:
    """Give back these addresses, all or none; they have to be in use (KeyError)."""
    puts: dict[str, Block] = {}
    compares: dict[str, int] = {}
    for address in addresses:
        block = next(block for block in survey.blocks.values() if address in block.cidr)
        where = key(block.cidr)
        ordinal = int(address) - int(block.cidr.network_address)
        after, _ = puts.get(where, block).release(block.allocations[ordinal].handle, now=now)
        puts[where], compares[where] = after, survey.revisions[where]
    deletes = frozenset(where for where, block in puts.items() if not block.node and not block.allocations)
    return Giving(compares, {where: block for where, block in puts.items() if where not in deletes}, deletes)


def _without(block: Block, node: str, handles: Collection[str], now: float) -> Block:
    """The block without what `handles` hold on `node`."""
    after = block
    for ordinal, held in block.allocations.items():
        if held.handle in handles and block.node_of(ordinal) == node:
            after, _ = after.release(held.handle, now=now)
    if after is block:
        return block
    return replace(after, allocations=MappingProxyType(dict(after.allocations)))

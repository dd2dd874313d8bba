"""The changes of one transaction, as far as they are computed: blocks as they are to be, over those that are held."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from routed.ipam.block import Block
from routed.ipam.holdings import Held, Holdings
from routed.model.address import AnyPrefix


@dataclass(slots=True)
class Draft:
    """See the module. `read` are blocks of others, of which nothing is held yet."""

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

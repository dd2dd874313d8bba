"""Who on a node holds what, by address, made of its blocks. Pure.

Kept from change to change, as a node may have hundreds of addresses and a change concerns one or a few.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from routed.ipam.block import Allocation, Block
from routed.model.address import AnyAddress, AnyPrefix


class Listing:
    """The addresses on `node`."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._of: dict[AnyPrefix, tuple[Block, dict[AnyAddress, Allocation]]] = {}

    def of(self, blocks: Iterable[Block]) -> Mapping[AnyAddress, Allocation]:
        """Those in `blocks`, and of no others. What was returned before does not change."""
        self._of = {block.cidr: (block, self._in(block)) for block in blocks}
        whole: dict[AnyAddress, Allocation] = {}
        for _, listed in self._of.values():
            whole |= listed
        return MappingProxyType(whole)

    def _in(self, block: Block) -> dict[AnyAddress, Allocation]:
        before, listed = self._of.get(block.cidr, (None, dict[AnyAddress, Allocation]()))
        if before is block:
            return listed
        known: Mapping[int, Allocation] = {}
        if before is not None and before.node == block.node:  # else each may be on another node now
            known = before.allocations
        listed = dict(listed) if known else {}
        for ordinal in known.keys() - block.allocations.keys():
            listed.pop(block.address(ordinal), None)
        for ordinal, held in block.allocations.items():
            if known.get(ordinal) is held:
                continue
            if block.node_of(ordinal) == self._node:
                listed[block.address(ordinal)] = held
            else:
                listed.pop(block.address(ordinal), None)
        return listed

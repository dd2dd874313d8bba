"""Which block of a pool a node claims next, and which of the claimed it gives back. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from hashlib import blake2b

from routed.ipam.block import Block
from routed.model.address import AnyPrefix
from routed.model.prefixes import inside, overlap


class FreeBlocks:
    """The blocks of /`length` in `pool` without an address in common with `taken`.

    Each node walks them from a place of its own, so that nodes that start at once seldom want the same.
    """

    def __init__(self, pool: AnyPrefix, length: int, taken: Iterable[AnyPrefix]) -> None:
        self._base = int(pool.network_address)
        self._shift = pool.max_prefixlen - length
        self._count = 1 << (length - pool.prefixlen)
        self._length = length
        self._network = type(pool)
        self._first: list[int] = []  # of each run of blocks that are taken, in order
        self._last: list[int] = []
        for first, last in sorted(self._span(pool, each) for each in taken if overlap(each, pool)):
            if self._last and first <= self._last[-1] + 1:
                self._last[-1] = max(self._last[-1], last)
            else:
                self._first.append(first)
                self._last.append(last)

    def around(self, node: str, *, but: Collection[AnyPrefix] = ()) -> Iterator[AnyPrefix]:
        """All of them, from the place of `node` on; `but` are taken as well, as became known meanwhile."""
        start = int.from_bytes(blake2b(node.encode(), digest_size=16).digest()) % self._count
        for low, high in ((start, self._count), (0, start)):
            at = low
            while at < high:
                run = bisect_right(self._first, at) - 1
                if run >= 0 and at <= self._last[run]:
                    at = self._last[run] + 1
                    continue
                cidr = self._network((self._base + (at << self._shift), self._length))
                if cidr not in but:
                    yield cidr
                at += 1

    def _span(self, pool: AnyPrefix, taken: AnyPrefix) -> tuple[int, int]:
        if inside(pool, taken):
            return 0, self._count - 1
        first = int(taken.network_address) - self._base
        return first >> self._shift, (first + taken.num_addresses - 1) >> self._shift


def to_give_back(claimed: Iterable[Block], wanted: Collection[AnyPrefix]) -> list[AnyPrefix]:
    """The `claimed` blocks of a node that it needs no longer: empty, and nothing of them cools. One of each family that
    is among `wanted`, the blocks from which addresses may be given now, is kept: the next pod comes.
    """
    unused: list[AnyPrefix] = []
    spare = set[int]()
    for block in claimed:
        version = block.cidr.version
        if block.allocations or block.cooling:
            spare |= {version} if block.cidr in wanted and block.free else set()
        else:
            unused.append(block.cidr)
    for cidr in list(unused):
        if cidr in wanted and cidr.version not in spare:
            spare.add(cidr.version)
            unused.remove(cidr)
    return unused

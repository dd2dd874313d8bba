"""Where a prefix lies: in which pool, and in whose block. Pure.

A decision depends on the prefix by its `Place` only, so a hundred thousand prefixes have a few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, Protocol, TypeVar

from routed.model.address import AnyPrefix, Family
from routed.model.nlri import OCTETS, Nlri, from_prefix
from routed.model.resources import IPPool
from routed_felix.prefixes import PrefixMap
from routed_felix.view import View

_COARSE = 16  # bits


class Placed(Protocol):
    """A place: inside our own blocks (`own`), or in `pool` and in the block of `owner`, each if any."""

    own: bool
    pool: IPPool | None
    owner: str | None


P = TypeVar("P", bound=Placed)
_Key = tuple[bool, str | None, str | None]
_NOWHERE: _Key = (False, None, None)


class Places(Generic[P]):
    """The places of one set of pools and blocks. Those that stay when these change are the same objects.

    For speed, look into `exact` and, with the first three octets of a prefix, into `coarse` before asking `place`.
    """

    def __init__(self, view: View, make: Callable[[bool, IPPool | None, str | None], P]) -> None:
        self._make = make
        self._family = view.family
        self._places: dict[_Key, P] = {_NOWHERE: make(False, None, None)}
        self.locate(view)

    def locate(self, view: View) -> None:
        """Learn the pools and blocks of `view`."""
        self._pools = view.cluster.pools_of(self._family)
        self._owners = view.cluster.blocks_of(self._family)
        self.blocks = own_blocks(view)
        before, self._places = self._places, {_NOWHERE: self._places[_NOWHERE]}
        self.exact: dict[Nlri, P] = {}  # the pools and blocks themselves
        # by length and first two octets: every prefix that begins so is in one place, since no pool or block is inside
        self.coarse: dict[bytes, P] = {}
        self._fine: set[bytes] = set()  # first two octets of pools and blocks longer than 16
        by_length: dict[int, dict[int, P]] = {}
        bits = self._family.bits
        for prefix, place in self._territories(before):
            self.exact[from_prefix(prefix)] = place
            if prefix.prefixlen > _COARSE:
                self._fine.add(prefix.network_address.packed[:2])
            leading = int(prefix.network_address) >> (bits - prefix.prefixlen)
            by_length.setdefault(prefix.prefixlen, {})[leading] = place
        # for each length of a prefix: by how much to shift its octets, and the places of that length, longest first
        self._within = tuple(
            tuple(
                (8 * OCTETS[length] - covering, places)
                for covering, places in sorted(by_length.items(), reverse=True)
                if covering <= length
            )
            for length in range(bits + 1)
        )

    def update(self, view: View) -> None:
        """Take the pools of `view`, where they lie as before, with what else is said of them."""
        self._pools = view.cluster.pools_of(self._family)
        pools = {pool.name: pool for pool in self._pools.values()}
        for place in self._places.values():
            place.pool = pools[place.pool.name] if place.pool else None

    def fit(self, view: View) -> bool:
        """Whether every prefix lies in `view` where it lies here."""
        pools, owners = view.cluster.pools_of(self._family), view.cluster.blocks_of(self._family)
        return (
            own_blocks(view) == self.blocks
            and (owners is self._owners or owners == self._owners)
            and (pools is self._pools or _names(pools) == _names(self._pools))
        )

    @property
    def pools(self) -> Mapping[AnyPrefix, IPPool]:
        """The pools by range."""
        return self._pools

    def every(self) -> set[P]:
        """All places that there are now."""
        return set(self._places.values())

    def place(self, nlri: Nlri) -> P:
        """Where a prefix lies."""
        found = self._places[_NOWHERE]
        number = int.from_bytes(nlri[1:], "big")
        for shift, places in self._within[nlri[0]]:
            place = places.get(number >> shift)
            if place is not None:
                found = place
                break
        if nlri[0] >= _COARSE and nlri[1:3] not in self._fine:
            self.coarse[nlri[:3]] = found
        return found

    def _territories(self, before: Mapping[_Key, P]) -> Iterator[tuple[AnyPrefix, P]]:
        """Every pool and block, with the place that a prefix inside it has unless a longer one holds it."""
        pool_of, owner_of = PrefixMap(self._pools, self._family), PrefixMap(self._owners, self._family)
        own = PrefixMap(dict.fromkeys(self.blocks, True), self._family)
        for prefix in {*self._pools, *self._owners, *self.blocks}:
            pool = next((pool for _, pool in pool_of.covering(prefix)), None)
            if next(own.covering(prefix), None) is not None:
                yield prefix, self._kept(before, own=True, pool=pool, owner=None)
            else:
                owner = next((name for _, name in owner_of.covering(prefix)), None)
                yield prefix, self._kept(before, own=False, pool=pool, owner=owner)

    def _kept(self, before: Mapping[_Key, P], *, own: bool, pool: IPPool | None, owner: str | None) -> P:
        key = (own, pool.name if pool else None, owner)
        if key not in self._places:
            place = self._places[key] = before.get(key) or self._make(own, pool, owner)
            place.pool = pool
        return self._places[key]


def own_blocks(view: View) -> tuple[AnyPrefix, ...]:
    """The node's own blocks in the view's family, sorted."""
    stated = (block for block in view.cluster.any_own_blocks(view.node) if Family.of(block) is view.family)
    return tuple(sorted({*view.blocks, *stated}, key=lambda block: (int(block.network_address), block.prefixlen)))


def _names(pools: Mapping[AnyPrefix, IPPool]) -> dict[AnyPrefix, str]:
    return {cidr: pool.name for cidr, pool in pools.items()}

"""Pools whose encapsulation changes, on nodes that learn of it one after the other, without a packet lost. Pure.

    the resource changes      the new device is there, routes go on by the old way
    PREPARE_SECONDS later     routes go by the new way, the old device is there still
    LINGER_SECONDS later      the old device goes, if no other pool needs it

So whoever is first to send by the new way finds the others ready for it, and what comes by the old way, from those that
are last, is still taken in. Where the new device is there already, or none is needed, the first step is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from msgspec import structs

from routed.model.cluster import Cluster
from routed.model.resources import IPPool
from routed_felix.fabric import encapsulation_of
from routed_felix.state import TUNNELS, Encapsulation

PREPARE_SECONDS: Final = 1.0
"""How much later than the first the last agent may have made the new device."""
LINGER_SECONDS: Final = 10.0
"""How much later than the first the last agent may send by the old way."""


class Changeover:
    """`cluster` is the one to forward by. Time is an argument, in seconds."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self._wanted = self.cluster
        self._switch_at: float | None = None
        self._lingers: dict[Encapsulation, float] = {}  # until when

    @property
    def kept(self) -> frozenset[Encapsulation]:
        """Ways for which devices are to be there, whether or not a pool of `cluster` needs them."""
        return frozenset(_ways(self._wanted) | self._lingers.keys())

    @property
    def next_deadline(self) -> float | None:
        """When `settle` will do something."""
        times = [*self._lingers.values(), *([self._switch_at] if self._switch_at is not None else [])]
        return min(times, default=None)

    def adopt(self, cluster: Cluster, now: float) -> None:
        """Take in what the store holds."""
        self._wanted = cluster
        held = self._held(cluster)
        if not held:
            self._switch(now)
            return
        changed = replace(cluster, pools={**cluster.pools, **held})
        self.cluster = self.cluster if changed == self.cluster else changed
        if self._switch_at is None:
            self._switch_at = now + PREPARE_SECONDS

    def settle(self, now: float) -> None:
        """Do what is due."""
        if self._switch_at is not None and now >= self._switch_at:
            self._switch(now)
        self._lingers = {way: until for way, until in self._lingers.items() if now < until}

    def _held(self, cluster: Cluster) -> Mapping[str, IPPool]:
        """The pools that wait for a device, with the mode that they have meanwhile."""
        new = _ways(cluster) - _ways(self.cluster) - self._lingers.keys()
        held: dict[str, IPPool] = {}
        for name, pool in cluster.pools.items():
            before = self.cluster.pools.get(name)
            if before is not None and before.spec.cidr == pool.spec.cidr and encapsulation_of(pool) in new:
                modes = {"ipip_mode": before.spec.ipip_mode, "vxlan_mode": before.spec.vxlan_mode}
                held[name] = structs.replace(pool, spec=structs.replace(pool.spec, **modes))
        return held

    def _switch(self, now: float) -> None:
        before = _ways(self.cluster)
        self.cluster, self._switch_at = self._wanted, None
        needed = _ways(self.cluster)
        self._lingers |= dict.fromkeys(before - needed, now + LINGER_SECONDS)
        for way in needed:
            self._lingers.pop(way, None)


def _ways(cluster: Cluster) -> set[Encapsulation]:
    return {encapsulation_of(pool) for pool in cluster.ipv4_pools.values()} & set(TUNNELS)

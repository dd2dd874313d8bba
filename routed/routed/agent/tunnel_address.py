"""The tunnel's own address: one of the node's, kept in IPAM under its own handle, the source of what the node sends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from routed.errors import EnvironmentFault
from routed.ipam.allocator import Allocator
from routed.ipam.block import BlockFullError
from routed.ipam.wish import Wish, eligible
from routed.model.address import Address, Family
from routed.model.cluster import Cluster
from routed.model.ipam import PoolUse
from routed_felix.fabric import encapsulation_of, may_encapsulate
from routed_felix.state import Encapsulation

HANDLE = "tunnel"


class TunnelAddress:
    """Assigns the address while some pool may need it. `fault` says why there is none although it is needed."""

    def __init__(self, allocator: Allocator, node: str, devices: Mapping[Encapsulation, str]) -> None:
        self.fault: EnvironmentFault | None = None
        self._allocator = allocator
        self._node = node
        self._devices = devices
        self._last: Address | None = None

    async def assign(self, cluster: Cluster) -> Address | None:
        """The address to use in `cluster`, durable. Raises EnvironmentFault when the store cannot be reached.

        Without a free address there is none, and routes go without a source: that serves pods all the same. One that
        was needed is told as long as it is ours: a device may outlast the need for it (`Changeover`).
        """
        self.fault = None
        tunnels = {cidr: pool for cidr, pool in cluster.ipv4_pools.items() if may_encapsulate(pool)}
        ways = {encapsulation_of(pool) for pool in tunnels.values()}
        needed = [device for way, device in self._devices.items() if way in ways]
        # a podCIDR is whichever pool's; what is claimed for the tunnel is of one that has tunnels
        stated = cluster.nodes[self._node].spec.pod_cidrs if self._node in cluster.nodes else ()
        blocks = cluster.own_blocks(self._node) if stated else tuple(tunnels)
        wish = Wish(use=PoolUse.TUNNEL)
        if not stated:
            pools, _ = eligible(cluster, self._node, Family.IPV4, wish)
            wish = replace(wish, pools={Family.IPV4: [pool.name for pool in pools if may_encapsulate(pool)]})
        if not needed or not blocks or not (stated or wish.pools[Family.IPV4]):
            ours = cluster.own_blocks(self._node)
            return self._last if any(self._last in block for block in ours if self._last) else None
        try:
            address = await self._allocator.assign(HANDLE, {"device": needed[0]}, wish=wish)
            if not any(address in block for block in blocks):  # its block is no longer ours
                await self._allocator.release(HANDLE)
                address = await self._allocator.assign(HANDLE, {"device": needed[0]}, wish=wish)
        except BlockFullError as full:
            hint = "delete a pod of this node and restart the agent, or give the node another podCIDR"
            self.fault = EnvironmentFault(f"{' and '.join(needed)} has no address: {full.message}", hint=hint)
            return None
        self._last = address
        return address

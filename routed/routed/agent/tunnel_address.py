"""The tunnel's own address: one of the node's, kept in IPAM under its own handle, the source of what the node sends."""

from __future__ import annotations

from collections.abc import Mapping

from routed.errors import EnvironmentFault
from routed.ipam.allocator import Allocator
from routed.ipam.block import BlockFullError
from routed.model.address import Address
from routed.model.cluster import Cluster
from routed_felix.fabric import encapsulation_of
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
        blocks = cluster.own_blocks(self._node)
        ways = {encapsulation_of(pool) for pool in cluster.pools.values()}
        needed = [device for way, device in self._devices.items() if way in ways]
        if not needed or not blocks:
            return self._last if any(self._last in block for block in blocks if self._last) else None
        try:
            address = await self._allocator.assign(HANDLE, {"device": needed[0]})
            if not any(address in block for block in blocks):  # its block is no longer ours
                await self._allocator.release(HANDLE)
                address = await self._allocator.assign(HANDLE, {"device": needed[0]})
        except BlockFullError as full:
            hint = "delete a pod of this node and restart the agent, or give the node another podCIDR"
            self.fault = EnvironmentFault(f"{' and '.join(needed)} has no address: {full.message}", hint=hint)
            return None
        self._last = address
        return address

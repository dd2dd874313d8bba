"""The tunnel's own address: one of the node's, kept in IPAM under its own handle, the source of what the node sends."""

from __future__ import annotations

from routed.errors import EnvironmentFault
from routed.ipam.allocator import Allocator
from routed.ipam.block import BlockFullError
from routed.model.address import Address
from routed.model.cluster import Cluster
from routed.model.resources import EncapsulationMode

HANDLE = "tunnel"


class TunnelAddress:
    """Assigns the address while some pool may need it. `fault` says why there is none although it is needed."""

    def __init__(self, allocator: Allocator, node: str, device: str) -> None:
        self.fault: EnvironmentFault | None = None
        self._allocator = allocator
        self._node = node
        self._device = device

    async def assign(self, cluster: Cluster) -> Address | None:
        """The address to use in `cluster`, durable. Raises EnvironmentFault when the store cannot be reached.

        Without a free address there is none, and routes go without a source: that serves pods all the same.
        """
        self.fault = None
        blocks = cluster.own_blocks(self._node)
        needed = any(pool.spec.ipip_mode is not EncapsulationMode.NEVER for pool in cluster.pools.values())
        if not needed or not blocks:
            return None
        try:
            address = await self._allocator.assign(HANDLE, {"device": self._device})
            if not any(address in block for block in blocks):  # its block is no longer ours
                await self._allocator.release(HANDLE)
                address = await self._allocator.assign(HANDLE, {"device": self._device})
        except BlockFullError as full:
            hint = "delete a pod of this node and restart the agent, or give the node another podCIDR"
            self.fault = EnvironmentFault(f"{self._device} has no address: {full.message}", hint=hint)
            return None
        return address

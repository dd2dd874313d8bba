"""A pod's interface, as the node knows it."""

from __future__ import annotations

from dataclasses import dataclass

from routed.model.address import Address


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One wired pod interface: `address`/32 is reached through `host_interface` (a veth end in the node)."""

    container_id: str
    interface: str  # inside the sandbox, e.g. eth0
    address: Address
    host_interface: str

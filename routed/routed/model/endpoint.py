"""A pod's interface, as the node knows it."""

from __future__ import annotations

from dataclasses import dataclass

from routed.model.address import AnyAddress

POD_ALIAS = "routed:pod "
"""How the alias of a pod's link begins: container ID, slash and interface follow."""

ALIAS_GIVEN = " has "
"""What stands in an alias before addresses of which IPAM's blocks know nothing."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address of a wired pod interface: it is reached through `host_interface` (a veth end in the node).

    An interface with addresses of both families has an endpoint for each.
    """

    container_id: str
    interface: str  # inside the sandbox, e.g. eth0
    address: AnyAddress
    host_interface: str

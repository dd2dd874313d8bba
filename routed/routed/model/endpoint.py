"""A pod's interface, as the node knows it."""

from __future__ import annotations

from dataclasses import dataclass

from routed.model.address import AnyAddress


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address of a wired pod interface: it is reached through `host_interface` (a veth end in the node).

    An interface with addresses of both families has an endpoint for each.
    """

    container_id: str
    interface: str  # inside the sandbox, e.g. eth0
    address: AnyAddress
    host_interface: str

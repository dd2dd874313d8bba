"""The node's interfaces, as read from its kernel."""

from __future__ import annotations

from dataclasses import dataclass

from routed.model.address import AnyHostAddress


@dataclass(frozen=True, slots=True)
class Interface:
    """A link with its addresses. `up` means administratively up and with carrier. `mtu` in bytes."""

    name: str
    index: int
    mtu: int
    up: bool
    kind: str = ""  # IFLA_INFO_KIND: veth, ipip, bridge, ...; empty for hardware
    addresses: tuple[AnyHostAddress, ...] = ()
    alias: str = ""

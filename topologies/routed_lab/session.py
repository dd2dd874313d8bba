"""A BGP session as a router of the fabric tells of it, whichever router that is. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address


@dataclass(frozen=True, slots=True)
class Session:
    """`protocol` is the router's own name for it, `state` one of RFC 4271's (section 8.2.2), or Down."""

    protocol: str
    neighbor: IPv4Address | IPv6Address
    state: str

    @property
    def established(self) -> bool:
        """Whether the session carries routes."""
        return self.state == "Established"

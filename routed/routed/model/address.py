"""Addresses and prefixes.

`Address`, `Prefix` and `HostAddress` are IPv4: pods, tunnels and the kernel edges know no other yet. Where both
families meet, in BGP, the names begin with `Any`.
"""

from __future__ import annotations

from enum import IntEnum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

Address = IPv4Address
Prefix = IPv4Network
HostAddress = IPv4Interface

AnyAddress = IPv4Address | IPv6Address
AnyPrefix = IPv4Network | IPv6Network
AnyHostAddress = IPv4Interface | IPv6Interface


class Family(IntEnum):
    """An address family by its AFI (IANA "Address Family Numbers"); the SAFI is always unicast."""

    IPV4 = 1
    IPV6 = 2

    @property
    def bits(self) -> int:
        """The length of an address."""
        return 32 if self is Family.IPV4 else 128

    @classmethod
    def of(cls, value: AnyAddress | AnyPrefix | AnyHostAddress) -> Family:
        """The family of an address or prefix."""
        return cls.IPV4 if value.version == 4 else cls.IPV6

"""Addresses and prefixes. IPv4 today; the aliases are the one place to widen."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

Address = IPv4Address
Prefix = IPv4Network
HostAddress = IPv4Interface

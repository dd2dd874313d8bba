"""Prefixes of two families compared: what is of another family neither contains nor overlaps."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network

from routed.model.address import AnyAddress, AnyPrefix


def inside(inner: AnyPrefix, outer: AnyPrefix) -> bool:
    """Whether `inner` is `outer` or a part of it."""
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and inner.subnet_of(outer)


def host_prefix(address: AnyAddress) -> AnyPrefix:
    """The prefix that is one address."""
    return IPv4Network(address) if isinstance(address, IPv4Address) else IPv6Network(address)


def overlap(one: AnyPrefix, other: AnyPrefix) -> bool:
    """Whether they have an address in common."""
    return inside(one, other) or inside(other, one)

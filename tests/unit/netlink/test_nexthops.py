"""Nexthop objects on the wire."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv4Network, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.netlink.constants import Nha
from routed.netlink.message import attr, u32
from routed.netlink.nexthops import NexthopEntry, hops_of
from routed.netlink.objects import HopEntry, RouteEntry

numbers = st.integers(1, 2**32 - 1)
hops = st.builds(
    HopEntry,
    index=st.integers(1, 2**31 - 1),
    gateway=st.none() | st.ip_addresses(v=4) | st.ip_addresses(v=6),
    onlink=st.booleans(),
)


@given(numbers, st.integers(0, 255), hops)
def test_a_next_hop_survives_the_wire(number: int, protocol: int, hop: HopEntry) -> None:
    entry = NexthopEntry(number, protocol, hop)
    assert NexthopEntry.unpack(entry.pack()) == entry


@given(numbers, st.integers(0, 255), st.lists(numbers, min_size=1, max_size=8).map(tuple))
def test_a_group_survives_the_wire(number: int, protocol: int, members: tuple[int, ...]) -> None:
    entry = NexthopEntry(number, protocol, None, members)
    assert NexthopEntry.unpack(entry.pack()) == entry


@pytest.mark.parametrize(
    "more",
    [attr(Nha.BLACKHOLE, b""), attr(Nha.ENCAP_TYPE, b"\1\0"), attr(Nha.FDB, b""), attr(Nha.RES_GROUP, b"")],
    ids=["blackhole", "encapsulation", "fdb", "resilient group"],
)
def test_what_a_nexthop_has_beyond_our_terms_makes_it_odd(more: bytes) -> None:
    assert NexthopEntry.unpack(NexthopEntry(7, 114, HopEntry(2)).pack() + more).odd


def test_a_group_with_weights_or_of_another_type_is_odd() -> None:
    header = struct.pack("=BBBxI", 0, 0, 114, 0) + u32(Nha.ID, 9)
    weighed = header + attr(Nha.GROUP, struct.pack("=IBBHIBBH", 1, 0, 0, 0, 2, 3, 0, 0))
    assert NexthopEntry.unpack(weighed).odd
    plain = header + attr(Nha.GROUP, struct.pack("=IBBH", 1, 0, 0, 0))
    assert not NexthopEntry.unpack(plain).odd
    assert NexthopEntry.unpack(plain + attr(Nha.GROUP_TYPE, b"\1\0")).odd


def test_what_newer_kernels_tell_besides_is_not_odd() -> None:
    """NHA_OP_FLAGS, Linux 6.9."""
    assert not NexthopEntry.unpack(NexthopEntry(9, 114, None, (1,)).pack() + attr(14, b"\0\0\0\x80")).odd


def test_where_a_group_leads_is_where_its_members_do() -> None:
    first, second = HopEntry(2, IPv4Address("10.1.1.1")), HopEntry(3, IPv6Address("fe80::1"))
    known = {each.id: each for each in (NexthopEntry(1, 4, first), NexthopEntry(2, 4, second))}
    known[3] = NexthopEntry(3, 4, None, (1, 2, 77))
    assert hops_of(3, known) == (first, second)
    assert hops_of(1, known) == (first,)
    assert hops_of(99, known) == ()


def test_a_route_by_a_nexthop_names_it_and_nothing_else() -> None:
    """Even where the kernel tells where it leads as well (nexthop_compat_mode)."""
    route = RouteEntry(IPv4Network("10.0.0.0/8"), nexthop=7, protocol=114)
    assert RouteEntry.unpack(route.pack()) == route
    told = RouteEntry(IPv4Network("10.0.0.0/8"), hops=(HopEntry(2, IPv4Address("10.1.1.1")),), protocol=114)
    assert RouteEntry.unpack(told.pack() + u32(30, 7)) == route

"""Packing and unpacking are inverse; damaged input never hangs or reads past its end."""

from __future__ import annotations

import errno
import socket
import struct
import threading
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.netlink import constants as c
from routed.netlink.constants import Flag, Ifla, Msg, Rta
from routed.netlink.message import IFINFO, RTMSG, as_text, as_u32, attr, attrs, nest, pack, text, u32, unpack
from routed.netlink.objects import AddressEntry, HopEntry, LinkEntry, RouteEntry, protocol_of, route_filter
from routed.netlink.socket import Netlink, NetlinkError

addresses = st.builds(IPv4Address, st.integers(0, 2**32 - 1))
networks = st.builds(
    lambda number, length: IPv4Network((number >> (32 - length) << (32 - length) if length else 0, length)),
    st.integers(0, 2**32 - 1),
    st.integers(0, 32),
)
addresses6 = st.builds(IPv6Address, st.integers(0, 2**128 - 1))
networks6 = st.builds(
    lambda number, length: IPv6Network((number >> (128 - length) << (128 - length) if length else 0, length)),
    st.integers(0, 2**128 - 1),
    st.integers(0, 128),
)
octets = st.integers(0, 255)
indices = st.integers(1, 2**31 - 1)
REJECTING = {c.RTN_BLACKHOLE, c.RTN_UNREACHABLE, c.RTN_PROHIBIT}


def routes_of(
    destination: st.SearchStrategy[IPv4Network] | st.SearchStrategy[IPv6Network],
    gateways: st.SearchStrategy[IPv4Address | IPv6Address],
    source: st.SearchStrategy[IPv4Address] | st.SearchStrategy[IPv6Address],
) -> st.SearchStrategy[RouteEntry]:
    hops = st.builds(HopEntry, index=indices, gateway=st.none() | gateways, onlink=st.booleans())
    weighted = st.builds(
        HopEntry, index=indices, gateway=st.none() | gateways, onlink=st.booleans(), weight=st.integers(1, 256)
    )
    return st.builds(
        RouteEntry,
        destination=destination,
        hops=st.just(()) | st.tuples(hops) | st.lists(weighted, min_size=2, max_size=4).map(tuple),
        source=st.none() | source,
        metric=st.integers(0, 2**32 - 1),
        tos=octets,
        table=st.integers(1, 2**32 - 1),
        protocol=octets,
        scope=octets,
        kind=octets,
    )


routes4 = routes_of(networks, addresses | addresses6, addresses)  # RFC 8950: an IPv6 gateway will do
routes6 = routes_of(networks6, addresses6, addresses6).filter(lambda route: route.kind not in REJECTING)
routes = routes4 | routes6


@given(routes)
def test_a_route_survives_the_wire(route: RouteEntry) -> None:
    assert RouteEntry.unpack(route.pack()) == route
    assert protocol_of(route.pack()) == route.protocol


@given(indices, addresses | addresses6, st.integers(0, 128), st.data(), octets, octets)
def test_an_address_survives_the_wire(
    index: int, local: IPv4Address | IPv6Address, length: int, data: st.DataObject, protocol: int, scope: int
) -> None:
    peer = data.draw(st.none() | (addresses if local.version == 4 else addresses6))
    interface = ip_interface(f"{local}/{min(length, local.max_prefixlen)}")
    entry = AddressEntry(index, interface, peer if peer != local else None, protocol, scope)
    assert AddressEntry.unpack(entry.pack()) == entry


def test_an_ipv6_blackhole_has_no_hop_though_the_kernel_names_lo() -> None:
    wanted = RouteEntry(IPv6Network("2001:db8::/64"), kind=c.RTN_BLACKHOLE)
    assert RouteEntry.unpack(wanted.pack() + u32(Rta.OIF, 1) + attr(Rta.PREF, b"\0")) == wanted


def test_a_router_preference_that_somebody_chose_is_named() -> None:
    assert RouteEntry.unpack(RouteEntry(IPv6Network("::/0")).pack() + attr(Rta.PREF, b"\1")).others == (Rta.PREF,)


def test_what_a_route_has_beyond_our_terms_is_named() -> None:
    body = RouteEntry(IPv4Network("10.0.0.0/8")).pack() + nest(Rta.METRICS, u32(2, 1400)) + u32(Rta.SRC, 7)
    assert RouteEntry.unpack(body).others == (Rta.SRC, Rta.METRICS)
    hop = struct.pack("=HBBi", 12, 0, 0, 3) + attr(Rta.VIA, b"")
    assert RouteEntry.unpack(RouteEntry(IPv4Network("10.0.0.0/8")).pack() + attr(Rta.MULTIPATH, hop)).others == (
        Rta.VIA,
    )


def test_a_link_is_read_with_kind_alias_and_carrier() -> None:
    body = IFINFO.pack(0, 1, 5, c.IFF_UP | c.IFF_LOWER_UP, 0)
    body += text(Ifla.IFNAME, "tunl0") + u32(Ifla.MTU, 1480) + attr(Ifla.IFALIAS, b"routed:tunnel")
    body += nest(Ifla.LINKINFO, text(Ifla.INFO_KIND, "ipip"))
    link = LinkEntry.unpack(body)
    assert link == LinkEntry(5, "tunl0", 1480, c.IFF_UP | c.IFF_LOWER_UP, "ipip", "routed:tunnel")
    assert link.carrier


def test_up_without_carrier_is_administratively_up_only() -> None:
    link = LinkEntry(1, "eth0", 1500, c.IFF_UP)
    assert (link.administratively_up, link.carrier) == (True, False)


def test_the_dump_filter_names_table_and_protocol() -> None:
    fields = RTMSG.unpack_from(route_filter(protocol=114))
    assert fields == (2, 0, 0, 0, 0, 114, 0, 0, 0)
    assert as_u32(attrs(route_filter(table=1000), RTMSG.size)[Rta.TABLE]) == 1000


@given(st.lists(st.tuples(st.sampled_from(Msg), st.integers(0, 2**32 - 1), st.binary(max_size=40))))
def test_messages_of_one_datagram_come_out_in_order(sent: list[tuple[Msg, int, bytes]]) -> None:
    datagram = b"".join(pack(kind, 0, seq, body) for kind, seq, body in sent)
    assert [(m.type, m.seq, m.body, m.flags) for m in unpack(datagram)] == [
        (kind, seq, body, Flag.REQUEST) for kind, seq, body in sent
    ]


@given(st.dictionaries(st.integers(1, 100), st.binary(max_size=30)))
def test_attributes_come_out_as_they_went_in(values: dict[int, bytes]) -> None:
    assert attrs(b"".join(attr(kind, payload) for kind, payload in values.items())) == values


@given(st.binary(max_size=200))
def test_garbage_is_read_to_its_end(data: bytes) -> None:
    assert sum(len(m.body) + 16 for m in unpack(data)) <= len(data)
    assert all(len(value) <= len(data) for value in attrs(data).values())


def test_text_ends_at_its_nul() -> None:
    assert as_text(b"eth0\0") == "eth0"


@pytest.fixture
def netlink() -> Netlink:
    return Netlink()


def test_a_refusal_is_an_error_with_the_kernels_number(netlink: Netlink) -> None:
    with netlink, pytest.raises(NetlinkError) as caught:
        netlink.get(Msg.GETLINK, IFINFO.pack(0, 0, 0, 0, 0) + text(Ifla.IFNAME, "nosuchdevice"))
    assert caught.value.errno == 19


def test_failures_of_a_long_batch_are_told_by_index(netlink: Netlink) -> None:
    nowhere = (Msg.GETLINK, 0, IFINFO.pack(0, 0, 2**31 - 1, 0, 0))
    here = (Msg.GETLINK, 0, IFINFO.pack(0, 0, 1, 0, 0))
    with netlink:
        failures = netlink.batch([nowhere if n % 400 == 7 else here for n in range(1201)])
    assert failures == dict.fromkeys((7, 407, 807), 19)


def test_events_do_not_wait(netlink: Netlink) -> None:
    found: list[object] = []
    with netlink:
        thread = threading.Thread(target=lambda: found.append(netlink.events()))
        thread.start()
        thread.join(2)
    assert found == [[]]


def test_a_kernel_that_does_not_answer_is_an_error_after_the_sockets_timeout(netlink: Netlink) -> None:
    with netlink:
        netlink._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, 1000))
        with pytest.raises(NetlinkError, match="did not answer") as caught:
            netlink._receive_bytes()
    assert caught.value.errno == errno.ETIMEDOUT


def test_the_port_is_the_one_the_kernel_gave(netlink: Netlink) -> None:
    with netlink:
        assert netlink.port == netlink._socket.getsockname()[0] != 0

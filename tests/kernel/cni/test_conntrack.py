"""What connection tracking remembers of an address, in a namespace of its own whose entries the test makes."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from uuid import uuid4

import pytest
from tests.kernel.cni.node import Node, run

from routed.model.address import AnyAddress
from routed.netlink.message import HEADER, attr, nest, unpack
from routed.netlink.socket import inside
from routed_cni import conntrack

_NEW = 1 << 8
_ACK_CREATE_EXCL_REQUEST = 0x605
_COUNT = Path("/proc/sys/net/netfilter/nf_conntrack_count")

POD, OTHER, VIRTUAL = (ip_address(f"10.9.0.{n}") for n in (2, 3, 200))
POD6, OTHER6 = ip_address("2001:db8::2"), ip_address("2001:db8::3")

Track = Callable[[AnyAddress, AnyAddress, AnyAddress], None]


@pytest.fixture
def track() -> Iterator[Track]:
    """Enter a namespace and return how to make an entry there: source, destination, and who answers."""
    name = f"conntrack-{uuid4().hex[:8]}"
    run("ip", "netns", "add", name)
    ports = iter(range(1000, 2000))

    def make(source: AnyAddress, destination: AnyAddress, answering: AnyAddress) -> None:
        _entry(source, destination, answering, next(ports))

    try:
        with inside(f"/run/netns/{name}"):
            yield make
    finally:
        run("ip", "netns", "del", name)


def _entry(source: AnyAddress, destination: AnyAddress, answering: AnyAddress, port: int) -> None:
    body = struct.pack("=BBH", socket.AF_INET if isinstance(source, IPv4Address) else socket.AF_INET6, 0, 0)
    body += _tuple(1, source, destination, port, 53) + _tuple(2, answering, source, 53, port)
    body += attr(7, struct.pack(">I", 100))  # CTA_TIMEOUT, s
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as kernel:
        kernel.sendall(HEADER.pack(HEADER.size + len(body), _NEW, _ACK_CREATE_EXCL_REQUEST, 1, 0) + body)
        assert struct.unpack_from("=i", next(unpack(kernel.recv(4096))).body) == (0,)


def _tuple(direction: int, source: AnyAddress, destination: AnyAddress, port: int, to_port: int) -> bytes:
    sides = (1, 2) if isinstance(source, IPv4Address) else (3, 4)
    ends = nest(1, attr(sides[0], source.packed), attr(sides[1], destination.packed))
    ports = attr(2, struct.pack(">H", port)), attr(3, struct.pack(">H", to_port))
    return nest(direction, ends, nest(2, attr(1, bytes([socket.IPPROTO_UDP])), *ports))


def _count() -> int:
    return int(_COUNT.read_text())


@pytest.mark.parametrize(
    ("source", "destination", "answering"),
    [(POD, OTHER, OTHER), (OTHER, POD, POD), (OTHER, VIRTUAL, POD), (POD6, OTHER6, OTHER6)],
    ids=["from it", "to it", "translated to it", "IPv6"],
)
def test_what_has_the_address_at_an_end_is_forgotten(
    track: Track, source: AnyAddress, destination: AnyAddress, answering: AnyAddress
):
    track(source, destination, answering)

    assert conntrack.forget(POD if source.version == 4 else POD6) == 1
    assert _count() == 0


def test_what_others_have_is_left_alone(track: Track):
    track(OTHER, VIRTUAL, VIRTUAL)
    track(OTHER6, POD6, POD6)

    assert conntrack.forget(POD) == 0
    assert _count() == 2


def test_an_entry_with_the_address_at_both_ends_counts_once(track: Track):
    track(POD, POD, POD)

    assert conntrack.forget(POD) == 1


def test_a_thousand_entries_of_one_address_go(track: Track):
    for _ in range(1000):
        track(POD, OTHER, OTHER)

    assert conntrack.forget(POD) == 1000


def test_a_pod_begins_without_what_is_remembered_of_its_address(node: Node):
    with inside(f"/run/netns/{node.name}"):
        for number in range(1, 10):
            _entry(ip_address(f"10.9.0.{number}"), OTHER, OTHER, 1000 + number)

    address = ip_address(node.cni("ADD", node.pod()).address)

    with inside(f"/run/netns/{node.name}"):
        assert _count() == 8
        assert conntrack.forget(address) == 0

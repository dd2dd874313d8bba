"""Routes in bulk say the same as routes one by one."""

from __future__ import annotations

import errno
import os
from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.netlink.test_codec import (
    addresses,
    addresses6,
    indices,
    networks,
    networks6,
    octets,
    routes,
    routes4,
    routes6,
)

from routed.model.address import Family
from routed.model.nlri import from_prefix
from routed.netlink import constants as c
from routed.netlink.constants import Flag, Ifla, Msg
from routed.netlink.message import IFINFO, text, unpack
from routed.netlink.objects import HopEntry, RouteEntry
from routed.netlink.routes import RouteReader, Template, alike, split, whole
from routed.netlink.socket import Netlink, NetlinkError


def plain_of(
    destination: st.SearchStrategy[IPv4Network] | st.SearchStrategy[IPv6Network],
    gateways: st.SearchStrategy[IPv4Address] | st.SearchStrategy[IPv6Address],
) -> st.SearchStrategy[RouteEntry]:
    return st.builds(
        RouteEntry,
        destination=destination,
        hops=st.just(()) | st.tuples(st.builds(HopEntry, index=indices, gateway=st.none() | gateways)),
        source=st.none() | gateways,
        metric=st.integers(0, 2**32 - 1),
        tos=octets,
        table=st.just(c.RT_TABLE_MAIN),
        protocol=octets,
    )


plain, plain6 = plain_of(networks, addresses), plain_of(networks6, addresses6)


@given(st.lists(routes | plain | plain6, max_size=10))
def test_a_route_taken_apart_and_put_together_is_the_same(entries: list[RouteEntry]) -> None:
    reader = RouteReader()
    for entry in entries:
        assert whole(*reader.read(entry.pack())) == entry


@given(plain, st.sets(st.integers(0, 2**32 - 1), min_size=2, max_size=5), st.integers(1, 32))
def test_routes_that_differ_in_the_prefix_only_share_their_rest(
    entry: RouteEntry, numbers: set[int], length: int
) -> None:
    nets = {IPv4Network((number >> (32 - length) << (32 - length), length)) for number in numbers}
    bodies = [replace(entry, destination=each).pack() for each in nets]
    assert len({split(body)[1] for body in bodies}) == 1
    assert {split(body)[0] for body in bodies} == {from_prefix(each) for each in nets}


@given(plain6, st.sets(st.integers(0, 2**128 - 1), min_size=2, max_size=5), st.integers(1, 128))
def test_so_do_ipv6_routes(entry: RouteEntry, numbers: set[int], length: int) -> None:
    nets = {IPv6Network((number >> (128 - length) << (128 - length), length)) for number in numbers}
    bodies = [replace(entry, destination=each).pack() for each in nets]
    assert len({split(body)[1] for body in bodies}) == 1
    assert {split(body)[0] for body in bodies} == {from_prefix(each) for each in nets}


@given(st.lists(routes4 | plain, max_size=10))
def test_routes_put_together_by_what_they_share_are_the_same_ones(entries: list[RouteEntry]) -> None:
    bodies = [entry.pack() for entry in entries]
    found = [whole(nlri, entry) for entry, nlris in alike(bodies, Family.IPV4) for nlri in nlris]
    assert Counter(found) == Counter(entries)


@given(plain6, st.sets(st.integers(0, 2**128 - 1), min_size=2, max_size=5), st.integers(1, 128))
def test_ipv6_routes_that_differ_in_the_prefix_only_are_put_together(
    entry: RouteEntry, numbers: set[int], length: int
) -> None:
    nets = {IPv6Network((number >> (128 - length) << (128 - length), length)) for number in numbers}
    ((shared, nlris),) = alike([replace(entry, destination=each).pack() for each in nets], Family.IPV6)
    assert {whole(nlri, shared) for nlri in nlris} == {replace(entry, destination=each) for each in nets}


def test_routes_that_differ_in_their_family_only_are_not_taken_for_each_other() -> None:
    reader = RouteReader()
    hop = (HopEntry(3),)
    for entry in (RouteEntry(IPv4Network("10.0.0.0/8"), hop), RouteEntry(IPv6Network("fd00::/8"), hop)):
        assert whole(*reader.read(entry.pack())) == entry


@given(
    routes6,
    st.lists(st.integers(0, 2**128 - 1), min_size=1, max_size=8),
    st.integers(0, 128),
    st.integers(1, 2**32 - 9),
)
def test_a_template_of_ipv6_filled_is_the_messages_one_by_one(
    entry: RouteEntry, numbers: list[int], length: int, seq: int
) -> None:
    nets = [IPv6Network((number >> (128 - length) << (128 - length) if length else 0, length)) for number in numbers]
    template = Template.of(Msg.NEWROUTE, Flag.CREATE, entry, length)
    found = list(unpack(bytes(template.fill([from_prefix(each) for each in nets], seq))))
    assert [message.body for message in found] == [replace(entry, destination=each).pack() for each in nets]


@given(
    routes4,
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=8),
    st.integers(0, 32),
    st.integers(1, 2**32 - 9),
    st.sampled_from([Msg.NEWROUTE, Msg.DELROUTE]),
)
def test_a_template_filled_is_the_messages_one_by_one(
    entry: RouteEntry, numbers: list[int], length: int, seq: int, kind: Msg
) -> None:
    nets = [IPv4Network((number >> (32 - length) << (32 - length) if length else 0, length)) for number in numbers]
    filled = Template.of(kind, Flag.CREATE, entry, length).fill([from_prefix(each) for each in nets], seq)
    found = list(unpack(bytes(filled)))
    assert [message.body for message in found] == [replace(entry, destination=each).pack() for each in nets]
    assert [message.seq for message in found] == list(range(seq, seq + len(nets)))
    assert {message.type for message in found} == {kind}
    asked = [bool(message.flags & Flag.ACK) for message in found]
    assert asked == [False] * (len(nets) - 1) + [True]


NOWHERE = Template.of(Msg.DELROUTE, 0, RouteEntry(IPv4Network("0.0.0.0/0"), metric=4_000_000_000, protocol=250), 32)
NLRIS = [bytes((32, 192, 0, 2, n)) for n in range(40)]


class Forgetful(Netlink):
    """Loses the answer to its first sends."""

    lost = 1

    def _receive_bytes(self) -> bytes:
        answer = super()._receive_bytes()
        if self.lost:
            self.lost -= 1
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        return answer


def test_every_refusal_of_a_filled_template_is_told_by_index() -> None:
    with Netlink() as netlink:
        failures, repeated = netlink.write(NOWHERE, NLRIS)
    assert set(failures) == set(range(40))
    assert not repeated


def test_a_lost_answer_has_the_batch_sent_again_and_is_told() -> None:
    with Forgetful() as netlink:
        failures, repeated = netlink.write(NOWHERE, NLRIS)
    assert (set(failures), repeated) == (set(range(40)), True)


def test_a_kernel_that_never_answers_is_an_error_after_a_few_times() -> None:
    with Forgetful() as netlink:
        netlink.lost = 1000
        with pytest.raises(NetlinkError) as caught:
            netlink.write(NOWHERE, NLRIS)
    assert caught.value.errno == errno.ENOBUFS


def test_a_dump_has_only_bodies_of_what_was_asked_for() -> None:
    with Netlink() as netlink:
        bodies = netlink.dump_bodies(Msg.GETLINK, IFINFO.pack(0, 0, 0, 0, 0))
        lo = netlink.get(Msg.GETLINK, IFINFO.pack(0, 0, 0, 0, 0) + text(Ifla.IFNAME, "lo"))
    assert IFINFO.unpack_from(lo.body)[2] in {IFINFO.unpack_from(body)[2] for body in bodies}

"""OPEN decoding."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routed.errors import PeerError
from routed.model.address import Address, Family
from routed_bgp.notification import SessionReset
from routed_bgp.open import GracefulRestart, Open, decode

HEAD = bytes([4]) + (64512).to_bytes(2) + (90).to_bytes(2) + Address("10.0.0.2").packed


def capability(code: int, value: bytes = b"") -> bytes:
    return bytes([code, len(value)]) + value


def an_open(*capabilities: bytes) -> bytes:
    parameters = b"".join(bytes([2, len(one)]) + one for one in capabilities)
    return HEAD + bytes([len(parameters)]) + parameters


def test_rfc4271_4_2_an_open_without_capabilities_is_of_ipv4() -> None:
    opened = decode(an_open())
    assert opened == Open(64512, 90, Address("10.0.0.2"))
    assert opened.families == {Family.IPV4}
    assert not any((opened.asn4, opened.add_path, opened.extended_next_hop, opened.route_refresh))


def test_rfc4760_8_families_are_those_of_the_capability_as_far_as_they_are_ours() -> None:
    both = an_open(capability(1, bytes([0, 1, 0, 1])) + capability(1, bytes([0, 2, 0, 1])))
    assert decode(both).families == {Family.IPV4, Family.IPV6}
    assert decode(an_open(capability(1, bytes([0, 2, 0, 1])))).families == {Family.IPV6}
    assert decode(an_open(capability(1, bytes([0, 1, 0, 128])))).families == frozenset()


def test_rfc4760_8_the_reserved_octet_means_nothing() -> None:
    assert decode(an_open(capability(1, bytes([0, 2, 9, 1])))).families == {Family.IPV6}


@pytest.mark.parametrize(("direction", "sends"), [(0, False), (1, False), (2, True), (3, True), (4, False)])
def test_rfc7911_4_add_path_where_the_peer_sends(direction: int, sends: bool) -> None:
    rows = bytes([0, 1, 1, direction, 0, 2, 1, 1, 0, 1, 128, 3])
    assert decode(an_open(capability(69, rows))).add_path == ({Family.IPV4} if sends else frozenset())


@pytest.mark.parametrize(
    ("row", "takes"), [((1, 1, 2), True), ((1, 128, 2), False), ((2, 1, 1), False), ((1, 1, 1), False)]
)
def test_rfc8950_4_ipv6_next_hops_for_ipv4(row: tuple[int, ...], takes: bool) -> None:
    value = b"".join(number.to_bytes(2) for number in (1, 2, 2, *row))
    assert decode(an_open(capability(5, value))).extended_next_hop == takes


def test_rfc2918_2_and_rfc7313_3_1_route_refresh() -> None:
    plain, enhanced = decode(an_open(capability(2))), decode(an_open(capability(2), capability(70)))
    assert (plain.route_refresh, plain.enhanced_refresh) == (True, False)
    assert (enhanced.route_refresh, enhanced.enhanced_refresh) == (True, True)


def test_rfc6793_4_1_the_real_as_is_in_the_capability() -> None:
    opened = decode(an_open(capability(65, (4200000000).to_bytes(4))))
    assert (opened.asn, opened.asn4) == (4200000000, True)


@pytest.mark.parametrize("asn", [0, 23456])
def test_rfc7607_2_and_rfc6793_9_some_numbers_are_nobodys(asn: int) -> None:
    old = bytes([4]) + asn.to_bytes(2) + HEAD[3:] + b"\0"
    for data in (old, an_open(capability(65, asn.to_bytes(4)))):
        with pytest.raises(SessionReset, match="bad peer AS") as caught:
            decode(data)
        assert (caught.value.code, caught.value.subcode) == (2, 2)


def test_rfc6793_9_as_trans_in_the_fixed_part_stands_for_the_number_in_the_capability() -> None:
    data = bytes([4]) + (23456).to_bytes(2) + an_open(capability(65, (70000).to_bytes(4)))[3:]
    assert decode(data).asn == 70000


def test_rfc4724_3_graceful_restart_with_families() -> None:
    rows = bytes([0, 1, 1, 0x80, 0, 2, 1, 0, 0, 1, 128, 0x80])
    graceful = decode(an_open(capability(64, bytes([0x80, 120]) + rows))).graceful_restart
    assert graceful == GracefulRestart(True, 120, ((Family.IPV4, True), (Family.IPV6, False)))
    assert graceful
    assert [graceful.keeps(family) for family in Family] == [True, True]
    assert [graceful.kept(family) for family in Family] == [True, False]


def test_rfc4724_3_graceful_restart_without_family_only_helps() -> None:
    graceful = decode(an_open(capability(64, bytes([0, 0])))).graceful_restart
    assert graceful == GracefulRestart(False, 0)
    assert graceful
    assert not any(graceful.keeps(family) or graceful.kept(family) for family in Family)


def test_rfc4724_3_of_several_instances_the_last_counts() -> None:
    opened = decode(an_open(capability(64, bytes([0x80, 120])), capability(64, bytes([0, 60, 0, 1, 1, 0]))))
    assert opened.graceful_restart == GracefulRestart(False, 60, ((Family.IPV4, False),))


@pytest.mark.parametrize(
    ("head", "restarting", "notification"), [(0x40, False, True), (0xC1, True, True), (1, False, False)]
)
def test_rfc8538_2_the_n_bit(head: int, restarting: bool, notification: bool) -> None:
    graceful = decode(an_open(capability(64, bytes([head, 120])))).graceful_restart
    assert graceful == GracefulRestart(restarting, 120 + (256 if head & 1 else 0), notification=notification)


def test_rfc5492_several_capabilities_in_one_parameter_and_unknown_ones() -> None:
    opened = decode(an_open(capability(250, b"what") + capability(65, (65001).to_bytes(4)), capability(2)))
    assert opened.asn == 65001


def test_rfc9072_2_extended_parameters() -> None:
    one = capability(65, (65001).to_bytes(4))
    parameter = bytes([2]) + len(one).to_bytes(2) + one
    assert decode(HEAD + bytes([255, 255]) + len(parameter).to_bytes(2) + parameter).asn == 65001


@pytest.mark.parametrize(
    ("data", "subcode"),
    [
        (b"", 0),
        (bytes([3]) + HEAD[1:] + b"\0", 1),
        (HEAD[:3] + bytes([0, 2]) + HEAD[5:] + b"\0", 6),
        (HEAD[:5] + bytes(4) + b"\0", 3),
        (HEAD + b"\5", 0),
        (HEAD + bytes([3, 2, 9, 0]), 0),
        (HEAD + bytes([1, 2]), 0),
        (an_open(capability(65, b"\0")), 0),
        (an_open(capability(64, b"\0\0\0")), 0),
        (an_open(capability(64, b"\0")), 0),
        (an_open(capability(1, b"\0\1\0")), 0),
        (an_open(capability(69, b"\0\1\1")), 0),
        (an_open(capability(5, b"\0\1\0\1\0")), 0),
    ],
    ids=[
        "empty",
        "version",
        "hold time of 2 s",
        "identifier 0 (RFC 6286)",
        "parameters missing",
        "overrun",
        "half a header",
        "short AS",
        "odd restart",
        "short restart",
        "short family",
        "odd add-path",
        "odd next hops",
    ],
)
def test_rfc4271_6_2_a_malformed_open_is_the_peers_error(data: bytes, subcode: int) -> None:
    with pytest.raises(SessionReset, match="malformed OPEN") as caught:
        decode(data)
    assert (caught.value.code, caught.value.subcode) == (2, subcode)


CAPABILITIES = st.lists(
    st.builds(capability, st.sampled_from([1, 2, 5, 64, 65, 69, 70, 250]), st.binary(max_size=12)), max_size=4
)


@settings(deadline=None)  # shared cores: wall time says nothing
@given(st.one_of(st.binary(max_size=80), CAPABILITIES.map(lambda some: an_open(*some)[10:])), st.booleans())
def test_any_bytes_give_an_open_or_a_peer_error(data: bytes, plausible: bool) -> None:
    whole = HEAD + bytes([len(data)]) + data if plausible else data
    with suppress(PeerError):
        assert decode(whole).hold_time not in (1, 2)

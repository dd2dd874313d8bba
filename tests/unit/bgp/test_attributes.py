"""Path attributes, one by one; test names carry the RFC and section they hold us to."""

from __future__ import annotations

import pytest
from tests.unit.bgp.verdicts import (
    MANDATORY,
    P6,
    P,
    attributes_of,
    is_discarded,
    is_withdrawn,
    read,
    resets,
    with_extra,
)
from tests.unit.bgp.wire import NEXT_HOP, ORIGIN, as_path, attribute, body, body6, next_hop, sequence

from routed.model.address import Address
from routed.model.path import Unknown


def test_rfc4271_9_1_2_2_a_an_as_set_counts_as_one() -> None:
    path = attribute(0x40, 2, sequence(65001, 65002) + sequence(65003, 65004, 65005, kind=1))
    found = attributes_of(body(P, attributes=ORIGIN + path + NEXT_HOP))
    assert found.as_path_length == 3
    assert found.as_numbers == (65001, 65002, 65003, 65004, 65005)


@pytest.mark.parametrize("value", [b"", b"\x03", b"\0\0"], ids=bytes.hex)
def test_rfc7606_7_1_an_invalid_origin_withdraws(value: bytes) -> None:
    assert is_withdrawn(read(body(P, attributes=attribute(0x40, 1, value) + as_path(1) + NEXT_HOP)), "ORIGIN")


@pytest.mark.parametrize(
    "value",
    [
        b"\2",
        b"\2\0",
        b"\2\2\0\0\0\1",
        b"\5" + sequence(1)[1:],
        b"\0" + sequence(1)[1:],
        sequence(1) + b"\2",
    ],
    ids=["no count", "empty", "overrun", "type 5", "type 0", "underrun"],
)
def test_rfc7606_7_2_a_malformed_as_path_withdraws(value: bytes) -> None:
    assert is_withdrawn(read(body(P, attributes=ORIGIN + attribute(0x40, 2, value) + NEXT_HOP)), "AS_PATH")


@pytest.mark.parametrize("kind", [3, 4])
def test_rfc5065_5_a_confederation_in_the_as_path_withdraws(kind: int) -> None:
    value = sequence(1, kind=kind) + sequence(2)
    assert is_withdrawn(read(body(P, attributes=ORIGIN + attribute(0x40, 2, value) + NEXT_HOP)), "AS_PATH")


def test_rfc7607_2_as_0_withdraws_in_as_path_and_is_discarded_in_aggregator() -> None:
    assert is_withdrawn(read(body(P, attributes=ORIGIN + as_path(65001, 0) + NEXT_HOP)), "AS 0")
    assert is_discarded(with_extra(attribute(0xC0, 7, bytes(4) + b"\x0a\0\0\1")), "AGGREGATOR")
    old = ORIGIN + as_path(65001, size=2) + NEXT_HOP
    for bad in (attribute(0xC0, 17, sequence(0)), attribute(0xC0, 18, bytes(4) + b"\x0a\0\0\1")):
        assert is_discarded(read(body(P, attributes=old + bad), asn4=False), "AS4_")


@pytest.mark.parametrize("value", [b"", bytes(3), bytes(16)], ids=len)
def test_rfc7606_7_3_a_next_hop_of_wrong_length_withdraws(value: bytes) -> None:
    assert is_withdrawn(read(body(P, attributes=ORIGIN + as_path(1) + attribute(0x40, 3, value))), "NEXT_HOP")


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "224.0.0.5", "255.255.255.255"])
def test_rfc4271_6_3_a_next_hop_that_is_no_host_withdraws(address: str) -> None:
    assert is_withdrawn(read(body(P, attributes=ORIGIN + as_path(1) + next_hop(address))), address)


@pytest.mark.parametrize("size", [0, 3, 5])
def test_rfc7606_7_4_a_med_of_wrong_length_withdraws(size: int) -> None:
    assert is_withdrawn(with_extra(attribute(0x80, 4, bytes(size))), "MULTI_EXIT_DISC")


def test_rfc7606_7_5_local_pref_is_ignored_from_outside_and_checked_inside() -> None:
    wrong = attribute(0x40, 5, bytes(3))
    outside = with_extra(wrong)
    assert outside.announced
    assert outside.attributes
    assert outside.attributes.local_pref is None
    assert is_withdrawn(with_extra(wrong, ebgp=False), "LOCAL_PREF")


def test_rfc7606_7_6_atomic_aggregate_with_a_value_is_discarded() -> None:
    assert is_discarded(with_extra(attribute(0x40, 6, b"\0")), "ATOMIC_AGGREGATE")


def test_rfc7606_7_7_an_aggregator_of_wrong_length_is_discarded() -> None:
    assert is_discarded(with_extra(attribute(0xC0, 7, b"\1" * 6)), "AGGREGATOR")
    old = ORIGIN + as_path(65001, size=2) + NEXT_HOP
    assert is_discarded(read(body(P, attributes=old + attribute(0xC0, 7, b"\1" * 8)), asn4=False), "AGGREGATOR")


def test_rfc4271_5_1_7_an_aggregator_is_kept_to_be_passed_on() -> None:
    update = with_extra(attribute(0xC0, 7, bytes([0, 0, 0xFD, 0xE9, 10, 0, 0, 1])))
    assert update.attributes
    assert update.attributes.unknown == (Unknown(7, bytes([0, 0, 0xFD, 0xE9, 10, 0, 0, 1])),)


@pytest.mark.parametrize("size", [0, 5])
def test_rfc7606_7_8_communities_of_wrong_length_withdraw(size: int) -> None:
    assert is_withdrawn(with_extra(attribute(0xC0, 8, bytes(size))), "COMMUNITIES")


@pytest.mark.parametrize("code", [9, 10])
def test_rfc7606_7_9_and_7_10_reflection_is_ignored_from_outside_and_checked_inside(code: int) -> None:
    wrong = attribute(0x80, code, bytes(3))
    assert with_extra(wrong).announced
    assert is_withdrawn(with_extra(wrong, ebgp=False), "3 octets")


def test_rfc4456_8_originator_and_clusters_are_read_from_inside_only() -> None:
    extra = attribute(0x80, 9, bytes([10, 0, 0, 9])) + attribute(0x80, 10, bytes([0, 0, 0, 1, 0, 0, 0, 2]))
    inside, outside = (attributes_of(body(P, attributes=MANDATORY + extra), ebgp=ebgp) for ebgp in (False, True))
    assert inside.originator_id == Address("10.0.0.9")
    assert inside.cluster_list == (Address("0.0.0.1"), Address("0.0.0.2"))
    assert (outside.originator_id, outside.cluster_list) == (None, ())


def test_rfc7606_7_14_extended_communities_of_wrong_length_withdraw() -> None:
    assert is_withdrawn(with_extra(attribute(0xC0, 16, bytes(7))), "EXTENDED_COMMUNITIES")


def test_rfc7606_7_15_ipv6_extended_communities_of_wrong_length_withdraw() -> None:
    assert is_withdrawn(with_extra(attribute(0xC0, 25, bytes(8))), "IPV6_EXTENDED_COMMUNITIES")


def test_rfc8092_6_large_communities_of_wrong_length_withdraw() -> None:
    assert is_withdrawn(with_extra(attribute(0xC0, 32, bytes(11))), "LARGE_COMMUNITIES")


def test_rfc8092_5_a_large_community_that_is_there_twice_counts_once() -> None:
    one, two = (number.to_bytes(4) + bytes(8) for number in (1, 2))
    found = attributes_of(body(P, attributes=MANDATORY + attribute(0xC0, 32, two + one + two)))
    assert found.large_communities == ((2, 0, 0), (1, 0, 0))


def test_rfc4271_6_3_an_unknown_well_known_attribute_resets_even_after_a_milder_error() -> None:
    bad = attribute(0x40, 1, b"\x09") + attribute(0x40, 99, b"")
    resets(body(P, attributes=bad), 3, 2, "unrecognised well-known attribute")
    resets(body6(P6, attributes=bad), 3, 2)


def test_rfc4271_5_of_unknown_optional_attributes_the_transitive_ones_are_kept() -> None:
    update = with_extra(attribute(0xC0, 99, b"anything") + attribute(0x80, 98, b"") + attribute(0xC0, 16, bytes(8)))
    assert not update.faults
    assert update.attributes
    assert update.attributes.unknown == (Unknown(16, bytes(8)), Unknown(99, b"anything"))


def test_rfc6793_4_2_3_as4_path_takes_the_place_of_the_tail() -> None:
    path = as_path(65001, 23456, 23456, size=2) + attribute(0xC0, 17, sequence(70000, 80000))
    found = attributes_of(body(P, attributes=ORIGIN + path + NEXT_HOP), asn4=False)
    assert found.as_numbers == (65001, 70000, 80000)
    assert found.as_path_length == 3


def test_rfc6793_4_2_3_an_as4_path_longer_than_the_as_path_is_ignored() -> None:
    path = as_path(23456, size=2) + attribute(0xC0, 17, sequence(70000, 80000))
    assert attributes_of(body(P, attributes=ORIGIN + path + NEXT_HOP), asn4=False).as_numbers == (23456,)


def test_rfc6793_4_2_3_both_are_ignored_when_an_old_speaker_aggregated() -> None:
    path = as_path(65001, 23456, size=2) + attribute(0xC0, 17, sequence(70000))
    old, new = b"\xfd\xe9" + bytes([10, 0, 0, 1]), (70000).to_bytes(4) + bytes([10, 0, 0, 2])
    path += attribute(0xC0, 7, old) + attribute(0xC0, 18, new)
    found = attributes_of(body(P, attributes=ORIGIN + path + NEXT_HOP), asn4=False)
    assert found.as_numbers == (65001, 23456)
    assert found.unknown == (Unknown(7, b"\0\0" + old),)


def test_rfc6793_4_2_3_the_new_aggregator_takes_the_place_of_as_trans() -> None:
    path = as_path(65001, 23456, size=2) + attribute(0xC0, 17, sequence(70000))
    new = (70000).to_bytes(4) + bytes([10, 0, 0, 2])
    path += attribute(0xC0, 7, b"\x5b\xa0" + bytes([10, 0, 0, 1])) + attribute(0xC0, 18, new)
    found = attributes_of(body(P, attributes=ORIGIN + path + NEXT_HOP), asn4=False)
    assert found.as_numbers == (65001, 70000)
    assert found.unknown == (Unknown(7, new),)


def test_rfc6793_4_2_3_an_aggregator_alone_leaves_as4_path_in_force() -> None:
    path = as_path(65001, 23456, size=2) + attribute(0xC0, 17, sequence(70000)) + attribute(0xC0, 7, b"\1" * 6)
    assert attributes_of(body(P, attributes=ORIGIN + path + NEXT_HOP), asn4=False).as_numbers == (65001, 70000)


@pytest.mark.parametrize("value", [b"", b"\2\7", b"\2\0", b"\5" + sequence(1)[1:], sequence(1) + b"\2"], ids=bytes.hex)
def test_rfc6793_6_a_malformed_as4_path_is_discarded(value: bytes) -> None:
    bad = ORIGIN + as_path(65001, size=2) + NEXT_HOP + attribute(0xC0, 17, value)
    assert is_discarded(read(body(P, attributes=bad), asn4=False), "AS4_PATH")


def test_rfc6793_6_a_confederation_in_as4_path_does_not_count() -> None:
    path = as_path(65001, 23456, size=2) + attribute(0xC0, 17, sequence(64512, kind=3) + sequence(70000))
    found = read(body(P, attributes=ORIGIN + path + NEXT_HOP), asn4=False)
    assert not found.faults
    assert found.attributes
    assert found.attributes.as_numbers == (65001, 70000)


@pytest.mark.parametrize("size", [0, 6, 9])
def test_rfc6793_6_a_malformed_as4_aggregator_is_discarded(size: int) -> None:
    bad = ORIGIN + as_path(65001, size=2) + NEXT_HOP + attribute(0xC0, 18, b"\1" * size)
    assert is_discarded(read(body(P, attributes=bad), asn4=False), "AS4_AGGREGATOR")


def test_rfc6793_4_1_as4_path_from_a_new_speaker_is_discarded() -> None:
    assert is_discarded(with_extra(attribute(0xC0, 17, sequence(70000))), "AS4_PATH")
    assert is_discarded(with_extra(attribute(0xC0, 18, b"\1" * 8)), "AS4_AGGREGATOR")

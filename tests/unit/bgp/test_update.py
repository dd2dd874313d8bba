"""UPDATE decoding; test names carry the RFC and section they hold us to."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.bgp.wire import NEXT_HOP, ORIGIN, as_path, attribute, body, next_hop, sequence

from routed.errors import PeerError
from routed.model.address import Address, Prefix
from routed.model.path import Origin
from routed_bgp.update import Attributes, Segment, Update, decode

P = "10.244.1.0/26"
MANDATORY = ORIGIN + as_path(65001) + NEXT_HOP


@st.composite
def prefixes(draw: st.DrawFn) -> Prefix:
    length = draw(st.integers(0, 32))
    return Prefix((draw(st.integers(0, 2**32 - 1)), length), strict=False)


def read(data: bytes, *, asn4: bool = True, ebgp: bool = True) -> Update:
    return decode(data, asn4=asn4, ebgp=ebgp)


def attributes_of(data: bytes, *, asn4: bool = True, ebgp: bool = True) -> Attributes:
    found = read(data, asn4=asn4, ebgp=ebgp).attributes
    assert found is not None
    return found


def with_extra(extra: bytes, *, ebgp: bool = True) -> Update:
    return read(body(P, attributes=MANDATORY + extra), ebgp=ebgp)


def is_withdrawn(update: Update, *words: str) -> bool:
    return (
        update.withdrawn == (Prefix(P),)
        and not update.announced
        and update.attributes is None
        and all(word in update.faults[-1] for word in words)
    )


def is_discarded(update: Update, word: str) -> bool:
    return update.announced == (Prefix(P),) and any(word in fault for fault in update.faults)


def test_rfc4271_4_3_an_announcement_carries_its_attributes() -> None:
    extra = attribute(0x80, 4, bytes([0, 0, 0, 7])) + attribute(0x40, 5, bytes([0, 0, 0, 50]))
    extra += attribute(0xC0, 8, bytes.fromhex("fde80001fde80002"))
    assert read(body(P, "10.0.0.1/32", attributes=MANDATORY + extra), ebgp=False) == Update(
        announced=(Prefix(P), Prefix("10.0.0.1/32")),
        attributes=Attributes(
            Origin.IGP, (Segment(True, (65001,)),), Address("10.0.0.2"), 7, 50, (0xFDE80001, 0xFDE80002)
        ),
    )


def test_rfc4271_4_3_a_withdrawal_needs_no_attributes() -> None:
    assert read(body(withdrawn=(P,))) == Update(withdrawn=(Prefix(P),))


def test_rfc4271_4_3_a_prefix_in_both_lists_is_announced() -> None:
    update = read(body(P, withdrawn=(P, "10.9.0.0/16")))
    assert update.announced == (Prefix(P),)
    assert update.withdrawn == (Prefix("10.9.0.0/16"),)


def test_rfc4271_4_3_bits_beyond_the_prefix_length_mean_nothing() -> None:
    assert read(bytes([0, 4, 20, 10, 1, 0xFF, 0, 0])).withdrawn == (Prefix("10.1.240.0/20"),)


def test_rfc4271_4_3_an_extended_length_is_read() -> None:
    long = bytes([0x50, 1, 0, 1, 2])
    assert attributes_of(body(P, attributes=long + as_path(65001) + NEXT_HOP)).origin is Origin.INCOMPLETE


def test_rfc4724_2_the_shortest_update_is_end_of_rib() -> None:
    assert read(bytes(4)) == Update(end_of_rib=True)
    assert not read(body(withdrawn=(P,))).end_of_rib


def test_rfc4271_9_1_2_2_a_an_as_set_counts_as_one() -> None:
    path = attribute(0x40, 2, sequence(65001, 65002) + sequence(65003, 65004, 65005, kind=1))
    found = attributes_of(body(P, attributes=ORIGIN + path + NEXT_HOP))
    assert found.as_path_length == 3
    assert found.as_numbers == (65001, 65002, 65003, 65004, 65005)


@pytest.mark.parametrize("data", [b"", b"\0", bytes(3)], ids=len)
def test_rfc4271_6_1_a_body_that_is_too_short_resets(data: bytes) -> None:
    with pytest.raises(PeerError, match="bad message length"):
        read(data)


@pytest.mark.parametrize(
    "data",
    [bytes([0, 9, 0, 0]), bytes([0xFF, 0xFF, 0, 0]), bytes([0, 0, 0, 9])],
    ids=["withdrawn", "far beyond", "attributes"],
)
def test_rfc7606_3_b_lengths_beyond_the_message_reset(data: bytes) -> None:
    with pytest.raises(PeerError, match="exceed the message"):
        read(data)


@pytest.mark.parametrize("bad", [bytes([33, 1, 2, 3, 4, 5]), bytes([24, 10, 0])], ids=["length 33", "cut off"])
def test_rfc7606_5_3_a_prefix_that_cannot_be_read_resets(bad: bytes) -> None:
    with pytest.raises(PeerError, match="invalid network field"):
        read(body(attributes=MANDATORY) + bad)
    with pytest.raises(PeerError, match="invalid network field"):
        read(len(bad).to_bytes(2) + bad + bytes(2))


def test_rfc7606_3_c_wrong_flags_withdraw() -> None:
    assert is_withdrawn(read(body(P, attributes=bytes([0xC0, 1, 1, 0]) + as_path(1) + NEXT_HOP)), "ORIGIN", "flags")


@pytest.mark.parametrize(
    ("attributes", "missing"),
    [
        (as_path(1) + NEXT_HOP, "ORIGIN"),
        (ORIGIN + NEXT_HOP, "AS_PATH"),
        (ORIGIN + as_path(1), "NEXT_HOP"),
        (b"", "ORIGIN, AS_PATH, NEXT_HOP"),
    ],
)
def test_rfc7606_3_d_a_missing_mandatory_attribute_withdraws(attributes: bytes, missing: str) -> None:
    assert is_withdrawn(read(body(P, attributes=attributes)), missing)


def test_rfc7606_3_g_the_first_of_two_counts() -> None:
    update = with_extra(bytes([0x40, 1, 1, 2]))
    assert is_discarded(update, "ORIGIN occurs twice")
    assert update.attributes
    assert update.attributes.origin is Origin.IGP


def test_rfc7606_3_g_two_mp_reach_reset() -> None:
    with pytest.raises(PeerError, match="MP_REACH_NLRI occurs twice"):
        with_extra(attribute(0x80, 14, bytes(5)) * 2)


@pytest.mark.parametrize(
    "tail", [bytes([0x40]), bytes([0x40, 5]), bytes([0x50, 5, 0]), bytes([0x40, 5, 9, 0])], ids=bytes.hex
)
def test_rfc7606_4_attributes_that_end_inside_one_withdraw(tail: bytes) -> None:
    assert is_withdrawn(with_extra(tail, ebgp=False), "end")


def test_rfc7606_5_2_an_error_without_prefixes_resets() -> None:
    with pytest.raises(PeerError, match="no prefix to withdraw"):
        read(body(attributes=bytes([0x40, 1, 1, 9])))


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
        b"\3" + sequence(1)[1:],
        sequence(0),
        sequence(1) + b"\2",
    ],
    ids=["no count", "empty", "overrun", "unknown", "confederation", "AS 0 (RFC 7607)", "underrun"],
)
def test_rfc7606_7_2_a_malformed_as_path_withdraws(value: bytes) -> None:
    assert is_withdrawn(read(body(P, attributes=ORIGIN + attribute(0x40, 2, value) + NEXT_HOP)), "AS_PATH")


@pytest.mark.parametrize("value", [b"", bytes(3), bytes(16)], ids=len)
def test_rfc7606_7_3_a_next_hop_of_wrong_length_withdraws(value: bytes) -> None:
    assert is_withdrawn(read(body(P, attributes=ORIGIN + as_path(1) + attribute(0x40, 3, value))), "NEXT_HOP")


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "224.0.0.5", "255.255.255.255"])
def test_rfc4271_6_3_a_next_hop_that_is_no_host_withdraws(address: str) -> None:
    assert is_withdrawn(read(body(P, attributes=ORIGIN + as_path(1) + next_hop(address))), address)


def test_rfc7606_7_4_a_med_of_wrong_length_withdraws() -> None:
    assert is_withdrawn(with_extra(attribute(0x80, 4, bytes(3))), "MULTI_EXIT_DISC")


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
    assert is_discarded(with_extra(attribute(0xC0, 7, bytes(6))), "AGGREGATOR")


@pytest.mark.parametrize("size", [0, 5])
def test_rfc7606_7_8_communities_of_wrong_length_withdraw(size: int) -> None:
    assert is_withdrawn(with_extra(attribute(0xC0, 8, bytes(size))), "COMMUNITIES")


@pytest.mark.parametrize("code", [9, 10])
def test_rfc7606_7_9_and_7_10_reflection_is_ignored_from_outside_and_checked_inside(code: int) -> None:
    wrong = attribute(0x80, code, bytes(3))
    assert with_extra(wrong).announced
    assert is_withdrawn(with_extra(wrong, ebgp=False), "3 octets")


def test_rfc7606_7_14_extended_communities_of_wrong_length_withdraw() -> None:
    assert is_withdrawn(with_extra(attribute(0xC0, 16, bytes(7))), "EXTENDED_COMMUNITIES")


def test_rfc8092_6_large_communities_of_wrong_length_withdraw() -> None:
    assert is_withdrawn(with_extra(attribute(0xC0, 32, bytes(11))), "LARGE_COMMUNITIES")


def test_rfc4271_6_3_an_unknown_well_known_attribute_resets_even_after_a_milder_error() -> None:
    with pytest.raises(PeerError, match="unrecognised well-known attribute"):
        with_extra(attribute(0x40, 1, b"\x09") + attribute(0x40, 99, b""))


def test_rfc4271_9_an_unknown_optional_attribute_is_passed_over() -> None:
    update = with_extra(attribute(0xC0, 99, b"anything") + attribute(0x80, 98, b""))
    assert update.announced
    assert not update.faults


def test_rfc6793_4_2_3_as4_path_takes_the_place_of_the_tail() -> None:
    path = as_path(65001, 23456, 23456, size=2) + attribute(0xC0, 17, sequence(70000, 80000))
    found = attributes_of(body(P, attributes=ORIGIN + path + NEXT_HOP), asn4=False)
    assert found.as_numbers == (65001, 70000, 80000)
    assert found.as_path_length == 3


def test_rfc6793_4_2_3_an_as4_path_longer_than_the_as_path_is_ignored() -> None:
    path = as_path(23456, size=2) + attribute(0xC0, 17, sequence(70000, 80000))
    assert attributes_of(body(P, attributes=ORIGIN + path + NEXT_HOP), asn4=False).as_numbers == (23456,)


def test_rfc6793_4_2_3_as4_path_is_ignored_when_an_old_speaker_aggregated() -> None:
    path = as_path(65001, 23456, size=2) + attribute(0xC0, 17, sequence(70000))
    path += attribute(0xC0, 7, (65001).to_bytes(2) + bytes(4))
    assert attributes_of(body(P, attributes=ORIGIN + path + NEXT_HOP), asn4=False).as_numbers == (65001, 23456)


def test_rfc6793_6_a_malformed_as4_path_is_discarded() -> None:
    bad = ORIGIN + as_path(65001, size=2) + NEXT_HOP + attribute(0xC0, 17, b"\2\7")
    assert is_discarded(read(body(P, attributes=bad), asn4=False), "AS4_PATH")


def test_rfc6793_4_1_as4_path_from_a_new_speaker_is_discarded() -> None:
    assert is_discarded(with_extra(attribute(0xC0, 17, sequence(70000))), "AS4_PATH")


@settings(deadline=None)  # shared cores: wall time says nothing
@given(st.binary(max_size=200), st.booleans(), st.booleans())
def test_any_bytes_give_an_update_or_a_peer_error(data: bytes, asn4: bool, ebgp: bool) -> None:
    try:
        update = decode(data, asn4=asn4, ebgp=ebgp)
    except PeerError:
        return
    assert (update.attributes is None) == (not update.announced)
    assert not set(update.announced) & set(update.withdrawn)


@settings(deadline=None)  # shared cores: wall time says nothing
@given(st.data(), st.booleans(), st.booleans())
def test_a_damaged_update_gives_an_update_or_a_peer_error(data: st.DataObject, asn4: bool, ebgp: bool) -> None:
    extra = b"".join(
        attribute(flags, code, value)
        for flags, code, value in data.draw(
            st.lists(st.tuples(st.integers(0, 255), st.integers(0, 33), st.binary(max_size=14)), max_size=4)
        )
    )
    whole = bytearray(body(P, withdrawn=("10.1.0.0/16",), attributes=MANDATORY + extra))
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=3)):
        whole[at] = value
    cut = data.draw(st.integers(0, len(whole)))
    try:
        update = decode(bytes(whole[:cut]), asn4=asn4, ebgp=ebgp)
    except PeerError:
        return
    assert (update.attributes is None) == (not update.announced)


@settings(deadline=None)  # shared cores: wall time says nothing
@given(st.lists(prefixes(), max_size=20), st.lists(prefixes(), max_size=20))
def test_every_prefix_sent_arrives_in_its_list(announced: list[Prefix], withdrawn: list[Prefix]) -> None:
    update = read(body(*map(str, announced), withdrawn=tuple(map(str, withdrawn))))
    assert set(update.announced) == set(announced)
    assert set(update.withdrawn) == set(withdrawn) - set(announced)

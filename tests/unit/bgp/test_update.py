"""UPDATE decoding; test names carry the RFC and section they hold us to. Attribute by attribute: test_attributes."""

from __future__ import annotations

import pytest
from tests.unit.bgp.verdicts import (
    BOTH,
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
from tests.unit.bgp.wire import NEXT_HOP, ORIGIN, as_path, attribute, body, body6, key, raw_body

from routed.model.address import Address, Family
from routed.model.path import Origin, Segment, Unknown
from routed_bgp.attributes import Attributes
from routed_bgp.dialect import Dialect
from routed_bgp.notification import SessionReset
from routed_bgp.speaker import Refresh
from routed_bgp.update import Decoder, Update, messages, refresh


def test_rfc4271_4_3_an_announcement_carries_its_attributes() -> None:
    extra = attribute(0x80, 4, bytes([0, 0, 0, 7])) + attribute(0x40, 5, bytes([0, 0, 0, 50]))
    extra += attribute(0xC0, 8, bytes.fromhex("fde80001fde80002"))
    assert read(body(P, "10.0.0.1/32", attributes=MANDATORY + extra), ebgp=False) == Update(
        Family.IPV4,
        announced=[key(P), key("10.0.0.1/32")],
        attributes=Attributes(
            Origin.IGP, (Segment(True, (65001,)),), Address("10.0.0.2"), 7, 50, (0xFDE80001, 0xFDE80002)
        ),
    )


def test_rfc4271_4_3_a_withdrawal_needs_no_attributes() -> None:
    assert read(body(withdrawn=(P,))) == Update(Family.IPV4, withdrawn=[key(P)])


def test_rfc4271_4_3_a_prefix_in_both_lists_is_announced() -> None:
    update = read(body(P, withdrawn=(P, "10.9.0.0/16")))
    assert update.announced == [key(P)]
    assert update.withdrawn == [key("10.9.0.0/16")]


def test_rfc4271_4_3_bits_beyond_the_prefix_length_mean_nothing() -> None:
    assert read(bytes([0, 4, 20, 10, 1, 0xFF, 0, 0])).withdrawn == [key("10.1.240.0/20")]


def test_rfc4271_4_3_an_extended_length_is_read() -> None:
    long = bytes([0x50, 1, 0, 1, 2])
    assert attributes_of(body(P, attributes=long + as_path(65001) + NEXT_HOP)).origin is Origin.INCOMPLETE


def test_rfc4724_2_the_shortest_update_is_end_of_rib() -> None:
    assert read(bytes(4)) == Update(Family.IPV4, end_of_rib=Family.IPV4)
    assert not read(body(withdrawn=(P,))).end_of_rib


@pytest.mark.parametrize("data", [b"", b"\0", bytes(3)], ids=len)
def test_rfc4271_6_1_a_body_that_is_too_short_resets(data: bytes) -> None:
    resets(data, 1, 2, "bad message length")


@pytest.mark.parametrize(
    "data",
    [bytes([0, 9, 0, 0]), bytes([0xFF, 0xFF, 0, 0]), bytes([0, 0, 0, 9]), bytes([0, 1, 0, 0]), bytes([0, 0, 0, 1])],
    ids=["withdrawn", "far beyond", "attributes", "withdrawn by one", "attributes by one"],
)
def test_rfc7606_3_b_lengths_beyond_the_message_reset(data: bytes) -> None:
    resets(data, 3, 1, "exceed the message")


@pytest.mark.parametrize("bad", [bytes([33, 1, 2, 3, 4, 5]), bytes([24, 10, 0])], ids=["length 33", "cut off"])
def test_rfc7606_3_i_and_5_3_a_prefix_that_cannot_be_read_resets(bad: bytes) -> None:
    resets(body(attributes=MANDATORY) + bad, 3, 10, "invalid network field")
    resets(raw_body(bad, b"", b""), 3, 10, "invalid network field")


def test_rfc7606_5_3_a_prefix_that_cannot_be_read_resets_behind_a_milder_error_too() -> None:
    resets(raw_body(b"", attribute(0x40, 1, b"\x09"), bytes([33])), 3, 10)


@pytest.mark.parametrize("flags", [0xC0, 0x00, 0x80])
def test_rfc7606_3_c_wrong_flags_withdraw(flags: int) -> None:
    wrong = attribute(flags, 1, b"\0")
    assert is_withdrawn(read(body(P, attributes=wrong + as_path(1) + NEXT_HOP)), "ORIGIN", "flags")


@pytest.mark.parametrize(
    ("flags", "code", "value"),
    [
        (0xC0, 4, bytes(4)),
        (0x80, 5, bytes(4)),
        (0xC0, 6, b""),
        (0x40, 7, b"\0\0\0\1\1\1\1\1"),
        (0x80, 8, bytes(4)),
        (0xC0, 9, bytes(4)),
        (0xC0, 10, bytes(4)),
        (0x80, 16, bytes(8)),
        (0x80, 25, bytes(20)),
        (0x40, 32, bytes(12)),
    ],
)
def test_rfc7606_3_c_wrong_flags_of_any_attribute_withdraw(flags: int, code: int, value: bytes) -> None:
    assert is_withdrawn(with_extra(attribute(flags, code, value), ebgp=False), "flags")


def test_rfc4271_4_3_the_partial_bit_and_unused_bits_are_no_error() -> None:
    assert not with_extra(attribute(0xE0, 8, bytes(4)) + attribute(0x8F, 4, bytes(4))).faults


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


def test_rfc7606_3_g_the_first_counts_of_unknown_attributes_too() -> None:
    update = with_extra(attribute(0xC0, 99, b"first") + attribute(0xC0, 99, b"second"))
    assert is_discarded(update, "attribute 99 occurs twice")
    assert update.attributes
    assert update.attributes.unknown == (Unknown(99, b"first"),)


def test_rfc7606_3_h_the_strongest_action_counts() -> None:
    discard = attribute(0x40, 6, b"\0")
    withdraw = attribute(0x80, 4, bytes(3))
    update = with_extra(discard + withdraw)
    assert is_withdrawn(update, "MULTI_EXIT_DISC")
    assert len(update.faults) == 2
    resets(body(P, attributes=MANDATORY + discard + withdraw + attribute(0x40, 99, b"")), 3, 2)


@pytest.mark.parametrize(
    "tail",
    [bytes([0x40]), bytes([0x40, 5]), bytes([0x50, 5, 0]), bytes([0x40, 5, 9, 0]), bytes([0x50, 5, 1, 0, 0])],
    ids=bytes.hex,
)
def test_rfc7606_4_attributes_that_end_inside_one_withdraw(tail: bytes) -> None:
    assert is_withdrawn(with_extra(tail, ebgp=False), "end")


@pytest.mark.parametrize("code", [1, 3, 4, 5, 8, 9, 10, 16, 25, 32])
def test_rfc7606_4_an_empty_attribute_withdraws(code: int) -> None:
    empty = attribute({1: 0x40, 3: 0x40, 5: 0x40, 4: 0x80, 9: 0x80, 10: 0x80}.get(code, 0xC0), code, b"")
    assert is_withdrawn(read(body(P, attributes=empty + MANDATORY), ebgp=False))


def test_rfc7606_4_an_as_path_and_an_atomic_aggregate_may_be_empty() -> None:
    found = read(body(P, attributes=ORIGIN + as_path() + NEXT_HOP + attribute(0x40, 6, b"")))
    assert not found.faults
    assert found.attributes
    assert (found.attributes.as_path, found.attributes.atomic_aggregate) == ((), True)


def test_rfc7606_5_2_an_error_without_prefixes_resets() -> None:
    resets(body(attributes=bytes([0x40, 1, 1, 9])), 3, 1, "no prefix to withdraw")
    resets(body(attributes=bytes([0x40, 1, 1, 9]), withdrawn=(P,)), 3, 1, "no prefix to withdraw")


def test_rfc7606_5_2_attributes_without_prefixes_are_no_error_and_nothing_is_missing() -> None:
    assert read(body(attributes=MANDATORY)) == Update(Family.IPV4)
    assert read(body(attributes=ORIGIN, withdrawn=(P,))) == Update(Family.IPV4, withdrawn=[key(P)])
    assert read(body(attributes=attribute(0x40, 6, b"\0"))).faults  # attribute discard goes on


def test_the_same_attributes_are_one_object_however_many_prefixes_use_them() -> None:
    decoder = Decoder(Dialect(ebgp=True))
    first, second = (decoder.decode(body(prefix)).attributes for prefix in (P, "10.0.0.0/8"))
    assert first is second
    with_withdrawals = decoder.decode(body(P, withdrawn=("10.9.0.0/16",)))
    assert with_withdrawals.attributes is first


def test_what_is_remembered_of_a_peer_is_bounded() -> None:
    decoder = Decoder(Dialect(ebgp=True))
    filler = attribute(0xC0, 99, bytes(3500))
    first = decoder.decode(body(P)).attributes
    for number in range(1000):
        decoder.decode(body(P, attributes=ORIGIN + as_path(1 + number) + NEXT_HOP + filler))
    again = decoder.decode(body(P)).attributes
    assert again == first
    assert again is not first


def test_faults_are_told_every_time() -> None:
    decoder = Decoder(Dialect(ebgp=True))
    for wrong in (attribute(0x40, 6, b"\0"), attribute(0x80, 4, b"\0")):
        told = [decoder.decode(body(P, attributes=MANDATORY + wrong)).faults for _ in range(3)]
        assert told[0]
        assert told == [told[0]] * 3


def test_rfc7911_3_keys_have_the_path_identifier_where_that_was_agreed() -> None:
    decoder = Decoder(Dialect(True, True, BOTH, add_path=frozenset({Family.IPV4})))
    keys = [key(P, 1), key(P, 2)]
    assert decoder.decode(raw_body(b"", MANDATORY, b"".join(keys))).announced == keys
    assert decoder.decode(raw_body(keys[1], b"", b"")).withdrawn == keys[1:]
    assert decoder.decode(body6(P6)).announced == [key(P6)]


def test_rfc4271_4_1_messages_come_one_behind_the_other() -> None:
    marker = b"\xff" * 16
    keepalive = marker + bytes([0, 19, 4])
    data = body(P)
    update = marker + (19 + len(data)).to_bytes(2) + b"\2" + data
    assert list(messages(keepalive + update)) == [(4, b""), (2, data)]


@pytest.mark.parametrize("cut", [1, 18, 19, 20], ids=str)
def test_rfc4271_6_1_a_message_of_impossible_length_resets(cut: int) -> None:
    with pytest.raises(SessionReset, match="bad message length"):
        list(messages((b"\xff" * 16 + bytes([0, 18 if cut == 19 else 40, 2]) + bytes(21))[:cut]))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (bytes([0, 1, 0, 1]), (Family.IPV4, Refresh.REQUEST)),
        (bytes([0, 2, 1, 1]), (Family.IPV6, Refresh.BEGIN)),
        (bytes([0, 2, 2, 1]), (Family.IPV6, Refresh.END)),
        (bytes([0, 1, 0, 1, 1, 128, 0, 0]), (Family.IPV4, Refresh.REQUEST)),
        (bytes([0, 1, 255, 1]), None),
        (bytes([0, 1, 0, 128]), None),
    ],
    ids=["request", "begin", "end", "with filters (RFC 5291)", "unknown kind", "unknown family"],
)
def test_rfc7313_3_2_route_refresh(data: bytes, expected: tuple[Family, Refresh] | None) -> None:
    assert refresh(data) == expected


@pytest.mark.parametrize("data", [b"", bytes(3), bytes([0, 1, 1, 1, 0]), bytes([0, 1, 2, 1, 0])], ids=bytes.hex)
def test_rfc7313_5_a_route_refresh_of_wrong_length_resets(data: bytes) -> None:
    with pytest.raises(SessionReset, match="invalid message length") as caught:
        refresh(data)
    assert (caught.value.code, caught.value.subcode) == (7, 1)

"""Routes in MP_REACH_NLRI and MP_UNREACH_NLRI: RFC 4760, RFC 2545, RFC 8950, RFC 7606."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from tests.unit.bgp.verdicts import MANDATORY, P6, P, read, resets
from tests.unit.bgp.wire import (
    NEXT_HOP,
    NEXT_HOP6,
    ORIGIN,
    as_path,
    attribute,
    body,
    body6,
    key,
    next_hop,
    nlri,
    raw_body,
    reach,
    unreach,
)

from routed.model.address import Address, Family
from routed.model.path import Origin, Segment
from routed_bgp.attributes import Attributes
from routed_bgp.dialect import Dialect
from routed_bgp.notification import SessionReset
from routed_bgp.update import Decoder, Update

BOTH = frozenset(Family)
PATH = (Segment(True, (65001,)),)
PLAIN = ORIGIN + as_path(65001)
LINK_LOCAL = IPv6Address("fe80::2").packed
Q6 = "2001:db8:2::/48"


def is_withdrawn(update: Update, *words: str) -> bool:
    return (
        update.family is Family.IPV6
        and update.withdrawn == [key(P6)]
        and not update.announced
        and update.attributes is None
        and all(word in update.faults[-1] for word in words)
    )


def extended(data: bytes) -> Update:
    return Decoder(Dialect(ebgp=True, families=BOTH, extended_next_hop=True)).decode(data)


def test_rfc4760_3_ipv6_routes_have_the_next_hop_that_stands_with_them() -> None:
    assert read(body6(P6, Q6)) == Update(
        Family.IPV6, [key(P6), key(Q6)], [], Attributes(Origin.IGP, PATH, IPv6Address(NEXT_HOP6))
    )


def test_rfc4760_4_ipv6_routes_are_withdrawn() -> None:
    assert read(raw_body(b"", unreach(2, nlri(P6, Q6)), b"")) == Update(Family.IPV6, [], [key(P6), key(Q6)])


def test_rfc4760_3_next_hop_is_not_mandatory_with_mp_reach_alone_and_ignored_if_there() -> None:
    expected = read(body6(P6))
    assert not expected.faults
    for extra in (NEXT_HOP, next_hop("127.0.0.1"), attribute(0x40, 3, b"")):
        assert read(body6(P6, attributes=PLAIN + extra)) == expected


@pytest.mark.parametrize(
    ("attributes", "missing"),
    [(as_path(1), "ORIGIN"), (ORIGIN, "AS_PATH"), (b"", "ORIGIN, AS_PATH")],
    ids=["ORIGIN", "AS_PATH", "both"],
)
def test_rfc7606_3_d_mp_reach_without_a_mandatory_attribute_withdraws(attributes: bytes, missing: str) -> None:
    assert is_withdrawn(read(body6(P6, attributes=attributes)), f"mandatory {missing} missing")


def test_rfc7606_3_d_next_hop_is_mandatory_for_prefixes_of_the_old_form_beside_mp_reach() -> None:
    update = read(raw_body(b"", reach(2, NEXT_HOP6, nlri(P6)) + PLAIN, nlri(P)))
    assert (update.family, update.announced, update.withdrawn) == (Family.IPV4, [], [key(P)])
    assert "NEXT_HOP missing" in update.faults[-1]
    assert update.also == Update(Family.IPV6, [], [key(P6)])


@pytest.mark.parametrize("wrong", [attribute(0x40, 1, b"\3"), attribute(0x40, 2, b"\2"), attribute(0xC0, 8, b"")])
def test_rfc7606_2_a_malformed_attribute_withdraws_what_mp_reach_announces(wrong: bytes) -> None:
    assert is_withdrawn(read(body6(P6, attributes=wrong + PLAIN)))
    assert is_withdrawn(read(body6(P6, attributes=PLAIN + attribute(0x80, 4, b""))), "MULTI_EXIT_DISC")


@pytest.mark.parametrize("flags", [0xC0, 0x40, 0x00])
def test_rfc7606_3_c_wrong_flags_of_mp_reach_withdraw(flags: int) -> None:
    update = read(raw_body(b"", reach(2, NEXT_HOP6, nlri(P6), flags=flags) + PLAIN, b""))
    assert is_withdrawn(update, "MP_REACH_NLRI", "flags")


def test_rfc7606_3_c_wrong_flags_of_mp_unreach_withdraw_what_it_withdraws() -> None:
    assert is_withdrawn(read(raw_body(b"", unreach(2, nlri(P6), flags=0xC0), b"")), "MP_UNREACH_NLRI", "flags")


@pytest.mark.parametrize("twice", [reach(2, NEXT_HOP6, b""), unreach(2, b""), reach(1, b"", b"", safi=128)])
def test_rfc7606_3_g_two_of_them_reset(twice: bytes) -> None:
    resets(body(P, attributes=MANDATORY + twice + twice), 3, 1, "occurs twice")
    resets(body(P, attributes=twice + MANDATORY + twice), 3, 1, "occurs twice")


@pytest.mark.parametrize("code", [14, 15])
def test_rfc7606_3_j_one_that_is_cut_off_may_hide_prefixes_and_resets(code: int) -> None:
    for tail in (bytes([0x80, code]), bytes([0x80, code, 9, 0]), bytes([0x90, code, 0]), bytes([0x90, code, 1, 0, 0])):
        resets(body(P, attributes=MANDATORY + tail), 3, 5, "runs past")


@pytest.mark.parametrize("position", [0, 1, 2])
def test_rfc7606_5_1_they_may_stand_anywhere(position: int) -> None:
    parts = [ORIGIN, as_path(65001)]
    parts.insert(position, reach(2, NEXT_HOP6, nlri(P6)))
    assert read(raw_body(b"", b"".join(parts), b"")) == read(body6(P6))


def test_rfc7606_5_1_one_message_may_do_everything_at_once() -> None:
    mixed = MANDATORY + unreach(2, nlri(Q6, P6)) + reach(2, NEXT_HOP6, nlri(P6))
    for _ in range(2):  # decoded, and remembered
        update = read(raw_body(nlri("10.9.0.0/16"), mixed, nlri(P)))
        assert update == Update(
            Family.IPV4,
            [key(P)],
            [key("10.9.0.0/16")],
            Attributes(Origin.IGP, PATH, Address("10.0.0.2")),
            also=Update(Family.IPV6, [key(P6)], [key(Q6)], Attributes(Origin.IGP, PATH, IPv6Address(NEXT_HOP6))),
        )


def test_rfc7606_5_1_ipv4_in_both_forms_has_two_next_hops() -> None:
    update = read(raw_body(b"", MANDATORY + reach(1, bytes([10, 0, 0, 3]), nlri("10.1.0.0/16")), nlri(P)))
    assert update.also
    hops = [(part.announced, part.attributes and part.attributes.next_hop) for part in (update, update.also)]
    assert hops == [([key(P)], Address("10.0.0.2")), ([key("10.1.0.0/16")], Address("10.0.0.3"))]


def test_rfc4760_3_ipv4_routes_in_the_new_form() -> None:
    for _ in range(2):
        update = read(raw_body(unreach(1, b"")[:0], reach(1, bytes([10, 0, 0, 2]), nlri(P)) + PLAIN, b""))
        assert update == read(body(P))
    assert read(raw_body(b"", unreach(1, nlri(P)), b"")) == read(body(withdrawn=(P,)))


def test_rfc7606_5_2_an_error_resets_when_mp_reach_has_no_prefixes() -> None:
    wrong = attribute(0x40, 1, b"\3")
    resets(raw_body(b"", reach(2, NEXT_HOP6, b"") + wrong, b""), 3, 1, "no prefix to withdraw")
    resets(raw_body(b"", unreach(2, nlri(P6)) + wrong, b""), 3, 1, "no prefix to withdraw")


def test_rfc7606_5_2_mp_reach_without_prefixes_says_nothing() -> None:
    for _ in range(2):
        assert read(body6()) == Update(Family.IPV4)


@pytest.mark.parametrize(
    "bad",
    [bytes([129, *16 * [0]]), bytes([64, 0x20, 1]), nlri(P6) + bytes([1])],
    ids=["length 129", "cut off", "cut off behind a good one"],
)
def test_rfc7606_5_3_a_prefix_that_cannot_be_read_resets(bad: bytes) -> None:
    for attributes in (PLAIN, attribute(0x40, 1, b"\3")):
        resets(raw_body(b"", reach(2, NEXT_HOP6, bad) + attributes, b""), 3, 9, "optional attribute error")
    resets(raw_body(b"", unreach(2, bad), b""), 3, 9)
    decoder = Decoder(Dialect(ebgp=True, families=BOTH))
    decoder.decode(body6(P6))
    with pytest.raises(SessionReset):
        decoder.decode(raw_body(b"", reach(2, NEXT_HOP6, bad) + PLAIN, b""))


@pytest.mark.parametrize("value", [b"", b"\0\2", b"\0\2\1", b"\0\2\1\x10", b"\0\2\1\x10" + NEXT_HOP6], ids=len)
def test_rfc7606_5_3_mp_reach_that_ends_in_its_header_resets(value: bytes) -> None:
    resets(raw_body(b"", attribute(0x80, 14, value) + PLAIN, b""), 3, 9, "header")


@pytest.mark.parametrize("value", [b"", b"\0", b"\0\2"], ids=len)
def test_rfc7606_5_3_mp_unreach_that_ends_in_its_header_resets(value: bytes) -> None:
    resets(raw_body(b"", attribute(0x80, 15, value), b""), 3, 9, "header")


@pytest.mark.parametrize("size", [0, 4, 8, 15, 17, 24, 33, 48])
def test_rfc7606_7_11_a_next_hop_of_wrong_length_resets(size: int) -> None:
    resets(body6(P6, hop=bytes([0x20] * size)), 3, 9, f"next hop of {size} octets")


@pytest.mark.parametrize("size", [0, 3, 16, 32])
def test_rfc7606_7_11_a_next_hop_of_wrong_length_for_ipv4_resets(size: int) -> None:
    resets(raw_body(b"", reach(1, bytes([0x20] * size), nlri(P)) + PLAIN, b""), 3, 9, f"next hop of {size} octets")


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (NEXT_HOP6, "2001:db8::2"),
        (NEXT_HOP6 + LINK_LOCAL, "2001:db8::2"),
        (bytes(16) + LINK_LOCAL, "fe80::2"),
        (LINK_LOCAL, "fe80::2"),
        (LINK_LOCAL + LINK_LOCAL, "fe80::2"),
    ],
    ids=["global", "both", "unspecified and link-local", "link-local", "link-local twice"],
)
def test_rfc2545_3_the_global_next_hop_counts_if_there_is_one(octets: bytes, expected: str) -> None:
    attributes = read(body6(P6, hop=octets)).attributes
    assert attributes
    assert attributes.next_hop == IPv6Address(expected)


@pytest.mark.parametrize("address", ["::", "::1", "ff02::1", "ff0e::5"])
def test_rfc4271_6_3_a_next_hop_that_is_no_host_withdraws(address: str) -> None:
    assert is_withdrawn(read(body6(P6, hop=IPv6Address(address).packed)), address)


@pytest.mark.parametrize("octets", [NEXT_HOP6, NEXT_HOP6 + LINK_LOCAL], ids=len)
def test_rfc8950_3_ipv4_with_an_ipv6_next_hop_where_agreed(octets: bytes) -> None:
    assert extended(raw_body(b"", reach(1, octets, nlri(P)) + PLAIN, b"")) == Update(
        Family.IPV4, [key(P)], [], Attributes(Origin.IGP, PATH, IPv6Address(NEXT_HOP6))
    )


def test_rfc8950_3_ipv4_next_hops_stay_possible() -> None:
    assert extended(raw_body(b"", reach(1, bytes([10, 0, 0, 2]), nlri(P)) + PLAIN, b"")) == read(body(P))
    with pytest.raises(SessionReset, match="next hop of 4 octets"):
        extended(body6(P6, hop=bytes([10, 0, 0, 2])))


@pytest.mark.parametrize(("family", "safi"), [(1, 2), (1, 128), (25, 70), (16388, 71)])
def test_rfc4760_7_routes_of_families_that_were_not_agreed_are_passed_over(family: int, safi: int) -> None:
    junk = b"\xff\xff\xff"
    update = read(raw_body(b"", reach(family, b"\1\2\3", junk, safi=safi) + unreach(family, junk, safi=safi), nlri()))
    assert update == Update(Family.IPV4, faults=update.faults)
    assert "not agreed" in update.faults[0]
    update = read(body(P, attributes=MANDATORY + unreach(family, junk, safi=safi)))
    assert update.announced == [key(P)]
    wrong = attribute(0x40, 1, b"\3")  # there are prefixes, if not ours: no reason to reset
    assert read(raw_body(b"", reach(family, b"\1", junk, safi=safi) + wrong, b"")).faults


@pytest.mark.parametrize("only", list(Family), ids=lambda family: family.name)
def test_rfc4760_8_a_family_of_ours_that_was_not_agreed_is_passed_over(only: Family) -> None:
    decoder = Decoder(Dialect(ebgp=True, families=frozenset({only})))
    mixed = raw_body(nlri("10.9.0.0/16"), MANDATORY + unreach(2, nlri(Q6)) + reach(2, NEXT_HOP6, nlri(P6)), nlri(P))
    for _ in range(2):
        update = decoder.decode(mixed)
        assert (update.family, update.also) == (only, None)
        assert update.announced == [key(P if only is Family.IPV4 else P6)]
        assert update.withdrawn == [key("10.9.0.0/16" if only is Family.IPV4 else Q6)]
        assert "not agreed" in update.faults[0]
    assert decoder.decode(body(P)).announced == ([key(P)] if only is Family.IPV4 else [])
    assert decoder.decode(body(withdrawn=(P,))).withdrawn == ([key(P)] if only is Family.IPV4 else [])
    assert decoder.decode(raw_body(b"", unreach(2, nlri(P6)), b"")).withdrawn == (
        [key(P6)] if only is Family.IPV6 else []
    )


def test_rfc4724_2_an_empty_mp_unreach_alone_is_end_of_rib() -> None:
    assert read(raw_body(b"", unreach(2, b""), b"")) == Update(Family.IPV6, end_of_rib=Family.IPV6)
    assert read(raw_body(b"", unreach(1, b""), b"")).end_of_rib is Family.IPV4
    assert read(raw_body(b"", unreach(1, b"", safi=128), b"")).end_of_rib is None
    assert read(raw_body(b"", unreach(2, b"") + ORIGIN, b"")).end_of_rib is None
    assert read(raw_body(b"", unreach(2, b""), nlri(P))).end_of_rib is None
    assert read(raw_body(nlri(P), unreach(2, b""), b"")) == Update(Family.IPV4, [], [key(P)])


@pytest.mark.parametrize("family", list(Family), ids=lambda family: family.name)
def test_rfc4724_2_end_of_rib_of_a_family_that_was_not_agreed_ends_nothing(family: Family) -> None:
    decoder = Decoder(Dialect(ebgp=True, families=BOTH - {family}))
    for data in (raw_body(b"", unreach(family, b""), b""), bytes(4) if family is Family.IPV4 else b""):
        assert not data or decoder.decode(data).end_of_rib is None


def test_the_same_attributes_are_one_object_however_many_prefixes_use_them() -> None:
    decoder = Decoder(Dialect(ebgp=True, families=BOTH))
    found = [
        decoder.decode(data).attributes
        for data in (body6(P6), body6(Q6), body6(P6, Q6), raw_body(b"", PLAIN + reach(2, NEXT_HOP6, nlri(Q6)), b""))
    ]
    assert all(one is found[0] for one in found)
    assert decoder.decode(body6(P6, hop=LINK_LOCAL)).attributes is not found[0]

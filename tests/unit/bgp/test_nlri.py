"""Prefixes on the wire: RFC 4271 section 4.3, RFC 4760 section 5, RFC 7911, RFC 7606 section 5.3."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routed.model.address import AnyPrefix, Family
from routed_bgp.nlri import MalformedNlri, from_prefix, split, split_add_path, to_prefix, unicast

FAMILIES = pytest.mark.parametrize("family", list(Family), ids=lambda family: family.name)


@st.composite
def prefixes(draw: st.DrawFn, family: Family) -> AnyPrefix:
    length = draw(st.integers(0, family.bits))
    number = draw(st.integers(0, 2**family.bits - 1))
    return (IPv4Network if family is Family.IPV4 else IPv6Network)((number, length), strict=False)


@st.composite
def dirty(draw: st.DrawFn, family: Family) -> tuple[AnyPrefix, bytes]:
    """A prefix, and a wire form of it with bits beyond its length."""
    length = draw(st.integers(0, family.bits))
    octets = draw(st.binary(min_size=(length + 7) // 8, max_size=(length + 7) // 8))
    number = int.from_bytes(octets.ljust(family.bits // 8, b"\0"))
    whole = (IPv4Network if family is Family.IPV4 else IPv6Network)((number, length), strict=False)
    return whole, bytes([length]) + octets


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        ("0.0.0.0/0", "00"),
        ("10.0.0.0/8", "080a"),
        ("10.244.1.64/26", "1a0af40140"),
        ("10.0.0.1/32", "200a000001"),
        ("::/0", "00"),
        ("2001:db8::/33", "2120010db800"),
        ("2001:db8::1/128", "8020010db8000000000000000000000001"),
    ],
)
def test_rfc4271_4_3_a_prefix_is_its_length_and_as_few_octets_as_hold_it(text: str, wire: str) -> None:
    prefix = ip_network(text)
    assert from_prefix(prefix).hex() == wire
    assert to_prefix(bytes.fromhex(wire), Family.of(prefix)) == prefix
    assert split(bytes.fromhex(wire), Family.of(prefix)) == [bytes.fromhex(wire)]


@FAMILIES
@settings(deadline=None)  # shared cores: wall time says nothing
@given(st.data())
def test_rfc4271_4_3_any_prefixes_in_any_order_are_taken_apart(family: Family, data: st.DataObject) -> None:
    sent = [from_prefix(prefix) for prefix in data.draw(st.lists(prefixes(family), max_size=20))]
    assert split(b"".join(sent), family) == sent
    assert [from_prefix(to_prefix(one, family)) for one in sent] == sent


@FAMILIES
@settings(deadline=None)  # shared cores: wall time says nothing
@given(st.data())
def test_rfc4271_4_3_prefixes_of_one_length_are_taken_apart(family: Family, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, family.bits))
    size = (length + 7) // 8
    octets = data.draw(st.lists(st.binary(min_size=size, max_size=size), min_size=2, max_size=20))
    found = split(b"".join(bytes([length]) + one for one in octets), family)
    expected = [int.from_bytes(one.ljust(family.bits // 8, b"\0")) for one in octets]
    kind = IPv4Network if family is Family.IPV4 else IPv6Network
    assert [to_prefix(one, family) for one in found] == [kind((one, length), strict=False) for one in expected]


@FAMILIES
@settings(deadline=None)  # shared cores: wall time says nothing
@given(st.data())
def test_rfc4271_4_3_bits_beyond_a_length_mean_nothing(family: Family, data: st.DataObject) -> None:
    sent = data.draw(st.lists(dirty(family), max_size=20))
    found = split(b"".join(wire for _, wire in sent), family)
    assert found == [from_prefix(prefix) for prefix, _ in sent]


@FAMILIES
@settings(deadline=None)  # shared cores: wall time says nothing
@given(st.data())
def test_rfc7911_3_every_prefix_has_its_path_identifier(family: Family, data: st.DataObject) -> None:
    sent = data.draw(st.lists(st.tuples(st.binary(min_size=4, max_size=4), dirty(family)), max_size=20))
    found = split_add_path(b"".join(path_id + wire for path_id, (_, wire) in sent), family)
    assert found == [path_id + from_prefix(prefix) for path_id, (prefix, _) in sent]


@pytest.mark.parametrize(
    ("family", "wire", "words"),
    [
        (Family.IPV4, "2101020304ff", "prefix length 33 at octet 0"),
        (Family.IPV4, "0a", "octet 0 runs past"),
        (Family.IPV4, "180a0000180a00", "octet 4 runs past"),
        (Family.IPV4, "180a0000ff0a0000", "prefix length 255 at octet 4"),
        (Family.IPV6, "81" + 17 * "00", "prefix length 129 at octet 0"),
        (Family.IPV6, "4020010db8", "octet 0 runs past"),
    ],
)
def test_rfc7606_5_3_a_field_that_cannot_be_taken_apart_is_malformed(family: Family, wire: str, words: str) -> None:
    with pytest.raises(MalformedNlri, match=words):
        split(bytes.fromhex(wire), family)
    with pytest.raises(MalformedNlri):
        split(bytes.fromhex(wire) * 2, family)


@pytest.mark.parametrize("wire", ["00", "00000001", "00000001180a00", "0000000121010203040506", "00000001180a00000000"])
def test_rfc7606_5_3_with_path_identifiers_too(wire: str) -> None:
    with pytest.raises(MalformedNlri):
        split_add_path(bytes.fromhex(wire), Family.IPV4)


@FAMILIES
@settings(deadline=None)  # shared cores: wall time says nothing
@given(data=st.binary(max_size=80))
def test_any_bytes_give_canonical_prefixes_or_malformed_nlri(family: Family, data: bytes) -> None:
    for one, ahead in ((split, 0), (split_add_path, 4)):
        try:
            found = one(data, family)
        except MalformedNlri:
            continue
        assert all(from_prefix(to_prefix(key[ahead:], family)) == key[ahead:] for key in found)
        assert sum(map(len, found)) == len(data)


def test_rfc4760_3_only_unicast_is_a_family_of_ours() -> None:
    assert [unicast(bytes(one)) for one in ((0, 1, 1), (0, 2, 1))] == [Family.IPV4, Family.IPV6]
    assert not any(unicast(one) for one in (b"", b"\0\1", b"\0\1\2", b"\0\1\x80", b"\1\1\1", b"\0\1\1\0"))

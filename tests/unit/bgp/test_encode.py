"""Writing UPDATEs: what is written is read back, by our decoder and by ExaBGP's."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.unit.bgp.paths import attributes, nlris
from tests.unit.bgp.wire import key

from routed.errors import Bug
from routed.model.address import Address, Family
from routed.model.path import Origin, Segment, Unknown
from routed_bgp.attributes import Attributes
from routed_bgp.dialect import Dialect
from routed_bgp.encode import announce, end_of_rib, refresh, withdraw
from routed_bgp.nlri import Nlri
from routed_bgp.speaker import Refresh
from routed_bgp.update import Decoder, Update, messages
from routed_bgp.update import refresh as decode_refresh

P, P6 = "10.244.1.0/26", "2001:db8:1::/64"
PLAIN = Attributes(Origin.IGP, (Segment(True, (65001,)),), Address("10.0.0.2"))
PLAIN6 = replace(PLAIN, next_hop=IPv6Address("2001:db8::2"))
FORMS = [(Family.IPV4, False), (Family.IPV4, True), (Family.IPV6, True)]
EACH_FORM = pytest.mark.parametrize(("family", "ipv6_hop"), FORMS, ids=["IPv4", "IPv4 over IPv6", "IPv6"])
FAMILIES = pytest.mark.parametrize("family", list(Family), ids=lambda family: family.name)


def read(written: Sequence[bytes], *, asn4: bool = True, ebgp: bool = False) -> list[Update]:
    assert all(len(one) <= 4096 for one in written)
    decoder = Decoder(Dialect(ebgp, asn4, frozenset(Family), extended_next_hop=True))
    found = list(messages(b"".join(written)))
    assert {kind for kind, _ in found} <= {2}
    return [decoder.decode(body) for _, body in found]


def many(family: Family, count: int) -> list[Nlri]:
    """Prefixes of two lengths."""
    return [
        bytes([length]) + number.to_bytes(3) + bytes(length // 8 - 3)
        for number in range(count)
        for length in ((24, 32) if family is Family.IPV4 else (64, 128))
    ][:count]


@EACH_FORM
@pytest.mark.parametrize("asn4", [True, False], ids=["four octets", "two octets"])
@settings(deadline=None, max_examples=60)  # shared cores: wall time says nothing
@given(data=st.data())
def test_what_is_announced_is_read_back(family: Family, ipv6_hop: bool, asn4: bool, data: st.DataObject) -> None:
    sent = data.draw(attributes(ipv6=ipv6_hop))
    prefixes = data.draw(st.lists(nlris(family), min_size=1, max_size=10))
    update = Update(family, prefixes, [], sent)
    assert read(announce(sent, family, prefixes, asn4=asn4, ebgp=False), asn4=asn4) == [update]


@EACH_FORM
@settings(deadline=None, max_examples=30)  # shared cores: wall time says nothing
@given(data=st.data())
def test_rfc4271_5_1_5_and_rfc4456_8_what_is_internal_is_not_sent_outside(
    family: Family, ipv6_hop: bool, data: st.DataObject
) -> None:
    sent = data.draw(attributes(ipv6=ipv6_hop))
    written = announce(sent, family, [bytes(1)], asn4=True, ebgp=True)
    expected = replace(sent, local_pref=None, originator_id=None, cluster_list=())
    assert [update.attributes for update in read(written)] == [expected]  # read as an internal peer would


@FAMILIES
@settings(deadline=None)  # shared cores: wall time says nothing
@given(data=st.data())
def test_what_is_withdrawn_is_read_back(family: Family, data: st.DataObject) -> None:
    prefixes = data.draw(st.lists(nlris(family), min_size=1, max_size=10))
    assert read(withdraw(family, prefixes)) == [Update(family, [], prefixes)]


@EACH_FORM
@pytest.mark.parametrize("count", [1, 900, 5000])
def test_rfc4271_4_1_no_message_is_longer_than_4096_octets_and_none_much_shorter(
    family: Family, ipv6_hop: bool, count: int
) -> None:
    prefixes = many(family, count)
    for written in (
        announce(PLAIN6 if ipv6_hop else PLAIN, family, prefixes, asn4=True, ebgp=True),
        withdraw(family, prefixes),
    ):
        assert [one for update in read(written) for one in update.announced + update.withdrawn] == prefixes
        assert all(len(one) > 4096 - 17 for one in written[:-1])


@EACH_FORM
def test_nothing_is_written_of_nothing(family: Family, ipv6_hop: bool) -> None:
    assert announce(PLAIN6 if ipv6_hop else PLAIN, family, [], asn4=True, ebgp=True) == []
    assert withdraw(family, []) == []


@EACH_FORM
@settings(deadline=None, max_examples=60)  # shared cores: wall time says nothing
@given(size=st.integers(3900, 4096))
@example(size=4000)
def test_rfc4271_9_2_what_does_not_fit_into_a_message_is_withdrawn(family: Family, ipv6_hop: bool, size: int) -> None:
    sent = replace(PLAIN6 if ipv6_hop else PLAIN, unknown=(Unknown(99, bytes(size)),))
    prefixes = [key("10.0.0.0/8"), key("10.0.0.1/32")] if family is Family.IPV4 else [key(P6)]
    updates = read(announce(sent, family, prefixes, asn4=True, ebgp=True))
    assert sorted(one for update in updates for one in update.announced + update.withdrawn) == prefixes
    assert all(not (update.announced and update.withdrawn) for update in updates)
    if size > 4050:
        assert updates == [Update(family, [], prefixes)]


def test_rfc4271_9_a_message_that_fits_to_the_octet_is_announced() -> None:
    room = 4096 - len(announce(PLAIN, Family.IPV4, [key(P)], asn4=True, ebgp=True)[0]) - 4
    full, over = (
        announce(replace(PLAIN, unknown=(Unknown(99, bytes(size)),)), Family.IPV4, [key(P)], asn4=True, ebgp=True)
        for size in (room, room + 1)
    )
    assert [len(one) for one in full] == [4096]
    assert [update.announced for update in read(full)] == [[key(P)]]
    assert [update.withdrawn for update in read(over)] == [[key(P)]]


def test_rfc4271_4_3_a_segment_of_more_than_255_numbers_is_split() -> None:
    sent = replace(PLAIN, as_path=(Segment(True, tuple(range(1, 601))),))
    (update,) = read(announce(sent, Family.IPV4, [key(P)], asn4=True, ebgp=True))
    assert update.attributes
    assert update.attributes.as_numbers == sent.as_path[0].numbers
    assert update.attributes.as_path_length == 600


def test_rfc6793_4_2_2_as4_path_is_sent_only_to_old_speakers_and_only_if_needed() -> None:
    small, large = (replace(PLAIN, as_path=(Segment(True, (65001, number)),)) for number in (65002, 70000))
    attribute = bytes([0xC0, 17])
    for sent, asn4, there in ((small, False, False), (large, False, True), (small, True, False), (large, True, False)):
        (written,) = announce(sent, Family.IPV4, [key(P)], asn4=asn4, ebgp=True)
        assert (attribute in written) == there


def test_rfc4271_5_an_unknown_attribute_is_passed_on_as_partial_and_a_known_one_is_not() -> None:
    sent = replace(PLAIN, unknown=(Unknown(16, bytes(8)), Unknown(99, b"what")))
    (written,) = announce(sent, Family.IPV4, [key(P)], asn4=True, ebgp=True)
    assert bytes([0xC0, 16, 8]) in written
    assert bytes([0xE0, 99, 4]) + b"what" in written


def test_rfc4271_5_attributes_stand_in_the_order_of_their_codes_behind_mp_reach() -> None:
    sent = replace(PLAIN6, med=1, communities=(1,), large_communities=((1, 2, 3),), unknown=(Unknown(16, bytes(8)),))
    (written,) = announce(sent, Family.IPV6, [key(P6)], asn4=True, ebgp=True)
    body, codes, at = written[19:], list[int](), 4
    while at < len(body):
        codes.append(body[at + 1])
        at += 3 + body[at + 2]
    assert codes == [14, 1, 2, 4, 8, 16, 32]


def test_ipv6_over_an_ipv4_next_hop_is_our_bug() -> None:
    with pytest.raises(Bug, match=r"10\.0\.0\.2"):
        announce(PLAIN, Family.IPV6, [key(P6)], asn4=True, ebgp=True)


@FAMILIES
def test_rfc4724_2_end_of_rib_is_read_back(family: Family) -> None:
    assert read([end_of_rib(family)]) == [Update(family, end_of_rib=family)]
    assert len(end_of_rib(Family.IPV4)) == 23


@FAMILIES
@pytest.mark.parametrize("kind", list(Refresh), ids=lambda kind: kind.name)
def test_rfc7313_3_2_route_refresh_is_read_back(family: Family, kind: Refresh) -> None:
    ((code, body),) = messages(refresh(family, kind))
    assert (code, decode_refresh(body)) == (5, (family, kind))

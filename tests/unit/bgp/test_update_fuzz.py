"""Whatever the bytes: an `Update` that keeps its word, or SessionReset; and a memory that changes nothing."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.bgp.paths import attributes, nlris
from tests.unit.bgp.wire import NEXT_HOP, NEXT_HOP6, ORIGIN, as_path, attribute, raw_body, reach, unreach

from routed.errors import PeerError
from routed.model.address import Family
from routed_bgp.dialect import Dialect
from routed_bgp.encode import announce
from routed_bgp.nlri import from_prefix, to_prefix
from routed_bgp.update import Decoder, Update, messages, refresh

FAMILIES = st.frozensets(st.sampled_from(Family))
DIALECTS = st.builds(Dialect, st.booleans(), st.booleans(), FAMILIES, FAMILIES, st.booleans())
FIELDS = st.one_of(
    st.binary(max_size=20),
    st.lists(st.one_of(*map(nlris, Family)), max_size=5).map(b"".join),
    st.just(b""),
)
HOPS = st.one_of(st.binary(max_size=40), st.just(NEXT_HOP6), st.just(bytes([10, 0, 0, 2])))
AFIS = st.one_of(st.sampled_from([1, 2]), st.integers(0, 65535))
SAFIS = st.one_of(st.just(1), st.integers(0, 255))
MP_FLAGS = st.one_of(st.sampled_from([0x80, 0x90]), st.integers(0, 255))
PIECES = st.one_of(
    st.sampled_from([ORIGIN, NEXT_HOP, as_path(65001), as_path(65001, size=2)]),
    st.builds(lambda afi, safi, hop, field: reach(afi, hop, field, safi=safi), AFIS, SAFIS, HOPS, FIELDS),
    st.builds(lambda afi, safi, field: unreach(afi, field, safi=safi), AFIS, SAFIS, FIELDS),
    st.builds(attribute, st.integers(0, 255), st.integers(0, 40), st.binary(max_size=24)),
    st.builds(attribute, st.sampled_from([0x40, 0x80, 0xC0]), st.integers(1, 33), st.binary(max_size=24)),
    st.binary(max_size=4),
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """UPDATEs that are nearly right: whole ones of parts that fit or not, then octets changed, and cut off."""
    whole = bytearray(raw_body(draw(FIELDS), b"".join(draw(st.lists(PIECES, max_size=7))), draw(FIELDS)))
    for at, value in draw(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=2)):
        whole[at] = value
    return bytes(whole[: draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))])


def outcome(decoder: Decoder, data: bytes) -> Update | str:
    try:
        return decoder.decode(data)
    except PeerError as error:
        return str(error)


def keeps_its_word(update: Update | None, dialect: Dialect) -> None:
    seen: dict[Family, set[bytes]] = {}
    while update:
        keys = update.announced + update.withdrawn
        assert not keys or update.family in dialect.families
        assert (update.attributes is None) == (not update.announced)
        assert not set(update.announced) & set(update.withdrawn)
        assert not set(update.withdrawn) & seen.setdefault(update.family, set())
        seen[update.family] |= set(update.announced)
        if update.end_of_rib:
            assert update == Update(update.family, end_of_rib=update.family)
        ahead = 4 if update.family in dialect.add_path else 0
        for key in keys:
            assert from_prefix(to_prefix(key[ahead:], update.family)) == key[ahead:]
        update = update.also


@settings(deadline=None)  # shared cores: wall time says nothing
@given(st.binary(max_size=200), DIALECTS)
def test_any_bytes_give_an_update_or_a_session_reset(data: bytes, dialect: Dialect) -> None:
    found = outcome(Decoder(dialect), data)
    assert isinstance(found, str) or keeps_its_word(found, dialect) is None


@settings(deadline=None, max_examples=300)  # shared cores: wall time says nothing
@given(bodies(), DIALECTS)
def test_a_damaged_update_gives_an_update_or_a_session_reset(data: bytes, dialect: Dialect) -> None:
    found = outcome(Decoder(dialect), data)
    assert isinstance(found, str) or keeps_its_word(found, dialect) is None


@settings(deadline=None, max_examples=200)  # shared cores: wall time says nothing
@given(st.lists(bodies(), min_size=1, max_size=4), DIALECTS)
def test_what_is_remembered_changes_nothing(some: list[bytes], dialect: Dialect) -> None:
    remembering = Decoder(dialect)
    for data in some * 2:
        assert outcome(remembering, data) == outcome(Decoder(dialect), data)


@settings(deadline=None)  # shared cores: wall time says nothing
@given(st.data(), st.booleans(), st.booleans(), DIALECTS)
def test_one_octet_changed_in_a_good_update(data: st.DataObject, ipv6: bool, asn4: bool, dialect: Dialect) -> None:
    family = Family.IPV6 if ipv6 else Family.IPV4
    sent = data.draw(attributes(ipv6=ipv6))
    (message, *_) = announce(sent, family, [data.draw(nlris(family))], asn4=asn4, ebgp=False)
    decoder, body = Decoder(dialect), bytearray(message[19:])
    outcome(decoder, bytes(body))
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    found = outcome(decoder, bytes(body))
    assert isinstance(found, str) or keeps_its_word(found, dialect) is None


@settings(deadline=None)  # shared cores: wall time says nothing
@given(st.binary(max_size=60))
def test_any_bytes_give_messages_and_refreshes_or_a_session_reset(data: bytes) -> None:
    with suppress(PeerError):
        assert sum(19 + len(body) for _, body in messages(data)) == len(data)
    with suppress(PeerError):
        assert refresh(data) is None or len(data) >= 4

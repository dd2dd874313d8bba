"""Attributes from pieces: the same as decoding gives, or nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.bgp import wire

from routed.model.address import Address
from routed_bgp.attributes import decode
from routed_bgp.dialect import Dialect
from routed_bgp.pieces import Pieces

EBGP, IBGP = Dialect(ebgp=True), Dialect(ebgp=False)
PLAIN = wire.ORIGIN + wire.as_path(65001) + wire.NEXT_HOP


def communities(*numbers: int) -> bytes:
    return wire.attribute(0xC0, 8, b"".join(number.to_bytes(4) for number in numbers))


def assembled(block: bytes, dialect: Dialect = EBGP) -> object:
    pieces = Pieces(dialect)
    first = pieces.assembled(block)
    assert pieces.assembled(block) == first, "known pieces are what they were"
    return first


def test_the_usual_attributes_are_put_together() -> None:
    block = PLAIN + wire.attribute(0x80, 4, bytes(4)) + communities(1, 2)
    assert assembled(block) == decode(block, EBGP).attributes
    internal = PLAIN + wire.attribute(0x40, 5, bytes(4)) + wire.attribute(0x80, 9, bytes(range(4)))
    assert assembled(internal, IBGP) == decode(internal, IBGP).attributes


def test_equal_as_paths_and_next_hops_are_one_object() -> None:
    pieces = Pieces(EBGP)
    one, other = pieces.assembled(PLAIN + communities(1)), pieces.assembled(PLAIN + communities(2))
    assert one is not None
    assert other is not None
    assert (one.as_path is other.as_path, one.next_hop is other.next_hop) == (True, True)
    assert (one.communities, other.communities) == ((1,), (2,))
    assert one.next_hop == Address("10.0.0.2")


@pytest.mark.parametrize(
    "block",
    [
        b"",
        wire.ORIGIN + wire.NEXT_HOP,
        PLAIN + communities(),
        PLAIN + wire.attribute(0xC0, 8, bytes(3)),
        PLAIN + communities(1) + communities(2),
        communities(1) + PLAIN,
        PLAIN[:-1],
        PLAIN + b"\xc0",
        PLAIN + wire.attribute(0x40, 5, bytes(4)),
        PLAIN + wire.attribute(0x80, 8, bytes(4)),
        PLAIN + wire.attribute(0xC0, 99, b"x"),
        bytes([0x40, 1, 1, 9]) + wire.as_path(65001) + wire.NEXT_HOP,
        wire.ORIGIN + wire.as_path(0) + wire.NEXT_HOP,
        wire.ORIGIN + bytes([0x50, 2, 0, 0]) + wire.NEXT_HOP,
    ],
)
def test_what_is_unusual_or_wrong_is_left_to_the_decoder(block: bytes) -> None:
    assert assembled(block) is None


def test_rfc6793_a_peer_without_four_octet_numbers_is_left_to_the_decoder() -> None:
    block = wire.ORIGIN + wire.as_path(65001, size=2) + wire.NEXT_HOP
    assert assembled(block, Dialect(ebgp=True, asn4=False)) is None


attribute = st.sampled_from(
    [
        wire.ORIGIN,
        wire.as_path(65001),
        wire.as_path(65001, 65002),
        wire.as_path(),
        wire.NEXT_HOP,
        wire.next_hop("127.0.0.1"),
        wire.attribute(0x80, 4, bytes(4)),
        wire.attribute(0x40, 5, bytes(4)),
        wire.attribute(0x40, 6, b""),
        communities(7),
        communities(),
        wire.attribute(0x80, 9, bytes(4)),
        wire.attribute(0x80, 10, bytes(8)),
        wire.attribute(0xC0, 32, bytes(12)),
        wire.attribute(0xC0, 32, bytes(11)),
        wire.attribute(0xC0, 16, bytes(8)),
    ]
)


@settings(deadline=None)  # shared cores: wall time says nothing
@given(st.lists(st.lists(attribute, max_size=7), max_size=4), st.sampled_from([EBGP, IBGP]), st.integers(0, 5))
def test_what_is_put_together_is_what_the_decoder_says(
    blocks: list[list[bytes]], dialect: Dialect, missing: int
) -> None:
    pieces = Pieces(dialect)
    for each in blocks:
        block = b"".join(each)
        for whole in (block, block[: len(block) - missing], block):
            found = pieces.assembled(whole)
            if found is not None:
                said = decode(whole, dialect)
                assert (said.attributes, said.error, said.missing, said.faults) == (found, "", "", ())

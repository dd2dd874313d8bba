"""OPEN decoding."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routed.errors import PeerError
from routed.model.address import Address
from routed_bgp.open import GracefulRestart, Open, decode

HEAD = bytes([4]) + (64512).to_bytes(2) + (90).to_bytes(2) + Address("10.0.0.2").packed


def capability(code: int, value: bytes = b"") -> bytes:
    return bytes([code, len(value)]) + value


def an_open(*capabilities: bytes) -> bytes:
    parameters = b"".join(bytes([2, len(one)]) + one for one in capabilities)
    return HEAD + bytes([len(parameters)]) + parameters


def test_rfc4271_4_2_an_open_without_capabilities() -> None:
    assert decode(an_open()) == Open(64512, 90, Address("10.0.0.2"))


def test_rfc6793_4_1_the_real_as_is_in_the_capability() -> None:
    opened = decode(an_open(capability(65, (4200000000).to_bytes(4))))
    assert (opened.asn, opened.asn4) == (4200000000, True)


def test_rfc4724_3_graceful_restart_with_family() -> None:
    graceful = decode(an_open(capability(64, bytes([0x80, 120, 0, 1, 1, 0x80, 0, 2, 1, 0])))).graceful_restart
    assert graceful
    assert graceful == GracefulRestart(True, 120, (((1, 1), True), ((2, 1), False)))
    assert (graceful.keeps_ipv4, graceful.kept_ipv4) == (True, True)


def test_rfc4724_3_graceful_restart_without_family_only_helps() -> None:
    graceful = decode(an_open(capability(64, bytes([0, 0])))).graceful_restart
    assert graceful
    assert graceful == GracefulRestart(False, 0)
    assert not graceful.keeps_ipv4


def test_rfc5492_several_capabilities_in_one_parameter_and_unknown_ones() -> None:
    opened = decode(an_open(capability(250, b"what") + capability(65, (65001).to_bytes(4)), capability(2)))
    assert opened.asn == 65001


def test_rfc9072_2_extended_parameters() -> None:
    one = capability(65, (65001).to_bytes(4))
    parameter = bytes([2]) + len(one).to_bytes(2) + one
    assert decode(HEAD + bytes([255, 255]) + len(parameter).to_bytes(2) + parameter).asn == 65001


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes([3]) + HEAD[1:] + b"\0",
        HEAD + b"\5",
        HEAD + bytes([3, 2, 9, 0]),
        HEAD + bytes([1, 2]),
        an_open(capability(65, b"\0")),
        an_open(capability(64, b"\0\0\0")),
    ],
    ids=["empty", "version", "parameters missing", "overrun", "half a header", "short AS", "odd restart"],
)
def test_rfc4271_6_2_a_malformed_open_is_the_peers_error(data: bytes) -> None:
    with pytest.raises(PeerError, match="malformed OPEN"):
        decode(data)


@settings(deadline=None)  # shared cores: wall time says nothing
@given(st.binary(max_size=80), st.booleans())
def test_any_bytes_give_an_open_or_a_peer_error(data: bytes, plausible: bool) -> None:
    whole = HEAD + bytes([len(data)]) + data if plausible else data
    try:
        assert decode(whole).hold_time >= 0
    except PeerError:
        return

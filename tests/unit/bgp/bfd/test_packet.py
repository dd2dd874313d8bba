"""RFC 5880 section 4 and the first half of section 6.8.6."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.bgp.bfd.ends import packet

from routed_bgp.bfd.packet import BadPacket, Diagnostic, Packet, State, decode, encode

U32 = st.integers(0, 2**32 - 1)
PACKETS = st.builds(
    Packet,
    state=st.sampled_from(State),
    my_discriminator=st.integers(1, 2**32 - 1),
    your_discriminator=st.integers(1, 2**32 - 1),
    desired_min_tx=U32,
    required_min_rx=U32,
    required_min_echo_rx=U32,
    multiplier=st.integers(1, 255),
    diagnostic=st.sampled_from(Diagnostic),
    poll=st.booleans(),
    final=st.booleans(),
    control_independent=st.booleans(),
    demand=st.booleans(),
)
GOOD = encode(packet(State.DOWN, your_discriminator=0))


def changed(offset: int, value: int) -> bytes:
    return GOOD[:offset] + bytes([value]) + GOOD[offset + 1 :]


@given(PACKETS)
def test_rfc5880_4_1_what_is_encoded_is_decoded(sent: Packet) -> None:
    assert decode(encode(sent)) == sent


def test_rfc5880_4_1_the_octets_are_where_the_figure_has_them() -> None:
    sent = packet(State.UP, diagnostic=Diagnostic.PATH_DOWN, poll=True, your_discriminator=0x01020304)
    assert encode(sent).hex(" ", 4) == "25e00318 00000007 01020304 000186a0 000186a0 00000000"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(changed(0, 0x00), "version 0", id="version"),
        pytest.param(changed(3, 23), "which is too short", id="length"),
        pytest.param(changed(1, 0x44), "which is too short", id="length with authentication"),
        pytest.param(changed(3, 25), "but 24 octets came", id="length beyond the payload"),
        pytest.param(GOOD[:23], "too few", id="payload"),
        pytest.param(changed(2, 0), "multiplier is zero", id="multiplier"),
        pytest.param(changed(1, 0x41), "multipoint", id="multipoint"),
        pytest.param(GOOD[:4] + bytes(4) + GOOD[8:], "own discriminator is zero", id="my discriminator"),
        pytest.param(changed(1, 0x80), "names no session of ours and is not Down but INIT", id="your discriminator"),
        pytest.param(changed(1, 0x44)[:3] + b"\x1a" + GOOD[4:] + b"\1\2", "authenticated", id="authentication"),
    ],
)
def test_rfc5880_6_8_6_a_packet_is_refused_for(data: bytes, reason: str) -> None:
    with pytest.raises(BadPacket, match=reason):
        decode(data)


@pytest.mark.parametrize("state", [State.DOWN, State.ADMIN_DOWN])
def test_rfc5880_6_8_6_only_down_and_admin_down_may_name_no_session(state: State) -> None:
    assert decode(encode(packet(state, your_discriminator=0))).state is state


def test_rfc5880_4_1_a_reserved_diagnostic_reads_as_none() -> None:
    assert decode(changed(0, 0x3F)).diagnostic is Diagnostic.NONE


@given(st.binary(max_size=80) | st.binary(min_size=20, max_size=22).map(lambda rest: b"\x20\x40\x03\x18" + rest))
def test_whatever_bytes_arrive_they_are_a_packet_or_refused(data: bytes) -> None:
    with contextlib.suppress(BadPacket):
        assert decode(data).multiplier

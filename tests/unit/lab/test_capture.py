"""Echoes with a token: recognised bare, in protocol 4 and in VXLAN, and nothing else taken for one."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from routed_lab import capture
from routed_lab.capture import Echo, Token, Wrapping

NUMBERS = st.integers(0, 2**32 - 1)
TOKENS = st.builds(Token, st.binary(min_size=8, max_size=8), NUMBERS, NUMBERS)
OPTIONS = st.integers(0, 10).map(lambda words: bytes(4 * words))


def ip(protocol: int, payload: bytes, *, options: bytes = b"", fragment: int = 0) -> bytes:
    header = 20 + len(options)
    fixed = struct.pack(
        "!BBHHHBBH4s4s", 0x40 | header // 4, 0, header + len(payload), 0, fragment, 64, protocol, 0, bytes(4), bytes(4)
    )
    return fixed + options + payload


def vxlan(packet: bytes, *, port: int = 4789, ethertype: int = 0x0800) -> bytes:
    """The IPv4 packet that carries `packet` from node to node."""
    frame = bytes(12) + ethertype.to_bytes(2) + packet
    header = struct.pack("!BxxxI", 0x08, 4096 << 8)
    return ip(17, struct.pack("!HHHH", 50000, port, 16 + len(frame), 0) + header + frame)


def reply_to(request: bytes) -> bytes:
    """What a kernel answers: the same message with another type."""
    return b"\0" + request[1:]


@given(TOKENS, OPTIONS)
def test_a_request_is_recognised_by_its_token(token: Token, options: bytes):
    packet = ip(1, capture.request(token), options=options)

    assert capture.parse(packet) == Echo(token, reply=False, wrapping=Wrapping.BARE)


@given(TOKENS, OPTIONS, OPTIONS)
def test_a_request_is_recognised_inside_protocol_4(token: Token, outer: bytes, inner: bytes):
    packet = ip(4, ip(1, capture.request(token), options=inner), options=outer)

    assert capture.parse(packet) == Echo(token, reply=False, wrapping=Wrapping.IPIP)


@given(TOKENS, OPTIONS)
def test_a_request_is_recognised_inside_vxlan(token: Token, inner: bytes):
    packet = vxlan(ip(1, capture.request(token), options=inner))

    assert capture.parse(packet) == Echo(token, reply=False, wrapping=Wrapping.VXLAN)


@given(TOKENS)
def test_other_udp_and_other_frames_are_no_ping(token: Token):
    assert capture.parse(vxlan(ip(1, capture.request(token)), port=8472)) is None
    assert capture.parse(vxlan(ip(1, capture.request(token)), ethertype=0x0806)) is None


@given(TOKENS)
def test_a_reply_is_told_from_its_request(token: Token):
    packet = ip(1, reply_to(capture.request(token)))

    assert capture.parse(packet) == Echo(token, reply=True, wrapping=Wrapping.BARE)


@given(TOKENS, st.binary(max_size=32))
def test_what_the_link_appends_is_not_read(token: Token, padding: bytes):
    packet = ip(1, capture.request(token))

    assert capture.parse(packet + padding) == capture.parse(packet)


@given(TOKENS)
def test_an_error_that_quotes_a_ping_is_no_ping(token: Token):
    unreachable = b"\x03\x01" + bytes(6) + ip(1, capture.request(token))

    assert capture.parse(ip(1, unreachable)) is None


@given(TOKENS)
def test_an_echo_two_encapsulations_down_is_none_of_ours(token: Token):
    assert capture.parse(ip(4, ip(4, ip(1, capture.request(token))))) is None


@given(TOKENS, st.integers(1, 0x1FFF))
def test_a_fragment_is_no_ping(token: Token, offset: int):
    assert capture.parse(ip(1, capture.request(token), fragment=offset)) is None
    assert capture.parse(ip(1, capture.request(token), fragment=0x2000)) is None


@given(st.binary(max_size=120))
def test_any_other_bytes_are_no_ping(packet: bytes):
    assert capture.parse(packet) is None


@given(TOKENS, st.data())
def test_a_cut_or_changed_ping_raises_nothing(token: Token, data: st.DataObject):
    wrap = data.draw(st.sampled_from([vxlan, lambda packet: ip(4, packet)]))
    packet = bytearray(wrap(ip(1, capture.request(token))))
    del packet[data.draw(st.integers(0, len(packet))) :]
    if packet:
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))

    assert isinstance(capture.parse(bytes(packet)), Echo | None)


@given(TOKENS)
def test_a_request_carries_the_checksum_that_makes_its_sum_zero(token: Token):
    assert capture.checksum(capture.request(token)) == 0


def test_the_checksum_is_that_of_rfc_1071_section_3():
    assert capture.checksum(bytes([0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7])) == 0xFFFF - 0xDDF2

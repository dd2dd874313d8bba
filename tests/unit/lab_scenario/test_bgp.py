"""BGP messages in captured packets, put into words."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed_lab.scenario.bgp import Listener, Said

ONE, OTHER = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")
SYN = 0x02


def packet(payload: bytes, sequence: int, flags: int = 0x10, port: int = 179) -> bytes:
    segment = struct.pack("!HHIIBBHHH", 40000, port, sequence, 0, 5 << 4, flags, 0, 0, 0) + payload
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(segment), 0, 0, 64, 6, 0, ONE.packed, OTHER.packed)
    return header + segment


def message(kind: int, body: bytes = b"") -> bytes:
    return b"\xff" * 16 + struct.pack("!HB", 19 + len(body), kind) + body


def heard(*packets: bytes) -> list[Said]:
    listener = Listener()
    return [said for one in packets for said in listener.feed(one)]


def texts(*messages: bytes) -> list[tuple[str, str]]:
    return [(said.kind, said.text) for said in heard(packet(b"".join(messages), 1))]


def update(withdrawn: bytes = b"", attributes: bytes = b"", announced: bytes = b"") -> bytes:
    return message(
        2,
        struct.pack("!H", len(withdrawn)) + withdrawn + struct.pack("!H", len(attributes)) + attributes + announced,
    )


def test_an_open_tells_its_as_hold_time_and_router_id():
    body = struct.pack("!BHH4sB", 4, 65101, 30, ONE.packed, 0)

    assert texts(message(1, body)) == [("OPEN", "AS 65101, hold time 30 s, router id 10.0.0.1")]


def test_an_update_tells_what_it_withdraws_and_announces_and_by_which_next_hop():
    next_hop = b"\x40\x03\x04" + OTHER.packed

    assert texts(update(b"\x18\x0a\xf4\x01", next_hop, b"\x1a\x0a\xf4\x02\x40")) == [
        ("UPDATE", "withdraws 10.244.1.0/24; announces 10.244.2.64/26 by 10.0.0.2")
    ]


def test_prefixes_in_mp_reach_and_mp_unreach_are_told_alike():
    """RFC 4760 sections 3 and 4."""
    reach = b"\x00\x01\x01\x04" + OTHER.packed + b"\x00" + b"\x18\x0a\xf4\x02"
    unreach = b"\x00\x01\x01" + b"\x18\x0a\xf4\x01"
    attributes = bytes([0x80, 14, len(reach)]) + reach + bytes([0x90, 15, 0, len(unreach)]) + unreach

    assert texts(update(b"", attributes)) == [
        ("UPDATE", "withdraws 10.244.1.0/24; announces 10.244.2.0/24 by 10.0.0.2")
    ]


@pytest.mark.parametrize("attributes", [b"", b"\x80\x0f\x03\x00\x02\x01"])
def test_an_empty_update_is_end_of_rib(attributes: bytes):
    """RFC 4724 section 2."""
    assert texts(update(b"", attributes)) == [("UPDATE", "End-of-RIB")]


def test_a_notification_is_spelt_out():
    """RFC 4486."""
    assert texts(message(3, b"\x06\x02")) == [("NOTIFICATION", "cease: administrative shutdown")]


def test_a_message_that_cannot_be_read_is_told_by_its_size():
    assert texts(update(b"\x40\x01")) == [("UPDATE", "6 bytes that this report cannot read")]


def test_other_ports_are_not_bgp():
    assert heard(packet(message(4), 1, port=80)) == []


def test_a_segment_that_is_sent_again_counts_once():
    first = packet(message(4), 1)

    assert len(heard(first, first)) == 1


def test_after_bytes_that_were_never_seen_listening_goes_on_at_the_next_message():
    whole = message(4) + message(3, b"\x06\x02") + message(4)

    found = heard(packet(whole[:25], 1), packet(whole[30:], 31))

    assert [said.kind for said in found] == ["KEEPALIVE", "KEEPALIVE"]


def test_a_new_connection_on_the_same_ports_begins_anew():
    assert len(heard(packet(message(4), 5000), packet(b"", 99, SYN), packet(message(4), 100))) == 2


@given(st.lists(st.integers(1, 76), max_size=8), st.integers(0, 2**32 - 1))
def test_messages_are_the_same_however_they_are_cut_into_segments(cuts: list[int], start: int):
    whole = message(4) * 4
    edges = sorted({0, *cuts, len(whole)})
    parts = [packet(whole[begin:end], (start + begin) % 2**32) for begin, end in pairwise(edges)]

    assert [said.kind for said in heard(*parts)] == ["KEEPALIVE"] * 4


@given(st.binary(max_size=120))
def test_no_bytes_are_an_error(data: bytes):
    heard(data, packet(data, 1), packet(message(2, data), 1))

"""What the launcher sends, as events: frames of the seams, and ExaBGP's lines as ExaBGP 5.0.15 writes them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from routed.errors import Bug
from routed.model.address import Address, Family
from routed_bgp.exabgp.events import Answer, Hello, Reader, Unreadable, Up, ended
from routed_bgp.exabgp.frames import Frame, Kind, pack_address
from routed_bgp.open import decode
from routed_bgp.speaker import Ending, Refresh, RefreshReceived, SessionDown, SessionUp, UpdatesReceived

PEER = Address("10.99.0.2")
OPEN = bytes([4, 0xFC, 0, 0, 90, 10, 99, 0, 2, 0])
UP = Up(SessionUp(PEER, decode(OPEN)), 1)
UPDATE = b"\xff" * 16 + b"\0\x17\x02\0\0\0\0"


def line(**neighbor: object) -> Frame:
    addresses = {"address": {"local": "10.99.0.1", "peer": "10.99.0.2"}, "asn": {"local": 64512, "peer": 64512}}
    text = json.dumps({"exabgp": "5.0.0", "type": "state", "neighbor": {**addresses, **neighbor}})
    return Kind.LINE, (), text.encode() + b"\n"


def packet(category: int, body: bytes, header: bytes = b"\xff") -> Frame:
    message = {"category": category, "header": f"0x{header.hex().upper()}", "body": f"0x{body.hex().upper()}"}
    return line(direction="receive", message=message)


def frame(kind: Kind, payload: bytes, *tags: int) -> Frame:
    return kind, tags, payload


def test_a_session_through_the_seams() -> None:
    reader = Reader()
    assert reader.read(frame(Kind.HELLO, b"")) == Hello("")
    assert reader.read(frame(Kind.UP, pack_address(PEER) + OPEN, 1)) == UP
    assert reader.read(frame(Kind.MESSAGES, UPDATE * 2, 1)) == UpdatesReceived(PEER, UPDATE * 2)
    refresh = RefreshReceived(PEER, Family.IPV6, Refresh.BEGIN)
    assert reader.read(frame(Kind.REFRESH, b"\0\x02\x01\x01", 1)) == refresh
    assert (reader.tag(PEER), reader.up()) == (1, [PEER])
    down = reader.read(frame(Kind.DOWN, pack_address(PEER) + b"notification sent (4,0)"))
    assert isinstance(down, SessionDown)
    assert (reader.tag(PEER), reader.up()) == (None, [])


def test_the_same_session_in_stock_mode() -> None:
    reader = Reader()
    assert reader.read(packet(1, OPEN)) is None
    assert reader.read(line(state="up")) == UP
    assert reader.read(packet(2, UPDATE[19:], UPDATE[:19])) == UpdatesReceived(PEER, UPDATE)
    assert reader.read(packet(5, b"\0\x01\0\x01")) == RefreshReceived(PEER, Family.IPV4, Refresh.REQUEST)
    assert isinstance(reader.read(line(state="down", reason="closing connection")), SessionDown)


def test_rfc7313_5_a_refresh_of_an_unknown_kind_or_family_is_ignored() -> None:
    reader = Reader()
    assert reader.read(packet(5, b"\0\x01\x07\x01")) is None
    assert reader.read(packet(5, b"\0\x19\0\x46")) is None


def test_an_open_that_we_cannot_read_makes_no_session() -> None:
    reader = Reader()
    assert isinstance(reader.read(frame(Kind.UP, pack_address(PEER) + b"\x05", 1)), Unreadable)
    # until it is closed, the peer goes on; to take that for a bug would end the speaker, and everybody's session
    assert reader.read(frame(Kind.MESSAGES, UPDATE, 1)) is None
    assert reader.read(frame(Kind.REFRESH, b"\0\x02\x01\x01", 1)) is None
    assert isinstance(reader.read(frame(Kind.DOWN, pack_address(PEER) + b"notification sent (2,0)")), SessionDown)
    assert reader.read(frame(Kind.UP, pack_address(PEER) + OPEN, 2)) == replace(UP, tag=2)


def test_what_a_peer_says_whose_open_we_cannot_read_is_passed_over_until_its_session_has_ended() -> None:
    reader = Reader()
    reader.read(frame(Kind.UP, pack_address(PEER) + b"\x05", 1))
    assert reader.read(frame(Kind.MESSAGES, UPDATE, 1)) is None
    assert reader.read(frame(Kind.REFRESH, b"\0\x01\0\x01", 1)) is None
    assert isinstance(reader.read(frame(Kind.DOWN, pack_address(PEER) + b"notification sent (2,0)")), SessionDown)
    with pytest.raises(Bug):
        reader.read(frame(Kind.MESSAGES, UPDATE, 1))
    reader.read(frame(Kind.UP, pack_address(PEER) + OPEN, 2))
    assert reader.read(frame(Kind.MESSAGES, UPDATE, 2)) == UpdatesReceived(PEER, UPDATE)


@pytest.mark.parametrize(
    ("reason", "ending", "codes", "words"),
    [
        ("notification received (6,2)", Ending.NOTIFICATION, (6, 2), "received: cease, administrative shutdown (6/2)"),
        ("notification received (6,2) 046e6f6f6e", Ending.NOTIFICATION, (6, 2), 'shutdown (6/2): "noon"'),
        (
            "notification received (6,9) 0603",
            Ending.NOTIFICATION,
            (6, 9),
            "(6/9): cease, peer de-configured (6/3)",
        ),
        ("notification sent (4,0)", Ending.NOTIFICATION, (4, 0), "sent: hold timer expired (4/0)"),
        ("notification sent (9,9)", Ending.NOTIFICATION, (9, 9), "sent: unknown error (9/9)"),
        ("closing connection", Ending.CLOSED, (0, 0), "without NOTIFICATION"),
        ("", Ending.CLOSED, (0, 0), "without NOTIFICATION"),
        ("closing connection: reset by peer", Ending.CLOSED, (0, 0), "reset by peer"),
        ("connecting failed: Connection refused", Ending.CLOSED, (0, 0), "connecting failed: Connection refused"),
        ("replaced by a new connection of the peer", Ending.CLOSED, (0, 0), "replaced"),
        ("closing connection: it does not read: 32 MB wait", Ending.LOCAL, (0, 0), "does not read"),
        ("graceful restarted negotiated, closing without notification", Ending.LOCAL, (0, 0), "this node"),
        ("stop, message [removed]", Ending.LOCAL, (0, 0), "this node"),
    ],
)
def test_how_a_session_ended(reason: str, ending: Ending, codes: tuple[int, int], words: str) -> None:
    event = ended(PEER, reason)
    assert (event.peer, event.ending, (event.code, event.subcode)) == (PEER, ending, codes)
    assert words in event.reason


@pytest.mark.parametrize(("text", "done"), [(b"done\n", True), (b"error\n", False)])
def test_answers(text: bytes, done: bool) -> None:
    assert Reader().read(frame(Kind.LINE, text)) == Answer(done)


@pytest.mark.parametrize(
    "sent",
    [
        frame(Kind.LINE, b""),
        frame(Kind.LINE, b"exabgp 5.0.15\n"),
        frame(Kind.LINE, b"reload in progress\n"),
        line(state="connected"),
        packet(4, b""),
        frame(Kind.LINE, b'{"notification": "shutdown"}'),
    ],
)
def test_what_is_nothing_to_us(sent: Frame) -> None:
    assert Reader().read(sent) is None


@pytest.mark.parametrize(
    "sent",
    [
        frame(Kind.LINE, b"{"),
        frame(Kind.LINE, b'{"neighbor": 7}'),
        frame(Kind.LINE, b'{"neighbor": {"address": {"peer": "x"}}}'),
        frame(Kind.MESSAGES, UPDATE, 7),
        frame(Kind.UP, b"", 1),
    ],
)
def test_what_the_launcher_does_not_send_is_a_bug(sent: Frame) -> None:
    with pytest.raises(Bug, match="ExaBGP's API"):
        Reader().read(sent)

"""ExaBGP's lines, as ExaBGP 5.0.15 wrote them."""

from __future__ import annotations

import json

import pytest

from routed.errors import Bug
from routed.model.address import Address
from routed_bgp.exabgp.events import Answer, Established, Opened, parse
from routed_bgp.speaker import Ending, SessionDown, UpdateReceived

PEER = Address("10.99.0.2")


def line(**neighbor: object) -> bytes:
    addresses = {"address": {"local": "10.99.0.1", "peer": "10.99.0.2"}, "asn": {"local": 64512, "peer": 64512}}
    return json.dumps({"exabgp": "5.0.0", "type": "state", "neighbor": {**addresses, **neighbor}}).encode() + b"\n"


def packet(category: int, body: str) -> bytes:
    return line(direction="receive", message={"category": category, "header": "0xFFFF", "body": body})


def test_a_session_that_comes_up() -> None:
    assert parse(line(state="up")) == Established(PEER)


def test_an_open_and_an_update_carry_their_bodies() -> None:
    assert parse(packet(1, "0x04FC00")) == Opened(PEER, bytes([4, 0xFC, 0]))
    assert parse(packet(2, "0x00000000")) == UpdateReceived(PEER, bytes(4))
    assert parse(packet(2, "0x")) == UpdateReceived(PEER, b"")


@pytest.mark.parametrize(
    ("reason", "ending", "words"),
    [
        ("notification received (6,2)", Ending.NOTIFICATION, "received: cease, administrative shutdown (6/2)"),
        ("notification sent (4,0)", Ending.NOTIFICATION, "sent: hold timer expired (4/0)"),
        ("notification sent (9,9)", Ending.NOTIFICATION, "sent: unknown error (9/9)"),
        ("closing connection", Ending.CLOSED, "without NOTIFICATION"),
        ("", Ending.CLOSED, "without NOTIFICATION"),
        ("graceful restarted negotiated, closing without sending any notification", Ending.LOCAL, "this node"),
        ("stop, message [removed]", Ending.LOCAL, "this node"),
        ("closing outgoing connection as we have another incoming on with higher router-id", Ending.LOCAL, "collision"),
    ],
)
def test_how_a_session_ended(reason: str, ending: Ending, words: str) -> None:
    event = parse(line(state="down", reason=reason))
    assert isinstance(event, SessionDown)
    assert (event.peer, event.ending) == (PEER, ending)
    assert words in event.reason


@pytest.mark.parametrize(("text", "done"), [(b"done\n", True), (b"error\n", False)])
def test_answers(text: bytes, done: bool) -> None:
    assert parse(text) == Answer(done)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"exabgp 5.0.15\n",
        b"reload in progress\n",
        line(state="connected"),
        packet(4, "0x"),
        b'{"notification": "shutdown"}',
    ],
)
def test_what_is_nothing_to_us(text: bytes) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    "text", [b"{", b'{"neighbor": 7}', packet(2, "0xZZ"), b'{"neighbor": {"address": {"peer": "x"}}}']
)
def test_what_exabgp_does_not_write_is_a_bug(text: bytes) -> None:
    with pytest.raises(Bug, match="ExaBGP's API"):
        parse(text)

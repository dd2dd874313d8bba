"""The BFD process never waits for an agent that does not read."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest

from routed_bgp.bfd.control import Control


@pytest.fixture
def pair() -> Iterator[tuple[Control, socket.socket, select.epoll]]:
    ours, theirs = socket.socketpair()
    with ours, theirs, select.epoll() as poller:
        yield Control(ours, poller), theirs, poller


def test_lines_are_read_whole_in_whatever_pieces_they_come(
    pair: tuple[Control, socket.socket, select.epoll],
) -> None:
    control, agent, _ = pair
    agent.send(b"one\ntw")
    assert control.lines() == [b"one"]
    assert control.lines() == []
    agent.send(b"o\nthree\n")
    assert control.lines() == [b"two", b"three"]
    assert not control.gone


def test_what_an_agent_that_sleeps_cannot_take_waits_until_it_reads(
    pair: tuple[Control, socket.socket, select.epoll],
) -> None:
    control, agent, poller = pair
    line = b"x" * 65535 + b"\n"
    said = 0
    while control.ready:
        control.say(line)
        said += 1
    control.say(b"last\n")
    heard = b""
    while len(heard) < said * len(line) + 5:
        heard += agent.recv(1 << 20)
        for _ in poller.poll(0):
            assert control.lines() == []
    assert heard == line * said + b"last\n"
    assert control.ready
    assert poller.poll(0) == [], "nothing is left to write, so nothing wakes the process"


@pytest.mark.parametrize("unread", [b"", b"unread\n"], ids=["closed", "reset"])
def test_an_agent_that_is_gone_is_noticed(pair: tuple[Control, socket.socket, select.epoll], unread: bytes) -> None:
    control, agent, _ = pair
    if unread:
        control.say(unread)
    agent.close()
    assert control.lines() == []
    assert control.gone
    control.say(b"nobody hears this\n")
    assert control.ready

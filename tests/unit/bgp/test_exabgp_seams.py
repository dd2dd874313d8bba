"""What waits in the launcher: for a peer that does not read, and for an agent that sleeps."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from routed_bgp.exabgp.frames import Kind, Splitter
from routed_bgp.exabgp.seams import PEER_BUFFER, Seams


@dataclass(eq=False)
class Connection:
    """As much of ExaBGP's connection as sending needs."""

    io: socket.socket
    routed_out: bytearray = field(default_factory=bytearray)
    routed_fault: str = ""


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


def test_what_a_peer_does_not_take_at_once_waits_and_keeps_its_order(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    seams, connection = Seams(ours), Connection(ours)
    sent = [bytes([n]) * 100_000 for n in range(50)]
    for part in sent:
        seams.write(connection, part)
    assert connection.routed_out
    received = bytearray()
    while len(received) < 5_000_000:
        received += theirs.recv(1 << 20)
        seams.flush(connection)
    assert received == b"".join(sent)
    assert not connection.routed_fault


def test_a_peer_that_does_not_read_loses_its_session_before_it_takes_all_memory(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends
    seams, connection = Seams(ours), Connection(ours)
    part = bytes(1 << 20)
    for _ in range((PEER_BUFFER >> 20) + 2):
        seams.write(connection, part)
        assert len(connection.routed_out) <= PEER_BUFFER
    assert "it does not read" in connection.routed_fault
    poller = select.poll()
    poller.register(theirs, select.POLLHUP)
    assert poller.poll(0)


def test_a_lost_connection_is_left_for_reading_to_find(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    theirs.close()
    connection = Connection(ours)
    Seams(ours).write(connection, b"x")
    assert connection.routed_out == b""
    assert not connection.routed_fault


def test_frames_for_a_sleeping_agent_wait_in_order(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    seams = Seams(ours)
    payloads = [bytes([n]) * 100_000 for n in range(50)]
    for payload in payloads:
        seams.put(Kind.MESSAGES, payload, [1])
    splitter, found = Splitter(), list[bytes]()
    while len(found) < len(payloads):
        found += [payload for kind, _, payload in splitter.feed(theirs.recv(1 << 20)) if kind is Kind.MESSAGES]
        seams.put(Kind.LINE, b"")  # whatever is sent takes with it what waits
    assert found == payloads

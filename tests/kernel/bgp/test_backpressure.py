"""Who does not read: the agent, for which ExaBGP keeps UPDATEs, and a peer, for which it keeps ours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.kernel.bgp.fabric import NODE, A, B, Fabric
from tests.kernel.bgp.raw import END_OF_RIB, KEEPALIVE, UPDATE, RawPeer, announced, graceful, message, prefix
from tests.kernel.bgp.test_restart import POOL, US, router
from tests.waiting import until

HOSTILE = 65000


@pytest.fixture
def mode() -> str:
    """Only ours has such bounds; in stock mode the socket's buffer has to do."""
    return "seams"


@pytest.fixture
def peer(fabric: Fabric) -> Iterator[RawPeer]:
    made = RawPeer(fabric.names[A], A, asn=HOSTILE)
    yield made
    made.close()


def test_a_sleeping_agent_makes_peers_wait_when_64_mb_are_full_and_loses_nothing(fabric: Fabric, peer: RawPeer) -> None:
    node = fabric.rib_node()
    node.want(US, POOL, router(A, HOSTILE))
    node.until(lambda known: known["peers"].get(A, {}).get("downs"))
    peer.establish(NODE, graceful())
    node.until(lambda known: known["peers"][A]["state"] == "established")
    # one prefix again and again, with an attribute nobody knows that makes it long; at the end one that was not there
    head = announced(b"", asn=HOSTILE, next_hop=A)[4:] + b"\xd0\xfe" + (3900).to_bytes(2) + bytes(3900)
    block = message(UPDATE, b"\0\0" + len(head).to_bytes(2) + head + prefix(1)) * 300
    node.order(sleep=4.0)
    peer.socket.settimeout(1.0)  # of no progress at all: then it is not read any more
    sent, rest = 0, memoryview(block)
    try:
        while sent < 200 << 20:
            size = peer.socket.send(rest)
            sent, rest = sent + size, rest[size:] or memoryview(block)
    except TimeoutError:
        pass
    assert 64 << 20 < sent < 128 << 20, "the bound was not met"
    peer.socket.settimeout(20)
    peer.socket.sendall(rest.tobytes() + message(UPDATE, announced(prefix(9999), asn=HOSTILE, next_hop=A)))
    peer.send(UPDATE, END_OF_RIB)
    node.until(lambda known: known["peers"][A]["received"] == 2 and known["synced"])
    assert not [down for down in node.peer(A)["downs"] if "connecting" not in down]


def test_a_peer_that_reads_slowly_gets_all_of_many_updates_in_order(fabric: Fabric, peer: RawPeer) -> None:
    b, node = fabric.bird(B), fabric.node()
    b.start(asn=65001)
    node.want({"peer": A, "peer_as": HOSTILE}, {"peer": B, "peer_as": 65001})
    node.until(lambda known: known["note"] is not None and node.peer(B)["state"] == "up")
    peer.establish(NODE, buffer=4096)
    node.until(lambda _: node.peer(A)["state"] == "up")
    rounds = [[f"10.{64 + turn}.{n // 256}.{n % 256}/32" for n in range(6000)] for turn in range(6)]
    for each in rounds:
        node.order(advertise=each)
    until(lambda: len(b.routes()) == 6000, what=lambda: len(b.routes()))
    assert node.peer(A)["ups"] == 1
    known: set[bytes] = set()
    wanted = {prefix(n, (10 << 24) + ((64 + 5) << 16)) for n in range(6000)}
    while known != wanted:
        body = peer.until(UPDATE)
        gone = int.from_bytes(body[:2])
        at = 4 + gone + int.from_bytes(body[2 + gone : 4 + gone])
        known -= {body[each : each + 5] for each in range(2, 2 + gone, 5)}
        known |= {body[each : each + 5] for each in range(at, len(body), 5)}
    peer.send(KEEPALIVE)
    assert node.peer(A)["ups"] == 1
    assert node.peer(A)["state"] == "up"

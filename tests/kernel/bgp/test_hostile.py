"""A peer that breaks every rule: what it costs is its own session, and never another's."""

from __future__ import annotations

import contextlib
import itertools
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kernel.bgp.fabric import NODE, A, B, Bird, Fabric, RibNode
from tests.kernel.bgp.raw import NOTIFICATION, REFRESH, UPDATE, RawPeer, announced, graceful, prefix
from tests.kernel.bgp.test_restart import OF_B, OURS, POOL, US, router
from tests.waiting import until

HOSTILE = 65000
LIMIT = 1000


class Siege:
    """The node with a real router at B, and a hostile peer at A whose limit is 1000 prefixes."""

    def __init__(self, fabric: Fabric) -> None:
        self.b: Bird = fabric.bird(B)
        self.b.start(asn=65001, node_asn=64512, routes=[OF_B])
        self.node: RibNode = fabric.rib_node()
        self.node.want(US, POOL, router(A, HOSTILE, maxPrefixes=LIMIT), router(B, 65001))
        self.node.until(lambda known: OF_B in known["best"] and known["peers"][B]["synced"])
        until(lambda: OURS in self.b.routes())
        self.peer = RawPeer(fabric.names[A], A, asn=HOSTILE)
        self.seen = len(self.node.history)
        self.since = self.established()
        self.pid = self.node.known["pid"]

    def established(self) -> str:
        """BIRD's time of the last change of its session."""
        found = re.search(r"node +BGP +\S+ +up +(\S+)", self.b.ask("show", "protocols", "node"))
        return found[1] if found else ""

    def resident(self) -> int:
        """MB of both processes of the node."""
        pages = [Path(f"/proc/{pid}/statm").read_text().split()[1] for pid in (self.node.running.process.pid, self.pid)]
        return sum(map(int, pages)) * 4096 >> 20

    def undisturbed(self) -> None:
        """The other peer has not noticed, nor has anybody who looks at its routes."""
        assert self.node.known["pid"] == self.pid, self.node.log.read_text()[-3000:]
        for known in self.node.history[self.seen :]:
            assert known["peers"][B]["state"] == "established"
            assert known["best"].get(OF_B) == self.node.history[self.seen - 1]["best"][OF_B]
        assert self.established() == self.since
        assert OURS in self.b.routes()


@pytest.fixture
def siege(fabric: Fabric) -> Iterator[Siege]:
    made = Siege(fabric)
    yield made
    made.peer.close()


def route(text: str = "10.244.9.0") -> bytes:
    return b"\x1a" + bytes(int(number) for number in text.split("."))


def good(siege: Siege) -> None:
    """The hostile peer behaves, for once; a connection that comes while its last one ends may be refused."""
    deadline = time.monotonic() + 20
    while True:
        try:
            siege.peer.establish(NODE, graceful())
            break
        except (ConnectionError, AssertionError):
            if time.monotonic() > deadline:
                raise
    siege.peer.send(UPDATE, announced(route(), asn=HOSTILE, next_hop=A))
    siege.node.until(lambda known: known["best"].get("10.244.9.0/26", {}).get("via") == A)


MALFORMED = {
    "attributes longer than the message": b"\0\0\xff\xff\x40\1\1\0",
    "withdrawn routes longer than the message": b"\xff\xff\0\0",
    "a prefix of 33 bits": announced(b"\x21\1\2\3\4\5", asn=HOSTILE, next_hop=A),
    "a prefix that ends early": announced(b"\x20\1\2", asn=HOSTILE, next_hop=A),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_rfc7606_a_malformed_update_costs_its_session_and_says_why(siege: Siege, body: bytes) -> None:
    good(siege)
    siege.peer.send(UPDATE, body)
    assert siege.peer.until(NOTIFICATION)[:1] == b"\3"
    siege.node.until(lambda known: known["peers"][A]["state"] == "down")
    assert "UPDATE" in siege.node.peer(A)["error"]
    assert "10.244.9.0/26" not in siege.node.known["best"]
    siege.undisturbed()


def test_rfc7606_what_can_be_repaired_is_and_the_session_stays(siege: Siege) -> None:
    good(siege)
    bad = announced(route(), asn=HOSTILE, next_hop=A).replace(b"\x40\1\1\0", b"\x40\1\1\x09")  # ORIGIN 9
    siege.peer.send(UPDATE, bad)
    siege.node.until(lambda known: "10.244.9.0/26" not in known["best"])
    assert siege.node.peer(A)["state"] == "established"
    assert "RFC 7606" in siege.node.peer(A)["error"]
    siege.undisturbed()


CAPABILITIES = {
    "graceful restart of 1 octet": b"\x40\1\0",
    "graceful restart with half a family": b"\x40\4\0\x3c\0\1",
    "multiprotocol of 3 octets": b"\1\3\0\1\0",
    "add-path of 5 octets": b"\x45\5\0\1\1\3\0",
    "extended next hop of 5 octets": b"\5\5\0\1\0\1\0",
    "an AS number of 3 octets": b"\x41\3\0\0\1",
    "one that runs past its end": b"\x40\x7f\0",
}


@pytest.mark.parametrize("capability", CAPABILITIES.values(), ids=CAPABILITIES)
def test_rfc5492_a_malformed_open_costs_nobody_else(siege: Siege, capability: bytes) -> None:
    siege.peer.connect(NODE)
    with contextlib.suppress(ConnectionError):  # it may be closed before all of it is said
        siege.peer.open(capability)
        siege.peer.send(REFRESH, b"\0\1\0\1")
        siege.peer.send(UPDATE, announced(route(), asn=HOSTILE, next_hop=A))
    while siege.peer.read()[0]:
        pass
    good(siege)
    siege.undisturbed()


def test_rfc4486_200k_routes_end_the_session_at_its_limit_and_cost_little_memory(siege: Siege) -> None:
    good(siege)
    before = siege.resident()
    with contextlib.suppress(ConnectionError):
        for at in range(0, 200_000, 800):
            nlris = b"".join(map(prefix, range(at, at + 800)))
            siege.peer.send(UPDATE, announced(nlris, asn=HOSTILE, next_hop=A))
    siege.node.until(lambda known: known["peers"][A]["state"] == "prefix limit")
    siege.node.until(lambda known: "NOTIFICATION" in known["peers"][A]["downs"][-1])
    assert "(6/1)" in siege.node.peer(A)["downs"][-1]
    assert set(siege.node.known["best"]) == {OF_B}
    assert siege.resident() - before < 100
    with pytest.raises((ConnectionError, AssertionError)):  # it is not talked to for a minute
        siege.peer.establish(NODE)
    siege.undisturbed()


def test_a_peer_that_flaps_a_hundred_times_a_second_disturbs_nobody(siege: Siege) -> None:
    good(siege)
    before, ups, started = siege.resident(), 0, time.monotonic()
    for number in itertools.count():
        due = started + number / 100
        if due > started + 1:
            break
        time.sleep(max(0, due - time.monotonic()))  # the rate is the attack
        with contextlib.suppress(ConnectionError, AssertionError):
            siege.peer.establish(NODE)
            siege.peer.send(UPDATE, announced(route(), asn=HOSTILE, next_hop=A))
            ups += 1
    siege.peer.close()
    assert ups > 10
    siege.node.until(lambda known: known["peers"][A]["state"] == "down" and "10.244.9.0/26" not in known["best"])
    assert siege.resident() - before < 50
    good(siege)
    siege.undisturbed()

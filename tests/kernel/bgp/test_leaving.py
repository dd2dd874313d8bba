"""What ends a session or a path for good, and what only for a while: NOTIFICATIONs, links, a drained node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.kernel.bgp.fabric import NODE, A, Bird, Fabric, RibNode, Running, inside, run
from tests.kernel.bgp.raw import END_OF_RIB, NOTIFICATION, UPDATE, RawPeer, announced, graceful
from tests.kernel.bgp.test_restart import OF_A, OF_B, OURS, POOL, TO_A, TO_B, US, router, start
from tests.waiting import until

GRACEFUL_SHUTDOWN = "(65535,0)"  # RFC 8326, as BIRD writes it
ROUTE, NLRI = "10.244.9.0/26", b"\x1a\x0a\xf4\x09\0"


# ---- NOTIFICATIONs


@pytest.fixture
def peer(fabric: Fabric) -> Iterator[RawPeer]:
    made = RawPeer(fabric.names[A], A, asn=65000)
    yield made
    made.close()


def session(fabric: Fabric, peer: RawPeer, *, ours: bool, theirs: bool) -> RibNode:
    """A session with `peer` and a route of it; the N bit of RFC 8538 on each side or not."""
    node = fabric.rib_node()
    node.want(US, POOL, router(A, 65000, notificationRestart=ours))
    node.until(lambda known: known["peers"].get(A, {}).get("downs"))  # it listens
    peer.establish(NODE, graceful(n_bit=theirs))
    peer.send(UPDATE, announced(NLRI, asn=65000, next_hop=A))
    peer.send(UPDATE, END_OF_RIB)
    node.until(lambda known: ROUTE in known["best"] and known["synced"])
    return node


def returns(node: RibNode, peer: RawPeer) -> None:
    """The peer comes back without the route, which goes with End-of-RIB and not before."""
    peer.establish(NODE, graceful(n_bit=True))
    node.until(lambda known: known["peers"][A]["state"] == "established")
    assert node.known["best"][ROUTE]["stale"]
    peer.send(UPDATE, END_OF_RIB)
    node.until(lambda known: not known["best"])


@pytest.mark.parametrize("codes", [b"\6\4", b"\4\0"], ids=["reset", "hold timer"])
def test_rfc8538_4_with_the_n_bit_paths_outlive_a_notification_of_the_peer(
    fabric: Fabric, peer: RawPeer, codes: bytes
) -> None:
    node = session(fabric, peer, ours=True, theirs=True)
    peer.send(NOTIFICATION, codes)
    peer.close()
    node.until(lambda known: known["peers"][A]["state"] == "restarting")
    assert node.known["best"][ROUTE]["stale"]
    returns(node, peer)


def test_rfc8538_4_with_the_n_bit_paths_outlive_a_notification_of_ours(fabric: Fabric, peer: RawPeer) -> None:
    node = session(fabric, peer, ours=True, theirs=True)
    node.order(reset=A)
    assert peer.until(NOTIFICATION) == b"\6\4"
    node.until(lambda known: known["peers"][A]["state"] == "restarting")
    assert node.known["best"][ROUTE]["stale"]
    returns(node, peer)


@pytest.mark.parametrize(
    "codes", [b"\6\x09\6\2", b"\6\x09\6\4", b"\6\2", b"\6\3"], ids=["hard shutdown", "hard reset", "shutdown", "gone"]
)
def test_rfc8538_3_1_what_is_meant_flushes_in_spite_of_the_n_bit(fabric: Fabric, peer: RawPeer, codes: bytes) -> None:
    node = session(fabric, peer, ours=True, theirs=True)
    peer.send(NOTIFICATION, codes)
    node.until(lambda known: known["peers"][A]["state"] == "down")
    assert not any(known["peers"][A]["stale"] for known in node.history)
    assert not node.known["best"]


@pytest.mark.parametrize(("ours", "theirs"), [(False, True), (True, False)], ids=["theirs only", "ours only"])
def test_rfc4724_4_without_the_n_bit_of_both_a_notification_flushes_at_once(
    fabric: Fabric, peer: RawPeer, ours: bool, theirs: bool
) -> None:
    node = session(fabric, peer, ours=ours, theirs=theirs)
    peer.send(NOTIFICATION, b"\6\4")
    node.until(lambda known: known["peers"][A]["state"] == "down")
    assert not any(known["peers"][A]["stale"] for known in node.history)
    assert not node.known["best"]


def test_rfc8538_3_1_a_session_that_is_removed_is_a_hard_reset_to_a_peer_with_the_n_bit(
    fabric: Fabric, peer: RawPeer
) -> None:
    node = session(fabric, peer, ours=True, theirs=True)
    node.want(US, POOL)
    assert peer.until(NOTIFICATION) == b"\6\x09\6\3"


GOBGP = """
[global.config]
as = 65000
router-id = "{peer}"
[[neighbors]]
[neighbors.config]
neighbor-address = "{node}"
peer-as = 64512
[neighbors.timers.config]
connect-retry = 1
idle-hold-time-after-reset = 1
[neighbors.graceful-restart.config]
enabled = true
restart-time = 60
notification-enabled = true
[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = "ipv4-unicast"
[neighbors.afi-safis.mp-graceful-restart.config]
enabled = true
[neighbors.afi-safis.add-paths.config]
send-max = 8
"""


class Gobgp:
    """A router with the N bit and with add-path, which BIRD 2.0 has not both of."""

    def __init__(self, fabric: Fabric) -> None:
        self.namespace = fabric.names[A]
        file = fabric.directory / "gobgpd.toml"
        file.write_text(GOBGP.format(peer=A, node=NODE))
        self.log = (fabric.directory / "gobgpd.log").open("wb")
        arguments = ["-f", str(file), "--api-hosts", "127.0.0.1:50051", "--pprof-disable", "-p"]
        self.running = Running(*inside(self.namespace, "gobgpd", *arguments), stdout=self.log, stderr=self.log)
        until(lambda: "AS:" in self.ask("global"))

    def ask(self, *words: str) -> str:
        return run(*inside(self.namespace, "gobgp", *words), check=False)

    def close(self) -> None:
        self.running.kill()
        self.log.close()


@pytest.fixture
def gobgp(fabric: Fabric) -> Iterator[Gobgp]:
    made = Gobgp(fabric)
    yield made
    made.close()


def test_rfc8538_gobgp_keeps_our_routes_and_we_its_own_after_a_reset_and_not_after_the_end(
    fabric: Fabric, gobgp: Gobgp
) -> None:
    gobgp.ask("global", "rib", "add", ROUTE)
    node = fabric.rib_node()
    node.want(US, POOL, router(A, 65000, notificationRestart=True))
    node.until(lambda known: ROUTE in known["best"] and known["synced"])
    until(lambda: OURS in gobgp.ask("global", "rib"))
    seen = len(node.history)
    node.order(reset=A)
    node.until(lambda known: known["peers"][A]["state"] == "restarting")
    assert OURS in gobgp.ask("global", "rib")
    node.until(lambda known: known["synced"] and not known["best"].get(ROUTE, {"stale": True})["stale"])
    until(lambda: OURS in gobgp.ask("global", "rib"))
    away = [known for known in node.history[seen:] if known["peers"][A]["state"] != "established"]
    assert {known["peers"][A]["state"] for known in away} == {"restarting"}
    assert all(known["best"][ROUTE]["stale"] for known in away)  # it comes back without the F bit, whatever it kept
    node.want(US, POOL)
    until(lambda: OURS not in gobgp.ask("global", "rib"))


def test_rfc7911_gobgp_sends_two_paths_of_one_prefix_and_takes_one_back(fabric: Fabric, gobgp: Gobgp) -> None:
    node = fabric.rib_node()
    node.want(US, POOL, router(A, 65000, addPath="Receive"))
    node.until(lambda known: known["synced"])
    for identifier, med in (("1", "10"), ("2", "20")):
        gobgp.ask("global", "rib", "add", ROUTE, "identifier", identifier, "med", med)
    node.until(lambda known: known["peers"][A]["received"] == 2 and known["best"][ROUTE]["paths"] == 2)
    gobgp.ask("global", "rib", "del", ROUTE, "identifier", "1")
    node.until(lambda known: known["peers"][A]["received"] == 1 and known["best"][ROUTE]["paths"] == 1)


# ---- links and connections


def link(fabric: Fabric, state: str) -> None:
    run(*inside(fabric.names[NODE], "ip", "link", "set", "br0", state))


def test_a_link_that_goes_down_takes_its_paths_while_the_sessions_do_not_know(fabric: Fabric) -> None:
    node, _, _ = start(fabric)
    seen = len(node.history)
    link(fabric, "down")
    node.until(lambda known: not known["best"])
    first = next(known for known in node.history[seen:] if not known["best"])
    assert {peer["state"] for peer in first["peers"].values()} == {"established"}
    assert not first["peers"][A]["downs"]
    node.until(lambda known: all(peer["state"] == "down" for peer in known["peers"].values()))
    assert "interface" in node.peer(A)["error"]
    link(fabric, "up")
    node.until(lambda known: set(known["best"]) == {OF_A, OF_B} and known["synced"])


def test_a_link_that_goes_down_takes_stale_paths_too(fabric: Fabric) -> None:
    node, a, _ = start(fabric)
    a.kill()
    node.until(lambda known: known["best"][OF_A]["stale"])
    link(fabric, "down")
    node.until(lambda known: not known["best"] and not known["peers"][A]["stale"])


def test_rfc4724_4_2_a_second_connection_makes_stale_what_the_first_one_told(fabric: Fabric, peer: RawPeer) -> None:
    node = session(fabric, peer, ours=False, theirs=False)
    again = RawPeer(fabric.names[A], A, asn=65000)
    try:
        again.establish(NODE, graceful())  # the first connection is still there, and silent
        node.until(lambda known: known["best"][ROUTE]["stale"] and known["peers"][A]["state"] == "established")
        again.send(UPDATE, END_OF_RIB)
        node.until(lambda known: not known["best"])
    finally:
        again.close()
    assert next(down for down in node.peer(A)["downs"] if "connecting" not in down).startswith("CLOSED replaced")


# ---- the node leaves


def communities(bird: Bird) -> str:
    return bird.ask("show", "route", OURS, "all")


def test_rfc8326_a_drained_node_is_lowered_then_withdrawn_and_comes_back(fabric: Fabric) -> None:
    node, a, b = start(fabric)
    node.order(drain="LOWERED")
    until(lambda: GRACEFUL_SHUTDOWN in communities(a) and GRACEFUL_SHUTDOWN in communities(b))
    assert "BGP.local_pref: 0" in communities(a)
    node.order(drain="WITHDRAWN")
    until(lambda: a.routes() == b.routes() == {})
    assert a.established()
    node.order(drain="NO")
    until(lambda: a.routes() == b.routes() == {OURS: NODE})
    assert GRACEFUL_SHUTDOWN not in communities(a)
    assert set(node.known["best"]) == {OF_A, OF_B}


@pytest.mark.parametrize("left", [(POOL, TO_A, TO_B), ()], ids=["its Node", "everything"])
def test_rfc4486_a_node_that_is_removed_ends_its_sessions_for_good(
    fabric: Fabric, left: tuple[dict[str, Any], ...]
) -> None:
    node, a, b = start(fabric)
    process = Path(f"/proc/{node.known['pid']}")
    node.want(*left)
    for bird in (a, b):
        until(lambda bird=bird: not bird.established())
        assert bird.routes() == {}
        assert "Peer de-configured" in bird.ask("show", "protocols", "all", "node")
    node.until(lambda known: not known["best"] and not known["peers"])
    until(lambda: not process.exists())

"""Graceful restart (RFC 4724) with a RIB behind the speaker: what becomes of paths, against real BIRD 2 routers."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest
from tests.kernel.bgp.fabric import NODE, A, B, Bird, Fabric, RibNode
from tests.waiting import until

OURS, OF_A, OF_B = "10.244.0.0/26", "10.244.1.0/26", "10.244.2.0/26"
POOL = {"kind": "IPPool", "metadata": {"name": "pods"}, "spec": {"cidr": "10.244.0.0/16"}}


def member(name: str, address: str, asn: int, *blocks: str) -> dict[str, Any]:
    bgp = {"ipv4Address": f"{address}/24", "asNumber": asn}
    return {"kind": "Node", "metadata": {"name": name}, "spec": {"bgp": bgp, "podCIDRs": list(blocks)}}


def router(address: str, asn: int, **spec: Any) -> dict[str, Any]:
    name = f"to-{address.replace('.', '-')}"
    return {"kind": "BGPPeer", "metadata": {"name": name}, "spec": {"peerIP": address, "asNumber": asn, **spec}}


US = member("node", NODE, 64512, OURS)
TO_A, TO_B = router(A, 64512), router(B, 65000)


def start(fabric: Fabric, bgp: str = "") -> tuple[RibNode, Bird, Bird]:
    """The node with an iBGP session to router A and an eBGP session to router B, all routes exchanged."""
    a, b, node = fabric.bird(A), fabric.bird(B), fabric.rib_node()
    a.start(asn=64512, node_asn=64512, routes=[OF_A], bgp=bgp)
    b.start(asn=65000, node_asn=64512, routes=[OF_B], bgp=bgp)
    node.want(US, POOL, TO_A, TO_B)
    node.until(lambda known: len(known["best"]) == 2 and known["synced"])
    until(lambda: OURS in a.routes() and OURS in b.routes())
    return node, a, b


def test_rfc4724_a_killed_router_leaves_stale_paths_until_it_sends_end_of_rib(fabric: Fabric) -> None:
    node, a, _ = start(fabric)
    a.kill()
    node.until(lambda known: known["best"][OF_A]["stale"])
    assert node.known["peers"][A]["state"] == "restarting"
    a.start(asn=64512, node_asn=64512, routes=["10.244.9.0/26"], recover=True)
    node.until(lambda known: set(known["best"]) == {"10.244.9.0/26", OF_B})
    with_path = [OF_A in known["best"] for known in node.history if known["best"].get("10.244.9.0/26")]
    assert with_path[0], "the stale path went before the router had sent its table"


def test_rfc4724_stale_paths_go_after_the_restart_time(fabric: Fabric) -> None:
    node, a, _ = start(fabric, bgp="graceful restart yes; graceful restart time 2;")
    a.kill()
    killed = time.monotonic()
    node.until(lambda known: known["peers"][A]["stale"] == 1)
    node.until(lambda known: set(known["best"]) == {OF_B})
    assert time.monotonic() - killed > 1.9


@pytest.mark.parametrize("bgp", ["graceful restart aware;", "graceful restart off;"], ids=["aware", "off"])
def test_a_router_that_does_not_restart_gracefully_is_in_sync_too(fabric: Fabric, bgp: str) -> None:
    node, _, _ = start(fabric, bgp=bgp)
    assert node.best() == {OF_A: A, OF_B: B}


def test_a_router_without_graceful_restart_leaves_nothing(fabric: Fabric) -> None:
    node, a, _ = start(fabric, bgp="graceful restart off;")
    a.kill()
    node.until(lambda known: set(known["best"]) == {OF_B})
    assert not any(known["peers"][A]["stale"] for known in node.history)


def test_a_killed_exabgp_is_started_again_and_no_path_is_lost_meanwhile(fabric: Fabric) -> None:
    node, a, b = start(fabric)
    first = node.known["pid"]
    seen = len(node.history)
    with a.watched() as at_a:
        os.kill(first, signal.SIGKILL)
        node.until(lambda known: known["pid"] not in (first, None) and known["synced"])
        until(lambda: a.routes() == b.routes() == {OURS: NODE})
    assert all(set(known["best"]) == {OF_A, OF_B} for known in node.history[seen:])
    assert any(known["best"][OF_A]["stale"] for known in node.history[seen:])
    assert not node.known["best"][OF_A]["stale"]
    assert [line for line in at_a if "192.0.2.1" not in line] == []


def test_rfc4724_a_restart_of_the_node_makes_no_route_event_on_the_router(fabric: Fabric) -> None:
    node, a, b = start(fabric)
    with a.watched() as at_a, b.watched() as at_b:
        node.close()
        until(lambda: not a.established() and not b.established())
        assert set(a.routes()) == set(b.routes()) == {OURS}
        node = fabric.rib_node()
        node.want(US, POOL, TO_A, TO_B)
        node.until(lambda known: known["synced"] and len(known["best"]) == 2)
        until(lambda: a.routes() == b.routes() == {OURS: NODE})
    assert [line for line in at_a + at_b if "192.0.2.1" not in line] == []


def test_rfc4271_6_5_a_router_that_falls_silent_loses_its_paths_when_the_hold_time_ends(fabric: Fabric) -> None:
    a, node = fabric.bird(A), fabric.rib_node()
    a.start(asn=64512, node_asn=64512, routes=[OF_A])
    node.want(US, POOL, router(A, 64512, holdTime="3s"))
    node.until(lambda known: OF_A in known["best"])
    assert a.running
    pid = int((a.directory / "pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        node.until(lambda known: not known["best"])
        assert "hold timer expired" in node.known["peers"][A]["error"]
        assert not node.known["peers"][A]["stale"]
    finally:
        os.kill(pid, signal.SIGCONT)


def test_two_nodes_mesh_the_lower_address_connects(fabric: Fabric) -> None:
    node = fabric.rib_node()
    other = fabric.rib_node(A, "other")
    members = (US, member("other", A, 64512, OF_A))
    node.want(*members, POOL)
    other.want(*members, POOL)
    node.until(lambda known: known["synced"] and set(known["best"]) == {OF_A})
    other.until(lambda known: known["synced"] and set(known["best"]) == {OURS})

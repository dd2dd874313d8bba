"""ExaBGP behind our `Speaker`, against real BIRD 2 routers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.kernel.bgp.fabric import NODE, A, B, Bird, Fabric, Node, until

OURS, OF_A, OF_B = "10.244.0.0/26", "10.244.1.0/26", "10.244.2.0/26"
POOL = {"kind": "IPPool", "metadata": {"name": "pods"}, "spec": {"cidr": "10.244.0.0/16"}}


def member(name: str, address: str, asn: int, *blocks: str) -> dict[str, Any]:
    bgp = {"ipv4Address": f"{address}/24", "asNumber": asn}
    return {"kind": "Node", "metadata": {"name": name}, "spec": {"bgp": bgp, "podCIDRs": list(blocks)}}


def router(address: str, asn: int) -> dict[str, Any]:
    name = f"to-{address.replace('.', '-')}"
    return {"kind": "BGPPeer", "metadata": {"name": name}, "spec": {"peerIP": address, "asNumber": asn}}


US = member("node", NODE, 64512, OURS)
TO_A, TO_B = router(A, 64512), router(B, 65000)


def start(fabric: Fabric, bgp: str = "") -> tuple[Node, Bird, Bird]:
    """The node with an iBGP session to router A and an eBGP session to router B, all routes exchanged."""
    a, b, node = fabric.bird(A), fabric.bird(B), fabric.node()
    a.start(asn=64512, node_asn=64512, routes=[OF_A], bgp=bgp)
    b.start(asn=65000, node_asn=64512, routes=[OF_B], bgp=bgp)
    node.want(US, POOL, TO_A, TO_B)
    node.until(lambda known: len(known["best"]) == 2 and known["synced"])
    until(lambda: OURS in a.routes() and OURS in b.routes())
    return node, a, b


def established_at(bird: Bird) -> str:
    """BIRD's time of the last change of the session; empty while it is not up."""
    found = re.search(r"node +BGP +\S+ +up +(\S+)", bird.ask("show", "protocols", "node"))
    return found[1] if found else ""


def test_routes_are_learned_and_announced_over_ibgp_and_ebgp(fabric: Fabric) -> None:
    node, a, b = start(fabric)
    assert node.best() == {OF_A: A, OF_B: B}
    assert a.routes() == {OURS: NODE}
    assert b.routes() == {OURS: NODE}
    assert "BGP.as_path: 64512" in b.ask("show", "route", OURS, "all")


def test_a_changed_advertisement_is_announced_and_withdrawn(fabric: Fabric) -> None:
    node, a, _ = start(fabric)
    node.want(member("node", NODE, 64512, "10.244.7.0/26"), POOL, TO_A, TO_B)
    until(lambda: a.routes() == {"10.244.7.0/26": NODE})


def test_a_session_disabled_in_bird_loses_its_paths_at_once_and_gets_them_back(fabric: Fabric) -> None:
    node, a, _ = start(fabric)
    a.ask("disable", "node")
    node.until(lambda known: set(known["best"]) == {OF_B})
    assert node.known["peers"][A]["state"] == "down"
    assert "administrative shutdown" in node.known["peers"][A]["error"]
    a.ask("enable", "node")
    node.until(lambda known: set(known["best"]) == {OF_A, OF_B})


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


def test_rfc4724_a_restart_of_the_node_makes_no_route_event_on_the_router(fabric: Fabric) -> None:
    node, a, b = start(fabric)
    with a.watched() as at_a, b.watched() as at_b:
        node.close()
        until(lambda: not a.established() and not b.established())
        assert set(a.routes()) == set(b.routes()) == {OURS}
        node = fabric.node()
        node.want(US, POOL, TO_A, TO_B)
        node.until(lambda known: known["synced"] and len(known["best"]) == 2)
        until(lambda: a.routes() == b.routes() == {OURS: NODE})
    assert [line for line in at_a + at_b if "192.0.2.1" not in line] == []


def test_a_node_killed_with_sigkill_takes_exabgp_with_it_and_leaves_its_routes(fabric: Fabric) -> None:
    node, a, _ = start(fabric)
    child = Path(f"/proc/{node.known['pid']}")
    node.running.kill(signal.SIGKILL)
    until(lambda: not child.exists() or "State:\tZ" in (child / "status").read_text())
    until(lambda: not a.established())
    assert set(a.routes()) == {OURS}


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


def test_a_taken_port_is_named_and_tried_again(fabric: Fabric) -> None:
    listen = (
        "import socket, sys; s = socket.create_server(('0.0.0.0', 179)); print('ready', flush=True); sys.stdin.read()"
    )
    owner = subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{fabric.names[NODE]}", sys.executable, "-c", listen],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert owner.stdin
    assert owner.stdout
    try:
        assert owner.stdout.readline() == b"ready\n"
        a, node = fabric.bird(A), fabric.node()
        a.start(asn=64512, node_asn=64512, routes=[OF_A])
        node.want(US, POOL, TO_A)
        node.until(lambda known: f"{NODE} port 179" in known["fault"])
        assert "another process listens there" in node.known["fault"]
        assert node.known["pid"] is None
    finally:
        owner.kill()
        owner.wait()
        owner.stdin.close()
        owner.stdout.close()
    node.until(lambda known: not known["fault"] and OF_A in known["best"])


def test_an_address_on_no_interface_is_named(fabric: Fabric) -> None:
    node = fabric.node()
    node.want(member("node", "10.99.0.9", 64512, OURS), POOL, TO_A)
    node.until(lambda known: "10.99.0.9" in known["fault"] and "no interface has this address" in known["fault"])


def test_a_session_added_and_removed_leaves_the_other_up(fabric: Fabric) -> None:
    a, b, node = fabric.bird(A), fabric.bird(B), fabric.node()
    a.start(asn=64512, node_asn=64512, routes=[OF_A])
    b.start(asn=65000, node_asn=64512, routes=[OF_B])
    node.want(US, POOL, TO_A)
    node.until(lambda known: known["synced"])
    since = established_at(a)
    node.want(US, POOL, TO_A, TO_B)
    node.until(lambda known: known["synced"] and set(known["best"]) == {OF_A, OF_B})
    until(lambda: b.routes() == {OURS: NODE})
    node.want(US, POOL, TO_A)
    node.until(lambda known: set(known["best"]) == {OF_A})
    until(lambda: not b.established())
    assert b.routes() == {}, "a removed session takes its routes back, it does not leave them stale"
    assert established_at(a) == since
    assert a.routes() == {OURS: NODE}


def test_a_session_removed_and_wanted_again_at_once_is_learned_anew(fabric: Fabric) -> None:
    node, a, b = start(fabric)
    other = established_at(b)
    node.want_in_turn((US, POOL, TO_B), (US, POOL, TO_A, TO_B))
    node.until(lambda known: known["synced"] and set(known["best"]) == {OF_A, OF_B} and known["changes"] == 4)
    until(lambda: a.routes() == {OURS: NODE})
    assert established_at(b) == other


def test_a_session_with_other_timers_comes_back_without_losing_a_path(fabric: Fabric) -> None:
    node, a, _ = start(fabric)
    with a.watched() as at_a:
        node.want(US, POOL, TO_A, TO_B, hold=30)
        until(lambda: "/30" in a.ask("show", "protocols", "all", "node"))
        node.until(lambda known: known["synced"])
        until(lambda: a.routes() == {OURS: NODE})
    assert [line for line in at_a if "192.0.2.1" not in line] == []


def test_an_unreachable_peer_does_not_stop_a_change_of_sessions(fabric: Fabric) -> None:
    b, node = fabric.bird(B), fabric.node()
    b.start(asn=65000, node_asn=64512, routes=[OF_B])
    node.want(US, POOL, router("10.99.0.77", 65001))
    first = node.until(lambda known: known["pid"])
    time.sleep(0.5)  # let it try to connect and queue what it would announce
    node.want(US, POOL, router("10.99.0.77", 65001), TO_B)
    node.until(lambda known: set(known["best"]) == {OF_B})
    assert node.known["pid"] == first, "the change took another ExaBGP"
    assert not node.known["synced"]


def test_a_reset_session_comes_back(fabric: Fabric) -> None:
    node, a, b = start(fabric)
    since, other = established_at(a), established_at(b)
    node.order(reset=A)
    until(lambda: established_at(a) not in ("", since))
    node.until(lambda known: known["synced"] and len(known["best"]) == 2)
    assert established_at(b) == other


def test_two_nodes_mesh_the_lower_address_connects(fabric: Fabric) -> None:
    node = fabric.node()
    other = fabric.node(A)
    members = (US, member("other", A, 64512, OF_A))
    node.want(*members, POOL)
    other.want(*members, POOL, node="other")
    node.until(lambda known: known["synced"] and set(known["best"]) == {OF_A})
    other.until(lambda known: known["synced"] and set(known["best"]) == {OURS})
    assert "passive false" in (node.directory / "run/exabgp.conf").read_text()
    assert "passive true" in (other.directory / "run/exabgp.conf").read_text()


def test_no_wanted_session_means_no_process(fabric: Fabric) -> None:
    node, a, _ = start(fabric)
    node.want(US, POOL)
    node.until(lambda known: known["pid"] is None or not Path(f"/proc/{known['pid']}").exists())
    until(lambda: not a.routes())
    node.want(US, POOL, TO_A)
    node.until(lambda known: set(known["best"]) == {OF_A})


def test_rfc4271_6_5_a_router_that_falls_silent_loses_its_paths_when_the_hold_time_ends(fabric: Fabric) -> None:
    a, node = fabric.bird(A), fabric.node()
    a.start(asn=64512, node_asn=64512, routes=[OF_A])
    node.want(US, POOL, TO_A, hold=3)
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


def test_exabgp_writes_nowhere_but_in_the_run_directory(fabric: Fabric) -> None:
    node, _, _ = start(fabric)
    opened = {str(link.readlink()) for link in Path(f"/proc/{node.known['pid']}/fd").iterdir()}
    assert {path for path in opened if path.startswith("/") and path != "/dev/null"} <= {"/dev/urandom"}
    assert {path.name for path in (node.directory / "run").iterdir()} == {"exabgp.conf", "exabgp.env"}

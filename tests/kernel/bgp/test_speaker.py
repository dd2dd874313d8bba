"""ExaBGP behind our `Speaker`, against real BIRD 2 routers, in both modes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.kernel.bgp.fabric import ASN, NODE, A, B, Bird, Fabric, Node, inside, run
from tests.waiting import until

OURS, OF_A, OF_B = "10.244.0.0/26", "10.244.1.0/26", "10.244.2.0/26"
TO_A: dict[str, Any] = {"peer": A, "peer_as": ASN}
TO_B: dict[str, Any] = {"peer": B, "peer_as": 65000}


def start(fabric: Fabric, bgp: str = "") -> tuple[Node, Bird, Bird]:
    """The node with an iBGP session to router A and an eBGP session to router B, all routes exchanged."""
    a, b, node = fabric.bird(A), fabric.bird(B), fabric.node()
    a.start(asn=ASN, routes=[OF_A], bgp=bgp)
    b.start(asn=65000, routes=[OF_B], bgp=bgp)
    node.order(advertise=[OURS])
    node.want(TO_A, TO_B)
    exchanged(node, a, b)
    return node, a, b


def exchanged(node: Node, a: Bird, b: Bird) -> None:
    node.until(lambda _: node.routes(A) == {OF_A: A} and node.routes(B) == {OF_B: B})
    until(lambda: a.routes() == b.routes() == {OURS: NODE})


def established_at(bird: Bird) -> str:
    """BIRD's time of the last change of the session; empty while it is not up."""
    found = re.search(r"node +BGP +\S+ +up +(\S+)", bird.ask("show", "protocols", "node"))
    return found[1] if found else ""


def changes(seen: list[str]) -> list[str]:
    return [line for line in seen if "192.0.2.1" not in line]


def test_it_runs_in_the_mode_that_was_asked_for(fabric: Fabric, mode: str) -> None:
    node = fabric.node()
    node.want(TO_A)
    assert bool(node.until(lambda known: known["note"] is not None and (known["note"] or " ")).strip()) == (
        mode == "stock"
    )


def test_routes_go_both_ways_over_ibgp_and_ebgp(fabric: Fabric) -> None:
    node, _, b = start(fabric)
    node.until(lambda _: node.peer(A)["ended"] == node.peer(B)["ended"] == ["IPV4"])
    assert "BGP.as_path: 64512" in b.ask("show", "route", OURS, "all")


def test_a_changed_advertisement_is_announced_and_withdrawn(fabric: Fabric) -> None:
    node, a, b = start(fabric)
    node.order(advertise=["10.244.7.0/26"])
    until(lambda: a.routes() == b.routes() == {"10.244.7.0/26": NODE})


def test_many_prefixes_are_announced_and_withdrawn_in_order(fabric: Fabric) -> None:
    node, a, _ = start(fabric)
    many = [f"10.{200 + n // 256}.{n % 256}.0/24" for n in range(500)]
    node.order(advertise=many)
    until(lambda: set(a.routes()) == set(many))
    node.order(advertise=many[:3])
    until(lambda: set(a.routes()) == set(many[:3]))


def test_rfc9003_a_session_disabled_in_bird_says_why_and_comes_back(fabric: Fabric) -> None:
    node, a, _ = start(fabric)
    a.ask("disable", "node", '"back at noon"')
    node.down(A, "NOTIFICATION", 6, 2, 'administrative shutdown (6/2): "back at noon"')
    a.ask("enable", "node")
    node.until(lambda _: node.routes(A) == {OF_A: A})
    until(lambda: a.routes() == {OURS: NODE})


def test_a_killed_router_is_a_closed_connection(fabric: Fabric, mode: str) -> None:
    node, a, _ = start(fabric)
    a.kill()
    node.down(A, "CLOSED", words="the peer closed the connection" if mode == "seams" else "closed by the remote end")


def test_rfc4724_a_restart_of_the_node_makes_no_route_event_on_the_router(fabric: Fabric) -> None:
    node, a, b = start(fabric)
    with a.watched() as at_a, b.watched() as at_b:
        node.close()
        until(lambda: not a.established() and not b.established())
        assert set(a.routes()) == set(b.routes()) == {OURS}
        node = fabric.node()
        node.order(advertise=[OURS])
        node.want(TO_A, TO_B)
        exchanged(node, a, b)
    assert changes(at_a + at_b) == []


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
    with a.watched() as at_a:
        os.kill(first, signal.SIGKILL)
        node.until(lambda known: known["pid"] not in (first, None) and node.peer(A)["ups"] == 2)
        exchanged(node, a, b)
    assert node.peer(A)["downs"][0][0] == "LOCAL"
    assert changes(at_a) == []


def test_a_stalled_exabgp_is_noticed_and_replaced(fabric: Fabric) -> None:
    node, a, b = start(fabric)
    first = node.known["pid"]
    os.kill(first, signal.SIGSTOP)
    node.until(lambda known: "has not answered" in known["fault"], 40)
    node.until(lambda known: known["pid"] not in (first, None))
    exchanged(node, a, b)


def test_a_taken_port_is_named_and_tried_again(fabric: Fabric) -> None:
    listen = (
        "import socket, sys; s = socket.create_server(('0.0.0.0', 179)); print('ready', flush=True); sys.stdin.read()"
    )
    owner = subprocess.Popen(
        inside(fabric.names[NODE], sys.executable, "-c", listen), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert owner.stdin
    assert owner.stdout
    try:
        assert owner.stdout.readline() == b"ready\n"
        a, node = fabric.bird(A), fabric.node()
        a.start(asn=ASN, routes=[OF_A])
        node.want(TO_A)
        node.until(lambda known: f"{NODE} port 179" in known["fault"])
        assert "another process listens there" in node.known["fault"]
        assert node.known["pid"] is None
    finally:
        owner.kill()
        owner.wait()
        owner.stdin.close()
        owner.stdout.close()
    node.until(lambda known: not known["fault"] and node.routes(A) == {OF_A: A})


def test_an_address_on_no_interface_costs_only_its_sessions(fabric: Fabric) -> None:
    b, node = fabric.bird(B), fabric.node()
    b.start(asn=65000, routes=[OF_B])
    node.want(TO_A | {"local": "10.99.0.9"})
    node.until(lambda known: "10.99.0.9" in known["fault"] and "no interface has this address" in known["fault"])
    node.want(TO_A | {"local": "10.99.0.9"}, TO_B)
    node.until(lambda _: node.routes(B) == {OF_B: B} and "no interface has this address" in node.peer(A)["reason"])
    a = fabric.bird(A)
    a.start(asn=ASN, routes=[OF_A], ends=(A, "10.99.0.9"))
    run(*inside(fabric.names[NODE], "ip", "address", "add", "10.99.0.9/24", "dev", "br0"))
    node.until(lambda _: node.routes(A) == {OF_A: A})
    assert node.peer(B)["ups"] == 1


def test_a_session_added_and_removed_leaves_the_other_up(fabric: Fabric) -> None:
    a, b, node = fabric.bird(A), fabric.bird(B), fabric.node()
    a.start(asn=ASN, routes=[OF_A])
    b.start(asn=65000, routes=[OF_B])
    node.order(advertise=[OURS])
    node.want(TO_A)
    node.until(lambda _: node.routes(A) == {OF_A: A})
    since = established_at(a)
    node.want(TO_A, TO_B)
    exchanged(node, a, b)
    node.want(TO_A)
    until(lambda: not b.established())
    assert b.routes() == {}, "a removed session takes its routes back, it does not leave them stale"
    assert "Peer de-configured" in b.ask("show", "protocols", "all", "node")
    node.down(B, "NOTIFICATION", 6, 3)
    assert established_at(a) == since
    assert a.routes() == {OURS: NODE}


def test_a_session_removed_and_wanted_again_at_once_starts_anew(fabric: Fabric) -> None:
    node, a, b = start(fabric)
    other = established_at(b)
    node.orders({"sessions": [node.session(**TO_B)]}, {"sessions": [node.session(**TO_A), node.session(**TO_B)]})
    node.until(lambda _: node.peer(A)["ups"] == 2)
    exchanged(node, a, b)
    assert established_at(b) == other


def test_a_session_with_other_timers_comes_back_without_losing_a_path(fabric: Fabric) -> None:
    node, a, b = start(fabric)
    other = established_at(b)
    with a.watched() as at_a:
        node.want(TO_A | {"hold_time": 30, "keepalive_time": 5}, TO_B)
        until(lambda: "/30" in a.ask("show", "protocols", "all", "node"))
        exchanged(node, a, b)
    assert changes(at_a) == []
    assert established_at(b) == other


def test_an_unreachable_peer_does_not_stop_a_change_of_sessions(fabric: Fabric) -> None:
    b, node = fabric.bird(B), fabric.node()
    b.start(asn=65000, routes=[OF_B])
    nobody = {"peer": "10.99.0.77", "peer_as": 65001}
    node.order(advertise=[OURS])
    node.want(nobody)
    first = node.until(lambda known: known["note"] is not None and known["pid"])
    node.down("10.99.0.77", "CLOSED", words="connecting failed")
    node.want(nobody, TO_B)
    node.until(lambda _: node.routes(B) == {OF_B: B})
    assert node.known["pid"] == first, "the change took another ExaBGP"


def test_a_reset_session_comes_back(fabric: Fabric) -> None:
    node, a, b = start(fabric)
    other = established_at(b)
    node.order(reset=A)
    node.down(A, "NOTIFICATION", 6, 4, "NOTIFICATION sent: cease, administrative reset (6/4)")
    node.until(lambda _: node.peer(A)["ups"] == 2)
    exchanged(node, a, b)
    assert established_at(b) == other


def test_a_reset_has_the_codes_that_were_asked_for(fabric: Fabric) -> None:
    node, a, b = start(fabric)
    node.order(reset=A, code=3, subcode=11)
    node.down(A, "NOTIFICATION", 3, 11)
    exchanged(node, a, b)


def test_no_wanted_session_means_no_process(fabric: Fabric) -> None:
    node, a, b = start(fabric)
    process = Path(f"/proc/{node.known['pid']}")
    node.want()
    until(lambda: not process.exists())
    until(lambda: a.routes() == b.routes() == {})
    node.want(TO_A, TO_B)
    exchanged(node, a, b)


def test_rfc4271_6_5_a_router_that_falls_silent_is_told_that_the_hold_time_has_ended(fabric: Fabric) -> None:
    a, node = fabric.bird(A), fabric.node()
    a.start(asn=ASN, routes=[OF_A])
    node.want(TO_A | {"hold_time": 3})
    node.until(lambda _: node.routes(A) == {OF_A: A})
    pid = int((a.directory / "pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        node.down(A, "NOTIFICATION", 4, 0, "NOTIFICATION sent: hold timer expired")
    finally:
        os.kill(pid, signal.SIGCONT)


def test_rfc4271_6_2_a_router_of_another_as_is_refused(fabric: Fabric) -> None:
    a, node = fabric.bird(A), fabric.node()
    a.start(asn=65099)
    node.want(TO_A)
    node.down(A, "NOTIFICATION", 2, 2)
    assert node.peer(A)["ups"] == 0


def test_a_sleeping_agent_costs_no_session(fabric: Fabric) -> None:
    node, a, b = fabric.node(), fabric.bird(A), fabric.bird(B)
    a.start(asn=ASN, routes=[OF_A])
    b.start(asn=65000, routes=[OF_B])
    node.order(advertise=[OURS])
    node.want(TO_A, TO_B, hold_time=3)
    exchanged(node, a, b)
    since = established_at(a), established_at(b)
    node.orders({"sleep": 7.0}, {"advertise": [OURS, "10.244.7.0/26"]})  # more than twice the hold time
    until(lambda: len(a.routes()) == len(b.routes()) == 2)
    assert (established_at(a), established_at(b)) == since


def test_rfc2918_rfc7313_refreshes_go_both_ways_in_order_with_updates(fabric: Fabric) -> None:
    node, a, _ = start(fabric)
    a.ask("reload", "in", "node")
    node.until(lambda known: [A, "IPV4", "REQUEST"] in known["refreshes"])
    a.ask("reload", "out", "node")
    node.order(refresh=A)
    node.until(lambda known: [A, "IPV4", "END"] in known["refreshes"])
    kinds = [kind for _, _, kind in node.known["refreshes"]]
    assert kinds.index("BEGIN") < kinds.index("END")


def test_exabgp_writes_nowhere_but_in_the_run_directory(fabric: Fabric) -> None:
    node, _, _ = start(fabric)
    opened = {str(link.readlink()) for link in Path(f"/proc/{node.known['pid']}/fd").iterdir()}
    assert {path for path in opened if path.startswith("/") and path != "/dev/null"} <= {"/dev/urandom"}
    files = list((node.directory / "run").iterdir())
    assert {path.name for path in files} == {"exabgp.conf", "exabgp.env"}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}

"""How sessions are secured, made and made again: real BIRD 2 routers and a second node, in both modes."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from tests.kernel.bgp.fabric import A6, ASN, NODE, NODE6, A, B, Fabric, Node, inside, run
from tests.waiting import until

OURS, OF_A = "10.244.0.0/26", "10.244.1.0/26"
OURS6, OF_A6 = "fd00:10:244::/122", "fd00:10:244:1::/122"
TO_A: dict[str, Any] = {"peer": A, "peer_as": ASN}
BOTH = {"families": ["IPV4", "IPV6"]}
GRACEFUL = "graceful restart yes; graceful restart time 60;"


def test_rfc2385_a_password_opens_the_session_and_another_one_does_not(fabric: Fabric) -> None:
    a, node = fabric.bird(A), fabric.node()
    a.start(asn=ASN, routes=[OF_A], bgp=f'password "se;cret }}"; {GRACEFUL}')
    node.want(TO_A | {"password": "wrong"})
    node.down(A, "CLOSED", words="connecting failed")
    assert node.peer(A)["ups"] == 0
    node.want(TO_A | {"password": "se;cret }"})
    node.until(lambda _: node.routes(A) == {OF_A: A})
    assert "cret" not in node.log.read_text()


def test_rfc2385_a_password_holds_for_connections_that_come_in(fabric: Fabric) -> None:
    a, node = fabric.bird(A), fabric.node()
    node.want(TO_A | {"password": "secret", "passive": True})
    node.until(lambda known: known["note"] is not None)
    a.start(asn=ASN, routes=[OF_A], bgp=f'password "secret"; {GRACEFUL}')
    node.until(lambda _: node.routes(A) == {OF_A: A})


def test_a_password_that_is_too_long_is_refused_and_changes_nothing(fabric: Fabric) -> None:
    a, node = fabric.bird(A), fabric.node()
    a.start(asn=ASN, routes=[OF_A])
    node.want(TO_A)
    node.until(lambda _: node.routes(A) == {OF_A: A})
    node.want(TO_A | {"password": "x" * 81})
    node.until(lambda known: "80 octets" in known["refused"])
    assert node.peer(A)["ups"] == 1


@pytest.mark.parametrize("passive", [False, True])
def test_rfc5082_ttl_security_for_one_peer_does_not_keep_out_the_other(fabric: Fabric, passive: bool) -> None:
    a, b, node = fabric.bird(A), fabric.bird(B), fabric.node()
    side = "" if passive else "passive yes;"
    a.start(asn=65000, routes=[OF_A], bgp=f"ttl security yes; {side} {GRACEFUL}")
    b.start(asn=65000, bgp=f"{side} {GRACEFUL}")
    secured = {"peer": A, "peer_as": 65000, "ttl_security": 1, "passive": passive}
    node.want(secured, {"peer": B, "peer_as": 65000, "passive": passive})
    node.until(lambda _: node.routes(A) == {OF_A: A} and node.peer(B)["state"] == "up")


def test_rfc5082_ttl_security_keeps_out_who_may_be_far_away(fabric: Fabric) -> None:
    a, node = fabric.bird(A), fabric.node()
    a.start(asn=65000, bgp="multihop; passive yes;")  # sends with a TTL of 64
    node.want({"peer": A, "peer_as": 65000, "ttl_security": 1})
    until(lambda: dropped(fabric) > 1)
    assert node.peer(A)["ups"] == 0


def dropped(fabric: Fabric) -> int:
    """How many packets the kernel of the node has dropped for their TTL."""
    names, values = (
        line.split()
        for line in run(*inside(fabric.names[NODE], "cat", "/proc/net/netstat")).splitlines()
        if line.startswith("TcpExt:")
    )
    return int(dict(zip(names, values, strict=True))["TCPMinTTLDrop"])


def test_rfc4760_both_families_over_ipv4(fabric: Fabric) -> None:
    a, node = fabric.bird(A), fabric.node()
    a.start(asn=ASN, routes=[OF_A, OF_A6])
    node.order(advertise=[OURS, OURS6])
    node.want(TO_A | BOTH)
    node.until(lambda _: set(node.routes(A)) == {OF_A, OF_A6} and set(node.peer(A)["ended"]) == {"IPV4", "IPV6"})
    assert node.routes(A)[OF_A6] == A6
    until(lambda: set(a.routes()) == {OURS, OURS6})


def test_rfc4760_both_families_over_ipv6(fabric: Fabric) -> None:
    a, node = fabric.bird(A), fabric.node(local=NODE6)
    a.start(asn=65000, routes=[OF_A, OF_A6], ends=(A6, NODE6))
    node.order(advertise=[OURS, OURS6])
    node.want({"peer": A6, "peer_as": 65000} | BOTH)
    node.until(lambda _: set(node.routes(A6)) == {OF_A, OF_A6})
    until(lambda: set(a.routes()) == {OURS, OURS6})


def test_rfc8950_an_ipv6_next_hop_for_ipv4(fabric: Fabric) -> None:
    a, node = fabric.bird(A), fabric.node(local=NODE6)
    a.start(asn=65000, routes=[OF_A], ends=(A6, NODE6), channel="extended next hop;")
    node.want({"peer": A6, "peer_as": 65000, "extended_next_hop": True} | BOTH)
    node.until(lambda _: node.routes(A6) == {OF_A: A6})


def test_sessions_over_both_transports_listen_side_by_side(fabric: Fabric) -> None:
    a, b, node = fabric.bird(A), fabric.bird(B), fabric.node()
    a.start(asn=65000, routes=[OF_A], ends=(A6, NODE6))
    b.start(asn=65000)
    six = {"peer": A6, "local": NODE6, "peer_as": 65000, "passive": True} | BOTH
    node.want(six, {"peer": B, "peer_as": 65000, "passive": True})
    node.until(lambda _: OF_A in node.routes(A6) and node.peer(B)["state"] == "up")


def test_a_passive_session_connects_itself_when_the_other_side_does_not(fabric: Fabric) -> None:
    a, node = fabric.bird(A), fabric.node()
    a.start(asn=ASN, routes=[OF_A], bgp=f"passive yes; {GRACEFUL}")
    node.want(TO_A | {"passive": True})
    node.until(lambda _: node.routes(A) == {OF_A: A})


def mesh(fabric: Fabric, **higher: Any) -> tuple[Node, Node]:
    """Two nodes with a session between them; both wait at a barrier before they connect."""
    node, other = fabric.node(), fabric.node(A)
    node.order(advertise=[OURS])
    other.order(advertise=[OF_A])
    node.want(TO_A)
    other.want({"peer": NODE, "peer_as": ASN} | higher)
    return node, other


def exchanged(node: Node, other: Node) -> None:
    node.until(lambda _: node.routes(A) == {OF_A: A})
    other.until(lambda _: other.routes(NODE) == {OURS: NODE})


def test_two_nodes_the_lower_address_connects(fabric: Fabric) -> None:
    node, other = mesh(fabric, passive=True)
    exchanged(node, other)
    assert [node.peer(A)["ups"], other.peer(NODE)["ups"]] == [1, 1], (node.peer(A)["downs"], other.peer(NODE)["downs"])


def test_rfc4271_6_8_two_nodes_that_both_connect_have_one_session(fabric: Fabric) -> None:
    node, other = mesh(fabric)
    exchanged(node, other)
    assert [node.peer(A)["ups"], other.peer(NODE)["ups"]] == [1, 1], (node.peer(A)["downs"], other.peer(NODE)["downs"])
    for _ in range(3):  # ended at both sides in one moment, they connect in one moment
        ups = node.peer(A)["ups"]
        run(*inside(fabric.names[A], "ss", "--kill", "--tcp", "state", "established"), check=False)
        node.order(reset=A)
        other.order(reset=NODE)
        node.until(lambda _, ups=ups: node.peer(A)["ups"] > ups)
        exchanged(node, other)


def test_rfc4724_4_2_a_new_connection_takes_the_place_of_a_session_that_died_unnoticed(fabric: Fabric) -> None:
    a, node = fabric.bird(A), fabric.node()
    a.start(asn=ASN, routes=[OF_A])
    node.want(TO_A)
    node.until(lambda _: node.routes(A) == {OF_A: A})
    run(*inside(fabric.names[A], "ip", "link", "set", "eth0", "down"))
    a.kill()  # whatever it says now is lost
    run(*inside(fabric.names[A], "ip", "link", "set", "eth0", "up"))
    assert node.peer(A)["state"] == "up"
    a.start(asn=ASN, routes=["10.244.9.0/26"], recover=True)
    node.until(lambda _: node.routes(A) == {"10.244.9.0/26": A})
    assert node.peer(A)["downs"][0][:3] == ["CLOSED", 0, 0]


def test_a_session_that_cannot_be_made_is_tried_again_at_once_when_asked(fabric: Fabric) -> None:
    a, node = fabric.bird(A), fabric.node()
    node.want(TO_A)
    node.down(A, "CLOSED", words="Connection refused")
    a.start(asn=ASN, routes=[OF_A], bgp=f"passive yes; {GRACEFUL}")
    node.order(retry=A)
    node.until(lambda _: node.routes(A) == {OF_A: A})


def test_a_peer_that_does_not_read_costs_the_others_nothing(fabric: Fabric) -> None:
    a, b, node = fabric.bird(A), fabric.bird(B), fabric.node()
    a.start(asn=ASN)
    b.start(asn=65000)
    node.want(TO_A | {"hold_time": 0}, {"peer": B, "peer_as": 65000})
    node.until(lambda _: node.peer(A)["state"] == node.peer(B)["state"] == "up")
    pid = int((a.directory / "pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        many = [f"10.{n // 256}.{n % 256}.0/24" for n in range(3000)]
        node.order(advertise=many)
        until(lambda: len(b.routes()) == 3000)
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: len(a.routes()) == 3000)

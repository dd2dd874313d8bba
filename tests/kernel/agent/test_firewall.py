"""The firewall of a node whose agent runs: what pods get, what is put back, what cleanup leaves."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from tests.kernel.agent.world import POOL, Node, World, member, run
from tests.waiting import until

NAT_POOL = {**POOL, "spec": {**POOL["spec"], "natOutgoing": True}}


@pytest.fixture
def node(world: World) -> Iterator[Node]:
    world.apply(NAT_POOL, member(1))
    node = world.node(1)
    node.start()
    node.ready(40)
    until(lambda: "postrouting" in ours(node))
    yield node
    assert not re.search("Traceback|never retrieved|never awaited", node.log.read_text())


def ours(node: Node) -> str:
    """The table with handles, which others have after it was written again."""
    words = ("nft", "--handle", "--stateless", "list", "table", "inet", "routed")
    return run(*node.namespace.argv(*words), check=False)


def nft(node: Node, *words: str) -> str:
    return run(*node.namespace.argv("nft", *words))


def told(node: Node, name: str) -> float:
    found = re.search(rf"^routed_firewall_{name}(?:{{.*}})? (\S+)$", node.http("/metrics", 9091)[1], re.MULTILINE)
    assert found
    return float(found[1])


def test_a_pod_that_comes_and_goes_is_in_the_rules_as_long_as_it_is_there(world, node):
    pod = world.pod(node)
    until(lambda: f". {pod.address}" in ours(node), what=lambda: ours(node))
    node.cni("DEL", pod.namespace.name, pod.namespace.path)
    until(lambda: f". {pod.address}" not in ours(node))


def test_a_member_that_comes_may_send_us_tunnelled_packets(world, node):
    assert "10.99.0.2" not in ours(node)
    world.apply(member(2))
    until(lambda: "10.99.0.2" in ours(node))


def test_a_flush_is_put_back_and_counted(world, node):
    world.pod(node)
    until(lambda: "rtd" in ours(node))
    before = nft(node, "--stateless", "list", "table", "inet", "routed")
    nft(node, "flush", "ruleset")
    started = time.monotonic()
    until(lambda: ours(node))
    print(f"put back after {time.monotonic() - started:.3f} s")
    assert nft(node, "--stateless", "list", "table", "inet", "routed") == before
    until(lambda: told(node, "repairs_total") == 1)
    assert told(node, "right") == 1


def test_a_flush_of_legacy_tables_is_put_back_on_a_node_that_uses_them(world, node):
    def saved() -> str:
        return run(*node.namespace.argv("iptables-legacy-save"))

    node.stop()
    run(*node.namespace.argv("iptables-legacy", "-A", "INPUT", "-p", "tcp", "-j", "ACCEPT"))
    node.start()
    node.ready()
    until(lambda: "routed-masquerade" in saved() and not ours(node))  # the table of nftables went when these were there
    run(*node.namespace.argv("iptables-legacy", "-F"))
    until(lambda: told(node, "repairs_total") == 1)
    assert "-A INPUT -p ipencap -j routed-guard" in saved()
    assert node.status()["firewall"] == {"backend": "iptables-legacy", "right": True}


def test_both_forms_in_use_are_in_the_status(world, node):
    for form in ("legacy", "nft"):
        run(*node.namespace.argv(f"iptables-{form}", "-A", "INPUT", "-p", "tcp", "-j", "ACCEPT"))
    node.stop()
    node.start()
    node.ready()
    both = "iptables-legacy (filter) and nftables (ip filter) both hold rules"
    until(lambda: any(both in each for each in node.status()["problems"]))
    assert node.status()["ready"]


def test_a_restart_writes_nothing(world, node):
    world.pod(node)
    until(lambda: "rtd" in ours(node))
    before = ours(node)
    node.stop()
    assert ours(node) == before
    node.start()
    node.ready()
    until(lambda: told(node, "right"))
    assert (ours(node), told(node, "writes_total")) == (before, 0)


def test_cleanup_takes_ours_and_leaves_a_strangers(world, node):
    nft(node, "add", "table", "inet", "stranger")
    node.stop()
    done = node.routed("node", "cleanup")
    assert "removed the firewall (nft)" in done.stdout.splitlines()
    assert nft(node, "list", "tables").split("\n")[:-1] == ["table inet stranger"]


def test_switched_off_it_removes_ours(world, node):
    node.stop()
    node.start(firewall="off")
    node.ready()
    until(lambda: not ours(node))
    assert node.status()["firewall"]["backend"] is None

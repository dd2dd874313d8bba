"""A node whose pods have addresses of both families."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest
from tests.kernel.agent.world import POOL, Namespace, Node, World, member, until

POOL6 = {
    "kind": "IPPool",
    "metadata": {"name": "pods6"},
    "spec": {"cidr": "fd00:244::/48", "ipipMode": "Never"},
}
BOTH = ["10.244.1.0/24", "fd00:244:0:1::/64"]


def add(world: World, node: Node) -> tuple[Namespace, list[str]]:
    sandbox = world.namespace("p")
    status, answer = node.cni("ADD", sandbox.name, sandbox.path)
    assert status == 0, answer
    return sandbox, [each["address"].partition("/")[0] for each in answer["ips"]]


def reached(namespace: Namespace, address: str) -> bool:
    command = namespace.argv("ping", "-n", "-c", "1", "-W", "1", address)
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def node(world: World) -> Iterator[Node]:
    world.apply(POOL, POOL6, member(1, podCIDRs=BOTH))
    node = world.node(1)
    node.start()
    node.ready(40)
    yield node
    assert not re.search("Traceback|never retrieved|never awaited", node.log.read_text())


def ours6(node: Node) -> list[str]:
    return [route["dst"] for route in node.namespace.look("-6", "route", "show", "proto", "114")]


def test_pods_of_one_node_reach_each_other_over_both_families_and_a_restart_touches_nothing(
    world: World, node: Node
) -> None:
    (one, of_one), (two, of_two) = add(world, node), add(world, node)
    assert [":" in address for address in of_one] == [False, True]
    until(lambda: all(reached(one, address) for address in of_two))
    assert all(reached(two, address) for address in of_one)
    assert ours6(node) == [of_one[1], of_two[1]]
    assert node.status()["endpoints"] == 2
    with node.namespace.watched() as seen:
        node.stop()
        node.start()
        node.ready(40)
    assert seen == []
    assert ours6(node) == [of_one[1], of_two[1]]
    assert all(reached(one, address) for address in of_two)


def test_a_pod_that_goes_gives_back_both(world: World, node: Node) -> None:
    sandbox, _ = add(world, node)
    assert [f"cni.{sandbox.name}.eth0" in held for held in world.held().values()] == [True, True]
    assert node.cni("DEL", sandbox.name, sandbox.path)[0] == 0
    assert ours6(node) == []
    assert not any(f"cni.{sandbox.name}.eth0" in held for held in world.held().values())

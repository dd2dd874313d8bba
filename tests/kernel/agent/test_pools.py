"""Nodes without podCIDRs: blocks of a pool, claimed, announced and borrowed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.kernel.agent.world import Node, World, member
from tests.waiting import until

POOL = {
    "kind": "IPPool",
    "metadata": {"name": "pods"},
    "spec": {"cidr": "10.244.0.0/29", "ipipMode": "Never", "blockSize": 30},  # two blocks of two addresses
}


@pytest.fixture
def nodes(world: World) -> Iterator[tuple[Node, Node]]:
    world.apply(POOL, member(1, podCIDRs=[]), member(2, podCIDRs=[]))
    one, two = world.node(1), world.node(2)
    for node in (one, two):
        node.start()
    for node in (one, two):
        node.ready(40)
    yield one, two
    for node in (one, two):
        assert not re.search("Traceback|never retrieved|never awaited", node.log.read_text())


def shown(node: Node) -> Any:
    done = node.routed("ipam", "show", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def blackholes(node: Node) -> set[str]:
    return {route for route in node.namespace.ours() if route.endswith("blackhole")}


def test_pods_reach_each_other_through_blocks_that_were_claimed(world: World, nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    here, there = world.pod(one), world.pod(two)
    until(lambda: here.reaches(there))
    assert there.reaches(here)
    owners = {block["node"]: block["cidr"] for pool in shown(one)["pools"] for block in pool["blocks"]}
    assert owners.keys() == {"n1", "n2"}
    until(lambda: blackholes(one) == {f"{owners['n1']} blackhole"})
    until(lambda: f"{owners['n2']} 10.99.0.2" in one.namespace.ours())


def test_a_borrowed_address_is_reached_on_the_node_that_borrowed_it(world: World, nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    pods = [world.pod(one) for _ in range(3)]  # both blocks are claimed by one, and one address is left
    until(lambda: len(blackholes(one)) == 2)
    borrower = world.pod(two)
    until(lambda: all(pod.reaches(borrower) for pod in pods))
    assert f"{borrower.address} 10.99.0.2" in one.namespace.ours()
    assert blackholes(two) == set()
    assert two.cni("DEL", borrower.namespace.name, borrower.namespace.path)[0] == 0
    until(lambda: f"{borrower.address} 10.99.0.2" not in one.namespace.ours())

"""A node whose pods have addresses of both families."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from tests.kernel.agent.world import POOL, Namespace, Node, World, member
from tests.kernel.nexthops import leading
from tests.waiting import until

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
    assert ours6(node) == [of_one[1], of_two[1], BOTH[1]]
    assert node.status()["endpoints"] == 2
    with node.namespace.watched() as seen:
        node.stop()
        node.start()
        node.ready(40)
    assert seen == []
    assert ours6(node) == [of_one[1], of_two[1], BOTH[1]]
    assert all(reached(one, address) for address in of_two)


def test_a_pod_that_goes_gives_back_both(world: World, node: Node) -> None:
    sandbox, _ = add(world, node)
    assert [f"cni.{sandbox.name}.eth0" in held for held in world.held().values()] == [True, True]
    assert node.cni("DEL", sandbox.name, sandbox.path)[0] == 0
    assert ours6(node) == [BOTH[1]]
    until(lambda: not any(f"cni.{sandbox.name}.eth0" in held for held in world.held().values()))


def dual(number: int) -> dict[str, Any]:
    bgp = {"ipv4Address": f"10.99.0.{number}/24", "ipv6Address": f"2001:db8:99::{number}/64"}
    return member(number, bgp=bgp, podCIDRs=[f"10.244.{number}.0/24", f"fd00:244:0:{number}::/64"])


@pytest.fixture
def pair(world: World) -> Iterator[list[Node]]:
    world.apply(POOL, POOL6, dual(1), dual(2))
    nodes = [world.node(number) for number in (1, 2)]
    for number, node in enumerate(nodes, 1):
        node.namespace.ip("address", "add", f"2001:db8:99::{number}/64", "dev", "eth1", "nodad")
        node.start()
    for node in nodes:
        node.ready(40)
    yield nodes
    assert not any(re.search("Traceback|never retrieved|never awaited", node.log.read_text()) for node in nodes)


def routes6(node: Node) -> dict[str, Any]:
    told = node.namespace.look("-6", "-d", "route", "show", "proto", "114")
    return {each["dst"]: each for each in leading(told, node.namespace.look("nexthop", "show"))}


def test_pods_of_two_nodes_reach_each_other_over_both_families(world: World, pair: list[Node]) -> None:
    (one, of_one), (two, of_two) = (add(world, node) for node in pair)
    until(lambda: all(reached(one, address) for address in of_two), 20, lambda: [routes6(node) for node in pair])
    assert all(reached(two, address) for address in of_one)
    found = routes6(pair[0])
    assert (found["fd00:244:0:2::/64"]["gateway"], found["fd00:244:0:2::/64"]["dev"]) == ("2001:db8:99::2", "eth1")
    assert found["fd00:244:0:1::/64"]["type"] == "blackhole"


def test_a_restart_leaves_the_routes_of_both_families_alone(world: World, pair: list[Node]) -> None:
    (one, _), (_, of_two) = (add(world, node) for node in pair)
    until(lambda: all(reached(one, address) for address in of_two), 20)
    before = routes6(pair[0])
    with pair[0].namespace.watched() as seen:
        pair[0].stop()
        pair[0].start()
        pair[0].ready(40)
    assert (seen, routes6(pair[0])) == ([], before)
    assert all(reached(one, address) for address in of_two)


@pytest.mark.parametrize("what", ["learned", "own", "pod"])
def test_what_another_hand_deletes_of_ipv6_is_put_back(world: World, pair: list[Node], what: str) -> None:
    (one, of_one), (_, of_two) = (add(world, node) for node in pair)
    until(lambda: all(reached(one, address) for address in of_two), 20)
    before = routes6(pair[0])
    victim = {"learned": "fd00:244:0:2::/64", "own": "fd00:244:0:1::/64", "pod": of_one[1]}[what]
    pair[0].namespace.ip("-6", "route", "del", victim, "metric", "1024")
    until(lambda: routes6(pair[0]) == before, 10, lambda: routes6(pair[0]))
    assert reached(one, of_two[1])


def test_explain_follows_an_ipv6_address_to_the_kernel(world: World, pair: list[Node]) -> None:
    (one, _), (_, of_two) = (add(world, node) for node in pair)
    until(lambda: reached(one, of_two[1]), 20)
    done = pair[0].routed("explain", of_two[1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the kernel agrees" in done.stdout
    assert "2001:db8:99::2" in done.stdout


def test_a_node_that_goes_takes_its_ipv6_routes_with_it(world: World, pair: list[Node]) -> None:
    until(lambda: "fd00:244:0:2::/64" in routes6(pair[0]), 20)
    world.delete(dual(2))
    until(lambda: "fd00:244:0:2::/64" not in routes6(pair[0]), 20)

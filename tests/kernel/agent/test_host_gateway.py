"""BGP switched off: the same routes from the store alone, and no packet lost on the way there and back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.kernel.agent.world import POOL, Node, Pod, World, member
from tests.waiting import until

OFF: Any = {
    "kind": "BGPConfiguration",
    "metadata": {"name": "default"},
    "spec": {"asNumber": 64512, "nodeToNodeMeshEnabled": False},
}
ON: Any = {**OFF, "spec": {"asNumber": 64512}}
ROUTES = ("10.244.2.0/24 10.99.0.2", "10.244.1.0/24 10.99.0.1")


@dataclass
class Pair:
    world: World
    one: Node
    two: Node
    pods: tuple[Pod, Pod]

    def sessions(self) -> list[int]:
        return [len(node.status()["sessions"]) for node in (self.one, self.two)]


@pytest.fixture
def pair(world: World) -> Iterator[Pair]:
    world.apply(POOL, member(1), member(2), OFF)
    one, two = world.node(1), world.node(2)
    for node in (one, two):
        node.start()
    for node in (one, two):
        node.ready(40)
    yield Pair(world, one, two, (world.pod(one), world.pod(two)))
    for node in (one, two):
        assert not re.search("Traceback|never retrieved|never awaited", node.log.read_text())


def test_pods_reach_each_other_and_explain_says_by_what(pair: Pair) -> None:
    for node, route in zip((pair.one, pair.two), ROUTES, strict=True):
        until(lambda node=node, route=route: route in node.namespace.ours(), 20)
    assert pair.sessions() == [0, 0]
    assert pair.pods[0].reaches(pair.pods[1])
    assert pair.pods[1].reaches(pair.pods[0])
    said = pair.one.routed("explain", pair.pods[1].address)
    assert said.returncode == 0, said.stderr
    assert "from the store, since BGP is switched off" in said.stdout
    assert "same subnet by eth1" in said.stdout


def test_bgp_is_switched_on_and_off_again_without_a_route_event_or_a_lost_packet(pair: Pair) -> None:
    until(lambda: ROUTES[0] in pair.one.namespace.ours() and ROUTES[1] in pair.two.namespace.ours(), 20)
    assert pair.pods[0].reaches(pair.pods[1])
    with (
        pair.one.namespace.watched() as first,
        pair.two.namespace.watched() as second,
        pair.pods[0].pinging(pair.pods[1]) as lost,
    ):
        pair.world.apply(ON)
        for node in (pair.one, pair.two):
            until(lambda node=node: [each["state"] for each in node.status()["sessions"]] == ["established"], 40)
        until(lambda: "the only path" in pair.one.routed("explain", pair.pods[1].address).stdout, 20)
        pair.world.apply(OFF)
        until(lambda: pair.sessions() == [0, 0], 20)
        until(lambda: "from the store" in pair.one.routed("explain", pair.pods[1].address).stdout, 20)
    assert lost == []
    assert (first, second) == ([], [])


def test_a_node_that_joins_is_reached_and_one_that_goes_is_not(pair: Pair) -> None:
    other = {"kind": "Node", "metadata": {"name": "n3"},
             "spec": {"bgp": {"ipv4Address": "10.99.0.3/24"}, "podCIDRs": ["10.244.3.0/24"]}}  # fmt: skip
    pair.world.apply(other)
    until(lambda: "10.244.3.0/24 10.99.0.3" in pair.one.namespace.ours(), 20)
    pair.world.delete(other)
    until(lambda: "10.244.3.0/24 10.99.0.3" not in pair.one.namespace.ours(), 20)

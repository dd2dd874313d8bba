"""Real agents, whose pods' packets go by VXLAN and by turns not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.kernel.agent.world import Node, Pod, World, member, run
from tests.waiting import until

DEVICE = "vxlan.routed"


def pool(**modes: str) -> dict[str, Any]:
    return {"kind": "IPPool", "metadata": {"name": "pods"}, "spec": {"cidr": "10.244.0.0/16", **modes}}


@dataclass
class Pair:
    world: World
    nodes: tuple[Node, Node]
    pods: tuple[Pod, Pod]

    def go_by(self, device: str) -> bool:
        """Whether both nodes send to the other's pod by that device."""
        ways = zip(self.nodes, reversed(self.pods), strict=True)
        return all(node.namespace.look("route", "get", pod.address)[0]["dev"] == device for node, pod in ways)

    def have(self, device: str) -> list[bool]:
        return [bool(node.namespace.ip("link", "show", "dev", device, check=False)) for node in self.nodes]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    world = World(tmp_path_factory.mktemp("vxlan"))
    try:
        world.apply(pool(vxlanMode="Always"), member(1), member(2))
        nodes = world.node(1), world.node(2)
        for node in nodes:
            node.start()
        for node in nodes:
            node.ready(40)
        made = Pair(world, nodes, (world.pod(nodes[0]), world.pod(nodes[1])))
        until(lambda: made.go_by(DEVICE))
        yield made
    finally:
        world.close()


def test_pods_reach_each_other_and_explain_and_status_name_the_encapsulation(pair: Pair) -> None:
    one, (first, second) = pair.nodes[0], pair.pods
    assert first.reaches(second)
    explained = one.routed("explain", second.address)
    assert explained.returncode == 0, explained.stdout
    assert f"10.244.2.0/24 through a VXLAN tunnel, {DEVICE} via 10.99.0.2" in explained.stdout
    assert "the kernel agrees" in explained.stdout
    assert "tunnel" in explained.stdout
    assert f"{DEVICE}: address 10.244.1." in one.routed("node", "status").stdout
    assert one.status()["vxlan"] | {"address": ""} == {
        "device": DEVICE,
        "needed": True,
        "available": True,
        "address": "",
    }
    assert 'routed_forwarding_prefixes{encapsulation="vxlan"} 1.0' in one.http("/metrics", 9091)[1]


def test_a_pod_has_an_mtu_that_leaves_room_for_the_headers(pair: Pair) -> None:
    assert pair.pods[0].namespace.look("link", "show", "dev", "eth0")[0]["mtu"] == 1450


@pytest.mark.parametrize(
    "damage",
    [
        f"ip neigh del 10.99.0.2 dev {DEVICE}",
        f"bridge fdb del 02:72:0a:63:00:02 dev {DEVICE}",
        f"bridge fdb replace 02:72:0a:63:00:02 dev {DEVICE} dst 10.99.0.77",
        f"ip link del {DEVICE}",
    ],
)
def test_what_another_hand_takes_away_is_put_back(pair: Pair, damage: str) -> None:
    one = pair.nodes[0]

    def state() -> tuple[str, str]:
        fdb = one.namespace.argv("bridge", "-j", "fdb", "show", "dev", DEVICE)
        neighbours = one.namespace.ip("-br", "neigh", "show", "dev", DEVICE, "nud", "permanent", check=False)
        return neighbours, str(sorted(str(each) for each in json.loads(run(*fdb, check=False) or "[]")))

    before = state()
    assert "10.99.0.2" in before[0]
    run(*one.namespace.argv(*damage.split()))
    until(lambda: state() == before, what=state)
    until(lambda: pair.go_by(DEVICE))
    assert pair.pods[0].reaches(pair.pods[1])


def test_a_restart_loses_no_ping_and_writes_nothing(pair: Pair) -> None:
    one = pair.nodes[0]
    index = one.namespace.look("link", "show", "dev", DEVICE)[0]["ifindex"]
    with one.namespace.watched() as events, pair.pods[0].pinging(pair.pods[1]) as lost:
        one.stop()
        one.start()
        one.ready(40)
    assert (events, lost) == ([], [])
    assert one.namespace.look("link", "show", "dev", DEVICE)[0]["ifindex"] == index


def test_a_pool_goes_over_to_vxlan_and_back_under_traffic_without_a_packet_lost(pair: Pair) -> None:
    with pair.pods[0].pinging(pair.pods[1]) as lost:
        pair.world.apply(pool())
        until(lambda: pair.go_by("eth1"))
        assert pair.have(DEVICE) == [True, True], "who has not heard of it may still send by it"
        until(lambda: pair.have(DEVICE) == [False, False])
        pair.world.apply(pool(vxlanMode="Always"))
        until(lambda: pair.have(DEVICE) == [True, True])
        until(lambda: pair.go_by(DEVICE))
    assert lost == []

"""Four nodes move from the mesh to two of them that reflect: no packet is lost, no route of the kernel changes."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.kernel.agent.world import POOL, Node, World, member
from tests.waiting import until

REFLECTORS = ("10.99.0.1", "10.99.0.2")
TO_REFLECTORS = {
    "kind": "BGPPeer", "metadata": {"name": "reflectors"}, "spec": {"peerSelector": "reflects == 'yes'"},
}  # fmt: skip
NO_MESH = {"kind": "BGPConfiguration", "metadata": {"name": "default"}, "spec": {"nodeToNodeMeshEnabled": False}}


def reflector(number: int) -> dict[str, Any]:
    made = member(number)
    made["metadata"]["labels"] = {"reflects": "yes"}
    made["spec"]["bgp"]["routeReflectorClusterID"] = "244.0.0.1"
    return made


def sessions(node: Node) -> dict[str, Any]:
    """The sessions of `node` that are up and have delivered their tables, by the peer's address."""
    done = node.routed("bgp", "status", "--json")
    found = json.loads(done.stdout)["sessions"] if done.returncode == 0 else []
    return {each["peer"]: each for each in found if each["established"] and each["synced"]}


def paths(node: Node, prefix: str) -> dict[str, Any]:
    """The paths to `prefix` by the peer that told them."""
    done = node.routed("bgp", "routes", prefix, "--json")
    return {each["peer"]: each for each in json.loads(done.stdout)["routes"]}


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[World, list[Node]]]:
    world = World(tmp_path)
    try:
        world.apply(POOL, *map(member, (1, 2, 3, 4)))
        made = [world.node(number) for number in (1, 2, 3, 4)]
        for node in made:
            node.start()
        for node in made:
            node.ready(40)
        until(lambda: all(len(node.namespace.ours()) == 4 for node in made), 20)
        yield world, made
        for node in made:
            assert not re.search("Traceback|never retrieved|never awaited", node.log.read_text())
    finally:
        world.close()


def test_rfc4456_from_mesh_to_two_reflectors_without_loss_and_one_of_them_dies(nodes: tuple[World, list[Node]]) -> None:
    world, (one, two, three, four) = nodes
    here, there = world.pod(three), world.pod(four)
    until(lambda: here.reaches(there))
    with here.pinging(there) as lost, three.namespace.watched() as events:
        world.apply(reflector(1), reflector(2), TO_REFLECTORS)
        until(lambda: sessions(one).get("10.99.0.3", {}).get("client"), 20, lambda: sessions(one))
        until(lambda: paths(three, "10.244.4.0/24").keys() == {*REFLECTORS, "10.99.0.4"}, 20)  # and the mesh still
        world.apply(NO_MESH)
        until(lambda: sessions(three).keys() == set(REFLECTORS), 20, lambda: sessions(three))
        until(lambda: sessions(two).keys() == {"10.99.0.1", "10.99.0.3", "10.99.0.4"}, 20, lambda: sessions(two))
    assert lost == []
    assert events == []

    reflected = paths(three, "10.244.4.0/24")
    assert reflected.keys() == set(REFLECTORS)
    for path in reflected.values():
        assert (path["next_hop"], path["originator_id"]) == ("10.99.0.4", "10.99.0.4")
        assert path["cluster_list"] == ["244.0.0.1"]
    assert all(session["name"].startswith("peer/reflectors/") for session in sessions(three).values())

    with three.namespace.watched() as events:
        one.stop(signal.SIGKILL)
        until(lambda: sessions(three).keys() == {"10.99.0.2"}, 20, lambda: sessions(three))
        until(lambda: paths(three, "10.244.4.0/24")["10.99.0.2"]["best"], 20)
    assert events == []
    assert here.reaches(there)

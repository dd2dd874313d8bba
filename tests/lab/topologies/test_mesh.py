"""Two racks whose routers know nothing of pods: direct within a rack, IPIP across."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from tests.lab.topologies.restart import assert_restart_is_invisible

if TYPE_CHECKING:
    from conftest import Lab


@pytest.fixture(scope="module")
def lab(up: Callable[[str], Lab]) -> Lab:
    return up("two-racks-mesh")


def test_pairs_within_a_rack_are_direct_and_the_others_encapsulated(lab: Lab):
    found = lab.check()

    assert 0 < found.pop("seconds") < 60
    assert found == {
        "topology": "two-racks-mesh",
        "pairs": 56,
        "reachable": 56,
        "direct": 24,
        "encapsulated": 32,
        "wrong": 0,
    }


def test_the_table_shows_the_path_and_encapsulation_of_each_pair(lab: Lab):
    table = lab.do("check")

    across = next(line for line in table.splitlines() if "node-a1-pod1 -> node-b2-pod2" in line)
    assert "node-a1 > tor-a > spine > tor-b > node-b2" in across
    assert "ipip" in across
    within = next(line for line in table.splitlines() if "node-a1-pod1 -> node-a2-pod1" in line)
    assert "node-a1 > tor-a > node-a2" in within
    assert "direct" in within


def test_the_routers_know_nothing_of_pods(lab: Lab):
    for router in ("spine", "tor-a", "tor-b"):
        routes = lab.do("exec", router, "ip", "route")
        assert "10.1.1.0/24" in routes
        assert "10.244." not in routes


def test_exec_passes_the_output_and_the_exit_status_on(lab: Lab):
    assert lab.do("exec", "node-a1-pod1", "cat", "/sys/class/net/eth0/nothing", status=1) == ""
    assert "169.254.1.1" in lab.do("exec", "node-a1-pod1", "ip", "route")
    assert lab.do("exec", "node-a1", "sh", "-c", "echo there; exit 7", status=7) == "there\n"


def test_inspect_tells_nodes_pods_and_sessions(lab: Lab):
    nodes = lab.inspect()["nodes"]

    assert {name for name, node in nodes.items() if node["role"] == "node"} == {
        "node-a1",
        "node-a2",
        "node-b1",
        "node-b2",
    }
    assert all(node["pid"] for node in nodes.values())
    assert [pod["name"] for pod in nodes["node-b1"]["pods"]] == ["node-b1-pod1", "node-b1-pod2"]
    assert nodes["node-b1"]["addresses"]["eth1"] == ["10.1.2.11/24"]
    assert nodes["tor-a"]["sessions"] == [{"protocol": "spine", "neighbor": "10.0.1.0", "state": "Established"}]


def test_a_node_without_a_tor_session_cannot_lose_one(lab: Lab):
    lab.do("check", "--without-tor", "node-a1", status=1)


def test_after_a_router_was_restarted_all_is_as_before(lab: Lab):
    lab.do("restart", "tor-a")

    assert lab.check()["wrong"] == 0


def test_a_restarted_agent_changes_no_route_anywhere_and_loses_no_ping_through_the_tunnel(lab: Lab):
    assert_restart_is_invisible(lab)
    assert lab.check()["wrong"] == 0

"""Two racks whose fabric carries the pods' prefixes: no tunnel, unless a node loses its top-of-rack router."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.lab.topologies.restart import assert_restart_is_invisible

if TYPE_CHECKING:
    from conftest import Lab

ALL_DIRECT = {"pairs": 56, "reachable": 56, "direct": 56, "encapsulated": 0, "wrong": 0}


@pytest.fixture(scope="module")
def lab(up: Callable[[str], Lab]) -> Lab:
    return up("two-racks-tor")


def figures(found: dict[str, object]) -> dict[str, object]:
    return {key: found[key] for key in ALL_DIRECT}


def test_no_pair_is_encapsulated_while_the_fabric_carries_the_prefixes(lab: Lab):
    assert figures(lab.check()) == ALL_DIRECT


def test_the_prefixes_of_a_node_without_tor_session_fall_back_to_the_tunnel_and_return(lab: Lab):
    without = lab.check("--without-tor", "node-a1")

    assert figures(without) == {"pairs": 56, "reachable": 56, "direct": 40, "encapsulated": 16, "wrong": 0}
    assert figures(lab.check()) == ALL_DIRECT


def test_a_router_has_no_tor_session_to_lose(lab: Lab):
    lab.do("check", "--without-tor", "tor-a", status=1)


def test_a_restarted_agent_changes_no_route_anywhere_and_loses_no_ping(lab: Lab):
    assert_restart_is_invisible(lab)
    assert figures(lab.check()) == ALL_DIRECT


def test_the_shipped_scenario_passes_and_leaves_a_report_that_shows_what_happened(lab: Lab, tmp_path: Path):
    picture = tmp_path / "lab.svg"
    lab.do("play", "--report", str(tmp_path / "report"))
    lab.do("inspect", "--svg", str(picture))

    record = json.loads((tmp_path / "report/record.json").read_text())
    (pair,) = record["pairs"]
    encapsulations = [seen[4] for seen in record["seen"]]
    kinds = {message[3] for message in record["messages"]}
    assert {step["outcome"] for step in record["steps"]} == {"done", "met"}
    assert pair["sent"] > pair["lost"]
    assert pair["quiet_lost"] == 0
    assert {"direct", "ipip"} <= set(encapsulations)
    assert {"NOTIFICATION", "UPDATE", "OPEN"} <= kinds
    assert any(change[1] == "node-a1" and "tunl0" in change[2] for change in record["changes"])
    assert "<svg" in (tmp_path / "report/report.html").read_text()
    assert (tmp_path / "report/capture.pcapng").read_bytes().startswith(b"\x0a\x0d\x0d\x0a")
    assert "node-a1-pod1 &lt;-&gt; node-b2-pod2: direct" in picture.read_text()


def test_a_scenario_that_does_not_fit_the_topology_is_refused_with_its_line(lab: Lab, tmp_path: Path):
    scenario = tmp_path / "wrong.scenario.yml"
    scenario.write_text("name: x\nprobes: {pairs: [node-a1-pod1 > node-b1-pod1]}\nsteps:\n  - kill: tor-c\n")

    lab.do("play", str(scenario), status=1)

"""A whole lab on this machine's own kernel, for which no pool may need IPIP; and nothing of it afterwards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOPOLOGIES = Path(__file__).parents[3] / "topologies"
NAME = f"host-{os.getpid()}"


@pytest.fixture
def topology(tmp_path: Path) -> Path:
    """The fabric that carries the pods' routes, in a pool that never encapsulates."""
    shutil.copytree(TOPOLOGIES / "two-racks-tor", tmp_path / "two-racks-tor")
    resources = tmp_path / "two-racks-tor" / "resources.yaml"
    resources.write_text(resources.read_text().replace("ipipMode: CrossSubnet", "ipipMode: Never"))
    file = tmp_path / "host.clab.yml"
    text = (TOPOLOGIES / "two-racks-tor.clab.yml").read_text()
    file.write_text(text.replace("\nname: two-racks-tor\n", f"\nname: {NAME}\n"))
    return file


def lab(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "routed", "lab", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def remains() -> list[str]:
    """What carries the lab's name: namespaces, directories, processes."""
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    paths = [*Path("/run/netns").glob(f"*{NAME}*"), *Path("/run").glob(f"routed-*/{NAME}")]
    return [line for line in processes if f"/{NAME}/" in line] + [str(path) for path in paths]


def test_a_lab_on_the_host_kernel_reaches_all_pods_and_leaves_nothing(topology: Path) -> None:
    done = lab("run", topology, "--kernel", "host", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result.pop("seconds") > 0
    assert result == {
        "topology": NAME, "pairs": 56, "reachable": 56, "direct": 56, "encapsulated": 0, "wrong": 0,
    }  # fmt: skip
    assert remains() == []


def test_the_variant_with_vxlan_falls_back_to_it_and_returns(topology: Path) -> None:
    variant = topology.parent / "two-racks-tor" / "vxlan.yaml"
    assert lab("up", topology, "--kernel", "host", "--resources", variant).returncode == 0
    try:
        rounds: list[tuple[str, ...]] = [(), ("--without-tor", "node-a1"), ()]
        found = [json.loads(lab("check", topology, "--json", *more).stdout) for more in rounds]
    finally:
        down = lab("down", topology)
    assert [(each["direct"], each["encapsulated"], each["wrong"]) for each in found] == [
        (56, 0, 0),
        (40, 16, 0),
        (56, 0, 0),
    ]
    assert (down.returncode, remains()) == (0, [])


def test_what_cannot_come_up_leaves_nothing(topology: Path) -> None:
    resources = topology.parent / "two-racks-tor" / "resources.yaml"
    resources.write_text(resources.read_text().replace("10.1.1.12/24", "10.1.1.99/24"))
    done = lab("up", topology, "--kernel", "host")
    assert done.returncode == 1
    assert "10.1.1.99/24 is on no interface of this machine" in done.stderr
    assert remains() == []


SCENARIO = """\
name: an agent is killed, a node added, another cut off
absent: [node-b2]
probes:
  pairs: [node-a1-pod1 > node-b1-pod1]
steps:
  - expect: {converged: yes}
  - kill: node-a1
  - expect: {reachable: yes}
  - start: node-a1
  - add: node-b2
  - expect: {converged: yes}
  - expect: {lost: 0}
  - partition: [node-b1]
  - expect:
      pairs: [node-a1-pod1 > node-b1-pod1]
      reachable: no
  - rejoin: [node-b1]
  - expect: {converged: yes}
  - expect: {lost: 0}
"""


def test_a_scenario_stops_at_what_does_not_hold_and_says_so_in_its_report(topology: Path) -> None:
    """The last step cannot hold: the node was cut off since losses were asked for before."""
    topology.with_name("host.scenario.yml").write_text(SCENARIO)
    report = topology.parent / "report"

    done = lab("run", topology, "--kernel", "host", "--report", report)

    record = json.loads((report / "record.json").read_text())
    assert done.returncode == 1, done.stderr
    assert [step["outcome"] for step in record["steps"] if step["kind"] == "act"] == ["done"] * 5
    assert [step["outcome"] for step in record["steps"] if step["kind"] == "expectation"] == ["met"] * 6 + ["failed"]
    assert [len(step["rows"]) for step in record["steps"] if step["rows"]][::2] == [30, 56]
    assert record["pairs"][0]["gaps"]
    assert "NOT as expected" in (report / "report.html").read_text()
    assert remains() == []

"""A lab that fails says why in one message, and leaves nothing behind.

Labs on "the host kernel", which here is a User-mode Linux of the test's own: what they leave can be seen.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROUTER = """\
log stderr all;
router id 10.1.1.1;
protocol device {}
"""

RESOURCES = """\
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: pods}
spec: {cidr: 10.244.0.0/16, ipipMode: CrossSubnet}
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: one}
spec: {bgp: {ipv4Address: 10.1.1.11/24, asNumber: 64512}, podCIDRs: [10.244.1.0/24]}
"""

LAB = """\
name: CASE
topology:
  defaults: {kind: linux}
  nodes:
    tor:
      labels: {routed.role: router, routed.config: tor.conf}
      exec:
        - ip address add 10.1.1.1/24 dev eth1
    one:
      labels: {routed.role: node, routed.pods: "1", routed.config: resources.yaml}
      exec:
        - ip address add 10.1.1.11/24 dev eth1
  links:
    - endpoints: ["tor:eth1", "one:eth1"]
"""

ROUTERS_ONLY = """\
name: CASE
topology:
  defaults: {kind: linux}
  nodes:
    left:
      labels: {routed.role: router, routed.config: tor.conf}
    right:
      labels: {routed.role: router, routed.config: tor.conf}
  links:
    - endpoints: ["left:eth1", "right:eth1"]
"""

KERNEL = ("-m", "routed_lab.uml", "--modules", "ipip,veth,bridge", "--timeout", "240")

CASES = {
    "router": (LAB, ROUTER + "protocol bgb tor {}\n"),
    "agent": (LAB.replace("    one:\n", "    one:\n      env: {ROUTED_ROUTE_METRIC: many}\n"), ROUTER),
    "address": (LAB.replace("add 10.1.1.11", "add 10.1.1.12"), ROUTER),
    "command": (LAB.replace("add 10.1.1.11/24 dev eth1", "add 10.1.1.11/24 dev eth7"), ROUTER),
    "interrupted": (LAB, ROUTER),
    "killed": (ROUTERS_ONLY, ROUTER),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """How each of `CASES` ended, on one kernel."""
    arguments: list[str] = []
    for case, (lab, router) in CASES.items():
        directory = tmp_path_factory.mktemp(case)
        (directory / "tor.conf").write_text(router)
        (directory / "resources.yaml").write_text(RESOURCES)
        file = directory / f"{case}.clab.yml"
        file.write_text(lab.replace("CASE", case))
        arguments.append(f"{case}={file}")
    script = Path(__file__).parent / "inside" / "aftermath.py"
    done = subprocess.run(
        [sys.executable, *KERNEL, "--", sys.executable, str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_left_behind(found: dict[str, Any], case: str):
    assert found[case]["after"] == found[case]["before"]


def test_a_router_configuration_that_bird_refuses_is_shown_in_birds_words(found: dict[str, Any]):
    case = found["router"]

    assert case["status"] == 1
    assert "tor.conf: BIRD does not accept this configuration" in case["said"]
    assert "tor.conf:4:" in case["said"]
    assert "bird -p -c" in case["said"]


def test_an_agent_that_cannot_start_is_shown_with_the_end_of_its_log(found: dict[str, Any]):
    case = found["agent"]

    assert case["status"] == 1
    assert "agent of one ended with status" in case["said"]
    assert "ROUTED_ROUTE_METRIC" in case["said"]


def test_a_node_address_on_no_interface_is_named(found: dict[str, Any]):
    case = found["address"]

    assert case["status"] == 1
    assert "10.1.1.11" in case["said"]


def test_a_command_of_the_file_that_fails_is_shown_with_its_place_and_words(found: dict[str, Any]):
    case = found["command"]

    assert case["status"] == 1
    assert "command.clab.yml:9: exec of one: ip address add 10.1.1.11/24 dev eth7 ended with status 1" in case["said"]
    assert 'Cannot find device "eth7"' in case["said"]


def test_an_interrupted_lab_ends_as_programs_do_on_ctrl_c(found: dict[str, Any]):
    assert found["interrupted"]["status"] == 130


def test_a_killed_lab_loses_its_processes_at_once_and_the_rest_by_down(found: dict[str, Any]):
    case = found["killed"]

    assert case["status"] == 0
    assert case["made"]["namespaces"] == ["clab-killed-left", "clab-killed-right"]
    assert sum("bird -f" in text for text in case["made"]["processes"]) == 2
    assert case["left"]["processes"] == case["before"]["processes"]
    assert case["left"]["namespaces"] == case["made"]["namespaces"]

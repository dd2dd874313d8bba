"""What a scenario file may say, and what is said about the rest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from routed.errors import OperatorError
from routed.model.resources import EncapsulationMode
from routed_lab import topology
from routed_lab.scenario.load import beside, load
from routed_lab.scenario.model import (
    Carried,
    Daemon,
    Impair,
    Join,
    Life,
    LinkState,
    Lost,
    Pool,
    Rib,
    Scenario,
    SessionState,
    Traffic,
)
from routed_lab.topology import End, Pod, Topology

TOPOLOGIES = Path(__file__).parents[3] / "topologies"
HEAD = """\
name: one
probes:
  pairs: [node-a1-pod1 > node-b1-pod1]
steps:
"""


@pytest.fixture(scope="module")
def racks() -> Topology:
    return topology.load(TOPOLOGIES / "two-racks-tor.clab.yml")


def read(tmp_path: Path, racks: Topology, text: str) -> Scenario:
    file = tmp_path / "one.scenario.yml"
    file.write_text(text)
    return load(file, racks)


def does(tmp_path: Path, racks: Topology, step: str) -> object:
    (found,) = read(tmp_path, racks, f"{HEAD}  - {step}\n").steps
    return found.does


@pytest.mark.parametrize("name", ["two-racks-tor", "two-racks-mesh"])
def test_the_scenario_of_each_shipped_topology_lies_beside_it_and_fits_it(name: str):
    lab = topology.load(TOPOLOGIES / f"{name}.clab.yml")

    assert load(beside(lab.path), lab).steps


def test_probes_go_at_a_thousand_a_second_after_two_quiet_seconds_unless_told_otherwise(
    tmp_path: Path, racks: Topology
):
    probes = read(tmp_path, racks, HEAD + "  - kill: tor-a\n").probes

    assert (probes.rate, probes.quiet) == (1000, 2.0)
    assert probes.pairs == ((Pod("node-a1", 1), Pod("node-b1", 1)),)


@pytest.mark.parametrize(
    ("step", "act"),
    [
        ("link-down: tor-a:eth2", LinkState((End("tor-a", "eth2"),), up=False)),
        ("link-up: node-a1:eth1", LinkState((End("node-a1", "eth1"),), up=True)),
        ("impair: {link: spine:eth1, loss: 5, delay: 20}", Impair(End("spine", "eth1"), 5.0, 20.0)),
        ("impair: {link: spine:eth1}", Impair(End("spine", "eth1"))),
        ("kill: tor-a", Daemon("tor-a", Life.KILL)),
        ("restart: node-b2", Daemon("node-b2", Life.RESTART)),
        ("session-down: node-a1", SessionState("node-a1", up=False)),
        (
            "pool: {name: pods, ipipMode: Always}",
            Pool("pods", EncapsulationMode.ALWAYS, EncapsulationMode.NEVER),
        ),
        ("expect: {lost: 3}", Lost(3)),
        (
            "expect: {rib: {router: tor-b, command: show route 10.244.1.0/24, lacks: via}, within: 5}",
            Rib("tor-b", ("show", "route", "10.244.1.0/24"), "via", found=False, within=5.0),
        ),
        (
            "expect: {pairs: [node-a1-pod1 > node-b1-pod1], encapsulation: tunnel, path: node-a1 > tor-a}",
            Traffic(((Pod("node-a1", 1), Pod("node-b1", 1)),), 30.0, carried=Carried.TUNNEL, path=("node-a1", "tor-a")),
        ),
    ],
)
def test_a_step_is_one_act_or_one_expectation(tmp_path: Path, racks: Topology, step: str, act: object):
    assert does(tmp_path, racks, step) == act


def test_an_expectation_is_of_all_pairs_that_there_are_by_then_unless_some_are_named(tmp_path: Path, racks: Topology):
    assert does(tmp_path, racks, "expect: {converged: yes}") == Traffic((), 30.0, converged=True)


def test_a_node_that_is_absent_at_first_can_be_added_and_its_pods_not_probed(tmp_path: Path, racks: Topology):
    scenario = read(tmp_path, racks, f"absent: [node-b2]\n{HEAD}  - add: node-b2\n")

    assert scenario.absent == ("node-b2",)
    assert scenario.steps[0].does == Join("node-b2")
    with pytest.raises(OperatorError, match="node-b1-pod1 is probed, and absent when the probes begin"):
        read(tmp_path, racks, f"absent: [node-b1]\n{HEAD}  - add: node-b1\n")


def test_a_partition_takes_the_routers_ends_of_all_links_that_cross_it(tmp_path: Path, racks: Topology):
    found = does(tmp_path, racks, "partition: [node-a1, spine]")

    assert found == LinkState((End("spine", "eth1"), End("spine", "eth2"), End("tor-a", "eth2")), up=False)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("kil: tor-a", 'unknown key "kil" in step 1'),
        ("{kill: tor-a, start: tor-a}", "step 1 does 2 things (kill, start), expected one"),
        ("{after: 3}", "step 1 does 0 things (none), expected one"),
        ("{kill: tor-a, after: soon}", 'step 1.after is "soon", expected 0 to 600 seconds'),
        ("kill: tor-c", 'kill of step 1 is "tor-c", which is no node'),
        ("link-down: tor-a:eth9", 'link-down of step 1 is "tor-a:eth9", which is no end of a link'),
        ("impair: {link: spine:eth1, loss: 101}", "expected 0 to 100 percent"),
        ("session-down: tor-a", 'session-down of step 1 is "tor-a", which is no node with pods'),
        ("partition: [tor-a, node-a1, node-a2, spine, tor-b, node-b1, node-b2]", "no link leads from"),
        ("pool: {name: pods, ipipMode: Always, vxlanMode: Always}", "a pool has one of the two"),
        ("pool: {name: pods, ipipMode: Sometimes}", "expected one of Always, CrossSubnet, Never"),
        ("expect: {}", "asks nothing"),
        ("expect: {lost: 1, converged: yes}", "asks several things"),
        ("expect: {pairs: [node-a1-pod1 > node-b1-pod1]}", "names pairs and asks nothing of them"),
        ("expect: {pairs: [node-a1-pod1], reachable: yes}", "expected two pods: POD > POD"),
        ("expect: {pairs: [node-a1-pod1 > node-b1-pod9], reachable: yes}", 'names "node-b1-pod9", which is no pod'),
        ("expect: {rib: {router: tor-b, command: x, has: '('}}", '"(" is no regular expression'),
        ("expect: {rib: {router: tor-b, command: x}}", "needs exactly one of has and lacks"),
        ("expect: {encapsulation: gre}", "expected one of direct, ipip, vxlan, tunnel"),
        ("expect: {reachable: maybe}", "expected yes or no"),
    ],
)
def test_an_error_names_the_line_and_what_was_expected(tmp_path: Path, racks: Topology, step: str, message: str):
    with pytest.raises(OperatorError) as caught:
        does(tmp_path, racks, step)

    assert re.match(rf"{re.escape(str(tmp_path / 'one.scenario.yml'))}:5:[0-9]+: ", caught.value.message)
    assert message in caught.value.message


def test_a_scenario_without_steps_is_refused(tmp_path: Path, racks: Topology):
    with pytest.raises(OperatorError, match="the scenario has no steps"):
        read(tmp_path, racks, HEAD.replace("steps:", "steps: []"))

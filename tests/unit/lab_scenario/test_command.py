"""Which scenario a command plays, and where its report goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from routed.errors import OperatorError
from routed_lab import topology
from routed_lab.scenario import command
from routed_lab.scenario.load import beside
from routed_lab.topology import Topology

TOPOLOGIES = Path(__file__).parents[3] / "topologies"


@pytest.fixture(scope="module")
def racks() -> Topology:
    return topology.load(TOPOLOGIES / "two-racks-tor.clab.yml")


@pytest.mark.parametrize("name", ["racks.clab.yml", "racks.clab.yaml", "racks.yml", "racks"])
def test_the_scenario_is_looked_for_beside_the_topology_under_its_name(name: str):
    assert beside(Path("some") / name) == Path("some/racks.scenario.yml")


def test_the_scenario_beside_the_topology_is_played_unless_another_is_named(racks: Topology, tmp_path: Path):
    other = tmp_path / "other.yml"
    other.write_text(beside(racks.path).read_text())

    found, named = command.find(racks, None), command.find(racks, other)

    assert found is not None
    assert found.path == TOPOLOGIES / "two-racks-tor.scenario.yml"
    assert named is not None
    assert named.path == other


def test_a_scenario_that_was_named_has_to_be_there(racks: Topology, tmp_path: Path):
    with pytest.raises(OperatorError, match="cannot read the scenario"):
        command.find(racks, tmp_path / "gone.yml")


def test_the_report_goes_into_the_current_directory_under_the_scenarios_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)

    assert command.place(None, Path("/x/racks.scenario.yml")) == Path("racks.report")
    assert (tmp_path / "racks.report").is_dir()


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_built(tmp_path: Path):
    (tmp_path / "file").touch()

    with pytest.raises(OperatorError, match="cannot make the directory of the report"):
        command.place(tmp_path / "file", Path("racks.scenario.yml"))

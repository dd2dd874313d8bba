"""The agent's configuration: sources, their order, and what is said about bad values."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from routed import config
from routed.config import AgentConfig, load, reference, settings, template
from routed.errors import OperatorError

REPOSITORY = Path(__file__).parents[3]


def complaint(tmp_path: Path, toml: str, **environment: str) -> str:
    path = tmp_path / "agent.toml"
    path.write_text(toml)
    with pytest.raises(OperatorError) as caught:
        load(path, environment)
    return caught.value.message.replace(str(path), "agent.toml")


def test_without_a_file_the_defaults_hold(monkeypatch):
    monkeypatch.setattr(config, "_host_name", lambda: "a1")
    found = load(None, {})
    assert found.node == "a1"
    assert (found.store, found.run_dir) == ("sqlite:///var/lib/routed/store.db", Path("/run/routed"))
    assert (found.health_port, found.metrics_port, found.route_protocol, found.route_metric) == (9099, 9091, 114, 1024)


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(tmp_path):
    path = tmp_path / "agent.toml"
    path.write_text('node = "a1"\nroute_metric = 5\nresync_seconds = 7\nrun_dir = "/run/a1"\n')
    found = load(path, {"ROUTED_ROUTE_METRIC": "6", "ROUTED_NODE": "a2", "HOME": "/"})
    assert (found.node, found.route_metric, found.resync_seconds, found.run_dir) == ("a2", 6, 7, Path("/run/a1"))


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ("helth_port = 1", "agent.toml: helth_port: unknown key; did you mean health_port?"),
        ("zebra = 1", "agent.toml: zebra: unknown key; known are node, store,"),
        ("[bgp]\nhold = 1", "agent.toml: bgp: unknown key; "),
        ("health_port = 0", "agent.toml: health_port: 0: expected whole number from 1 to 65535"),
        ('health_port = "9099"', "agent.toml: health_port: '9099': expected whole number from 1 to 65535"),
        ("bgp_hold_seconds = 2", "agent.toml: bgp_hold_seconds: 2: expected whole number from 3 to 65535"),
        ("bgp_restart_seconds = 4096", "agent.toml: bgp_restart_seconds: 4096: expected whole number from 1 to 4095"),
        ("route_protocol = 4", "agent.toml: route_protocol: 4: expected whole number from 5 to 255"),
        ("resync_seconds = 1.5", "agent.toml: resync_seconds: 1.5: expected whole number"),
        ('run_dir = "run"', "agent.toml: run_dir: 'run': expected absolute path"),
        ('node = "A_1"', "agent.toml: node: 'A_1': expected name of lower-case letters"),
        ('tunnel_device = "a/b"', "agent.toml: tunnel_device: 'a/b': expected interface name"),
        ('vxlan_device = "a/b"', "agent.toml: vxlan_device: 'a/b': expected interface name"),
        ("vxlan_vni = 0", "agent.toml: vxlan_vni: 0: expected whole number from 1 to 16777215"),
        ('vxlan_device = "tunl0"', "configuration: tunnel_device and vxlan_device are both tunl0"),
        ('log_level = "loud"', "agent.toml: log_level: 'loud': expected debug, info, warning or error"),
        ("node", "agent.toml: not TOML: "),
        ("health_port = 9091", "configuration: health_port and metrics_port are both 9091"),
    ],
)
def test_a_bad_file_is_said_with_key_value_and_expectation(tmp_path, toml, expected):
    assert complaint(tmp_path, toml).startswith(expected)


def test_a_bad_variable_is_named(tmp_path):
    assert complaint(tmp_path, "", ROUTED_HEALTH_PORT="99x") == (
        "environment: ROUTED_HEALTH_PORT: '99x': expected whole number from 1 to 65535"
    )


def test_a_slip_in_a_variables_name_is_refused_and_others_names_are_not(tmp_path):
    load(None, {"ROUTED_PORT": "tcp://10.0.0.1:1", "ROUTED_SERVICE_HOST": "10.0.0.1", "ROUTED_TRACEBACK": "1"})
    assert complaint(tmp_path, "", ROUTED_ROUTE_METRICS="5") == (
        "environment: ROUTED_ROUTE_METRICS: unknown variable; did you mean ROUTED_ROUTE_METRIC?"
    )


def test_all_problems_come_at_once(tmp_path):
    found = complaint(tmp_path, "zebra = 1\nhealth_port = 0\n", ROUTED_NODE="A B")
    assert len(found.splitlines()) == 3


def test_an_absent_file_is_named_with_the_way_to_one(tmp_path):
    with pytest.raises(OperatorError, match=r"agent\.toml: cannot read .*: No such file") as caught:
        load(tmp_path / "agent.toml", {})
    assert "node install" in str(caught.value.hint)


def test_a_host_name_that_cannot_name_a_node_asks_for_one(monkeypatch):
    monkeypatch.setattr(config, "_host_name", lambda: "my_host")
    with pytest.raises(OperatorError, match="the host's name: 'my_host': expected name of lower-case letters"):
        load(None, {})
    assert load(None, {"ROUTED_NODE": "a1"}).node == "a1"


def test_every_key_is_explained():
    assert [setting.key for setting in settings()] == [field.name for field in msgspec.structs.fields(AgentConfig)]
    assert all(setting.help.endswith(".") for setting in settings())
    assert {setting.unit for setting in settings() if setting.key.endswith("_seconds")} == {"seconds"}


def test_the_template_holds_every_key_with_its_default(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "_host_name", lambda: "a1")
    assert tomllib.loads(template()) == {}
    path = tmp_path / "agent.toml"
    path.write_text(re.sub(r"^#(\w+ = )", r"\1", template(), flags=re.MULTILINE).replace('node = ""', 'node = "a1"'))
    assert load(path, {}) == load(None, {})
    assert tomllib.loads(path.read_text()).keys() == {setting.key for setting in settings()}


def test_the_reference_page_is_up_to_date():
    page = REPOSITORY / "docs/reference/configuration.md"
    assert page.read_text() == reference(), "run: python -m routed.config > docs/reference/configuration.md"

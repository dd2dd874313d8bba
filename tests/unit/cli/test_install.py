"""`routed node install` and `uninstall`, in a tree of the test's own."""

from __future__ import annotations

import configparser
import json
import os
import shlex
import sys

import pytest

import routed_cni.install
from routed.cli.install import unit

FILES = {
    "etc/routed/agent.toml",
    "etc/systemd/system/routed.service",
    "etc/iproute2/rt_protos.d/routed.conf",
    "opt/cni/bin/routed-cni",
    "etc/cni/net.d/10-routed.conflist",
}


def files(root) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


def contents(root) -> dict[str, bytes]:
    return {name: (root / name).read_bytes() for name in files(root)}


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root"


def test_install_writes_every_file_the_conflist_last(run, root):
    result = run("node", "install", "--root", root)
    assert result.status == 0
    assert files(root) == FILES
    wrote = [line.removeprefix("wrote ") for line in result.out.splitlines() if line.startswith("wrote")]
    assert wrote[-1] == f"{root}/etc/cni/net.d/10-routed.conflist"
    assert {name.removeprefix(f"{root}/") for name in wrote} == FILES
    assert "systemctl enable --now routed" in result.out


def test_the_service_notifies_keeps_its_children_alive_and_restarts(run, root):
    run("node", "install", "--root", root)
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.optionxform = str
    parsed.read(root / "etc/systemd/system/routed.service")
    service = parsed["Service"]
    assert (service["Type"], service["KillMode"], service["Restart"]) == ("notify", "mixed", "on-failure")
    assert shlex.split(service["ExecStart"]) == [
        sys.executable, "-m", "routed", "agent", "--config", "/etc/routed/agent.toml",
    ]  # fmt: skip


def test_the_interpreters_path_is_quoted_for_systemd():
    assert 'ExecStart="/opt/my env/100%%/$$x/python" -m routed agent' in unit("/opt/my env/100%/$x/python")


def test_the_protocols_name_and_number_are_those_of_the_configuration(run, root):
    (root / "etc/routed").mkdir(parents=True)
    (root / "etc/routed/agent.toml").write_text('route_protocol = 115\nrun_dir = "/run/elsewhere"\n')
    result = run("node", "install", "--root", root)
    assert "115 routed\n" in (root / "etc/iproute2/rt_protos.d/routed.conf").read_text()
    assert b"/run/elsewhere/cni.sock" in (root / "opt/cni/bin/routed-cni").read_bytes()
    assert f"kept {root}/etc/routed/agent.toml" in result.out
    assert (root / "etc/routed/agent.toml").read_text().startswith("route_protocol = 115")


def test_the_directories_of_the_runtime_can_be_named(run, root):
    run("node", "install", "--root", root, "--bin-dir", "/usr/lib/cni", "--conf-dir", "/etc/other")
    assert {"usr/lib/cni/routed-cni", "etc/other/10-routed.conflist"} <= files(root)


def test_installing_again_changes_nothing(run, root):
    run("node", "install", "--root", root)
    before = contents(root)
    assert run("node", "install", "--root", root).status == 0
    assert contents(root) == before


@pytest.mark.parametrize("name", ["etc/systemd/system/routed.service", "etc/iproute2/rt_protos.d/routed.conf"])
def test_a_file_that_an_operator_changed_is_not_written_over(run, root, name):
    run("node", "install", "--root", root)
    (root / name).write_text((root / name).read_text() + "# mine\n")
    before = contents(root)
    result = run("node", "install", "--root", root)
    assert result.status == 1
    assert f"{root}/{name} is there and was not written by" in result.err
    assert contents(root) == before


@pytest.mark.parametrize("name", ["opt/cni/bin/routed-cni", "etc/cni/net.d/10-routed.conflist"])
def test_a_strangers_file_in_the_plugins_place_leaves_nothing_half_made(run, root, name):
    (root / name).parent.mkdir(parents=True)
    (root / name).write_text("theirs")
    result = run("node", "install", "--root", root)
    assert result.status == 1
    assert f"{root}/{name}" in result.err
    assert contents(root) == {name: b"theirs"}


@pytest.mark.parametrize("target", ["there", "nowhere"])
def test_a_strangers_symlink_in_the_plugins_place_stays_one(run, root, target):
    bin_dir = root / "opt/cni/bin"
    bin_dir.mkdir(parents=True)
    (bin_dir / "there").write_text("#!/bin/sh\n")
    (bin_dir / "routed-cni").symlink_to(target)
    result = run("node", "install", "--root", root)
    assert result.status == 1
    assert "opt/cni/bin/routed-cni is there and not routed's" in result.err
    assert str((bin_dir / "routed-cni").readlink()) == target
    assert files(root) == {"opt/cni/bin/there", "opt/cni/bin/routed-cni"}


def test_a_failed_second_install_leaves_the_first_as_it_was(run, root, monkeypatch):
    run("node", "install", "--root", root)
    before = contents(root)

    def fail(*args, **kwargs):
        raise PermissionError(13, "Permission denied", "/etc/cni/net.d")

    monkeypatch.setattr(routed_cni.install, "write_conflist", fail)
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    result = run("node", "install", "--root", root)
    assert result.status == 1
    assert "error: /etc/cni/net.d: Permission denied\nhint: run as root" in result.err
    assert contents(root) == before
    assert os.access(root / "opt/cni/bin/routed-cni", os.X_OK)


def test_uninstall_removes_all_and_says_what_is_left(run, root):
    run("node", "install", "--root", root)
    result = run("node", "uninstall", "--root", root)
    assert result.status == 0
    assert files(root) == set()
    assert not (root / "etc/routed").exists()
    assert "left the store" in result.out


def test_uninstall_leaves_what_was_changed_and_what_is_not_ours(run, root):
    run("node", "install", "--root", root)
    (root / "etc/routed/agent.toml").write_text('node = "a1"\n')
    (root / "etc/cni/net.d/10-routed.conflist").write_text(json.dumps({"plugins": [{"type": "ptp"}]}))
    (root / "etc/cni/net.d/99-other.conf").write_text("{}")
    result = run("node", "uninstall", "--root", root)
    assert files(root) == {
        "etc/routed/agent.toml",
        "etc/cni/net.d/10-routed.conflist",
        "etc/cni/net.d/99-other.conf",
    }
    assert f"left {root}/etc/routed/agent.toml: changed since it was installed" in result.out
    assert f"left {root}/etc/cni/net.d/10-routed.conflist" in result.out


def test_uninstall_where_nothing_was_installed_says_so(run, root):
    root.mkdir()
    assert "removed nothing" in run("node", "uninstall", "--root", root).out


def test_a_tree_that_cannot_be_written_is_an_error(run, tmp_path):
    (tmp_path / "file").write_text("")
    result = run("node", "install", "--root", tmp_path / "file")
    assert (result.status, list(tmp_path.iterdir())) == (1, [tmp_path / "file"])
    assert "Not a directory" in result.err

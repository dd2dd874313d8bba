"""`routed apply`, `get` and `delete`."""

from __future__ import annotations

import io
import json

import pytest

NODE = """\
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: a1}
spec:
  bgp: {ipv4Address: 10.1.1.11/24, asNumber: 64601}
  podCIDRs: [10.244.0.0/24]
"""
POOL = """\
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: pods}
spec:
  cidr: 10.244.0.0/16
  ipipMode: CrossSubnet
"""
PEER = """\
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: tor}
spec: {peerIP: 10.1.1.1, asNumber: 65101}
"""


@pytest.fixture
def files(tmp_path):
    directory = tmp_path / "manifests"
    directory.mkdir()
    for name, text in (("node", NODE), ("peer", PEER), ("pool", POOL)):
        (directory / f"{name}.yml").write_text(text)
    return directory


def test_apply_creates_then_finds_unchanged_then_configures(run, files):
    assert run("apply", "-f", files).out == "Node a1 created\nBGPPeer tor created\nIPPool pods created\n"
    assert run("apply", "-f", files / "node.yml").out == "Node a1 unchanged\n"
    (files / "node.yml").write_text(NODE.replace("64601", "64602"))
    assert (
        run("apply", "-f", files / "node.yml", files / "pool.yml").out == "Node a1 configured\nIPPool pods unchanged\n"
    )


def test_apply_takes_standard_input(run, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(POOL))
    assert run("apply", "-f", "-").out == "IPPool pods created\n"


def test_one_bad_file_keeps_all_out_and_makes_no_store(run, files, tmp_path):
    (files / "zz.yml").write_text(POOL.replace("CrossSubnet", "Sometimes").replace("pods", "more"))
    result = run("apply", "-f", files)
    assert (result.status, result.out) == (1, "")
    assert (
        f"error: {files}/zz.yml:6: IPPool more: spec.ipipMode: expected 'Always', 'CrossSubnet' or 'Never'"
        in result.err
    )
    assert not (tmp_path / "store.db").exists()


def test_a_contradiction_names_the_file_and_changes_nothing(run, files):
    run("apply", "-f", files / "pool.yml")
    (files / "more.yml").write_text(POOL.replace("pods", "more"))
    result = run("apply", "-f", files / "node.yml", files / "more.yml")
    assert result.status == 1
    assert f"error: {files}/more.yml:5: IPPool more: spec.cidr: 10.244.0.0/16 overlaps IPPool pods's" in result.err
    assert "hint: nothing was changed" in result.err
    assert run("get", "nodes").out == "no resources\n"


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("{nodeSelector: rack == 'z', peerIP: 10.1.1.1, asNumber: 65101}", "spec.nodeSelector rack == 'z'"),
        ("{peerSelector: rack == 'z'}", "spec.peerSelector rack == 'z'"),
    ],
    ids=["nodeSelector", "peerSelector"],
)
def test_apply_warns_of_a_peer_that_selects_nobody(run, files, spec, why):
    assert run("apply", "-f", files).err == ""
    (files / "peer.yml").write_text(PEER.replace("{peerIP: 10.1.1.1, asNumber: 65101}", spec))
    result = run("apply", "-f", files / "peer.yml")
    assert (result.status, result.out) == (0, "BGPPeer tor configured\n")
    assert result.err.startswith(f"warning: BGPPeer tor makes no session yet: {why}")


def test_get_prints_a_table(run, files):
    run("apply", "-f", files)
    assert run("get", "nodes").out == (
        "NAME  ADDRESS       AS     POD CIDRS\n"
        "a1    10.1.1.11/24  64601  10.244.0.0/24\n"
    )  # fmt: skip
    assert run("get", "peer", "tor").out == (
        "NAME  PEER      AS     NODE\n"
        "tor   10.1.1.1  65101  every node\n"
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["IPPool", "ippool", "ippools", "POOL", "ipp"])
def test_kinds_go_by_many_names(run, files, kind):
    run("apply", "-f", files)
    assert json.loads(run("get", kind, "pods", "-o", "json").out)["spec"] == {
        "cidr": "10.244.0.0/16",
        "ipipMode": "CrossSubnet",
    }


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_what_get_prints_apply_takes_back_unchanged(run, files, monkeypatch, form):
    run("apply", "-f", files)
    monkeypatch.setattr("sys.stdin", io.StringIO(run("get", "all", "-o", form).out))
    assert {line.split()[-1] for line in run("apply", "-f", "-").out.splitlines()} == {"unchanged"}


def test_get_all_prints_a_table_per_kind(run, files):
    run("apply", "-f", files)
    tables = run("get", "all").out.split("\n\n")
    assert [table.splitlines()[0] for table in tables] == ["Node", "IPPool", "BGPPeer"]


def test_get_of_an_unknown_object_says_what_there_is(run, files):
    run("apply", "-f", files)
    result = run("get", "node", "a9")
    assert (result.status, result.out) == (1, "")
    assert result.err == "error: store: there is no Node a9\nhint: there is: a1\n"


def test_get_of_files_prints_what_the_store_holds_of_them(run, files, monkeypatch):
    run("apply", "-f", files)
    (files / "node.yml").write_text(NODE.replace("64601", "64602"))
    one = json.loads(run("get", "-f", files / "node.yml", "-o", "json").out)
    assert one["spec"]["bgp"]["asNumber"] == 64601
    both = json.loads(run("get", "-f", files / "pool.yml", "-f", files / "peer.yml", "-o", "json").out)
    assert [item["kind"] for item in both["items"]] == ["IPPool", "BGPPeer"]


def test_get_of_a_file_with_an_unknown_object_names_it(run, files):
    run("apply", "-f", files / "pool.yml")
    result = run("get", "-f", files)
    assert (result.status, result.out) == (1, "")
    assert "there is no Node a1, BGPPeer tor" in result.err


@pytest.mark.parametrize("arguments", [["get"], ["get", "nodes", "-f", "x.yml"]])
def test_get_takes_a_kind_or_files(run, arguments):
    result = run(*arguments)
    assert result.status == 1
    assert "expected either KIND or -f FILE" in result.err


def test_get_without_a_store_makes_none(run, tmp_path):
    result = run("get", "nodes")
    assert result.status == 1
    assert "there is no" in result.err
    assert "routed apply" in result.err
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_kind_lists_the_known(run):
    result = run("get", "zebras")
    assert (result.status, result.out) == (1, "")
    assert "unknown kind 'zebras'" in result.err
    assert "Node (no), IPPool (ipp), BGPPeer (bgpp), BGPConfiguration (bgpc), BGPFilter (bgpf), " in result.err


def test_delete_by_name_and_by_file(run, files):
    run("apply", "-f", files)
    assert run("delete", "bgppeer", "tor").out == "BGPPeer tor deleted\n"
    assert (
        run("delete", "-f", files / "node.yml", "-f", files / "pool.yml").out
        == "Node a1 deleted\nIPPool pods deleted\n"
    )
    assert run("get", "all").out == "no resources\n"


def test_delete_of_an_unknown_object_is_an_error_unless_ignored(run, files):
    run("apply", "-f", files)
    result = run("delete", "peer", "tor", "other")
    assert (result.status, result.out) == (1, "")
    assert "there is no BGPPeer other" in result.err
    ignoring = run("delete", "peer", "tor", "other", "--ignore-not-found")
    assert (ignoring.status, ignoring.out) == (0, "BGPPeer tor deleted\nBGPPeer other not found\n")


def test_delete_refuses_what_others_need(run, files):
    run("apply", "-f", files)
    result = run("delete", "pool", "pods")
    assert result.status == 1
    assert (
        "what remains would contradict itself: Node a1: spec.podCIDRs[0]: 10.244.0.0/24 lies in no pool" in result.err
    )
    assert run("get", "pool", "pods").status == 0


@pytest.mark.parametrize("arguments", [[], ["node"], ["node", "a1", "-f", "x.yml"]])
def test_delete_wants_names_or_files(run, arguments):
    result = run("delete", *arguments)
    assert (result.status, result.out) == (1, "")
    assert "expected either KIND and NAME, or -f FILE" in result.err


def test_the_store_option_wins_and_a_configuration_file_can_name_it(run, files, tmp_path, monkeypatch):
    run("apply", "-f", files / "pool.yml", "--store", f"sqlite://{tmp_path}/other.db")
    assert run("get", "pools", "--store", f"sqlite://{tmp_path}/other.db").status == 0
    assert run("get", "pools").status == 1
    monkeypatch.delenv("ROUTED_STORE")
    (tmp_path / "agent.toml").write_text(f'store = "sqlite://{tmp_path}/other.db"\n')
    assert run("get", "pools", "--config", tmp_path / "agent.toml").status == 0


def test_an_unknown_store_is_refused(run, files):
    result = run("apply", "-f", files / "pool.yml", "--store", "etcd3://localhost:2379")
    assert result.status == 1
    assert "unknown kind 'etcd3'" in result.err
    assert "sqlite:///ABSOLUTE/PATH" in result.err

"""`routed store` on etcd: there and back again, more than etcd takes at once, and what is wrong with a member."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tests.kernel.store.etcd import Member, free_ports

from routed.cli.main import main

_prefixes = count()
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def url(member: Member) -> str:
    return f"etcd://{member.endpoint}/commands{next(_prefixes)}"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: object) -> tuple[int, str, str]:
        status = main([str(word) for word in words])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Member]:
    """An etcd whose space is all but used up from the start."""
    with Member(tmp_path, "small", options=("--quota-backend-bytes", "100000")) as made:
        yield made


def nodes(path: Path, number: int) -> Path:
    documents: list[dict[str, Any]] = [
        {"apiVersion": "projectcalico.org/v3", "kind": "Node", "metadata": {"name": f"n{each}"},
         "spec": {"bgp": {"ipv4Address": f"10.{each // 200}.0.{each % 200 + 1}/16"}}}
        for each in range(number)
    ]  # fmt: skip
    path.write_text("\n---\n".join(map(json.dumps, documents)))
    return path


def test_resources_are_applied_got_and_deleted(run, url, tmp_path):
    assert run("apply", "-f", nodes(tmp_path / "n.yml", 3), "--store", url)[0] == 0
    assert "n2" in run("get", "nodes", "--store", url)[1]
    assert run("delete", "node", "n2", "--store", url)[0] == 0
    assert "n2" not in run("get", "nodes", "--store", url)[1]


def test_a_store_goes_from_a_file_to_etcd_and_back_and_is_the_same(run, url, tmp_path):
    here, back = f"sqlite://{tmp_path}/here.db", f"sqlite://{tmp_path}/back.db"
    assert run("apply", "-f", nodes(tmp_path / "n.yml", 600), "--store", here)[0] == 0  # 601 keys, etcd takes 128
    assert run("store", "migrate", "--from", here, "--to", url)[0] == 0
    assert json.loads(run("store", "check", "--store", url, "--json")[1])["problems"] == []
    assert run("store", "backup", tmp_path / "b.json", "--store", url)[0] == 0
    assert run("store", "migrate", "--from", url, "--to", back)[0] == 0
    wanted = run("get", "all", "-o", "json", "--store", here)
    assert run("get", "all", "-o", "json", "--store", back) == wanted
    assert run("delete", "-f", nodes(tmp_path / "n.yml", 100), "--store", url)[0] == 0
    assert run("store", "restore", tmp_path / "b.json", "--store", url)[0] == 1  # it holds something else
    assert run("store", "restore", tmp_path / "b.json", "--store", url, "--replace")[0] == 0
    assert run("get", "all", "-o", "json", "--store", url) == wanted


def test_more_resources_than_etcd_takes_at_once_are_refused_whole_with_the_limits_name(run, url, tmp_path):
    status, _, said = run("apply", "-f", nodes(tmp_path / "n.yml", 200), "--store", url)
    assert status == 1
    assert "--max-txn-ops" in said
    assert run("get", "nodes", "--store", url)[1] == "no resources\n"


def test_check_names_the_members_that_do_not_serve_and_those_of_another_cluster(run, member, small, tmp_path):
    [nobody] = free_ports(1)
    url = f"etcd://{member.endpoint},{small.endpoint},127.0.0.1:{nobody}/check"
    status, _, said = run("store", "check", "--store", url)
    assert status == 1
    assert f"etcd at 127.0.0.1:{nobody}: " in said
    assert f"etcd at {small.endpoint}: is of another cluster than etcd at {member.endpoint}" in said


def test_an_etcd_without_space_says_so_to_whoever_writes_and_to_check_and_goes_on_reading(run, small, tmp_path):
    url = f"etcd://{small.endpoint}"
    assert run("apply", "-f", nodes(tmp_path / "n.yml", 1), "--store", url)[0] == 0
    small.ctl("put", "/others", "x" * 100_000, check=False)
    status, _, said = run("apply", "-f", nodes(tmp_path / "n.yml", 2), "--store", url)
    assert status == 1
    assert "database space exceeded" in said
    assert "etcdctl alarm disarm" in said
    assert "n0" in run("get", "nodes", "--store", url)[1]
    status, _, complaints = run("store", "check", "--store", url)
    assert status == 1
    assert "NOSPACE" in complaints

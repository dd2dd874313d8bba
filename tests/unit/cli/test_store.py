"""`routed store`: check, backup, restore and migrate, on files."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest

from routed.model.resources import IPPool

POOL = """
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: pods}
spec: {cidr: 10.244.0.0/16}
"""


@pytest.fixture
def filled(run, tmp_path: Path) -> Path:
    """A store with a pool, at its file's path."""
    (tmp_path / "pool.yml").write_text(POOL)
    assert run("apply", "-f", tmp_path / "pool.yml").status == 0
    return tmp_path / "store.db"


def sql(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def test_check_counts_what_is_there_and_finds_nothing_wrong(run, filled):
    result = run("store", "check")
    assert result.status == 0
    assert IPPool.__name__ in result.out
    assert "no problems" in result.out
    assert json.loads(run("store", "check", "--json").out) == {
        "revision": 1,
        "keys": {"IPPool": 1, "other key": 1},
        "problems": [],
    }


def test_check_names_each_key_that_cannot_be_read_and_ends_with_1(run, filled):
    sql(
        filled,
        "UPDATE kv SET value = '{' WHERE key LIKE '%/IPPool/pods'",
        "INSERT INTO kv VALUES ('/routed/v1/ipam/blocks/x', '[]', 1, 1), ('/routed/v1/drain/a', '7', 1, 1)",
    )
    result = run("store", "check")
    assert result.status == 1
    for key in ("/IPPool/pods", "/ipam/blocks/x", "/drain/a"):
        assert key in result.err
    assert len(json.loads(run("store", "check", "--json").out)["problems"]) == 3


def test_check_finds_resources_that_contradict_one_another(run, filled):
    sql(filled, "INSERT INTO kv SELECT replace(key, 'pods', 'more'), replace(value, 'pods', 'more'), 1, 1 FROM kv"
        " WHERE key LIKE '%/IPPool/pods'")  # fmt: skip
    result = run("store", "check")
    assert result.status == 1
    assert "10.244.0.0/16" in result.err


def test_check_of_a_damaged_file_says_so_and_what_to_do(run, filled):
    data = bytearray(filled.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    filled.write_bytes(data)
    result = run("store", "check")
    assert result.status == 1
    assert "damaged" in result.err
    assert "routed store restore" in result.err


def test_check_of_no_store_makes_none(run, tmp_path):
    assert run("store", "check").status == 1
    assert not (tmp_path / "store.db").exists()


def test_a_backup_restores_a_store_that_was_lost(run, filled, tmp_path):
    before = run("get", "pools", "-o", "json").out
    made = run("store", "backup", tmp_path / "b.json")
    assert made.out == f"2 keys of revision 1 written to {tmp_path}/b.json\n"
    assert (tmp_path / "b.json").stat().st_mode & 0o777 == 0o600
    for file in tmp_path.glob("store.db*"):
        file.unlink() if file.is_file() else None
    assert run("store", "restore", tmp_path / "b.json").out == "2 keys written, 0 deleted, 0 were right already\n"
    assert run("get", "pools", "-o", "json").out == before
    assert run("store", "check").status == 0


def test_a_backup_never_overwrites(run, filled, tmp_path):
    (tmp_path / "b.json").write_text("precious")
    result = run("store", "backup", tmp_path / "b.json")
    assert result.status == 1
    assert "is there already" in result.err
    assert (tmp_path / "b.json").read_text() == "precious"


def test_a_restore_over_something_else_needs_replace(run, filled, tmp_path):
    assert run("store", "backup", tmp_path / "b.json").status == 0
    assert run("delete", "pool", "pods").status == 0
    refused = run("store", "restore", tmp_path / "b.json")
    assert refused.status == 1
    assert "--replace" in refused.err
    assert "pods" not in run("get", "pools").out
    done = json.loads(run("store", "restore", tmp_path / "b.json", "--replace", "--json").out)
    assert done == {"written": 1, "deleted": 0, "unchanged": 1}
    assert "pods" in run("get", "pools").out


def test_a_damaged_backup_is_refused_and_makes_no_store(run, tmp_path):
    (tmp_path / "b.json").write_text("{}")
    result = run("store", "restore", tmp_path / "b.json")
    assert result.status == 1
    assert "is no backup" in result.err
    assert not (tmp_path / "store.db").exists()


def test_a_migration_copies_everything_and_says_what_comes_next(run, filled, tmp_path):
    source, target = f"sqlite://{filled}", f"sqlite://{tmp_path}/new/store.db"
    result = run("store", "migrate", "--from", source, "--to", target)
    assert result.status == 0
    assert "2 keys written" in result.out
    assert f"set `store` to {target}" in result.out
    assert run("get", "pools", "--store", target).out == run("get", "pools").out


def test_a_migration_of_nothing_or_to_itself_is_refused(run, filled, tmp_path):
    source = f"sqlite://{filled}"
    assert "there is no" in run("store", "migrate", "--from", f"sqlite://{tmp_path}/no.db", "--to", source).err
    assert "name two stores" in run("store", "migrate", "--from", source, "--to", source).err

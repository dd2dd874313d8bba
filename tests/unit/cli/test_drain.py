"""`routed node drain|undrain`, on a store of its own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from routed.cli import drain
from routed.model.drain import Phase, decode, drain_key, encode
from routed.store import Delete, Put
from routed.store.sqlite import SqliteStore

NODES = """\
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: a1}
spec: {bgp: {ipv4Address: 10.1.1.11/24}, podCIDRs: [10.244.1.0/24]}
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: a2}
spec: {bgp: {ipv4Address: 10.1.1.12/24}, podCIDRs: [10.244.2.0/24]}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: pods}
spec: {cidr: 10.244.0.0/16}
"""


@pytest.fixture
def store(run, tmp_path: Path) -> Path:
    """The file of a store with two nodes."""
    (tmp_path / "cluster.yml").write_text(NODES)
    assert run("apply", "-f", tmp_path / "cluster.yml").status == 0
    return tmp_path / "store.db"


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The spans that were slept through."""
    spans: list[float] = []
    monkeypatch.setattr(drain.time, "sleep", spans.append)
    return spans


def phase(path: Path, node: str = "a1") -> Phase | None:
    async def read() -> Phase | None:
        store = SqliteStore(path)
        item = await store.get(drain_key(node))
        await store.close()
        return decode(item.value) if item else None

    return asyncio.run(read())


def write(path: Path, value: bytes | None, node: str = "a1") -> None:
    async def put() -> None:
        store = SqliteStore(path)
        await store.txn([], [Delete(drain_key(node)) if value is None else Put(drain_key(node), value)])
        await store.close()

    asyncio.run(put())


def test_drain_lowers_waits_and_withdraws(run, store, monkeypatch):
    seen = []
    monkeypatch.setattr(drain.time, "sleep", lambda seconds: seen.append((seconds, phase(store))))
    result = run("node", "drain", "--wait", "7")
    assert (result.status, result.out) == (0, "node a1 drained\n")
    assert result.err == (
        "node a1: its paths are marked, others are preferred; withdrawing in 7s (Ctrl-C leaves it so)\n"
    )
    assert seen == [(7.0, Phase.LOWERED)]
    assert phase(store) is Phase.WITHDRAWN


def test_it_waits_half_a_minute_unless_told_otherwise(run, store, waited):
    assert run("node", "drain", "a2").status == 0
    assert waited == [30.0]
    assert (phase(store, "a2"), phase(store)) == (Phase.WITHDRAWN, None)


def test_applying_manifests_leaves_it_drained(run, store, waited, tmp_path):
    run("node", "drain")
    (tmp_path / "cluster.yml").write_text(NODES.replace("10.1.1.11", "10.1.1.21"))
    assert run("apply", "-f", tmp_path / "cluster.yml").status == 0
    assert phase(store) is Phase.WITHDRAWN


def test_a_drained_node_is_not_drained_again(run, store, waited):
    write(store, encode(Phase.WITHDRAWN))
    assert run("node", "drain").out == "node a1 was drained before\n"
    assert waited == []


def test_ctrl_c_leaves_it_lowered_and_a_second_drain_goes_on(run, store, monkeypatch):
    def interrupted(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(drain.time, "sleep", interrupted)
    result = run("node", "drain")
    assert (result.status, result.out) == (130, "")
    assert "node a1 stays lowered, not withdrawn: `routed node drain a1` goes on" in result.err
    assert phase(store) is Phase.LOWERED
    monkeypatch.setattr(drain.time, "sleep", lambda seconds: None)
    assert run("node", "drain").status == 0
    assert phase(store) is Phase.WITHDRAWN


def test_undrained_by_another_while_it_waits_withdraws_nothing(run, store, monkeypatch):
    monkeypatch.setattr(drain.time, "sleep", lambda seconds: write(store, None))
    result = run("node", "drain")
    assert (result.status, result.out) == (1, "")
    assert "node a1 was put back into service by somebody else" in result.err
    assert phase(store) is None


def test_two_that_drain_at_once_both_end_well(run, store, monkeypatch):
    monkeypatch.setattr(drain.time, "sleep", lambda seconds: write(store, encode(Phase.WITHDRAWN)))
    assert run("node", "drain").status == 0
    assert phase(store) is Phase.WITHDRAWN


def test_undrain_puts_it_back(run, store, waited):
    run("node", "drain")
    assert run("node", "undrain").out == "node a1 is in service again\n"
    assert phase(store) is None
    assert run("node", "undrain").out == "node a1 was not drained\n"


def test_what_cannot_be_read_is_written_anew(run, store, waited):
    write(store, b"oops")
    assert run("node", "drain").status == 0
    assert phase(store) is Phase.WITHDRAWN


@pytest.mark.parametrize("verb", ["drain", "undrain"])
def test_a_node_that_is_not_there_names_those_that_are(run, store, verb):
    result = run("node", verb, "b7")
    assert (result.status, result.out) == (1, "")
    assert result.err == "error: store: there is no Node b7\nhint: there is: a1, a2\n"


def test_a_drain_that_outlived_its_node_can_be_taken_back(run, store):
    write(store, encode(Phase.WITHDRAWN), "b7")
    assert run("node", "undrain", "b7").status == 0
    assert phase(store, "b7") is None


def test_json(run, store, waited):
    assert json.loads(run("node", "drain", "--json").out) == {"node": "a1", "phase": "withdrawn"}
    assert json.loads(run("node", "undrain", "--json").out) == {"node": "a1", "phase": None}


@pytest.mark.parametrize("wait", ["-1", "soon", "nan", "1e9"])
def test_a_span_that_is_none_is_refused(run, store, wait):
    result = run("node", "drain", f"--wait={wait}")
    assert result.status == 2
    assert f"invalid number of seconds value: '{wait}'" in result.err
    assert phase(store) is None

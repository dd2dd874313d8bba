"""`routed node cleanup`: when it refuses, and what it says. What it does to a kernel is in tests/kernel/cli."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass

import pytest

import routed_felix.cleanup
from routed.cli.cleanup import render
from routed_felix.cleanup import Removed
from routed_felix.state import Settings


@pytest.fixture
def cleaned(monkeypatch):
    calls: list[Settings] = []

    def record(settings: Settings) -> Removed:
        calls.append(settings)
        return Removed()

    monkeypatch.setattr(routed_felix.cleanup, "cleanup", record)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return calls


def test_it_refuses_while_an_agent_holds_the_lock(run, monkeypatch, tmp_path, cleaned):
    monkeypatch.setenv("ROUTED_RUN_DIR", str(tmp_path))
    with (tmp_path / "agent.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = run("node", "cleanup")
    assert (result.status, result.out, cleaned) == (1, "", [])
    assert f"an agent is running (it holds {tmp_path}/agent.lock)" in result.err
    assert "systemctl stop routed" in result.err


def test_it_goes_on_over_the_lock_file_of_a_stopped_agent(run, monkeypatch, tmp_path, cleaned):
    monkeypatch.setenv("ROUTED_RUN_DIR", str(tmp_path))
    monkeypatch.setenv("ROUTED_ROUTE_PROTOCOL", "115")
    (tmp_path / "agent.lock").write_text("")
    assert run("node", "cleanup").status == 0
    assert cleaned == [Settings(115, 1024, "tunl0")]


def test_it_needs_root(run, monkeypatch, cleaned):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    result = run("node", "cleanup")
    assert (result.status, cleaned) == (1, [])
    assert "needs root" in result.err


def test_a_kernel_that_cannot_be_asked_is_a_fault(run, monkeypatch, tmp_path, cleaned):
    def refuse(settings):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setenv("ROUTED_RUN_DIR", str(tmp_path))
    monkeypatch.setattr(routed_felix.cleanup, "cleanup", refuse)
    result = run("node", "cleanup")
    assert result.status == 1
    assert "netlink: Operation not permitted" in result.err


@dataclass(frozen=True)
class Left:
    message: str
    hint: str


def test_what_was_removed_left_and_refused_is_said():
    removed = Removed(
        routes=("r1",),
        veths=("rtd0",),
        addresses=("10.244.0.1/32",),
        tunnel_down=True,
        vxlan="vxlan.routed",
        left=(Left("10.9.9.9/32 is on tunl0", "remove it"),),  # type: ignore[arg-type]
        failures=("link rtd1: busy",),
    )
    assert render(removed, "tunl0").splitlines() == [
        "removed 1 route",
        "removed the pod interface rtd0",
        "removed the address 10.244.0.1/32 from tunl0",
        "set tunl0 down",
        "removed vxlan.routed",
        "left: 10.9.9.9/32 is on tunl0; remove it",
        "failed: link rtd1: busy",
    ]


def test_a_clean_kernel_is_said_to_be_clean():
    assert render(Removed(), "tunl0") == "nothing of routed was in this kernel"

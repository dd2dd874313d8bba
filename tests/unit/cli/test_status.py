"""`routed node status`, against an agent's HTTP."""

from __future__ import annotations

import json
import socket
import threading

import msgspec
import pytest
from tests.unit.cli import agents

from routed.cli.status import Status, Tunnel, render

ANSWER = {
    "node": "a1",
    "ready": False,
    "reason": "no kernel driver",
    "synced": True,
    "sessions": [
        {"peer": "10.1.1.12", "as": 64601, "member": "a2", "state": "established", "since_seconds": 192.4}
        | {"received": 3, "accepted": 2, "stale": 1, "last_error": None},
        {"peer": "10.1.1.1", "as": 65101, "member": None, "state": "idle", "since_seconds": 5}
        | {"received": 0, "accepted": 0, "stale": 0, "last_error": "connection refused"},
    ],
    "routes": {"desired": 6, "programmed": 5, "failures": ["10.244.3.0/24: network unreachable"], "decisions": []},
    "tunnel": {"device": "tunl0", "available": False, "address": None},
    "conflicts": ["route 10.244.1.0/24 is BIRD's\n  remove it"],
    "problems": [{"pool": "pods", "module": "ipip"}],
    "of a later version": 1,
}


def serving(status: int, body: bytes):
    return agents.serving({"/status": lambda _: (status, body)})


def test_the_table_shows_what_an_operator_needs(run, monkeypatch):
    with serving(200, json.dumps(ANSWER).encode()) as port:
        monkeypatch.setenv("ROUTED_HEALTH_PORT", str(port))
        result = run("node", "status")
    assert result.status == 0
    assert (
        result.out
        == """\
a1: not ready, in sync, 5 of 6 routes programmed
not ready because no kernel driver
tunl0: the kernel has no IPIP driver: what needs the tunnel is not reached (modprobe ipip)

PEER       AS     NODE  STATE        SINCE  RECEIVED  ACCEPTED  STALE  LAST ERROR
10.1.1.12  64601  a2    established  3m12s  3         2         1      -
10.1.1.1   65101  -     idle         5s     0         0         0      connection refused

Routes that the kernel refused:
  10.244.3.0/24: network unreachable

Conflicts with what others put into the kernel:
  route 10.244.1.0/24 is BIRD's
    remove it

Problems:
  pool pods, module ipip
"""
    )


@pytest.mark.parametrize(("phase", "said"), [("lowered", "marked as going away"), ("withdrawn", "drained: nobody")])
def test_a_node_that_is_drained_says_so(phase, said):
    assert said in render(Status("a1", drain=phase))


def test_the_vxlan_device_is_shown_where_a_pool_needs_it():
    there = Tunnel("vxlan.routed", needed=True, available=True, address="10.244.1.1")
    assert "vxlan.routed: address 10.244.1.1" in render(Status("a1", vxlan=there))
    missing = Tunnel("vxlan.routed", needed=True, available=False)
    assert "vxlan.routed: the kernel has no VXLAN driver" in render(Status("a1", vxlan=missing))
    assert "vxlan" not in render(Status("a1", vxlan=Tunnel("vxlan.routed", needed=False)))


def test_json_is_the_agents_own_answer_and_nothing_else(run, monkeypatch):
    with serving(200, json.dumps(ANSWER).encode()) as port:
        monkeypatch.setenv("ROUTED_HEALTH_PORT", str(port))
        result = run("node", "status", "--json")
    assert json.loads(result.out) == ANSWER


def test_an_agent_that_says_little_is_shown_as_far_as_it_goes():
    shown = render(msgspec.json.decode(b'{"node": "a1"}', type=Status))
    assert shown == "a1: not ready, not in sync yet, 0 of 0 routes programmed\n\nno BGP sessions"


def test_a_status_that_is_not_ready_is_still_shown(run, monkeypatch):
    with serving(503, b'{"node": "a1"}') as port:
        monkeypatch.setenv("ROUTED_HEALTH_PORT", str(port))
        assert run("node", "status").out.startswith("a1: not ready")


def test_no_agent_is_an_error_with_what_to_do(run, monkeypatch):
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        port = unheard.getsockname()[1]
        monkeypatch.setenv("ROUTED_HEALTH_PORT", str(port))
        result = run("node", "status")
    assert (result.status, result.out) == (1, "")
    assert f"error: no agent answers on 127.0.0.1:{port} (health_port)" in result.err
    assert "systemctl start routed" in result.err


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (503, b"the agent's event loop does not answer\n", "answers 503: the agent's event loop does not answer"),
        (404, b"there is: /metrics", "answers 404"),
        (200, b"<html>", "is no status of an agent"),
        (200, b'{"ready": true}', "is no status of an agent: Object missing required field `node`"),
        (200, b"\xff", "is no status of an agent"),
    ],
)
def test_an_answer_that_is_no_status_is_said_as_it_is(run, monkeypatch, status, body, said):
    with serving(status, body) as port:
        monkeypatch.setenv("ROUTED_HEALTH_PORT", str(port))
        result = run("node", "status")
    assert (result.status, result.out) == (1, "")
    assert said in result.err


def test_a_port_that_speaks_no_http_is_an_error(run, monkeypatch):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def hang_up():
            connection, _ = server.accept()
            connection.recv(1000)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        monkeypatch.setenv("ROUTED_HEALTH_PORT", str(server.getsockname()[1]))
        result = run("node", "status")
        thread.join()
    assert (result.status, result.out) == (1, "")
    assert "does not answer" in result.err

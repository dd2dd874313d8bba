"""How the agent starts, or refuses to: one clear message, and nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.kernel.agent.world import POOL, Namespace, Node, World, member
from tests.waiting import until

from routed_cni.install import write_plugin


@dataclass(frozen=True)
class Trace:
    """Everything of a node's that an agent may leave behind."""

    routes: str
    links: list[str]
    addresses: str
    held: dict[str, list[str]]


def trace(world: World, node: Node) -> Trace:
    links = [link["ifname"] for link in node.namespace.look("link", "show")]
    # IPv4 only: link-local addresses come and settle by themselves, seconds after their links
    routes, addresses = node.namespace.ip("-4", "route", "show", "table", "all"), node.namespace.ip("-4", "-o", "addr")
    return Trace(routes, links, addresses, world.held())


@contextlib.contextmanager
def listening(namespace: Namespace, address: str, port: int) -> Generator[None]:
    """Somebody else has the port."""
    code = f"import socket, sys; s = socket.create_server(({address!r}, {port})); print('ready', flush=True); input()"
    owner = subprocess.Popen(namespace.argv(sys.executable, "-c", code), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert owner.stdin
    assert owner.stdout
    try:
        assert owner.stdout.readline() == b"ready\n"
        yield
    finally:
        owner.kill()
        owner.wait()
        owner.stdin.close()
        owner.stdout.close()


@contextlib.contextmanager
def nothing(world: World, node: Node) -> Generator[None]:
    yield


@contextlib.contextmanager
def port_179_taken(world: World, node: Node) -> Generator[None]:
    with listening(node.namespace, "10.99.0.1", 179):
        yield


@contextlib.contextmanager
def health_port_taken(world: World, node: Node) -> Generator[None]:
    with listening(node.namespace, "127.0.0.1", 9099):
        yield


@contextlib.contextmanager
def metrics_port_taken(world: World, node: Node) -> Generator[None]:
    with listening(node.namespace, "127.0.0.1", 9091):
        yield


@contextlib.contextmanager
def address_absent(world: World, node: Node) -> Generator[None]:
    world.apply(member(1, bgp={"ipv4Address": "10.99.0.77/24"}))
    yield


@contextlib.contextmanager
def socket_in_the_way(world: World, node: Node) -> Generator[None]:
    (node.directory / "run/cni.sock").mkdir(parents=True)
    yield


Trouble = Callable[[World, Node], contextlib.AbstractContextManager[None]]


@pytest.mark.parametrize(
    ("trouble", "settings", "expected"),
    [
        (address_absent, {}, ["Node n1: spec.bgp.ipv4Address 10.99.0.77/24 is on no", "10.99.0.1/24 on eth1"]),
        (port_179_taken, {}, ["BGP cannot listen on 10.99.0.1 port 179: another process listens there", "ss -ltnp"]),
        (health_port_taken, {}, ["cannot listen on 127.0.0.1:9099 (health_port)", "set health_port to a free one"]),
        (metrics_port_taken, {}, ["cannot listen on 127.0.0.1:9091 (metrics_port)", "metrics_port to a free one"]),
        (nothing, {"store": "sqlite:///dev/null/store.db"}, ["/dev/null is not a directory"]),
        (nothing, {"store": "sqlite:///etc/passwd"}, ["/etc/passwd is not a SQLite database"]),
        (nothing, {"store": "etcd3://127.0.0.1"}, ["unknown kind 'etcd3'", "expected sqlite:///ABSOLUTE/PATH"]),
        (nothing, {"run_dir": "/dev/null/run"}, ["run_dir /dev/null/run: Not a directory"]),
        (nothing, {"run_dir": "/run/" + "x" * 100}, ["cni.sock", "at most"]),
        (socket_in_the_way, {}, ["cni.sock is there and not a socket", "remove it"]),
    ],
    ids=["address", "port-179", "health-port", "metrics-port", "store-path", "store-file", "store-url", "run-dir",
         "run-dir-length", "socket"],
)  # fmt: skip
def test_what_is_wrong_at_start_is_said_once_and_leaves_nothing(
    world: World, trouble: Trouble, settings: dict[str, Any], expected: list[str]
) -> None:
    node = world.node(1)
    world.apply(POOL, member(1), member(2))
    with trouble(world, node):
        before = trace(world, node)
        node.start(**settings)
        ended = node.ended()
        after = trace(world, node)
    assert ended.status == 1
    assert len(ended.complaints) == 1, ended.output
    assert all(part in ended.output for part in expected), ended.output
    assert "Traceback" not in ended.output
    assert after == before
    assert not [
        process for process in Path("/proc").glob("[0-9]*/cmdline") if str(node.directory).encode() in _read(process)
    ]


def test_an_exabgp_that_dies_at_start_ends_the_agent_and_leaves_nothing(world: World) -> None:
    node = world.node(1)
    world.apply(POOL, member(1), member(2))
    before = trace(world, node)
    node.start()
    os.kill(until(lambda: node.exabgp), signal.SIGKILL)
    ended = node.ended()
    assert ended.status == 1
    assert ended.complaints == ["error: ExaBGP was killed by signal 9"]
    assert trace(world, node) == before


def test_sigterm_at_any_moment_of_the_start_ends_it_in_peace(world: World) -> None:
    node = world.node(1)
    world.apply(POOL, member(1), member(2))
    for hundredths in range(5, 60, 5):
        node.start()
        time.sleep(hundredths / 100)  # not a wait: the moment is what differs
        ended = node.stop()
        assert ended.status in (0, -signal.SIGTERM)  # Python itself, before it could ask for the signal
        assert "Traceback" not in ended.output
        assert ended.complaints == []


def _read(path: Path) -> bytes:
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return b""


def test_a_second_agent_on_the_run_dir_is_refused_and_the_first_goes_on(world: World) -> None:
    node = world.node(1)
    world.apply(POOL, member(1))
    node.start()
    node.ready()
    second = node.routed("agent")
    assert second.returncode == 1
    assert second.stderr.count("error:") == 1
    assert f"it holds {node.directory}/run/agent.lock" in second.stderr
    assert node.http("/readiness") == (200, "ready\n")
    assert node.stop().status == 0


def test_an_unknown_node_waits_without_work_and_is_ready_when_applied(world: World) -> None:
    node = world.node(1)
    world.apply(POOL, member(2))
    node.start(bgp_sync_seconds=0)
    until(lambda: "waiting for it (routed apply -f FILE)" in node.log.read_text(), what=node.log.read_text)
    assert node.http("/readiness") == (503, "Node n1 is not in the store\n")
    assert node.http("/liveness") == (200, "alive\n")
    before = node.cpu_seconds()
    assert node.told(1.0) == ""
    assert node.cpu_seconds() - before < 0.2, "it waits in a busy loop"
    assert node.namespace.ours() == set()
    world.apply(member(1))
    node.ready()
    assert node.namespace.ours() == {"10.244.1.0/24 blackhole"}


def test_a_node_whose_address_is_wrong_when_applied_ends_the_waiting_agent(world: World) -> None:
    node = world.node(1)
    world.apply(POOL)
    node.start()
    until(lambda: "waiting for it" in node.log.read_text())
    world.apply(member(1, bgp={"ipv4Address": "10.99.0.77/24"}))
    ended = node.ended()
    assert ended.status == 1
    assert len(ended.complaints) == 1, ended.output
    assert "10.99.0.77/24 is on no interface" in ended.output


def test_cleanup_refuses_while_the_agent_runs_then_removes_ours_and_nothing_else(world: World) -> None:
    node = world.node(1)
    # of IPv4: the kernel itself adds routes of IPv6 when it is done with an address that eth1 has had for a moment
    before = node.namespace.ip("-4", "route", "show", "table", "all"), node.namespace.ip("-o", "link")
    world.apply(POOL, member(1))
    node.start()
    node.ready()
    pod = world.pod(node)
    node.namespace.ip("route", "add", "blackhole", "10.244.1.128/25", "metric", "7")
    refused = node.routed("node", "cleanup")
    assert refused.returncode == 1
    assert "an agent is running" in refused.stderr
    assert node.namespace.ours() == {"10.244.1.0/24 blackhole", f"{pod.address} {_veth(node)}"}
    assert node.stop().status == 0
    assert node.namespace.ours() == {"10.244.1.0/24 blackhole", f"{pod.address} {_veth(node)}"}
    done = node.routed("node", "cleanup")
    assert done.returncode == 0, done.stderr
    node.namespace.ip("route", "del", "blackhole", "10.244.1.128/25", "metric", "7")
    assert (node.namespace.ip("-4", "route", "show", "table", "all"), node.namespace.ip("-o", "link")) == before


def _veth(node: Node) -> str:
    names = [link["ifname"] for link in node.namespace.look("link", "show")]
    return next(name for name in names if name.startswith("rtd"))


def test_add_while_the_agent_is_down_is_code_11_and_works_when_it_is_back(world: World) -> None:
    node = world.node(1)
    world.apply(POOL, member(1))
    sandbox = world.namespace("p")
    socket_path = node.directory / "run/cni.sock"
    write_plugin(node.plugin.parent, socket_path, connect_seconds=0.1)
    status, answer = node.cni("ADD", sandbox.name, sandbox.path)
    assert (status, answer["code"]) == (1, 11)
    assert f"not answering at {socket_path}" in answer["msg"]
    write_plugin(node.plugin.parent, socket_path, connect_seconds=10.0)
    node.start()
    assert node.cni("ADD", sandbox.name, sandbox.path)[0] == 0


def test_a_restart_writes_nothing_before_end_of_rib_and_the_wait_is_bounded(world: World) -> None:
    node = world.node(1)
    world.apply(POOL, member(1), member(2))
    route = ("10.244.2.0/24", "via", "10.99.0.2", "proto", "114", "metric", "1024")
    node.namespace.ip("route", "add", *route)  # as the last agent left it; the peer that it came from is dead
    with node.namespace.watched() as events:
        node.start(bgp_sync_seconds=2)
        until(lambda: (node.directory / "run/cni.sock").exists())
        assert node.told(1.0) == "", "it says READY before it is in sync"
        assert node.http("/readiness") == (503, "waiting for End-of-RIB from 10.99.0.2\n")
    assert events == []
    node.ready()
    assert node.namespace.ours() == {"10.244.1.0/24 blackhole"}
    assert "going on without End-of-RIB from 10.99.0.2: waited 2 s" in node.log.read_text()

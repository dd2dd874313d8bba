"""An agent that is recorded, and the same decisions from the file alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kernel.agent.world import POOL, ROUTER, TO_ROUTER, Node, Router, World, member
from tests.waiting import until

from routed.agent.recording import lines
from routed.agent.recording.replay import Replay
from routed_felix.state import Desired

BEHIND = "10.244.9.0/24"  # announced by the router, for a member in another subnet
FAR = {"kind": "Node", "metadata": {"name": "far"},
       "spec": {"bgp": {"ipv4Address": "10.98.0.9/24"}, "podCIDRs": [BEHIND]}}  # fmt: skip
OTHER = "10.244.2.0/24"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    try:
        made.apply(POOL, member(1), member(2), TO_ROUTER)
        yield made
    finally:
        made.close()


def as_in_kernel(desired: Desired) -> set[str]:
    """The routes as `Namespace.ours` says them."""
    found: set[str] = set()
    for key, route in desired.routes.items():
        prefix = str(key.prefix).removesuffix("/32")
        hop = route.hops[0] if route.hops else None
        found.add(f"{prefix} {(hop.gateway or hop.device) if hop else route.kind}")
    return found


def replayed(recording: Path) -> tuple[list[str], set[str]]:
    """The decisions as lines, and the routes wanted at the end."""
    replay = Replay(recording.name)
    with recording.open() as file:
        told = list(map(str, replay.run(lines.decode(file, recording.name))))
    return told, as_in_kernel(replay.desired())


def knows(node: Node, *routes: str) -> None:
    until(lambda: node.namespace.ours() >= set(routes), 40, lambda: node.log.read_text()[-2000:])


def test_a_recorded_run_replays_to_what_the_kernel_has_at_each_of_its_ends(world: World, tmp_path: Path) -> None:
    recording = tmp_path / "recording.jsonl"
    one, two = world.node(1), world.node(2)
    router: Router = world.router([1, 2], {BEHIND: ROUTER})
    one.record = recording
    one.start()
    two.start()
    for node in (one, two):
        node.ready(40)
    pod = world.pod(one)
    knows(one, f"{OTHER} 10.99.0.2", f"{BEHIND} {ROUTER}", f"{pod.address} {world_device(one, pod.address)}")
    world.apply(FAR)
    until(lambda: "far" in recording.read_text())
    two.stop()
    world.delete(TO_ROUTER)
    until(lambda: f"{BEHIND} {ROUTER}" not in one.namespace.ours(), 40)
    router.close()
    kernel = one.namespace.ours()
    one.stop()
    told, wanted = replayed(recording)
    assert wanted == kernel
    assert any(f"best    {BEHIND}: via {ROUTER} from {ROUTER}" in line for line in told)
    assert replayed(recording) == (told, wanted)
    done = subprocess.run(
        [sys.executable, "-m", "routed", "replay", str(recording)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == told


def world_device(node: Node, address: str) -> str:
    """The interface by which the node reaches a pod of its own."""
    return str(node.namespace.look("route", "get", address)[0]["dev"])

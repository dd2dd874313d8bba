"""The driver is on disk but not loaded: runs first, in a kernel that was booted without it."""

from __future__ import annotations

from pathlib import Path

from tests.kernel.felix.world import World
from tests.lab.felix.inside.words import TUNNELLED

from routed_felix.dataplane import Dataplane
from routed_felix.state import Settings


def loaded() -> bool:
    return any(line.startswith("ipip ") for line in Path("/proc/modules").read_text().splitlines())


def test_asking_for_the_driver_does_not_load_it(world: World) -> None:
    assert not loaded()
    with Dataplane(Settings(), world.path) as plane:
        assert plane.read().tunnel
    assert not loaded()


def test_needing_the_tunnel_loads_the_driver_and_uses_the_device_that_comes_with_it(world: World) -> None:
    assert not loaded()
    with Dataplane(Settings(), world.path) as plane:
        report = plane.apply(TUNNELLED)
    assert loaded()
    assert report.complete
    assert world.link("tunl0")["ifalias"] == "routed:tunnel"

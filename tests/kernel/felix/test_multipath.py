"""Routes whose traffic several next hops share, in a real table."""

from __future__ import annotations

import pytest
from tests.kernel.felix.words import via, wanted
from tests.kernel.felix.world import World

from routed_felix.dataplane import Dataplane
from routed_felix.monitor import Monitor
from routed_felix.state import Desired, Route, Settings

ONE = "192.168.1.0/26"
FIRST, SECOND = "10.1.1.1", "10.1.1.12"


def over(*gateways: str, source: str | None = None) -> Route:
    ways = [via(gateway, source=source) for gateway in gateways]
    return Route(hops=tuple(hop for way in ways for hop in way.hops), source=ways[0].source)


def gateways(world: World) -> list[str]:
    found = world.routes()[ONE]
    return [hop["gateway"] for hop in found.get("nexthops", [found])]


@pytest.fixture
def desired() -> Desired:
    return wanted({ONE: over(FIRST, SECOND, source="10.1.1.11")})


def test_both_next_hops_are_in_the_kernel_and_a_second_apply_writes_nothing(world: World, desired: Desired) -> None:
    with Dataplane(Settings(), world.path) as plane:
        assert plane.apply(desired).complete
        assert gateways(world) == [FIRST, SECOND]
        assert [hop["weight"] for hop in world.routes()[ONE]["nexthops"]] == [1, 1]
        with world.listen() as listener:
            assert plane.apply(desired).changed == 0
            assert listener.heard() == []


def test_a_restart_without_memory_adopts_it_with_no_write(world: World, desired: Desired) -> None:
    with Dataplane(Settings(), world.path) as before:
        before.apply(desired)
    with world.listen() as listener, Dataplane(Settings(), world.path) as after:
        assert after.apply(desired).complete
        assert listener.heard() == []


def test_it_becomes_a_route_by_one_and_shared_again_in_place(world: World, desired: Desired) -> None:
    with Dataplane(Settings(), world.path) as plane:
        for hops in ((FIRST,), (FIRST, SECOND), (SECOND,)):
            assert plane.apply(wanted({ONE: over(*hops)})).complete
            assert gateways(world) == list(hops)


@pytest.mark.parametrize(
    "damage",
    [
        ("route", "replace", ONE, "metric", "1024", "proto", "114", "via", FIRST, "src", "10.1.1.11"),
        ("route", "del", ONE, "metric", "1024"),
        (
            *("route", "replace", ONE, "metric", "1024", "proto", "114", "src", "10.1.1.11"),
            *("nexthop", "via", FIRST, "weight", "3", "nexthop", "via", SECOND, "weight", "1"),
        ),
    ],
    ids=["one hop", "deleted", "weights"],
)
def test_what_another_hand_made_of_it_is_put_right(world: World, desired: Desired, damage: tuple[str, ...]) -> None:
    with Dataplane(Settings(), world.path) as plane, Monitor(Settings(), world.path, own_port=plane.port) as monitor:
        plane.apply(desired)
        monitor.read()
        world.ip(*damage)
        plane.take(monitor.read())
        plane.reread()
        assert plane.apply(desired).changed == 1
        assert gateways(world) == [FIRST, SECOND]
        assert [hop["weight"] for hop in world.routes()[ONE]["nexthops"]] == [1, 1]


def test_a_link_that_goes_down_and_comes_back_leaves_it_whole(world: World) -> None:
    world.ip("link", "add", "eth2", "type", "veth", "peer", "name", "p2")
    for name in ("eth2", "p2"):
        world.ip("link", "set", name, "up")
    world.ip("addr", "add", "10.1.3.11/24", "dev", "eth2")
    world.until(lambda: "LOWER_UP" in world.link("eth2")["flags"])
    both = wanted({ONE: Route(hops=(*via(FIRST).hops, *via("10.1.3.1", "eth2").hops))})
    with Dataplane(Settings(), world.path) as plane, Monitor(Settings(), world.path, own_port=plane.port) as monitor:
        plane.apply(both)
        world.ip("link", "set", "eth2", "down")
        plane.take(monitor.read())
        plane.reread()
        assert plane.apply(wanted({ONE: via(FIRST)})).complete
        assert gateways(world) == [FIRST]
        world.ip("link", "set", "eth2", "up")
        world.until(lambda: "LOWER_UP" in world.link("eth2")["flags"])
        plane.take(monitor.read())
        plane.reread()
        assert plane.apply(both).complete
        assert gateways(world) == [FIRST, "10.1.3.1"]

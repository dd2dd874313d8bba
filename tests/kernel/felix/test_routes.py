"""Our routes in a real table; the witness is iproute2, the listener a bare socket."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from tests.kernel.felix.words import BLACKHOLE, key, on, via, wanted
from tests.kernel.felix.world import World

from routed_felix.dataplane import Dataplane
from routed_felix.state import Desired, Hop, Settings, UnderlayRoute

ONE, TWO, THREE = "192.168.1.0/26", "192.168.2.0/26", "192.168.3.0/26"


def test_sync_123_then_13_then_none(world: World) -> None:
    with Dataplane(Settings(), world.path) as plane:
        plane.apply(wanted({ONE: via("10.1.1.1"), TWO: via("10.1.1.12"), THREE: BLACKHOLE}))
        table = world.routes()
        assert set(table) == {ONE, TWO, THREE}
        assert (table[ONE]["gateway"], table[ONE]["dev"], table[ONE]["metric"]) == ("10.1.1.1", "eth1", 1024)
        assert table[THREE]["type"] == "blackhole"
        plane.apply(wanted({ONE: via("10.1.1.12"), THREE: BLACKHOLE}))
        assert set(world.routes()) == {ONE, THREE}
        assert world.routes()[ONE]["gateway"] == "10.1.1.12"
        plane.apply(wanted({}))
        assert world.routes() == {}


def test_more_routes_than_one_send_holds(world: World) -> None:
    table = {str(IPv4Network((0xC0A80000 + 64 * n, 26))): via("10.1.1.1") for n in range(1000)}
    table |= {str(IPv4Network((0xAC100000 + 64 * n, 26))): BLACKHOLE for n in range(300)}
    with Dataplane(Settings(), world.path) as plane:
        report = plane.apply(wanted(table))
        assert (report.programmed, dict(report.failures)) == (1300, {})
        assert set(world.routes()) == set(table)


def test_a_second_apply_writes_nothing(world: World) -> None:
    desired = wanted({ONE: via("10.1.1.1"), TWO: BLACKHOLE, "192.168.9.9/32": on("eth1")})
    with Dataplane(Settings(), world.path) as plane:
        first = plane.apply(desired)
        with world.listen() as listener:
            second = plane.apply(desired)
            assert listener.heard() == []
    assert (first.complete, second.changed, second.programmed) == (True, 0, 3)


def test_a_restart_without_memory_adopts_what_is_right_with_no_write(world: World) -> None:
    desired = wanted({ONE: via("10.1.1.1", source="10.1.1.11"), TWO: BLACKHOLE, "192.168.9.9/32": on("eth1")})
    with Dataplane(Settings(), world.path) as before:
        before.apply(desired)
    with world.listen() as listener, Dataplane(Settings(), world.path) as after:
        report = after.apply(desired)
        assert listener.heard() == []
    assert (report.changed, report.programmed, report.complete) == (0, 3, True)


def test_a_restart_sweeps_ours_that_nobody_wants_any_more(world: World) -> None:
    with Dataplane(Settings(), world.path) as before:
        before.apply(wanted({ONE: via("10.1.1.1"), TWO: BLACKHOLE}))
    with Dataplane(Settings(), world.path) as after:
        assert after.apply(wanted({ONE: via("10.1.1.1")})).changed == 1
    assert set(world.routes()) == {ONE}


def test_strangers_routes_are_kept(world: World) -> None:
    world.ip("route", "add", THREE, "via", "10.1.1.1", "proto", "static")
    with Dataplane(Settings(), world.path) as plane:
        plane.apply(wanted({ONE: via("10.1.1.1")}))
        plane.apply(wanted({}))
    assert set(world.routes(protocol=4)) == {"default", THREE}


def test_a_strangers_route_on_our_exact_key_is_reported_and_left_alone(world: World) -> None:
    world.ip("route", "add", ONE, "via", "10.1.1.12", "proto", "static", "metric", "1024")
    with Dataplane(Settings(), world.path) as plane:
        for _ in range(2):
            report = plane.apply(wanted({ONE: via("10.1.1.1"), TWO: via("10.1.1.1")}))
            assert [conflict.key for conflict in report.conflicts] == [key(ONE)]
            assert dict(report.failures) == {}
            assert report.programmed == 1
    assert world.routes(protocol=4)[ONE]["gateway"] == "10.1.1.12"
    assert set(world.routes()) == {TWO}


def test_our_route_comes_when_the_stranger_has_gone(world: World) -> None:
    world.ip("route", "add", "blackhole", ONE, "proto", "static", "metric", "1024")
    with Dataplane(Settings(), world.path) as plane:
        plane.apply(wanted({ONE: via("10.1.1.1")}))
        world.ip("route", "del", "blackhole", ONE, "metric", "1024")
        plane.read()
        assert plane.apply(wanted({ONE: via("10.1.1.1")})).complete
    assert set(world.routes()) == {ONE}


def test_a_strangers_route_at_another_metric_is_a_conflict_beside_ours(world: World) -> None:
    world.ip("route", "add", ONE, "via", "10.1.1.12", "proto", "static", "metric", "10")
    with Dataplane(Settings(), world.path) as plane:
        report = plane.apply(wanted({ONE: via("10.1.1.1")}))
    assert [conflict.key for conflict in report.conflicts] == [key(ONE)]
    assert "metric 10, used instead of ours" in report.conflicts[0].message
    assert set(world.routes()) == {ONE}
    assert ONE in world.routes(protocol=4)


def test_a_deleted_route_is_put_back(world: World) -> None:
    desired = wanted({ONE: via("10.1.1.1"), TWO: BLACKHOLE})
    with Dataplane(Settings(), world.path) as plane:
        plane.apply(desired)
        world.ip("route", "del", ONE, "proto", "114")
        assert plane.apply(desired).changed == 1
    assert set(world.routes()) == {ONE, TWO}


def test_a_route_taken_over_after_we_programmed_it_is_put_back(world: World) -> None:
    desired = wanted({ONE: via("10.1.1.1")})
    with Dataplane(Settings(), world.path) as plane:
        plane.apply(desired)
        world.ip("route", "replace", ONE, "via", "10.1.1.12", "proto", "static", "metric", "1024")
        assert world.routes() == {}
        plane.read()
        report = plane.apply(desired)
        assert (report.changed, report.complete) == (1, True)
        assert plane.apply(desired).complete
    assert world.routes()[ONE]["gateway"] == "10.1.1.1"
    assert set(world.routes(protocol=4)) == {"default"}


@pytest.mark.parametrize(
    "damage",
    [
        ("via", "10.1.1.12"),
        ("via", "10.1.1.1", "mtu", "1000"),
        ("via", "10.1.1.1", "src", "10.1.1.11"),
        ("nexthop", "via", "10.1.1.1", "nexthop", "via", "10.1.1.12"),
    ],
)
def test_our_route_changed_by_another_hand_is_put_right(world: World, damage: tuple[str, ...]) -> None:
    desired = wanted({ONE: via("10.1.1.1")})
    with Dataplane(Settings(), world.path) as plane:
        plane.apply(desired)
        right = world.routes()
        world.ip("route", "replace", ONE, "proto", "114", "metric", "1024", *damage)
        assert world.routes() != right
        assert plane.apply(desired).changed == 1
        assert plane.apply(desired).changed == 0
    assert world.routes() == right


def test_a_second_route_appended_to_our_key_is_removed(world: World) -> None:
    desired = wanted({ONE: via("10.1.1.1")})
    with Dataplane(Settings(), world.path) as plane:
        plane.apply(desired)
        world.ip("route", "append", ONE, "via", "10.1.1.12", "proto", "114", "metric", "1024")
        plane.apply(desired)
        assert plane.apply(desired).changed == 0
    assert [r["gateway"] for r in world.look("route", "show", "proto", "114")] == ["10.1.1.1"]


def test_sweeping_ours_does_not_hit_a_strangers_route_of_the_same_key(world: World) -> None:
    with Dataplane(Settings(), world.path) as plane:
        plane.apply(wanted({ONE: via("10.1.1.1")}))
        world.ip("route", "prepend", ONE, "via", "10.1.1.12", "proto", "static", "metric", "1024")
        kept = world.routes(protocol=4)
        plane.apply(wanted({}))
        plane.apply(wanted({}))
    assert world.routes() == {}
    assert world.routes(protocol=4) == kept


def test_a_namespace_that_never_had_a_route_holds_none(world: World) -> None:
    world.ip("netns", "add", f"{world.name}e")
    try:
        with Dataplane(Settings(), f"/run/netns/{world.name}e") as plane:
            assert not plane.holds_routes()
            assert plane.read().underlay == ()
            assert plane.apply(wanted({ONE: BLACKHOLE})).complete
            assert plane.holds_routes()
    finally:
        world.ip("netns", "del", f"{world.name}e")


def test_one_failure_never_stops_the_rest(world: World) -> None:
    desired = wanted({ONE: via("172.31.0.1"), TWO: via("10.1.1.1"), THREE: via("10.1.1.1", device="eth9")})
    with Dataplane(Settings(), world.path) as plane:
        report = plane.apply(desired)
    assert set(world.routes()) == {TWO}
    assert report.programmed == 1
    assert set(report.failures) == {key(ONE), key(THREE)}
    assert report.failures[key(THREE)] == "interface eth9 does not exist"


def test_holds_routes_tells_a_restart_from_a_first_start(world: World) -> None:
    with Dataplane(Settings(), world.path) as plane:
        assert not plane.holds_routes()
        plane.apply(wanted({ONE: BLACKHOLE}))
    with Dataplane(Settings(), world.path) as plane:
        assert plane.holds_routes()


def test_another_protocol_and_metric_are_kept_apart(world: World) -> None:
    with Dataplane(Settings(), world.path) as ours, Dataplane(Settings(protocol=115, metric=2000), world.path) as other:
        ours.apply(wanted({ONE: BLACKHOLE}))
        assert not other.holds_routes()
        other.apply(wanted({}))
    assert set(world.routes()) == {ONE}


def test_read_tells_interfaces_addresses_and_strangers_routes(world: World) -> None:
    with Dataplane(Settings(), world.path) as plane:
        plane.apply(wanted({ONE: via("10.1.1.1")}))
        kernel = plane.read()
    eth1 = kernel.interfaces["eth1"]
    assert (eth1.up, eth1.kind, eth1.mtu) == (True, "veth", 1500)
    assert [str(address) for address in eth1.addresses] == ["10.1.1.11/24"]
    default = UnderlayRoute(IPv4Network("0.0.0.0/0"), (Hop("eth1", IPv4Address("10.1.1.1")),), protocol=4)
    assert default in kernel.underlay
    assert {str(route.prefix) for route in kernel.underlay} == {"0.0.0.0/0", "10.1.1.0/24"}


def test_an_interface_without_carrier_is_not_up(world: World) -> None:
    world.ip("link", "add", "eth2", "type", "veth", "peer", "name", "eth3")
    world.ip("link", "set", "eth2", "up")
    with Dataplane(Settings(), world.path) as plane:
        assert not plane.read().interfaces["eth2"].up


def test_sysctls_are_set_once(world: World) -> None:
    world.set_sysctl("net/ipv4/ip_forward", "0")
    world.set_sysctl("net/ipv4/conf/eth1/rp_filter", "1")
    desired = Desired(sysctls={"net/ipv4/ip_forward": "1", "net/ipv4/conf/eth1/rp_filter": "2"})
    with Dataplane(Settings(), world.path) as plane:
        assert plane.apply(desired).changed == 2
        assert plane.apply(desired).changed == 0
    assert world.sysctl("net/ipv4/ip_forward") == "1"
    assert world.sysctl("net/ipv4/conf/eth1/rp_filter") == "2"


def test_a_sysctl_of_an_interface_that_is_gone_is_a_failure_by_name(world: World) -> None:
    with Dataplane(Settings(), world.path) as plane:
        report = plane.apply(Desired(sysctls={"net/ipv4/conf/eth9/rp_filter": "2"}))
    assert set(report.failures) == {"net/ipv4/conf/eth9/rp_filter"}

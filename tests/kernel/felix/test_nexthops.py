"""Nexthop groups in the kernel: one object to repoint, put right when others touch it, never a stranger's."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Address, IPv6Network
from typing import Any, Self

import pytest
from tests.kernel.felix.life import NEIGHBOUR, TOR, Life, prefixes, ways
from tests.kernel.felix.words import key, wanted
from tests.kernel.felix.words import via as plain_via
from tests.kernel.felix.world import World

from routed_felix.cleanup import cleanup
from routed_felix.dataplane import Dataplane
from routed_felix.state import COMPATIBLE, Change, Desired, Group, Hop, Report, Route, RouteKey, Settings
from routed_felix.wanted import Table

SOME = prefixes(0, 40)


@pytest.fixture(autouse=True)
def kernel() -> None:
    """The kernel as it is; that routes without nexthop objects end the same is in the other files."""


def objects(world: World) -> dict[int, Any]:
    """Ours: the members' ids of a group, the gateway of a member."""
    found = {}
    for each in world.look("nexthop", "show"):
        if str(each.get("protocol")) == "114":
            found[each["id"]] = each["gateway"] if "gateway" in each else [member["id"] for member in each["group"]]
    return found


def groups(world: World) -> list[int]:
    return [number for number, what in objects(world).items() if isinstance(what, list)]


def raw(world: World) -> dict[str, dict[str, Any]]:
    """Routes as the kernel tells them."""
    return {each["dst"]: each for each in world.look("route", "show", "proto", "114")}


class Plane:
    """A dataplane, and routes by one group that can be repointed."""

    def __init__(self, world: World, *gateways: str) -> None:
        self.plane = Dataplane(Settings(), world.path)
        self.group = Group()
        self.desired = self._by(gateways)
        assert self.plane.apply(self.desired).complete

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.plane.close()

    def _by(self, gateways: tuple[str, ...]) -> Desired:
        hops = tuple(hop for gateway in gateways for hop in plain_via(gateway).hops)
        routes = {key(prefix): Route(hops=hops, group=self.group) for prefix in SOME}
        return Desired(routes=routes, sysctls={COMPATIBLE: "0"})

    def repoint(self, *gateways: str) -> Report:
        self.desired = self._by(gateways)
        hops = next(iter(self.desired.routes.values())).hops
        return self.plane.change(Change(self.desired, groups={self.group: hops}), Table.of(self.desired.routes))


def test_routes_by_one_group_are_repointed_without_a_route_being_written(world: World) -> None:
    with Plane(world, TOR) as plane:
        before = raw(world)
        with world.listen() as listener:
            assert plane.repoint(NEIGHBOUR).complete
            assert not {24, 25} & set(listener.heard())  # RTM_NEWROUTE, RTM_DELROUTE
        assert raw(world) == before
    assert ways(world, SOME) == dict.fromkeys(SOME, ("eth1", NEIGHBOUR))


def test_a_group_grows_and_shrinks_and_members_that_nobody_uses_go(world: World) -> None:
    with Plane(world, TOR) as plane:
        for gateways in ((TOR, NEIGHBOUR), (NEIGHBOUR,), (TOR,)):
            assert plane.repoint(*gateways).complete
            (group,) = groups(world)
            found = objects(world)
            assert [found[member] for member in found.pop(group)] == list(gateways)
            assert sorted(found.values()) == sorted(gateways)


def test_a_route_always_goes_by_a_group_even_of_one(world: World) -> None:
    with Plane(world, TOR):
        (group,) = groups(world)
    assert {route["nhid"] for route in raw(world).values()} == {group}


def test_the_kernel_is_set_to_repoint_at_one_cost(world: World) -> None:
    with Life(world, dict.fromkeys(SOME, TOR)) as life:
        life.begin()
    assert world.sysctl("net/ipv4/nexthop_compat_mode") == "0"


def test_a_restart_adopts_groups_by_their_routes_with_no_write(world: World) -> None:
    """Two groups that lead the same way are told apart by the prefixes that go by them."""
    table = {SOME[0]: plain_via(TOR), SOME[1]: plain_via(TOR), SOME[2]: plain_via(NEIGHBOUR)}
    with Dataplane(Settings(), world.path) as before:
        before.apply(wanted(table))
    had = objects(world), raw(world)
    with world.listen() as listener, Dataplane(Settings(), world.path) as after:
        assert after.apply(wanted(table)).changed == 0
        assert listener.heard() == []
    assert (objects(world), raw(world)) == had


def test_a_restart_sweeps_groups_that_nobody_wants_and_strangers_stay(world: World) -> None:
    world.ip("nexthop", "add", "id", "7", "via", TOR, "dev", "eth1", "protocol", "static")
    world.ip("nexthop", "add", "id", "8", "group", "7", "protocol", "static")
    with Plane(world, TOR, NEIGHBOUR):
        pass
    with Dataplane(Settings(), world.path) as after:
        assert after.apply(Desired()).complete
    assert objects(world) == {}
    assert {each["id"] for each in world.look("nexthop", "show")} == {7, 8}


@pytest.mark.parametrize("what", ["group", "member", "all"])
def test_what_another_hand_deletes_is_put_back_with_its_routes(world: World, what: str) -> None:
    with Life(world, dict.fromkeys(SOME, TOR)) as life:
        life.begin()
        life.settle()
        (group,) = groups(world)
        member = objects(world)[group][0]
        words = {"group": ("del", "id", str(group)), "member": ("del", "id", str(member)), "all": ("flush",)}[what]
        world.ip("nexthop", *words)
        assert raw(world).keys().isdisjoint(SOME)  # the kernel deletes them with what they go by
        life.settle()
        assert ways(world, SOME) == dict.fromkeys(SOME, ("eth1", TOR))


def test_a_group_that_another_hand_repoints_is_put_right(world: World) -> None:
    with Life(world, dict.fromkeys(SOME, TOR)) as life:
        life.begin()
        life.settle()
        (group,) = groups(world)
        world.ip("nexthop", "add", "id", "7", "via", NEIGHBOUR, "dev", "eth1")
        world.ip("nexthop", "replace", "id", str(group), "group", "7", "protocol", "static")
        assert ways(world, SOME[:1]) == {SOME[0]: ("eth1", NEIGHBOUR)}
        life.settle()
        assert ways(world, SOME) == dict.fromkeys(SOME, ("eth1", TOR))
        assert groups(world) == [group]


def test_a_link_that_flaps_loses_nothing_in_the_end(world: World) -> None:
    with Life(world, dict.fromkeys(SOME, TOR)) as life:
        life.begin()
        life.settle()
        world.ip("link", "set", "eth1", "down")
        world.ip("link", "set", "eth1", "up")
        world.until(lambda: "LOWER_UP" in world.link("eth1")["flags"])
        life.settle()
        assert ways(world, SOME) == dict.fromkeys(SOME, ("eth1", TOR))


def test_an_id_that_a_stranger_has_is_left_to_it(world: World) -> None:
    world.ip("nexthop", "add", "id", "114000001", "via", NEIGHBOUR, "dev", "eth1", "protocol", "static")
    with Plane(world, TOR):
        pass
    found = {each["id"]: each for each in world.look("nexthop", "show")}
    assert (found[114000001]["gateway"], found[114000001]["protocol"]) == (NEIGHBOUR, "static")
    assert ways(world, SOME) == dict.fromkeys(SOME, ("eth1", TOR))


def test_a_group_that_cannot_be_repointed_is_a_failure_and_the_routes_stay(world: World) -> None:
    with Plane(world, TOR) as plane:
        report = plane.repoint("172.31.0.1")
        assert report.failures == {"next hops 172.31.0.1 dev eth1": "Network is unreachable"}
        assert ways(world, SOME) == dict.fromkeys(SOME, ("eth1", TOR))
        assert plane.repoint(NEIGHBOUR).complete
    assert ways(world, SOME) == dict.fromkeys(SOME, ("eth1", NEIGHBOUR))


def test_a_route_that_cannot_be_moved_keeps_its_old_group(world: World) -> None:
    with Dataplane(Settings(), world.path) as plane:
        plane.apply(wanted({SOME[0]: plain_via(TOR)}))
        report = plane.apply(wanted({SOME[0]: plain_via("172.31.0.1")}))
        assert list(report.failures) == [key(SOME[0])]
    assert ways(world, SOME[:1]) == {SOME[0]: ("eth1", TOR)}


def test_switched_off_the_same_routes_have_their_next_hops_and_the_groups_go(world: World) -> None:
    table = {SOME[0]: plain_via(TOR), SOME[1]: plain_via(NEIGHBOUR)}
    with Dataplane(Settings(), world.path) as plane:
        plane.apply(wanted(table))
    with Dataplane(replace(Settings(), nexthops=False), world.path) as plane:
        assert plane.apply(wanted(table)).complete
        assert objects(world) == {}
        assert [raw(world)[prefix]["gateway"] for prefix in SOME[:2]] == [TOR, NEIGHBOUR]


def test_strangers_routes_by_nexthops_lead_where_these_do(world: World) -> None:
    """As FRR writes them: the underlay would have no next hop otherwise."""
    with Life(world, {}) as life:
        life.begin()
        life.settle()
        world.ip("nexthop", "add", "id", "7", "via", NEIGHBOUR, "dev", "eth1", "protocol", "bgp")
        world.ip("nexthop", "add", "id", "8", "group", "7", "protocol", "bgp")
        world.ip("route", "add", "10.2.2.0/24", "nhid", "8", "protocol", "bgp")
        life.settle()
        found = {str(route.prefix): route.hops for route in life.plane.reread().underlay}
        assert [(hop.device, str(hop.gateway)) for hop in found["10.2.2.0/24"]] == [("eth1", NEIGHBOUR)]
        world.ip("nexthop", "add", "id", "9", "via", TOR, "dev", "eth1", "protocol", "bgp")
        world.ip("nexthop", "replace", "id", "8", "group", "9", "protocol", "bgp")
        life.settle()
        found = {str(route.prefix): route.hops for route in life.plane.reread().underlay}
        assert [(hop.device, str(hop.gateway)) for hop in found["10.2.2.0/24"]] == [("eth1", TOR)]


def test_cleanup_removes_ours_and_leaves_strangers(world: World) -> None:
    world.ip("nexthop", "add", "id", "7", "via", TOR, "dev", "eth1", "protocol", "static")
    with Plane(world, TOR, NEIGHBOUR):
        pass
    assert not cleanup(Settings(), world.path).failures
    assert {each["id"] for each in world.look("nexthop", "show")} == {7}


def test_hops_of_a_device_that_is_not_there_fail_with_its_name(world: World) -> None:
    with Dataplane(Settings(), world.path) as plane:
        route = Route(hops=(Hop("eth9", plain_via(TOR).hops[0].gateway),), group=Group())
        report = plane.apply(Desired(routes={key(SOME[0]): route}))
        assert report.failures == {key(SOME[0]): "interface eth9 does not exist"}


def test_rfc8950_an_ipv4_route_goes_by_an_ipv6_next_hop(world: World) -> None:
    route = Route(hops=(Hop("eth1", IPv6Address("fe80::1")),), group=Group())
    with Dataplane(Settings(), world.path) as plane:
        desired = Desired(routes={key(SOME[0]): route})
        assert plane.apply(desired).complete
        assert plane.apply(desired).changed == 0
    (found,) = world.look("route", "get", str(IPv4Network(SOME[0])[1]))
    assert found["via"] == {"family": "inet6", "host": "fe80::1"}


def test_routes_of_both_families_have_groups_of_their_own(world: World) -> None:
    world.ip("address", "add", "2001:db8::11/64", "dev", "eth1", "nodad")
    routes = {
        key(SOME[0]): Route(hops=plain_via(TOR).hops, group=Group()),
        RouteKey(IPv6Network("fd00:1::/64"), 1024): Route(
            hops=(Hop("eth1", IPv6Address("2001:db8::1")),), group=Group()
        ),
    }
    with Dataplane(Settings(), world.path) as plane:
        assert plane.apply(Desired(routes=routes)).complete
    assert sorted(number // 500_000 for number in groups(world)) == [228, 229]
    with world.listen() as listener, Dataplane(Settings(), world.path) as after:
        assert after.apply(Desired(routes=routes)).changed == 0
        assert listener.heard() == []
        assert after.apply(Desired()).complete
    assert objects(world) == {}

"""IPv6 routes of ours in a real table, by the same target as those of IPv4."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

import pytest
from tests.kernel.felix.world import World

from routed.model.address import Family
from routed.model.nlri import from_prefix
from routed.netlink.socket import Netlink
from routed_felix.routes import RoutesTarget
from routed_felix.state import Hop, Route, RouteKind
from routed_felix.tunnel import dump_links
from routed_felix.wanted import Table

REMOTE, OWN, POD = "fd00:2::/64", "fd00:1::/64", "fd00:1::5"
FIRST, SECOND = "fe80::1", "fe80::2"  # link-local, as a router's next hop is


def via(*gateways: str) -> Route:
    return Route(hops=tuple(Hop("eth1", IPv6Address(gateway)) for gateway in gateways))


def wanted(routes: dict[str, Route]) -> Table:
    return Table({from_prefix(IPv6Network(prefix)): route for prefix, route in routes.items()})


ALL = {REMOTE: via(FIRST), OWN: Route(RouteKind.BLACKHOLE), f"{POD}/128": Route(hops=(Hop("eth1"),))}


def target(netlink: Netlink) -> RoutesTarget:
    made = RoutesTarget(netlink, 114, 1024, Family.IPV6)
    made.links_are({link.name: link.index for link in dump_links(netlink)})
    made.relist()
    return made


def found(world: World) -> dict[str, object]:
    told = world.look("-6", "-d", "route", "show", "table", "main", "proto", "114")
    return {each["dst"]: each for each in told}


def test_routes_are_written_and_a_restart_without_memory_writes_nothing(world: World) -> None:
    with Netlink.open_in(world.path) as netlink:
        before = target(netlink)
        assert (before.sync(wanted(ALL)), before.failures, before.conflicts) == (3, {}, {})
        told = found(world)
        assert set(told) == {REMOTE, OWN, POD}
        assert target(netlink).sync(wanted(ALL)) == 0


@pytest.mark.parametrize("after", [via(SECOND), via(FIRST, SECOND), Route(RouteKind.BLACKHOLE)])
def test_a_route_becomes_another_in_place_and_goes(world: World, after: Route) -> None:
    with Netlink.open_in(world.path) as netlink:
        ours = target(netlink)
        for routes in ({REMOTE: via(FIRST)}, {REMOTE: after}, {REMOTE: via(FIRST)}, {}):
            ours.sync(wanted(routes))
            assert (ours.failures, ours.conflicts) == ({}, {})
            again = target(netlink)
            assert again.sync(wanted(routes)) == 0
            assert set(found(world)) == set(routes)


def test_a_route_that_another_hand_deleted_is_put_back(world: World) -> None:
    with Netlink.open_in(world.path) as netlink:
        ours = target(netlink)
        ours.sync(wanted(ALL))
        world.ip("-6", "route", "del", REMOTE)
        ours.relist()
        assert ours.sync(wanted(ALL)) == 1
        assert REMOTE in found(world)


def test_a_strangers_route_with_the_default_metric_has_our_key_and_is_left_alone(world: World) -> None:
    world.ip("-6", "route", "add", REMOTE, "via", SECOND, "dev", "eth1")  # metric 1024: the kernel's own default
    with Netlink.open_in(world.path) as netlink:
        ours = target(netlink)
        assert ours.sync(wanted({REMOTE: via(FIRST)})) == 0
        assert (len(ours.conflicts), found(world)) == (1, {})
        assert ours.sync(wanted({})) == 0
    (theirs,) = world.look("-6", "route", "show", REMOTE)
    assert theirs["gateway"] == SECOND

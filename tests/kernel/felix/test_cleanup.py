"""Cleanup takes what carries our marks, and nothing else."""

from __future__ import annotations

from ipaddress import IPv6Network

from tests.kernel.felix.words import BLACKHOLE, key, via, wanted
from tests.kernel.felix.world import World

from routed_felix.cleanup import cleanup
from routed_felix.dataplane import Dataplane
from routed_felix.state import Desired, RouteKey, Settings


def test_cleanup_removes_ours_and_keeps_strangers(world: World) -> None:
    world.ip("link", "add", "rtd0123456789a", "type", "veth", "peer", "name", "p1")
    world.ip("link", "set", "rtd0123456789a", "alias", "routed:pod c1/eth0")
    world.ip("link", "add", "rtdstranger", "type", "veth", "peer", "name", "p2")
    world.ip("link", "add", "br0", "type", "bridge")
    world.ip("link", "set", "br0", "alias", "routed:pod no veth")
    world.ip("route", "add", "192.168.7.0/24", "via", "10.1.1.1", "metric", "1024", "proto", "static")
    with Dataplane(Settings(), world.path) as plane:
        plane.apply(wanted({"192.168.1.0/26": via("10.1.1.1"), "192.168.2.0/26": BLACKHOLE}))

    removed = cleanup(Settings(), world.path)

    assert removed.routes == ("192.168.1.0/26 metric 1024", "192.168.2.0/26 metric 1024")
    assert removed.veths == ("rtd0123456789a",)
    assert (removed.addresses, removed.tunnel_down, removed.left, removed.failures) == ((), False, (), ())
    assert world.routes() == {}
    assert set(world.routes(protocol=4)) == {"default", "192.168.7.0/24"}
    assert {link["ifname"] for link in world.look("link")} >= {"rtdstranger", "br0", "eth1"}
    assert world.addresses("eth1") == ["10.1.1.11/24"]


def test_cleanup_takes_the_routes_of_both_families(world: World) -> None:
    routes = {key("192.168.1.0/26"): BLACKHOLE, RouteKey(IPv6Network("fd00:1::/64"), 1024): BLACKHOLE}
    with Dataplane(Settings(), world.path) as plane:
        assert plane.apply(Desired(routes=routes)).complete
    assert cleanup(Settings(), world.path).routes == ("192.168.1.0/26 metric 1024", "fd00:1::/64 metric 1024")
    assert world.look("-6", "route", "show", "proto", "114") == []


def test_a_second_cleanup_finds_nothing(world: World) -> None:
    with Dataplane(Settings(), world.path) as plane:
        plane.apply(wanted({"192.168.1.0/26": BLACKHOLE}))
    assert cleanup(Settings(), world.path)
    with world.listen() as listener:
        assert not cleanup(Settings(), world.path)
        assert listener.heard() == []


def test_cleanup_of_an_untouched_node_writes_nothing(world: World) -> None:
    with world.listen() as listener:
        assert not cleanup(Settings(), world.path)
        assert listener.heard() == []

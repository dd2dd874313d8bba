"""Events become changes: what others do is news, what we do is not."""

from __future__ import annotations

import select
from ipaddress import IPv4Address, IPv4Network

from tests.kernel.felix.words import BLACKHOLE, via, wanted
from tests.kernel.felix.world import World

from routed.model.address import Family
from routed.model.nlri import to_prefix
from routed.netlink.constants import RTMGRP_IPV4_ROUTE
from routed.netlink.socket import Netlink
from routed_felix.dataplane import Dataplane
from routed_felix.monitor import Changes, Monitor
from routed_felix.state import Settings

ONE = "192.168.1.0/26"


def news(monitor: Monitor) -> Changes:
    """Wait for the first event, then take all."""
    assert select.select([monitor], [], [], 5)[0], "no event"
    return monitor.read()


def test_silence_is_no_change(world: World) -> None:
    with Monitor(Settings(), world.path) as monitor:
        assert not monitor.read()


def test_our_own_writes_are_no_news(world: World) -> None:
    with Dataplane(Settings(), world.path) as plane, Monitor(Settings(), world.path, own_port=plane.port) as monitor:
        plane.apply(wanted({ONE: via("10.1.1.1")}))
        plane.apply(wanted({}))
        world.ip("link", "add", "br9", "type", "bridge")  # what comes after them is the first that is heard
        heard = news(monitor)
        assert (heard.interfaces, heard.routes) == (True, ())


def test_a_deleted_route_of_ours_is_news_at_once(world: World) -> None:
    with Dataplane(Settings(), world.path) as plane, Monitor(Settings(), world.path, own_port=plane.port) as monitor:
        plane.apply(wanted({ONE: via("10.1.1.1")}))
        monitor.read()
        world.ip("route", "del", ONE)
        heard = news(monitor)
        assert [(to_prefix(each.nlri), each.added) for each in heard.routes] == [(IPv4Network(ONE), False)]
        assert not heard.interfaces
        assert not heard.strangers


def test_a_takeover_of_our_key_is_news(world: World) -> None:
    with Dataplane(Settings(), world.path) as plane, Monitor(Settings(), world.path, own_port=plane.port) as monitor:
        plane.apply(wanted({ONE: via("10.1.1.1")}))
        monitor.read()
        world.ip("route", "replace", "blackhole", ONE, "metric", "1024", "proto", "static")
        heard = news(monitor)
        assert [(to_prefix(each.nlri), each.replaced) for each in heard.routes] == [(IPv4Network(ONE), True)]
        assert heard.strangers == {(Family.IPV4, 4)}


def test_links_addresses_and_strangers_routes_ask_for_another_read(world: World) -> None:
    with Monitor(Settings(), world.path) as monitor:
        world.ip("link", "add", "br9", "type", "bridge")
        assert news(monitor).interfaces
        world.ip("addr", "add", "10.9.9.1/24", "dev", "br9")
        assert news(monitor).interfaces
        world.ip("route", "add", "10.8.0.0/16", "via", "10.1.1.1")
        assert news(monitor) == Changes(strangers=frozenset({(Family.IPV4, 3)}))


def test_what_the_kernel_flushes_without_a_word_is_told_by_link_and_address(world: World) -> None:
    world.ip("addr", "add", "10.9.9.1/32", "dev", "eth1")
    index = world.link("eth1")["ifindex"]
    with Monitor(Settings(), world.path) as monitor:
        world.ip("addr", "del", "10.9.9.1/32", "dev", "eth1")
        assert news(monitor).gone == {IPv4Address("10.9.9.1")}
        world.ip("link", "set", "eth1", "down")
        assert index in news(monitor).down


def test_lost_carrier_is_news(world: World) -> None:
    with Monitor(Settings(), world.path) as monitor:
        world.beyond("ip", "link", "set", world.tor, "down")
        assert news(monitor).interfaces


def test_an_rp_filter_set_back_is_news(world: World) -> None:
    world.set_sysctl("net/ipv4/conf/eth1/rp_filter", "2")
    with Monitor(Settings(), world.path) as monitor:
        world.set_sysctl("net/ipv4/conf/eth1/rp_filter", "1")
        assert news(monitor).sysctls


def test_lost_events_are_an_overflow_not_an_error(world: World) -> None:
    monitor = Monitor(Settings(), world.path)
    monitor.close()
    monitor._netlink = Netlink.open_in(world.path, RTMGRP_IPV4_ROUTE, receive_buffer=2048)
    with monitor, Dataplane(Settings(), world.path) as plane:
        plane.apply(wanted({f"192.168.{n}.0/24": BLACKHOLE for n in range(100)}))
        assert news(monitor) == Changes(overflow=True)
        while monitor.read():
            pass
        world.ip("route", "del", "192.168.7.0/24")
        assert [to_prefix(each.nlri) for each in news(monitor).routes] == [IPv4Network("192.168.7.0/24")]

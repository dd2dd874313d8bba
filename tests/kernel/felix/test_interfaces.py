"""The picture of the node's interfaces, kept by events: what a fresh look would see, at the cost of what changed."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Interface, ip_interface
from random import Random
from typing import Any

import pytest
from tests.kernel.felix.world import World

from routed.model.address import Family
from routed.netlink.objects import LinkEntry
from routed.netlink.socket import Netlink
from routed_felix.interfaces import Interfaces
from routed_felix.monitor import Changes, Monitor
from routed_felix.state import Settings
from routed_felix.strangers import Strangers
from routed_felix.tunnel import dump_addresses


@pytest.fixture(autouse=True)
def kernel() -> None:
    """The kernel as it is: whether it has nexthop objects is all the same here."""


class Eyes:
    """A picture, and the events that keep it."""

    def __init__(self, world: World, netlink: Netlink, monitor: Monitor) -> None:
        self.world, self.netlink, self.monitor = world, netlink, monitor
        self.picture = Interfaces(netlink)
        self.picture.read()

    def hear(self) -> frozenset[int]:
        return self.picture.hear([self.monitor.read()])

    def fresh(self) -> Interfaces:
        seen = Interfaces(self.netlink)
        seen.read()
        return seen


@pytest.fixture
def eyes(world: World) -> Iterator[Eyes]:
    with Netlink.open_in(world.path) as netlink, Monitor(Settings(), world.path) as monitor:
        yield Eyes(world, netlink, monitor)


@pytest.fixture
def no_dump(eyes: Eyes, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on neither all links nor all addresses may be read."""
    assert eyes.picture.links

    def of_one(netlink: Netlink, family: Family, index: int) -> Any:
        assert index
        return dump_addresses(netlink, family, index)

    monkeypatch.setattr("routed_felix.interfaces.dump_links", None)
    monkeypatch.setattr("routed_felix.interfaces.dump_addresses", of_one)


@pytest.mark.usefixtures("no_dump")
def test_a_link_that_comes_and_goes_is_told_by_its_events(eyes: Eyes) -> None:
    eyes.world.ip("link", "add", "br9", "mtu", "1400", "type", "bridge")
    eyes.world.ip("addr", "add", "10.9.0.1/24", "dev", "br9")
    touched = eyes.hear()
    br9 = eyes.picture.by_name["br9"]
    assert (br9.mtu, br9.kind, br9.addresses) == (1400, "bridge", (IPv4Interface("10.9.0.1/24"),))
    assert touched == {br9.index}
    eyes.world.ip("link", "del", "br9")
    assert eyes.hear() == {br9.index}
    assert "br9" not in eyes.picture.by_name


@pytest.mark.usefixtures("no_dump")
def test_addresses_are_in_the_kernels_order(eyes: Eyes) -> None:
    """The first of a subnet is the source of packets; when it goes, the kernel may put the second in its place."""
    for address in ("10.9.0.1/24", "10.9.0.2/24", "10.8.0.1/24"):
        eyes.world.ip("addr", "add", address, "dev", "eth1")
    eyes.hear()
    eyes.world.set_sysctl("net/ipv4/conf/eth1/promote_secondaries", "1")
    eyes.world.ip("addr", "del", "10.9.0.1/24", "dev", "eth1")
    eyes.hear()
    shown = [ip_interface(each) for each in eyes.world.addresses("eth1")]
    assert [each for each in eyes.picture.by_name["eth1"].addresses if each.version == 4] == shown


@pytest.mark.usefixtures("no_dump")
def test_a_bridges_port_that_leaves_it_is_a_link_still(eyes: Eyes) -> None:
    eyes.world.ip("link", "add", "br9", "type", "bridge")
    eyes.world.ip("link", "add", "port9", "type", "veth")
    eyes.world.ip("link", "set", "port9", "master", "br9")
    eyes.world.ip("link", "set", "port9", "nomaster")
    eyes.hear()
    assert eyes.picture.by_name["port9"].kind == "veth"


def test_an_event_without_the_links_properties_has_them_asked_for(eyes: Eyes) -> None:
    """As the kernel sends them for wireless interfaces."""
    eth1 = eyes.picture.by_name["eth1"]
    told = LinkEntry(eth1.index, "eth1", 0, 0)
    eyes.picture.hear([Changes(interfaces=True, links={eth1.index: told})])
    assert eyes.picture.by_name["eth1"] == eth1


@pytest.mark.parametrize("seed", range(3))
def test_after_whatever_happened_it_is_what_a_fresh_look_sees(eyes: Eyes, seed: int) -> None:
    random, world = Random(seed), eyes.world
    there = list[str]()

    def some() -> str:
        return random.choice(there)

    for number in range(40):
        name = f"d{number}"
        match (
            random.choice(("add", "add", "del", "addr", "addr6", "rename", "mtu", "alias", "down")) if there else "add"
        ):
            case "add":
                world.ip("link", "add", name, "up", "type", random.choice(("bridge", "veth")))
                there.append(name)
            case "del":
                world.ip("link", "del", there.pop(random.randrange(len(there))))
            case "addr":
                world.ip("addr", "add", f"10.77.{number}.1/{random.choice((24, 16, 32))}", "dev", some())
            case "addr6":
                world.ip("addr", "add", f"fd00:{number}::1/64", "dev", some(), "nodad")
            case "rename":
                old = there.pop(random.randrange(len(there)))
                world.ip("link", "set", old, "down")
                world.ip("link", "set", old, "name", name, "up")
                there.append(name)
            case "mtu":
                world.ip("link", "set", some(), "mtu", str(1300 + number))
            case "alias":
                world.ip("link", "set", some(), "alias", f"alias {number}")
            case _:
                world.ip("link", "set", some(), "down")
        if random.random() < 0.3:
            eyes.hear()

    def same() -> bool:
        eyes.hear()
        fresh = eyes.fresh()
        return (eyes.picture.links, eyes.picture.by_name) == (fresh.links, fresh.by_name)

    world.until(same)  # the kernel takes note of carriers when it finds the time


def test_a_link_without_any_but_link_local_addresses_is_no_news_of_the_underlay(world: World) -> None:
    """A pod's link brings a route to fe80::/64 in the main table, which leads nowhere."""
    with Netlink.open_in(world.path) as netlink, Monitor(Settings(), world.path) as monitor:
        underlay = Strangers(netlink, 114, 1024, Family.IPV6)
        before = underlay.look({}, {}), underlay.routes
        world.ip("link", "add", "d9", "up", "type", "veth", "peer", "name", "e9")
        world.ip("link", "set", "e9", "up")
        world.until(lambda: len(world.look("-6", "route", "show", "fe80::/64", "dev", "d9")) == 1)
        heard = monitor.read()
        assert (heard.strangers, heard.addressed, heard.gone) == (frozenset(), frozenset(), frozenset())
        assert (underlay.look({}, {}), underlay.routes) == before

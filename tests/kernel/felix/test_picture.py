"""The agent's way: events and changes instead of dumps, and the kernel ends up the same."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv4Network
from random import Random
from typing import Any

import pytest
from tests.kernel.felix.words import BLACKHOLE, on, via
from tests.kernel.felix.world import World

from routed.model.nlri import Nlri, from_prefix
from routed.netlink.constants import RTMGRP_IPV4_ROUTE
from routed.netlink.socket import Netlink
from routed_felix.dataplane import Dataplane
from routed_felix.monitor import ALL_INTERFACES, Changes, Monitor
from routed_felix.state import Change, Link, NodeState, Report, Route, Settings
from routed_felix.sysctls import Sysctls
from routed_felix.wanted import Table

ONE, TWO, THREE = "192.168.1.0/26", "192.168.2.0/26", "192.168.3.0/26"
NEWROUTE, DELROUTE = 24, 25


def nlri(prefix: str) -> Nlri:
    return from_prefix(IPv4Network(prefix))


@dataclass
class Hands:
    """A dataplane, told by a monitor what happens, and what is wanted of it."""

    world: World
    plane: Dataplane
    monitor: Monitor
    wanted: Table = field(default_factory=Table)
    node: NodeState = field(default_factory=NodeState)

    def begin(self, table: dict[str, Route] | None = None) -> Report:
        self.plane.read()
        self.wanted.update({nlri(prefix): route for prefix, route in (table or {}).items()})
        return self.plane.sync(self.node, self.wanted)

    def change(self, *, retry: bool = False) -> Report:
        return self.step({}, retry=retry)

    def step(self, changes: dict[str, Route | None], *, retry: bool = False) -> Report:
        self.plane.take(self.monitor.read())
        self.plane.reread()
        for prefix, route in changes.items():
            if route is None:
                self.wanted.pop(nlri(prefix), None)
            else:
                self.wanted[nlri(prefix)] = route
        told = {nlri(prefix): route for prefix, route in changes.items()}
        return self.plane.change(Change(self.node, told), self.wanted, retry=retry)


@pytest.fixture
def hands(world: World) -> Iterator[Hands]:
    with Dataplane(Settings(), world.path) as plane, Monitor(Settings(), world.path, own_port=plane.port) as monitor:
        yield Hands(world, plane, monitor)


@pytest.fixture
def no_dump(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From when it is called, nothing may read our whole table."""

    def forbid() -> None:
        def dumped(*_: Any, protocol: int = 0, **__: Any) -> Any:
            assert protocol not in (0, 114), "the whole table was dumped"
            return []

        monkeypatch.setattr("routed_felix.routes.dump_bodies", dumped)
        monkeypatch.setattr("routed_felix.strangers.dump_bodies", dumped)

    return forbid


def test_a_change_writes_what_changed_and_nothing_else(hands: Hands, no_dump: Callable[[], None]) -> None:
    hands.begin({ONE: via("10.1.1.1"), TWO: BLACKHOLE})
    no_dump()
    with hands.world.listen() as listener:
        report = hands.step({ONE: via("10.1.1.12"), TWO: BLACKHOLE, THREE: BLACKHOLE})
        assert report.repaired == 0
        assert listener.heard() == [NEWROUTE, NEWROUTE]
        assert (report.changed, report.programmed, report.desired) == (2, 3, 3)
        assert hands.step({TWO: None}).changed == 1
        assert listener.heard() == [DELROUTE]
        assert hands.change().changed == 0
        assert listener.heard() == []
    assert {prefix: entry.get("gateway") for prefix, entry in hands.world.routes().items()} == {
        ONE: "10.1.1.12",
        THREE: None,
    }


@pytest.mark.parametrize(
    "damage",
    [
        ("del", ONE, "proto", "114"),
        ("replace", ONE, "via", "10.1.1.12", "proto", "114", "metric", "1024"),
        ("replace", ONE, "via", "10.1.1.1", "proto", "114", "metric", "1024", "mtu", "1000"),
        ("replace", "blackhole", ONE, "proto", "static", "metric", "1024"),
        ("add", "192.168.9.0/26", "via", "10.1.1.1", "proto", "114", "metric", "1024"),
        ("add", "192.168.9.0/26", "via", "10.1.1.1", "proto", "114", "metric", "77"),
    ],
)
def test_damage_is_repaired_from_the_event_alone(
    hands: Hands, no_dump: Callable[[], None], damage: tuple[str, ...]
) -> None:
    hands.begin({ONE: via("10.1.1.1"), TWO: BLACKHOLE})
    right = hands.world.routes()
    no_dump()
    hands.world.ip("route", *damage)
    report = hands.change()
    assert (report.changed, report.repaired) == (1, damage[0] != "add")  # what is swept was never right
    assert hands.world.routes() == right
    report = hands.change()
    assert (report.changed, report.repaired) == (0, 0)


def test_a_route_appended_to_our_key_is_removed(hands: Hands) -> None:
    hands.begin({ONE: via("10.1.1.1")})
    hands.world.ip("route", "append", ONE, "via", "10.1.1.12", "proto", "114", "metric", "1024")
    hands.change()
    assert hands.change().changed == 0
    assert [r["gateway"] for r in hands.world.look("route", "show", "proto", "114")] == ["10.1.1.1"]


def test_a_route_of_another_of_our_processes_is_adopted_without_a_write(
    hands: Hands, no_dump: Callable[[], None]
) -> None:
    """The plugin writes a pod's route before calc knows the pod."""
    hands.begin({})
    no_dump()
    hands.world.ip("route", "add", "192.168.9.9/32", "dev", "eth1", "proto", "114", "metric", "1024")
    with hands.world.listen() as listener:
        report = hands.step({"192.168.9.9/32": on("eth1")})
        assert listener.heard() == []
    assert (report.changed, report.programmed) == (0, 1)


def test_a_taken_key_is_a_conflict_until_the_stranger_goes(hands: Hands) -> None:
    hands.world.ip("route", "add", "blackhole", ONE, "proto", "static", "metric", "1024")
    hands.begin()
    for _ in range(2):
        report = hands.step({ONE: via("10.1.1.1")})
        assert [str(conflict.key) for conflict in report.conflicts] == [f"{ONE} metric 1024"]
        assert (report.programmed, dict(report.failures)) == (0, {})
    hands.world.ip("route", "del", "blackhole", ONE, "metric", "1024")
    report = hands.change()
    assert (report.complete, report.programmed) == (True, 1)
    assert hands.world.routes()[ONE]["gateway"] == "10.1.1.1"


def test_a_strangers_route_beside_ours_is_told_as_it_comes_and_goes(hands: Hands) -> None:
    hands.begin({ONE: via("10.1.1.1")})
    hands.world.ip("route", "add", ONE, "via", "10.1.1.12", "proto", "static", "metric", "10")
    assert "metric 10, used instead of ours" in hands.change().conflicts[0].message
    assert hands.step({ONE: None}).conflicts == ()
    assert len(hands.step({ONE: via("10.1.1.1")}).conflicts) == 1
    hands.world.ip("route", "del", ONE, "metric", "10")
    assert hands.change().complete


def test_after_a_takeover_no_conflict_is_left(hands: Hands) -> None:
    hands.begin({ONE: via("10.1.1.1")})
    hands.world.ip("route", "replace", "blackhole", ONE, "proto", "static", "metric", "1024")
    report = hands.change()
    assert (report.changed, report.complete) == (1, True)
    assert set(hands.world.routes()) == {ONE}


def test_a_strangers_route_before_ours_is_kept_when_ours_changes(hands: Hands) -> None:
    world = hands.world
    hands.begin({ONE: via("10.1.1.1")})
    world.ip("route", "prepend", ONE, "via", "10.1.1.12", "proto", "static", "metric", "1024")
    kept = world.routes(protocol=4)
    for route in (BLACKHOLE, via("10.1.1.12")):
        report = hands.step({ONE: route})
        assert (report.changed, report.programmed, len(report.conflicts)) == (1, 1, 1)
        assert world.routes(protocol=4) == kept
        assert len(world.look("route", "show", "proto", "114")) == 1
    hands.step({ONE: None})
    assert (world.routes(), world.routes(protocol=4)) == ({}, kept)


@pytest.mark.parametrize(("key", "more"), [("10.9.0.0/16", ("metric", "20")), (TWO, ("metric", "1024"))])
def test_routes_that_another_program_adds_with_our_protocol_go_with_a_warning(
    hands: Hands, key: str, more: tuple[str, ...]
) -> None:
    hands.begin({ONE: via("10.1.1.1")})
    hands.world.ip("route", "add", key, "via", "10.1.1.1", "proto", "114", *more)
    report = hands.change()
    assert set(hands.world.routes()) == {ONE}
    assert report.complete
    (warning,) = report.warnings
    assert f"it added the route {key} metric {more[1]}, deleted as ours" in str(warning)
    assert "route_protocol" in str(warning)
    assert hands.begin().warnings == ()


def test_what_an_earlier_life_left_is_swept_without_a_warning(hands: Hands) -> None:
    hands.world.ip("route", "add", "10.9.0.0/16", "via", "10.1.1.1", "proto", "114", "metric", "20")
    assert hands.begin({ONE: via("10.1.1.1")}).warnings == ()
    assert set(hands.world.routes()) == {ONE}


def test_routes_that_a_link_took_along_come_back_with_it(hands: Hands, no_dump: Callable[[], None]) -> None:
    """The kernel does not tell of them."""
    world = hands.world
    hands.begin({ONE: via("10.1.1.1"), TWO: BLACKHOLE})
    right = world.routes()
    no_dump()
    world.ip("link", "set", "eth1", "down")
    world.ip("link", "set", "eth1", "up")
    world.until(lambda: "LOWER_UP" in world.link("eth1")["flags"])
    assert set(world.routes()) == {TWO}
    assert hands.change().complete
    assert world.routes() == right


def test_routes_that_lost_their_source_come_back_with_it(hands: Hands, no_dump: Callable[[], None]) -> None:
    world = hands.world
    world.ip("addr", "add", "10.5.5.5/32", "dev", "eth1")
    hands.begin({ONE: via("10.1.1.1", source="10.5.5.5")})
    no_dump()
    world.ip("addr", "del", "10.5.5.5/32", "dev", "eth1")
    world.ip("addr", "add", "10.5.5.5/32", "dev", "eth1")
    assert world.routes() == {}
    assert hands.change().complete
    assert world.routes()[ONE]["prefsrc"] == "10.5.5.5"


def test_what_failed_is_tried_again_when_its_surroundings_change(hands: Hands) -> None:
    hands.begin()
    report = hands.step({ONE: via("10.66.0.1", device="eth1"), TWO: via("10.1.1.1", device="eth9"), THREE: BLACKHOLE})
    assert (len(report.failures), report.programmed) == (2, 1)
    assert len(hands.change().failures) == 2
    hands.world.ip("addr", "add", "10.66.0.2/24", "dev", "eth1")
    report = hands.change()
    assert [str(key) for key in report.failures] == [f"{TWO} metric 1024"]
    assert set(hands.world.routes()) == {ONE, THREE}


def test_a_sysctl_that_fails_is_not_tried_with_every_change_but_with_a_retry(
    hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands.node = NodeState(sysctls={"net/ipv4/conf/eth9/rp_filter": "2"})
    assert hands.begin().failures
    tried: list[object] = []
    list_them = Sysctls.list
    monkeypatch.setattr(Sysctls, "list", lambda self: tried.append(self) or list_them(self))
    assert hands.step({ONE: BLACKHOLE}).failures
    assert tried == []
    assert hands.change(retry=True).failures
    assert len(tried) == 1


def test_a_pods_link_has_nothing_of_the_nodes_own_looked_at_again(
    hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands.node = NodeState(sysctls={"net/ipv4/conf/eth1/rp_filter": "2"})
    hands.begin()
    hands.change()  # which hears of the switch that was just set
    looked: list[object] = []
    list_them = Sysctls.list
    monkeypatch.setattr(Sysctls, "list", lambda self: looked.append(self) or list_them(self))
    hands.world.ip("link", "add", "pod9", "up", "type", "veth", "peer", "name", "peer9")
    assert hands.change().changed == 0
    assert looked == []
    hands.world.set_sysctl("net/ipv4/conf/eth1/rp_filter", "1")
    assert hands.change().changed == 1
    assert hands.world.sysctl("net/ipv4/conf/eth1/rp_filter") == "2"
    hands.world.set_sysctl("net/ipv4/conf/all/rp_filter", "1")
    looked.clear()
    hands.change()
    assert len(looked) == 1


@pytest.mark.without_ipip
def test_a_tunnel_that_cannot_be_made_counts_as_missing_from_then_on(
    hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("routed_felix.dataplane.driver_available", lambda *_: True)
    hands.node = NodeState(links={"tunl0": Link("ipip", 1480)})
    assert hands.plane.read().tunnel
    assert "modprobe ipip" in hands.begin().failures["tunl0"]
    assert not hands.plane.reread().tunnel


def test_events_that_nobody_acts_on_do_not_pile_up(hands: Hands) -> None:
    hands.begin({ONE: BLACKHOLE})
    for _ in range(1000):
        hands.plane.take(Changes(sysctls=frozenset({ALL_INTERFACES})))
    assert len(hands.plane._events) <= 256
    hands.world.ip("route", "del", "blackhole", ONE)
    assert hands.change().changed == 1


def test_what_failed_is_forgotten_when_nobody_wants_it_any_more(hands: Hands) -> None:
    hands.begin()
    assert hands.step({ONE: via("10.1.1.1", device="eth9")}).failures
    assert hands.step({ONE: None}).complete


def test_lost_events_have_everything_compared(world: World) -> None:
    with Dataplane(Settings(), world.path) as plane, Monitor(Settings(), world.path) as monitor:
        hands = Hands(world, plane, monitor)
        hands.begin({f"192.168.{n}.0/24": BLACKHOLE for n in range(20)})
        monitor.close()
        monitor._netlink = Netlink.open_in(world.path, RTMGRP_IPV4_ROUTE, receive_buffer=2048)
        for n in range(20):
            world.ip("route", "del", "blackhole", f"192.168.{n}.0/24")
        assert hands.change().changed == 20
        assert len(world.routes()) == 20


def test_a_lost_answer_makes_no_conflicts_of_what_we_made(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch goes out again, and with EXCL the kernel refuses what the first time made."""
    hands.begin()
    receive = Netlink._receive_bytes
    lost: list[bytes] = []

    def losing(netlink: Netlink) -> bytes:
        answer = receive(netlink)
        if not lost:
            lost.append(answer)
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        return answer

    table: dict[str, Route | None] = {f"192.168.{n}.0/24": BLACKHOLE for n in range(20)}
    hands.plane.take(hands.monitor.read())
    monkeypatch.setattr(Netlink, "_receive_bytes", losing)
    hands.wanted.update({nlri(prefix): route for prefix, route in table.items() if route})
    report = hands.plane.change(Change(hands.node, {nlri(p): r for p, r in table.items()}), hands.wanted)
    assert lost
    assert (report.complete, report.programmed) == (True, 20)
    assert len(hands.world.routes()) == 20


def test_reread_tells_the_same_objects_where_nothing_changed(hands: Hands) -> None:
    first = hands.plane.read()
    hands.plane.take(hands.monitor.read())
    again = hands.plane.reread()
    assert again.interfaces is first.interfaces
    assert again.underlay is first.underlay
    hands.world.ip("addr", "add", "10.9.0.1/24", "dev", "eth1")
    hands.plane.take(hands.monitor.read())
    changed = hands.plane.reread()
    assert IPv4Interface("10.9.0.1/24") in changed.interfaces["eth1"].addresses
    assert {str(route.prefix) for route in changed.underlay} == {"0.0.0.0/0", "10.1.1.0/24", "10.9.0.0/24"}


def test_any_order_of_changes_and_damage_ends_as_from_scratch(hands: Hands) -> None:
    """Seeded, so that a failure can be had again; `ip` is what does the damage and what looks at the end."""
    random = Random(114)
    prefixes = [f"192.168.{n}.0/{length}" for n in range(6) for length in (24, 26)]
    choices = [via("10.1.1.1"), via("10.1.1.12"), via("10.1.1.1", source="10.1.1.11"), BLACKHOLE, on("eth1")]
    verbs = [("append",), ("replace",), ("prepend",), ("add",), ("del",)]
    world = hands.world
    hands.begin()
    for _ in range(40):
        for _ in range(random.randrange(4)):
            prefix, (verb,), proto = random.choice(prefixes), random.choice(verbs), random.choice(["114", "static"])
            where = ("via", random.choice(["10.1.1.1", "10.1.1.12"])) if verb != "del" else ()
            words = ("ip", "route", verb, prefix, *where, "proto", proto, "metric", random.choice(["1024", "7"]))
            os.system(f"nsenter --net={world.path} {' '.join(words)} 2>/dev/null")
        changes = {random.choice(prefixes): random.choice([None, *choices]) for _ in range(random.randrange(3))}
        hands.step(changes)
    for prefix in prefixes:  # strangers go, so that what is left is comparable
        for metric in ("1024", "7"):
            command = f"nsenter --net={world.path} ip route flush exact {prefix} proto static metric {metric}"
            assert os.system(f"{command} 2>/dev/null") == 0
    hands.change()
    assert hands.change(retry=True).complete
    by_events = sorted(map(str, world.look("route", "show", "proto", "114")))
    hands.plane.read()
    assert hands.plane.sync(hands.node, hands.wanted).changed == 0
    assert sorted(map(str, world.look("route", "show", "proto", "114"))) == by_events
    assert len(by_events) == len(hands.wanted)

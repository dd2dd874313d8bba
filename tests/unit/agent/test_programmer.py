"""What one round asks of the dataplane: no more than what changed, and everything when that is not known."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

import pytest
from tests.unit.felix.words import B1, DEFAULT, ETH1, TOR, learned, nlri, paths, view

from routed.agent.programmer import Programmer
from routed.errors import EnvironmentFault
from routed.model.address import Family, HostAddress
from routed.model.nlri import Nlri, from_prefix
from routed.model.path import Path
from routed.netlink.socket import NetlinkError
from routed_felix.dataplane import Kernel
from routed_felix.monitor import ALL_INTERFACES, Changes
from routed_felix.state import Change, Encapsulation, Forwarding, Report, RouteKey
from routed_felix.view import View

RESYNC = 60.0


class FakeDataplane:
    """A table in memory and the names of what was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.table: dict[Nlri, Any] = {}
        self.changes: list[Change] = []
        self.failures: dict[Any, str] = {}
        self.retries: list[bool] = []
        self.thread = 0
        self.dead = False
        self.dies_writing = False

    def take(self, changes: Changes) -> None:
        self.asked.append("take")

    def _kernel(self, name: str) -> Kernel:
        self.asked.append(name)
        if self.dead:
            raise NetlinkError(110, "timed out")
        return Kernel({"eth1": ETH1}, (DEFAULT,), tunnel=True)

    def read(self) -> Kernel:
        return self._kernel("read")

    def reread(self) -> Kernel:
        return self._kernel("reread")

    def sync(self, node: Any, wanted: Any, wanted6: Any) -> Report:
        self.asked.append("sync")
        self.thread = threading.get_ident()
        self.table = dict(wanted.table())
        return self._report()

    def change(self, change: Change, wanted: Any, change6: Change, wanted6: Any, *, retry: bool = False) -> Report:
        self.asked.append("change")
        self.thread = threading.get_ident()
        self.changes.append(change)
        self.retries.append(retry)
        if self.dies_writing:
            raise NetlinkError(110, "timed out")
        for key, route in change.routes.items():
            self.table.pop(key, None)
            if route is not None:
                self.table[key] = route
        return self._report()

    def _report(self) -> Report:
        return Report(len(self.table), len(self.table) - len(self.failures), 0, dict(self.failures))


class Bench:
    def __init__(self) -> None:
        self.best: dict[Nlri, tuple[Path, ...]] = {}
        self.dataplane = FakeDataplane()
        self.now = 1000.0
        self.programmer = Programmer(self.dataplane, self.view, RESYNC)  # type: ignore[arg-type]

    def view(self, kernel: Kernel, family: Family) -> View:
        if family is Family.IPV6:
            return view(family=family, interfaces=kernel.interfaces, underlay=kernel.underlay6, blocks=())
        return view(best=self.best, interfaces=kernel.interfaces, underlay=kernel.underlay, tunnel=kernel.tunnel)

    def round(self, changed: Any = (), *, write: bool = True) -> list[str]:
        self.dataplane.asked.clear()
        self.programmer.reconcile(self.now, {Family.IPV4: changed, Family.IPV6: ()}, write=write)
        return self.dataplane.asked

    @property
    def right(self) -> bool:
        fresh = Programmer(FakeDataplane(), self.view, RESYNC)  # type: ignore[arg-type]
        fresh.reconcile(self.now, dict.fromkeys(Family), write=True)
        return self.dataplane.table == fresh._calculators[Family.IPV4].table()


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.round()
    return made


def test_the_first_round_compares_everything_and_later_ones_only_what_changed(bench: Bench) -> None:
    assert bench.dataplane.asked == ["read", "sync"]
    bench.best.update(learned({B1: TOR}))
    assert bench.round({nlri(B1)}) == ["reread", "change"]
    assert list(bench.dataplane.changes[-1].routes) == [nlri(B1)]
    assert bench.right


def test_the_periodic_resync_compares_everything(bench: Bench) -> None:
    assert bench.programmer.next_deadline == 1000.0 + RESYNC
    bench.now += RESYNC
    assert bench.round() == ["read", "sync"]
    assert bench.programmer.next_deadline == bench.now + RESYNC


def test_what_was_only_found_out_is_written_when_writing_is_allowed() -> None:
    bench = Bench()
    bench.best.update(learned({B1: TOR}))
    assert bench.round(None, write=False) == ["reread"]
    bench.best[nlri("192.168.50.0/26")] = paths((TOR,))
    assert bench.round({nlri("192.168.50.0/26")}, write=False) == ["reread"]
    assert bench.programmer.counts.desired == 3
    assert bench.round() == ["read", "sync"]
    assert bench.right


def test_a_kernel_that_did_not_answer_is_compared_with_everything_and_no_change_is_lost(bench: Bench) -> None:
    bench.best.update(learned({B1: TOR}))
    bench.dataplane.dead = True
    bench.round({nlri(B1)})
    assert isinstance(bench.programmer.fault, EnvironmentFault)
    assert bench.programmer.next_deadline == pytest.approx(bench.now + 0.1)
    bench.dataplane.dead = False
    assert bench.round() == ["read", "sync"]
    assert bench.programmer.fault is None
    assert bench.right


def test_a_write_that_was_not_answered_likewise(bench: Bench) -> None:
    bench.best.update(learned({B1: TOR}))
    bench.dataplane.dies_writing = True
    bench.round({nlri(B1)})
    assert bench.programmer.fault
    bench.dataplane.dies_writing = False
    assert bench.round() == ["read", "sync"]
    assert bench.right


def test_failures_are_tried_again_when_they_are_due_and_not_with_every_change(bench: Bench) -> None:
    bench.dataplane.failures = {RouteKey(IPv4Network(B1), 1024): "Network is unreachable"}
    bench.round()
    bench.now += 0.05
    bench.round()
    assert bench.dataplane.retries == [False, False]
    bench.now += 0.06
    bench.round()
    assert bench.dataplane.retries[-1]
    bench.dataplane.failures = {}
    bench.now += 10
    bench.round()
    assert bench.programmer.next_deadline == 1000.0 + RESYNC


def test_a_thousand_failures_do_not_flood_the_log(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.dataplane.failures = {f"net/ipv4/conf/if{n}/rp_filter": "No such file or directory" for n in range(1000)}
    with caplog.at_level(logging.WARNING):
        bench.round()
        bench.round()
    assert len(caplog.records) == 11
    assert "990 more" in caplog.records[-1].getMessage()


def test_counts_and_decisions_are_there_without_making_them_all(bench: Bench) -> None:
    bench.best.update(learned({B1: TOR, "192.168.22.0/26": "10.2.2.22", "172.16.0.0/24": TOR}))
    bench.round(set(bench.best))
    counts = bench.programmer.counts
    assert (counts.desired, counts.programmed, counts.failures, counts.conflicts) == (3, 3, 0, 0)
    assert counts.by_encapsulation == {
        Encapsulation.DIRECT: 1,
        Encapsulation.TUNNEL: 1,
        Encapsulation.VXLAN: 0,
        Encapsulation.BLACKHOLE: 1,
        Encapsulation.UNREACHABLE: 1,
        Encapsulation.LOCAL: 0,
    }
    found = bench.programmer.decision_for(IPv4Network(B1))
    assert isinstance(found, Forwarding)
    assert found.encapsulation is Encapsulation.DIRECT
    assert bench.programmer.decision_for(IPv4Network("192.168.77.0/26")) is None
    assert {each.prefix for each in bench.programmer.decisions()} == {
        IPv4Network(each) for each in (B1, "192.168.22.0/26", "172.16.0.0/24", "192.168.11.0/26")
    }
    assert len(bench.programmer.problems) == 1
    assert bench.programmer.needs(Encapsulation.TUNNEL)
    assert not bench.programmer.needs(Encapsulation.VXLAN)


def test_events_are_handed_on_and_told_apart_from_silence(bench: Bench) -> None:
    assert bench.programmer.take(Changes(sysctls=frozenset({ALL_INTERFACES})))
    assert not bench.programmer.take(Changes())


def test_the_pod_mtu_is_known_before_the_first_round() -> None:
    bench = Bench()
    assert bench.programmer.pod_mtu() == 1480
    assert bench.round(None) == ["read", "sync"]


def test_an_address_on_no_interface_is_refused_with_what_there_is(bench: Bench) -> None:
    bench.programmer.require_address("a1", HostAddress("10.1.1.11/24"))
    with pytest.raises(EnvironmentFault, match=r"there is: 10\.1\.1\.11/24 on eth1"):
        bench.programmer.require_address("a1", HostAddress("10.1.1.99/24"))


async def _aside(bench: Bench, changed: Any) -> list[str]:
    bench.dataplane.asked.clear()
    await bench.programmer.reconcile_aside(bench.now, {Family.IPV4: changed, Family.IPV6: ()}, write=True)
    return bench.dataplane.asked


def test_long_writing_happens_aside_and_short_at_once(bench: Bench) -> None:
    here = threading.get_ident()
    bench.best.update(learned({f"192.168.{n // 64 + 32}.{n % 64 * 4}/30": TOR for n in range(2000)}))
    assert asyncio.run(_aside(bench, set(bench.best))) == ["reread", "change"]
    assert bench.dataplane.thread != here
    bench.best.update(learned({B1: TOR}))
    assert asyncio.run(_aside(bench, {nlri(B1)})) == ["reread", "change"]
    assert bench.dataplane.thread == here
    assert bench.right
    bench.dataplane.dies_writing = True
    asyncio.run(_aside(bench, set(bench.best)))
    assert bench.programmer.fault
    bench.dataplane.dies_writing = False
    assert asyncio.run(_aside(bench, ())) == ["read", "sync"]
    assert bench.dataplane.thread != here
    assert bench.programmer.fault is None


def test_the_mtu_of_an_interface_changes_no_route(bench: Bench) -> None:
    bench.best.update(learned({B1: TOR}))
    bench.round({nlri(B1)})
    calculator = bench.programmer._calculators[Family.IPV4]
    last = bench.programmer.views[Family.IPV4]
    assert last is not None
    smaller = replace(last, interfaces={"eth1": replace(ETH1, mtu=1400)})
    change = calculator.update(smaller, ())
    assert change.routes == {}
    assert change.node.links["tunl0"].mtu == 1380
    assert from_prefix(IPv4Network(B1)) in calculator.table()

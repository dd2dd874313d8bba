"""The firewall over time: when it is written, and what a firewall that cannot be had does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from prometheus_client import CollectorRegistry
from tests.unit.agent.parts import THEM, US, Bench, FakeFirewall, pool, running
from tests.unit.agent.test_agent import in_loop

from routed.agent.firewall_keeper import FirewallKeeper, FirewallSeen, FirewallWork
from routed.agent.firewall_metrics import FirewallCollector
from routed.errors import EnvironmentFault
from routed.model.address import Address
from routed.model.cluster import Cluster
from routed.model.endpoint import Endpoint

POD = Endpoint("c1", "eth0", Address("10.244.1.5"), "rtd1")
ONE, BOTH = Cluster.of([US]), Cluster.of([US, THEM])
MISSING = EnvironmentFault("firewall: nft is not installed", hint="apt-get install nftables")


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


@asynccontextmanager
async def kept(firewall: FakeFirewall, resync_seconds: float = 3600.0) -> AsyncIterator[FirewallKeeper]:
    keeper = FirewallKeeper(firewall, resync_seconds, asyncio.get_running_loop().time)
    task = asyncio.create_task(keeper.run())
    try:
        yield keeper
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@in_loop
async def test_nothing_is_written_before_it_is_known_what() -> None:
    firewall = FakeFirewall()
    async with kept(firewall):
        firewall.poke()
        await asyncio.sleep(0.02)
        assert firewall.brought == []


@in_loop
async def test_a_change_of_the_cluster_or_of_the_pods_is_written() -> None:
    firewall = FakeFirewall()
    async with kept(firewall) as keeper:
        keeper.want(ONE, [])
        await until(lambda: len(firewall.brought) == 1)
        keeper.want(BOTH, [])
        await until(lambda: len(firewall.brought) == 2)
        keeper.want(BOTH, [POD])
        await until(lambda: len(firewall.brought) == 3)
        assert firewall.brought[2].pod_interfaces == {"rtd1"}
        assert (keeper.seen.right, keeper.seen.work) == (True, FirewallWork(writes=3))


@in_loop
async def test_what_changes_nothing_of_the_rules_is_not_even_looked_at() -> None:
    firewall = FakeFirewall()
    async with kept(firewall) as keeper:
        keeper.want(ONE, [POD])
        await until(lambda: firewall.brought)
        keeper.want(ONE, [POD])
        keeper.want(Cluster.of([US]), [POD])
        await asyncio.sleep(0.02)
        assert len(firewall.brought) == 1


@in_loop
async def test_what_another_hand_did_is_put_back_and_counted() -> None:
    firewall = FakeFirewall()
    async with kept(firewall) as keeper:
        keeper.want(ONE, [])
        await until(lambda: firewall.brought)
        firewall.poke()
        await until(lambda: keeper.seen.work.repairs == 1)
        assert keeper.seen.work == FirewallWork(writes=2, repairs=1)


@in_loop
async def test_a_firewall_that_cannot_be_had_is_told_and_tried_again() -> None:
    firewall = FakeFirewall()
    firewall.fault = MISSING
    async with kept(firewall) as keeper:
        keeper.want(ONE, [])
        await until(lambda: keeper.seen.work.failures > 1)
        assert (keeper.problems, keeper.seen.right) == ((str(MISSING),), False)
        firewall.fault = None
        await until(lambda: keeper.seen.right)
        assert keeper.problems == ()


@in_loop
async def test_where_the_kernel_tells_nothing_it_is_glanced_at_now_and_then() -> None:
    firewall = FakeFirewall()
    firewall.watched = 0.01
    async with kept(firewall) as keeper:
        keeper.want(ONE, [])
        await until(lambda: firewall.brought)
        await asyncio.sleep(0.05)
        assert len(firewall.brought) == 1
        firewall.damaged = True
        await until(lambda: keeper.seen.work.repairs == 1)


@in_loop
async def test_all_is_compared_now_and_then_whatever_is_told() -> None:
    firewall = FakeFirewall()
    async with kept(firewall, resync_seconds=0.02) as keeper:
        keeper.want(ONE, [])
        await until(lambda: len(firewall.brought) > 3)
        assert (keeper.seen.work.writes, firewall.surveys > 1) == (1, True)


@in_loop
async def test_routing_goes_on_without_a_firewall() -> None:
    bench = Bench()
    bench.firewall.fault = MISSING
    bench.store.apply(pool(), US, THEM)
    async with running(bench):
        bench.speaker.up()
        bench.speaker.announce("10.244.2.0/26")
        bench.speaker.end_of_rib()
        await bench.until(lambda: bench.seen.not_ready is None and "10.244.2.0/26" in bench.dataplane.routes)
        await bench.until(lambda: str(MISSING) in bench.seen.faults)


def test_metrics_say_what_keeps_it_and_what_was_done() -> None:
    registry = CollectorRegistry()
    registry.register(FirewallCollector(FirewallSeen("nft", True, FirewallWork(writes=3, repairs=2, failures=1))))
    assert registry.get_sample_value("routed_firewall_right", {"backend": "nft"}) == 1
    told = [registry.get_sample_value(f"routed_firewall_{name}_total") for name in ("writes", "repairs", "failures")]
    assert told == [3, 2, 1]

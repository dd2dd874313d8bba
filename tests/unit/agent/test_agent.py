"""The composition: what happens in which order, and what a fault of one part does to the others."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.unit.agent.parts import ME, OTHER, THEM, THIRD, TOR, US, Bench, node, pool, router, running

from routed.errors import EnvironmentFault
from routed.ipam.allocator import key
from routed.ipam.block import Block, encode
from routed.model.address import Address, Prefix
from routed.model.resources import EncapsulationMode
from routed_bgp.speaker import Ending, SessionDown, SpeakerFailed, SpeakerStarted, UpdatesReceived

OURS, THEIRS = "10.244.1.0/26", "10.244.2.0/26"
AWAY = EnvironmentFault("the store is away")


def in_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @functools.wraps(test)
    def run() -> None:
        asyncio.run(test())

    del run.__wrapped__  # type: ignore[attr-defined]  # pytest would see the coroutine
    return run


def restarted(**settings: Any) -> Bench:
    """An agent on a kernel that holds the routes of the one before."""
    bench = Bench(**settings)
    bench.dataplane.held = True
    bench.store.apply(pool(), US, THEM)
    return bench


async def settled(bench: Bench) -> None:
    bench.speaker.up()
    bench.speaker.announce(THEIRS)
    bench.speaker.end_of_rib()
    await bench.until(lambda: bench.seen.not_ready is None and bench.dataplane.routes == {OURS, THEIRS})


# ---- the first write


@in_loop
async def test_a_restarted_agent_writes_nothing_before_end_of_rib() -> None:
    async with running(restarted()) as bench:
        bench.speaker.up()
        bench.speaker.announce(THEIRS)
        await bench.idle()
        assert bench.dataplane.applied == []
        assert bench.seen.not_ready == f"waiting for End-of-RIB from {OTHER}"
        bench.speaker.end_of_rib()
        await bench.until(lambda: bench.dataplane.routes == {OURS, THEIRS})
        assert bench.seen.not_ready is None


@in_loop
async def test_the_wait_for_end_of_rib_is_bounded() -> None:
    async with running(restarted(bgp_sync_seconds=30)) as bench:
        await bench.until(lambda: bench.serving)
        bench.pass_time(29)
        await bench.idle()
        assert bench.dataplane.applied == []
        bench.pass_time(1)
        await bench.until(lambda: bench.dataplane.routes == {OURS})


@in_loop
async def test_the_wait_begins_when_the_node_is_known() -> None:
    bench = Bench(bgp_sync_seconds=30)
    bench.dataplane.held = True
    bench.store.apply(pool(), THEM)
    async with running(bench):
        await bench.until(lambda: "not in the store" in (bench.seen.not_ready or ""))
        bench.pass_time(3600)
        await bench.idle()
        bench.store.apply(US)
        await bench.until(lambda: bench.serving)
        await bench.idle()
        assert bench.dataplane.applied == []
        await settled(bench)


@in_loop
async def test_a_first_start_programs_what_it_knows_without_waiting() -> None:
    bench = Bench()
    bench.store.apply(pool(), US, THEM)
    async with running(bench):
        await bench.until(lambda: bench.dataplane.routes == {OURS})
        assert not bench.seen.in_sync


@in_loop
async def test_an_event_while_the_addresses_are_read_does_not_count_as_in_sync() -> None:
    bench = restarted()
    bench.store.gate.clear()
    async with running(bench):
        await bench.until(lambda: bench.speaker.wanted)
        for _ in range(5):
            await bench.idle()
        assert not bench.seen.in_sync
        assert bench.dataplane.applied == []
        bench.store.gate.set()
        await settled(bench)


@in_loop
async def test_an_address_is_taken_only_after_bgp_listens() -> None:
    bench = Bench()
    bench.speaker.starts = False
    bench.store.apply(pool(EncapsulationMode.CROSS_SUBNET), US, THEM)
    async with running(bench):
        await bench.until(lambda: bench.speaker.wanted)
        await bench.idle()
        assert (bench.allocator.allocations(), bench.dataplane.applied, bench.serving) == ({}, [], 0)
        bench.speaker.tell(SpeakerStarted())
        await bench.until(lambda: bench.serving)
        assert [held.handle for held in bench.allocator.allocations().values()] == ["tunnel"]


# ---- faults at start end it


@in_loop
async def test_a_speaker_that_cannot_start_ends_the_agent_with_nothing_made() -> None:
    bench = Bench()
    bench.speaker.starts = False
    bench.store.apply(pool(EncapsulationMode.ALWAYS), US, THEM)
    bench.speaker.tell(SpeakerFailed(EnvironmentFault("port taken")))
    with pytest.raises(EnvironmentFault, match="port taken"):
        await bench.run()
    bench.monitor.close()
    assert (bench.allocator.allocations(), bench.dataplane.applied, bench.serving) == ({}, [], 0)


@in_loop
async def test_a_store_that_was_never_there_ends_the_agent() -> None:
    bench = Bench()
    bench.store.fault = AWAY
    with pytest.raises(EnvironmentFault, match="the store is away"):
        await bench.run()
    bench.monitor.close()


@in_loop
async def test_an_address_on_no_interface_ends_the_agent_and_says_what_there_is() -> None:
    bench = Bench()
    bench.store.apply(pool(), node("a1", "10.1.1.99", OURS), THEM)
    with pytest.raises(EnvironmentFault, match=r"10.1.1.99/24 is on no interface .*there is: 10.1.1.11/24 on eth1"):
        await bench.run()
    bench.monitor.close()
    assert bench.speaker.wanted == []


# ---- faults while it runs do not


@in_loop
async def test_a_store_that_goes_away_changes_nothing_and_is_caught_up_with() -> None:
    async with running(restarted()) as bench:
        await settled(bench)
        before = bench.dataplane.applied[-1]
        bench.store.fault = AWAY
        bench.store.wake()
        await bench.until(lambda: bench.seen.faults == ("the store is away",))
        await bench.idle()
        assert bench.dataplane.applied[-1] == before
        assert bench.speaker.peers == {OTHER}
        assert bench.seen.not_ready is None
        bench.store.fault = None
        bench.store.apply(node("a3", THIRD, "10.244.3.0/26"))
        await bench.until(lambda: bench.speaker.peers == {OTHER, THIRD})
        assert bench.seen.faults == ()


@in_loop
async def test_a_store_that_goes_away_while_the_node_is_waited_for_is_waited_for_too() -> None:
    bench = Bench()
    async with running(bench):
        await bench.until(lambda: "not in the store" in (bench.seen.not_ready or ""))
        await bench.idle()
        bench.store.fault = AWAY
        bench.store.wake()
        await bench.until(lambda: bench.seen.faults == ("the store is away",))
        bench.store.fault = None
        bench.store.apply(pool(), US)
        await bench.until(lambda: bench.seen.not_ready is None)


@in_loop
async def test_what_cannot_be_done_keeps_the_last_good_cluster_and_is_told() -> None:
    taken = "10.244.7.0/26"
    block, _ = Block(Prefix(taken), "a9").assign("cni.x.eth0")
    async with running(restarted()) as bench:
        await settled(bench)
        bench.store.put(key(Prefix(taken)), encode(block))
        bench.store.apply(node("a1", US.spec.bgp.ipv4_address.ip.compressed, taken))
        await bench.until(lambda: bench.seen.faults)
        assert f"block {taken} of node a1 is in use by node a9" in bench.seen.faults[0]
        await bench.idle()
        assert bench.dataplane.routes == {OURS, THEIRS}
        assert bench.speaker.told[OTHER] == {OURS: ME, "End-of-RIB": ""}
        assert await bench.allocator.assign("cni.y.eth0") in Prefix(OURS)
        bench.store.apply(US)
        await bench.until(lambda: not bench.seen.faults)


@in_loop
async def test_a_resource_that_cannot_be_read_keeps_its_last_good_value_and_is_told() -> None:
    async with running(restarted()) as bench:
        await settled(bench)
        bench.store.put("/routed/v1/resources/Node/a2", b'{"kind": "Node", "spec": {}}')
        await bench.until(lambda: bench.seen.faults)
        assert "/routed/v1/resources/Node/a2" in bench.seen.faults[0]
        await bench.idle()
        assert bench.dataplane.routes == {OURS, THEIRS}
        bench.store.apply(THEM)
        await bench.until(lambda: not bench.seen.faults)


@in_loop
async def test_a_speaker_that_fails_later_is_not_ready_until_it_is_back() -> None:
    async with running(restarted()) as bench:
        await settled(bench)
        fault = SpeakerFailed(EnvironmentFault("ExaBGP was killed"))
        bench.speaker.tell(SessionDown(Address(OTHER), Ending.LOCAL, "ended"), fault)
        await bench.until(lambda: bench.seen.not_ready == "ExaBGP was killed")
        await bench.idle()
        assert bench.dataplane.routes == {OURS, THEIRS}, "the peer keeps forwarding: its paths stay"
        bench.speaker.tell(SpeakerStarted())
        await bench.until(lambda: bench.seen.not_ready is None)


@in_loop
async def test_a_kernel_that_does_not_answer_is_told_and_asked_again() -> None:
    async with running(restarted()) as bench:
        await settled(bench)
        bench.dataplane.dead = True
        bench.monitor.poke()
        await bench.until(lambda: "does not answer by netlink" in (bench.seen.not_ready or ""))
        looks = bench.dataplane.looks
        bench.dataplane.dead = False
        bench.pass_time(1)
        await bench.until(lambda: bench.seen.not_ready is None)
        assert bench.dataplane.looks == looks + 1


@in_loop
async def test_a_tunnel_without_a_free_address_is_told_and_routes_go_on() -> None:
    bench = Bench()
    bench.store.apply(pool(), node("a1", "10.1.1.11", "10.244.1.0/30"), THEM)
    async with running(bench):
        await bench.until(lambda: bench.serving)
        for number in range(2):
            await bench.allocator.assign(f"cni.{number}.eth0")
        bench.store.apply(pool(EncapsulationMode.CROSS_SUBNET))
        await bench.until(lambda: bench.seen.faults)
        assert bench.seen.faults[0].startswith("tunl0 has no address: no free address on node a1")
        bench.speaker.up()
        bench.speaker.announce(THEIRS)
        await bench.until(lambda: THEIRS in bench.dataplane.routes)


@in_loop
async def test_a_disabled_pool_gives_no_new_address_and_keeps_what_was_given() -> None:
    async with running(restarted()) as bench:
        await settled(bench)
        given = await bench.allocator.assign("cni.old.eth0")
        bench.store.apply(pool(disabled=True))
        await bench.until(lambda: len(bench.speaker.wanted) > 2)
        assert bench.speaker.told[OTHER] == {OURS: ME, "End-of-RIB": ""}, "its pods are still to be reached"
        assert bench.dataplane.routes == {OURS, THEIRS}
        assert await bench.allocator.assign("cni.old.eth0") == given
        with pytest.raises(EnvironmentFault, match="no addresses to give"):
            await bench.allocator.assign("cni.new.eth0")
        bench.store.apply(pool(EncapsulationMode.CROSS_SUBNET, disabled=True))
        await bench.until(lambda: bench.seen.faults)
        assert bench.seen.faults[0].startswith("tunl0 has no address: node a1 has no addresses to give")


@in_loop
async def test_a_peer_whose_updates_cannot_be_understood_is_reset_once() -> None:
    async with running(restarted()) as bench:
        await settled(bench)
        bench.speaker.tell(UpdatesReceived(Address(OTHER), bytes.fromhex("ff" * 16 + "001702ffff0000")))
        for _ in range(3):
            bench.speaker.announce("10.244.9.0/26")
        await bench.until(lambda: bench.speaker.resets)
        await bench.idle()
        assert bench.speaker.resets == [(OTHER, 3, 1)]


# ---- the cluster changes


@in_loop
async def test_a_member_that_comes_and_goes_is_taken_in() -> None:
    third = node("a3", THIRD, "10.244.3.0/26")
    async with running(restarted()) as bench:
        await settled(bench)
        bench.store.apply(third)
        await bench.until(lambda: bench.speaker.peers == {OTHER, THIRD})
        bench.speaker.up(THIRD)
        bench.speaker.announce("10.244.3.0/26", peer=THIRD)
        await bench.until(lambda: "10.244.3.0/26" in bench.dataplane.routes)
        bench.store.delete(third)
        await bench.until(lambda: bench.dataplane.routes == {OURS, THEIRS})
        assert bench.speaker.peers == {OTHER}


@in_loop
async def test_a_node_that_leaves_keeps_its_routes_and_waits_for_its_peers_when_it_is_back() -> None:
    async with running(restarted()) as bench:
        await settled(bench)
        writes = len(bench.dataplane.applied)
        bench.store.delete(US)
        await bench.until(lambda: bench.speaker.peers == set())
        bench.pass_time(100_000)
        await bench.idle()
        assert bench.seen.not_ready == "Node a1 is not in the store"
        bench.store.apply(US)
        await bench.until(lambda: bench.speaker.peers == {OTHER})
        await bench.idle()
        assert len(bench.dataplane.applied) == writes
        await settled(bench)
        assert all(len(table) == 2 for table in bench.dataplane.applied[writes:])


@in_loop
async def test_rfc4271_9_1_2_a_link_that_goes_down_leaves_the_next_best_path_and_not_a_hole() -> None:
    bench = Bench()
    bench.store.apply(pool(), US, THEM, router())
    async with running(bench):
        await bench.until(lambda: bench.speaker.peers == {OTHER, TOR})
        for peer, path in ((OTHER, ()), (TOR, (65101,))):
            bench.speaker.up(peer)
            bench.speaker.announce(THEIRS, peer=peer, path=path)
        await bench.until(lambda: bench.dataplane.gateway(THEIRS) == TOR)
        bench.dataplane.eth2_up = False
        bench.monitor.poke()  # the session with the router does not know yet, until its hold time ends
        await bench.until(lambda: bench.dataplane.gateway(THEIRS) == OTHER)
        await bench.until(lambda: bench.speaker.resets)
        assert bench.speaker.resets == [(TOR, 6, 6)]
        bench.speaker.tell(SessionDown(Address(TOR), Ending.NOTIFICATION, "ours", 6, 6))
        bench.dataplane.eth2_up = True
        bench.monitor.poke()
        await bench.until(lambda: bench.speaker.retries == [TOR])
        bench.speaker.up(TOR)
        bench.speaker.announce(THEIRS, peer=TOR, path=(65101,))
        await bench.until(lambda: bench.dataplane.gateway(THEIRS) == TOR)


# ---- how often


@in_loop
async def test_a_burst_of_events_is_one_reconcile() -> None:
    async with running(restarted()) as bench:
        await settled(bench)
        await bench.idle()
        looks = bench.dataplane.looks
        for number in range(3, 60):
            bench.speaker.announce(f"10.244.{number}.0/26")
        await bench.until(lambda: len(bench.dataplane.routes) == 59)
        assert bench.dataplane.looks - looks <= 2


@in_loop
async def test_a_table_that_arrives_goes_to_the_kernel_when_it_is_there() -> None:
    async with running(restarted()) as bench:
        await settled(bench)
        await bench.idle()
        looks = bench.dataplane.looks
        prefixes = [f"10.244.{high}.{low}/32" for high in range(4, 44) for low in range(256)]
        for start in range(0, len(prefixes), 2048):
            bench.speaker.announce(*prefixes[start : start + 2048])
            await asyncio.sleep(0)
        await bench.until(lambda: len(bench.dataplane.routes) == len(prefixes) + 2)
        assert bench.dataplane.looks - looks <= 3


@in_loop
async def test_what_the_kernel_refuses_is_tried_again_ever_more_rarely_until_it_works() -> None:
    async with running(restarted()) as bench:
        await settled(bench)
        await bench.idle()
        bench.dataplane.failures = {"10.244.2.0/26": "Network is unreachable"}
        bench.monitor.poke()
        await bench.until(lambda: bench.seen.not_ready == "1 objects could not be written to the kernel")
        for pause in (0.1, 0.2, 0.4, 0.8):
            tries = len(bench.dataplane.applied)
            bench.now += pause
            await bench.until(lambda tries=tries: len(bench.dataplane.applied) == tries + 1)
        bench.dataplane.failures = {}
        bench.pass_time(2)
        await bench.until(lambda: bench.seen.not_ready is None)


@in_loop
async def test_a_round_lets_pods_that_are_being_added_pass() -> None:
    async with running(restarted()) as bench:
        await settled(bench)
        await bench.idle()
        looks = bench.dataplane.looks
        bench.plugin.calls = bench.plugin.under_way = 1
        bench.agent.endpoints_changed()
        served = asyncio.create_task(bench.agent._pace._let_pods_pass(bench.plugin.calls))
        await asyncio.sleep(0)
        assert (served.done(), bench.dataplane.looks) == (False, looks)
        bench.plugin.under_way = 0
        await served
        await bench.until(lambda: bench.dataplane.looks > looks)


@in_loop
async def test_pods_that_come_without_end_do_not_keep_a_round_from_beginning() -> None:
    async with running(restarted()) as bench:
        await settled(bench)
        bench.plugin.under_way = 1
        bench.speaker.announce("10.244.3.0/26")
        await bench.until(lambda: "10.244.3.0/26" in bench.dataplane.routes)


@in_loop
async def test_everything_is_compared_now_and_then_without_an_event() -> None:
    async with running(restarted(resync_seconds=1)) as bench:
        await settled(bench)
        await bench.idle()
        reads = bench.dataplane.reads
        bench.now += 1000
        await bench.until(lambda: bench.dataplane.reads == reads + 1)
        await bench.idle()

"""What a running agent tells of BGP, and how it goes out of service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection
from typing import Any

from msgspec.structs import replace
from tests.unit.agent.parts import OTHER, THEM, US, Bench, pool, running
from tests.unit.agent.test_agent import in_loop
from tests.unit.agent.test_edges import get
from tests.unit.bgp.clusters import between

from routed.agent.routing import REFRESH_SECONDS
from routed.model.address import Address, AnyAddress, Family
from routed.model.drain import Phase, drain_key, encode
from routed.model.resources import Node
from routed_bgp.open import Open
from routed_bgp.rib import QUIET_SECONDS
from routed_bgp.speaker import Ending, Refresh, RefreshReceived, SessionDown, SessionUp

OURS, THEIRS = "10.244.1.0/26", "10.244.2.0/26"


async def ask(bench: Bench, path: str) -> Any:
    status, _, body = await asyncio.to_thread(get, bench.health_port, path)
    assert status == 200, body
    return json.loads(body)


def started() -> Bench:
    bench = Bench()
    bench.store.apply(pool(), US, THEM)
    bench.speaker.up()
    return bench


@in_loop
async def test_sessions_and_routes_are_answered_over_http() -> None:
    async with running(started()) as bench:
        await bench.until(lambda: OURS in bench.speaker.told.get(OTHER, {}))
        (session,) = (await ask(bench, "/bgp/status"))["sessions"]
        assert (session["peer"], session["member"], session["established"]) == (OTHER, "a2", True)
        assert (session["advertised"], session["counts"]["established"]) == (1, 1)
        (route,) = (await ask(bench, f"/bgp/routes?peer={OTHER}&table=advertised"))["routes"]
        assert (route["prefix"], route["reason"]) == (OURS, "originated by this node")
        assert (await ask(bench, "/status"))["drain"] == "no"


@in_loop
async def test_what_a_peer_without_graceful_restart_did_not_send_again_goes_without_another_event() -> None:
    async with running(started()) as bench:
        bench.speaker.announce(THEIRS)
        bench.speaker.end_of_rib()
        await bench.until(lambda: bench.seen.not_ready is None and THEIRS in bench.dataplane.routes)
        plain = SessionUp(Address(OTHER), Open(64512, 90, Address(OTHER), True))
        bench.speaker.tell(SessionDown(Address(OTHER), Ending.LOCAL, "the speaker of this node ended"))
        await bench.until(lambda: any(peer.stale for peer in bench.seen.bgp.peers))
        await bench.idle()
        bench.speaker.tell(plain)
        await bench.until(lambda: all(peer.since == bench.now and peer.open for peer in bench.seen.bgp.peers))
        bench.now += QUIET_SECONDS - 0.05  # nothing pokes: the agent has to look at its clock by itself
        await bench.until(lambda: _later(bench) and THEIRS not in bench.dataplane.routes)


def _later(bench: Bench) -> bool:
    bench.now += 0.002
    return True


@in_loop
async def test_rfc8326_a_drained_node_withdraws_and_comes_back() -> None:
    async with running(started()) as bench:
        told = bench.speaker.told
        await bench.until(lambda: OURS in told.get(OTHER, {}))
        bench.store.put(drain_key("a1"), encode(Phase.LOWERED))
        await bench.until(lambda: bench.seen.bgp.drain.name == "LOWERED")
        assert OURS in told[OTHER]
        bench.store.put(drain_key("a1"), encode(Phase.WITHDRAWN))
        await bench.until(lambda: OURS not in told[OTHER])
        bench.store.put(drain_key("a1"), None)
        await bench.until(lambda: OURS in told[OTHER])


def reflector(node: Node) -> Node:
    bgp = replace(node.spec.bgp, route_reflector_cluster_id=Address("244.0.0.1"))
    return replace(node, spec=replace(node.spec, bgp=bgp))


@in_loop
async def test_two_reflectors_that_start_at_once_do_not_wait_for_each_other() -> None:
    bench = Bench()
    bench.store.apply(pool(), reflector(US), reflector(THEM), between("reflectors", "all()", "all()"))
    async with running(bench):
        bench.speaker.up(restarting=True)
        await bench.until(lambda: "End-of-RIB" in bench.speaker.told.get(OTHER, {}))
        assert not bench.seen.in_sync
        bench.speaker.end_of_rib()
        await bench.until(lambda: bench.seen.in_sync)


@in_loop
async def test_a_reflector_that_starts_waits_for_one_that_runs() -> None:
    bench = Bench()
    bench.store.apply(pool(), reflector(US), reflector(THEM), between("reflectors", "all()", "all()"))
    async with running(bench):
        bench.speaker.up()
        await bench.until(lambda: OURS in bench.speaker.told.get(OTHER, {}))
        assert "End-of-RIB" not in bench.speaker.told[OTHER]
        bench.speaker.end_of_rib()
        await bench.until(lambda: "End-of-RIB" in bench.speaker.told[OTHER])


@in_loop
async def test_a_peer_that_asks_for_its_table_again_and_again_gets_it_once_a_second() -> None:
    async with running(started()) as bench:
        told, sent = bench.speaker.told, list[bytes]()
        await bench.until(lambda: OURS in told.get(OTHER, {}))
        send = bench.speaker.send

        def counted(peers: Collection[AnyAddress], data: bytes) -> None:
            sent.append(data)
            send(peers, data)

        bench.speaker.send = counted  # type: ignore[method-assign]
        bench.speaker.tell(*[RefreshReceived(Address(OTHER), Family.IPV4, Refresh.REQUEST)] * 50)
        await bench.until(lambda: sent)
        await bench.idle()
        assert len(sent) == 1
        bench.pass_time(REFRESH_SECONDS)
        await bench.until(lambda: len(sent) == 2)
        bench.pass_time(REFRESH_SECONDS)
        await bench.idle()
        assert len(sent) == 2


@in_loop
async def test_a_deadline_that_changes_no_path_is_kept_all_the_same() -> None:
    async with running(started()) as bench:
        bench.speaker.end_of_rib()
        await bench.until(lambda: bench.seen.in_sync)
        await bench.idle()
        bench.speaker.tell(SessionUp(Address(OTHER), Open(64512, 90, Address(OTHER), True)))  # without End-of-RIB
        await bench.until(lambda: not bench.seen.bgp.peers[0].synced)
        bench.now += QUIET_SECONDS  # and nobody wakes it
        await bench.until(lambda: bench.seen.bgp.peers[0].synced)

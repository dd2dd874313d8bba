"""When a session ends the kernel changes over before the RIB is told, and follows the RIB afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.unit.agent.parts import OTHER, THEM, TOR, US, Bench, pool, router, running
from tests.unit.agent.test_agent import in_loop

from routed.agent.routing import Routing
from routed.model.address import Address
from routed_bgp.bfd.ledger import BfdChange
from routed_bgp.bfd.packet import State
from routed_bgp.speaker import Ending, SessionDown

DOWN = BfdChange(peer=Address(TOR), up=False, failed=True, diagnostic="gone", state=State.DOWN, remote_state=State.UP)
THEIRS, MORE = "10.244.2.0/26", "10.244.9.0/26"


def started() -> Bench:
    bench = Bench()
    bench.store.apply(pool(), US, THEM, router())
    for peer in (OTHER, TOR):
        bench.speaker.up(peer)
    bench.speaker.announce(THEIRS, peer=OTHER)
    bench.speaker.announce(THEIRS, MORE, peer=TOR, path=(65101,))
    for peer in (OTHER, TOR):
        bench.speaker.end_of_rib(peer)
    return bench


@contextmanager
def seen_when(bench: Bench, told: str) -> Iterator[list[tuple[str, str]]]:
    """The gateways of both prefixes in the kernel when the RIB is told of an end, by `told`."""
    found: list[tuple[str, str]] = []
    tell: Any = getattr(Routing, told)

    async def listen(self: Routing, event: Any) -> None:
        if isinstance(event, SessionDown | BfdChange):
            found.append((bench.dataplane.gateway(THEIRS), bench.dataplane.gateway(MORE)))
        await tell(self, event)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Routing, told, listen)
        yield found


async def settled(bench: Bench) -> None:
    await bench.until(lambda: (bench.dataplane.gateway(THEIRS), bench.dataplane.gateway(MORE)) == (TOR, TOR))
    await bench.until(lambda: bench.seen.not_ready is None)
    await bench.idle()


@in_loop
async def test_what_has_another_way_goes_it_before_the_rib_is_told() -> None:
    async with running(started()) as bench:
        with seen_when(bench, "handle") as found:
            await settled(bench)
            bench.speaker.tell(SessionDown(Address(TOR), Ending.NOTIFICATION, "cease", 6, 2))
            await bench.until(lambda: MORE not in bench.dataplane.routes)
            assert found == [(OTHER, TOR)]  # without another way it stays until the RIB says that it goes
            assert bench.dataplane.gateway(THEIRS) == OTHER


@in_loop
async def test_bfd_changes_over_in_the_same_way() -> None:
    async with running(started()) as bench:
        with seen_when(bench, "bfd_changed") as found:
            await settled(bench)
            bench.bfd.tell(DOWN)
            await bench.until(lambda: MORE not in bench.dataplane.routes)
            assert found == [(OTHER, TOR)]


@in_loop
async def test_an_attempt_that_fails_changes_nothing_over() -> None:
    async with running(started()) as bench:
        with seen_when(bench, "handle") as found:
            await settled(bench)
            written = len(bench.dataplane.applied)
            bench.speaker.tell(SessionDown(Address("10.9.9.77"), Ending.CLOSED, "refused"))
            await bench.until(lambda: bool(found))
            assert (found, len(bench.dataplane.applied)) == ([(TOR, TOR)], written)


@in_loop
async def test_a_kernel_that_does_not_answer_keeps_nothing_from_the_rib() -> None:
    async with running(started()) as bench:
        await settled(bench)
        bench.dataplane.failing = True
        bench.speaker.tell(SessionDown(Address(TOR), Ending.NOTIFICATION, "cease", 6, 2))
        await bench.until(lambda: not any(str(peer.peer) == TOR and peer.open for peer in bench.seen.bgp.peers))
        bench.dataplane.failing = False
        await bench.until(lambda: MORE not in bench.dataplane.routes)
        assert bench.dataplane.gateway(THEIRS) == OTHER

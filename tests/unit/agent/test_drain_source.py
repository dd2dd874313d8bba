"""The agent follows what the store says of its own drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing

import pytest
from tests.unit.agent.parts import FakeStore

from routed.agent.drain_source import drains
from routed.errors import EnvironmentFault
from routed.model.drain import Phase, drain_key, encode
from routed.store import CompactedError, Event
from routed_bgp.export import Drain

KEY = drain_key("a1")
LOWERED, WITHDRAWN = encode(Phase.LOWERED), encode(Phase.WITHDRAWN)


def follow(store: FakeStore, *steps: Callable[[], object]) -> list[Drain]:
    """What is told at first, and after each of `steps`."""

    async def main() -> list[Drain]:
        told: list[Drain] = []
        async with asyncio.timeout(5), aclosing(drains(store, "a1")) as following:
            told.append(await anext(following))
            for step in steps:
                following_one: Awaitable[Drain] = asyncio.ensure_future(anext(following))
                await asyncio.sleep(0)
                step()
                told.append(await following_one)
        return told

    return asyncio.run(main())


def test_a_node_nobody_drained_is_in_service() -> None:
    assert follow(FakeStore()) == [Drain.NO]


def test_a_restarted_agent_stays_drained() -> None:
    store = FakeStore()
    store.put(KEY, WITHDRAWN)
    assert follow(store) == [Drain.WITHDRAWN]


def test_drain_and_undrain_are_followed() -> None:
    store = FakeStore()
    told = follow(
        store, lambda: store.put(KEY, LOWERED), lambda: store.put(KEY, WITHDRAWN), lambda: store.put(KEY, None)
    )
    assert told == [Drain.NO, Drain.LOWERED, Drain.WITHDRAWN, Drain.NO]


def test_another_node_whose_name_begins_alike_is_another_node() -> None:
    store = FakeStore()
    store.put(drain_key("a10"), WITHDRAWN)

    def both() -> None:
        store.put(drain_key("a11"), WITHDRAWN)
        store.put(KEY, LOWERED)

    assert follow(store, both) == [Drain.NO, Drain.LOWERED]


def test_what_cannot_be_read_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    store = FakeStore()
    store.put(KEY, LOWERED)

    def slip() -> None:
        store.put(KEY, b"oops")
        store.put(KEY, WITHDRAWN)

    assert follow(store, slip) == [Drain.LOWERED, Drain.WITHDRAWN]
    assert "cannot read this drain" in caplog.text


def test_after_a_compaction_it_is_read_again() -> None:
    class Compacting(FakeStore):
        compacted = 0

        async def watch(self, prefix: str, from_revision: int) -> AsyncIterator[Sequence[Event]]:
            if not self.compacted:
                self.compacted += 1
                self.put(KEY, LOWERED)
                raise CompactedError
            async for events in super().watch(prefix, from_revision):
                yield events

    store = Compacting()
    assert follow(store, lambda: None, lambda: store.put(KEY, None)) == [Drain.NO, Drain.LOWERED, Drain.NO]
    assert store.compacted == 1


def test_a_store_that_goes_away_is_told() -> None:
    store = FakeStore()

    def away() -> None:
        store.fault = EnvironmentFault("away")
        store.wake()

    with pytest.raises(EnvironmentFault, match="away"):
        follow(store, away)

"""Leaks over time, as the agent keeps them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from ipaddress import ip_address

import pytest
from tests.unit.agent.test_agent import in_loop

from routed.agent.leak_keeper import LeakKeeper
from routed.ipam.leaks import Held
from routed_cni.faults import CniError, Code

HELD: Held = frozenset({(ip_address("10.1.0.1"), 5)})


class Interfaces:
    def __init__(self) -> None:
        self.gone: dict[str, Held] = {}
        self.given_up: list[str] = []
        self.silent = False

    async def missing(self) -> Mapping[str, Held]:
        if self.silent:
            raise CniError(Code.TRY_AGAIN_LATER, "the kernel does not answer")
        return self.gone

    async def give_up(self, handles: Collection[str]) -> None:
        self.given_up += handles
        for handle in handles:
            del self.gone[handle]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@in_loop
async def test_a_leak_is_told_from_the_first_look_on_and_taken_back_after_the_grace_time() -> None:
    interfaces, clock = Interfaces(), Clock()
    keeper = LeakKeeper(interfaces, 30, clock)
    interfaces.gone["h"] = HELD
    await keeper.look()
    clock.now = 120
    ((suspicion, seconds),) = keeper.seen.suspected
    assert (suspicion.handle, seconds, keeper.seen.released) == ("h", 20, 0)
    assert interfaces.given_up == []
    clock.now = 130
    await keeper.look()
    assert interfaces.given_up == ["h"]
    await keeper.look()
    assert (keeper.seen.suspected, keeper.seen.released) == ((), 1)


@in_loop
async def test_a_look_that_fails_changes_nothing() -> None:
    interfaces, clock = Interfaces(), Clock()
    keeper = LeakKeeper(interfaces, 30, clock)
    interfaces.gone["h"] = HELD
    await keeper.look()
    interfaces.silent = True
    with pytest.raises(CniError):
        await keeper.look()
    assert len(keeper.seen.suspected) == 1


@in_loop
async def test_a_kernel_that_does_not_answer_ends_no_looking() -> None:
    class Deaf(Interfaces):
        async def missing(self) -> Mapping[str, Held]:
            asked.set()
            raise OSError(110, "Connection timed out")

    asked = asyncio.Event()
    looking = asyncio.create_task(LeakKeeper(Deaf(), 0.001, Clock()).run(lambda: True))
    for _ in range(2):
        await asyncio.wait_for(asked.wait(), 30)
        asked.clear()
    looking.cancel()

"""The agent's half of the speaker, as far as it can be seen without a child."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from routed.model.address import Address, Family
from routed_bgp.exabgp.events import Up
from routed_bgp.exabgp.speaker import ExaBGP
from routed_bgp.open import Open
from routed_bgp.sessions import Session
from routed_bgp.speaker import SessionUp

PEER = Address("10.99.0.2")
SESSION = Session(
    name="peer/x", peer=PEER, peer_as=65001, local=Address("10.99.0.1"), local_as=64512, router_id=Address("10.99.0.1")
)


class Child:
    """Notes its commands."""

    def __init__(self) -> None:
        self.commands: list[str] = []

    async def command(self, text: str) -> bool:
        self.commands.append(text)
        return True


@pytest.mark.parametrize(("reset", "said"), [((6, 1), "6 1"), ((6, 8), "6 8"), ((6, 4), "6 3"), (None, "6 3")], ids=str)
def test_rfc4486_a_peer_that_is_suspended_is_told_why(tmp_path: Path, reset: tuple[int, int] | None, said: str) -> None:
    async def run() -> list[str]:
        speaker, child = ExaBGP(tmp_path), Child()
        speaker._told = {PEER: SESSION}
        if reset:
            await speaker.reset(PEER, *reset)
        anything: Any = child
        await speaker._configure(anything, {})
        return child.commands

    assert asyncio.run(run())[0] == f"routed-close {PEER} {said} 1"


def test_a_session_that_comes_up_is_the_one_that_the_child_knew(tmp_path: Path) -> None:
    async def run() -> SessionUp:
        speaker = ExaBGP(tmp_path)
        speaker._told = {PEER: SESSION}
        await speaker.set([replace(SESSION, families=tuple(Family))])
        speaker._take(Up(SessionUp(PEER, Open(65001, 90, PEER)), 1))
        event = await anext(speaker.events())
        assert isinstance(event, SessionUp)
        await speaker.close()
        return event

    assert asyncio.run(run()).offered == SESSION


def test_events_without_end_leave_time_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routed_bgp.exabgp.speaker._TURN_SECONDS", -1.0)

    async def run() -> int:
        speaker, heard = ExaBGP(tmp_path), 0
        free = asyncio.get_running_loop().create_future()
        for _ in range(10):
            speaker._take(Up(SessionUp(PEER, Open(65001, 90, PEER)), 1))
        asyncio.get_running_loop().call_soon(free.set_result, None)
        async for _ in speaker.events():
            if free.done():
                break
            heard += 1
            assert heard < 10, "the loop was never free"
        return heard

    assert asyncio.run(run()) < 10

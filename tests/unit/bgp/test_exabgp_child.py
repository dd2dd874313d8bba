"""When a launcher counts as stuck; the processes themselves are tested in the kernel tier."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from typing import cast

import pytest

from routed_bgp.exabgp import child
from routed_bgp.exabgp.child import Child, Link, Stuck


async def watched(*, answers: int) -> str:
    """Why a launcher counts as stuck that answers so many commands and is silent from then on."""
    link = Link(lambda _: None)

    def write(_: bytes) -> None:
        nonlocal answers
        if answers:
            answers -= 1
            link.heard += 1
            link.answers.popleft().set_result(True)

    link.write = write  # type: ignore[method-assign]
    watching = Child(cast("Process", None), link)  # which `watch` does not touch
    watching.speak(stock=False)
    with pytest.raises(Stuck) as stuck:
        await watching.watch()
    return str(stuck.value)


@pytest.mark.parametrize(
    ("answers", "seconds"),
    [pytest.param(0, child.STARTING_SECONDS, id="starting"), pytest.param(1, child.SILENT_SECONDS, id="running")],
)
def test_a_launcher_that_starts_may_be_silent_for_longer(
    monkeypatch: pytest.MonkeyPatch, answers: int, seconds: int
) -> None:
    monkeypatch.setattr(child, "_BEAT_SECONDS", 0.001)

    assert asyncio.run(watched(answers=answers)) == f"it has not answered for {seconds} s"

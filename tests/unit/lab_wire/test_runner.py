"""The runner's way in: requests that come together."""

from __future__ import annotations

import asyncio
from typing import cast

from routed_lab import wire
from routed_lab.runner.__main__ import Runner, read


class Steps:
    """Notes what is accepted, and when the task of an exec takes its first step."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []

    def accept(self, request: wire.Request) -> None:
        self.seen.append(type(request).__name__)
        if isinstance(request, wire.Exec):
            self._tasks.append(asyncio.create_task(self._first_step()))

    async def _first_step(self) -> None:
        self.seen.append("started")


def test_a_program_is_started_before_its_input_is_handed_on_though_both_came_at_once() -> None:
    async def main() -> list[str]:
        reader = asyncio.StreamReader()
        reader.feed_data(wire.encode(wire.Exec(id=1, node="a1", argv=["cat"], stdin=True)))
        reader.feed_data(wire.encode(wire.Stdin(id=1, data=b"x", eof=True)))
        reader.feed_eof()
        steps = Steps()
        await read(reader, cast("Runner", steps))
        return steps.seen

    assert asyncio.run(main()) == ["Exec", "started", "Stdin"]

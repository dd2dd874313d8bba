"""Backends for the contract suite: each runs a scenario on a fresh store, and can name it to other processes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from routed.store import Store
from routed.store.sqlite import SqliteStore


@dataclass(frozen=True)
class Backend:
    url: str
    open: Callable[..., Store]

    def run(self, scenario: Callable[[Store], Awaitable[None]], **options: Any) -> None:
        """Run `scenario` on the store, for 60 s at most."""

        async def main() -> None:
            store = self.open(**options)
            try:
                async with asyncio.timeout(60):
                    await scenario(store)
            finally:
                await store.close()

        asyncio.run(main())


def _sqlite(directory: Path) -> Backend:
    path = directory / "store.db"
    return Backend(f"sqlite://{path}", lambda **options: SqliteStore(path, **options))


@pytest.fixture(params=[_sqlite], ids=["sqlite"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    made: Backend = request.param(tmp_path)
    return made

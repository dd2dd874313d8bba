"""A backend for the contract suite: runs a scenario on its store, and can name it to other processes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from routed.store import Store


@dataclass(frozen=True)
class Backend:
    """`forget(revision)` makes changes up to that revision unwatchable, where the `keep` of `open` does not do so."""

    url: str
    open: Callable[..., Store]
    forget: Callable[[int], None] = lambda _: None

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

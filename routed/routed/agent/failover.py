"""A session that ends: the kernel does without it before the RIB has found the next best path of every prefix.

To find those of a hundred thousand prefixes takes longer than to repoint the few groups that they go by. Where there is
no other way, and where everything is about to be compared in any case, nothing is done here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from routed.agent.programmer import Programmer
from routed.errors import EnvironmentFault
from routed.model.address import AnyAddress

_log = logging.getLogger("routed.agent")


class FailOver:
    """`kernel` is held by whoever uses `programmer`; `may_write` says whether the kernel may be written to by now.

    `lost` has the peers whose sessions have ended, as long as the RIB has not been told: `View.lost`.
    """

    def __init__(self, programmer: Programmer, kernel: asyncio.Lock, may_write: Callable[[], bool]) -> None:
        self.lost: set[AnyAddress] = set()
        self._programmer = programmer
        self._kernel = kernel
        self._may_write = may_write

    @asynccontextmanager
    async def before(self, peer: AnyAddress, *, gone: bool) -> AsyncGenerator[None]:
        """Around telling the RIB what happened to `peer`; `gone`: its session, which was up, is not any more."""
        if not gone:
            yield
            return
        self.lost.add(peer)
        try:
            if self._may_write() and not self._kernel.locked():  # else the round that goes on
                async with self._kernel:
                    try:
                        self._programmer.fail_over(frozenset(self.lost))
                    except EnvironmentFault as fault:  # the next round compares everything
                        _log.warning("%s", fault)
            yield
        finally:
            self.lost.discard(peer)

"""A node's addresses while the store does not answer, and the store's return.

As long as the store is away, addresses come from the blocks that the node has, as it last knew them, and what changes
is written to the journal instead. When the store is back, the journal is played upon the blocks that are there now,
these are written by compare-and-swap, and only then is anything else changed. What is told of allocations includes the
journal from the moment that the store is read: no pod is without its address in between, over restarts too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice

from routed.errors import EnvironmentFault, RoutedError
from routed.ipam.block import Block
from routed.ipam.holdings import Held, Holdings
from routed.ipam.journal import Lost, Replayed, entries, replay
from routed.ipam.journal_file import JournalFile
from routed.model.address import AnyPrefix

_log = logging.getLogger(__name__)
AGAIN_SECONDS = 1.0  # between two looks whether the store is back
_ATTEMPTS = 16
_BLOCKS_AT_ONCE = 32  # of the journal in one transaction: a block is up to three operations, etcd takes 128


class ContentionError(EnvironmentFault):
    """The store is there, but others keep changing what is to be changed."""


@dataclass(frozen=True, slots=True)
class JournalSeen:
    """What is told of the journal: whether the store is `away`, how many entries wait for it, how many were ever
    `written` by this process, and what was `lost`. `because`: what keeps the journal from going to the store.
    """

    away: bool = False
    waiting: int = 0
    written: int = 0
    lost: tuple[str, ...] = ()
    because: str = ""

    def problems(self) -> tuple[str, ...]:
        """What an operator should know, in sentences."""
        if not self.away:
            return self.lost
        said = (
            f"addresses are given from this node's own blocks alone, {self.waiting} changes wait in its journal: "
            f"{self.because}"
        )
        return (said, *self.lost)


class Absence:
    """Of the store, as `holdings` see it. Without a `journal` nothing is bridged: a fault is everybody's.

    `lock` is held by whoever uses the holdings; all methods but `begin` want it held. `on_return` is called when the
    store has the journal.
    """

    def __init__(self, holdings: Holdings, node: str, journal: JournalFile | None, lock: asyncio.Lock) -> None:
        self.away = False
        self.on_return: Callable[[], None] = lambda: None
        self._holdings = holdings
        self._node = node
        self._journal = journal
        self._lock = lock
        self._replayed = Replayed({}, ())
        self._lost: dict[str, Lost] = {}  # by handle
        self._written = 0
        self._because = ""
        self._looking: asyncio.Task[None] | None = None
        holdings.overlay = self._overlay

    def seen(self) -> JournalSeen:
        """What is told of it, as of now."""
        waiting = len(self._journal.entries) if self._journal is not None else 0
        lost = tuple(map(str, self._lost.values()))
        return JournalSeen(self.away, waiting, self._written, lost, self._because if self.away else "")

    @property
    def bridged(self) -> bool:
        """Whether addresses can be given without the store."""
        return self._journal is not None and self._holdings.loaded

    def may_give(self, held: Held) -> bool:
        """Whether addresses of `held` may be given now: while the store is away only those of what is ours for sure."""
        return not self.away or (held.block.node == self._node and not held.leaving)

    def forget(self, handle: str) -> None:
        """`handle` is no more: what it lost matters to nobody."""
        self._lost.pop(handle, None)

    async def load(self) -> None:
        """Know the blocks: as the store has them, or as last known while it is away. Raises where neither can be."""
        if self.away:
            return
        try:
            await self.refresh()
        except EnvironmentFault as fault:
            if not self.begin(fault):
                raise

    async def refresh(self) -> None:
        """Read the store if memory may be behind it, and tell it of the journal. EnvironmentFault when it is away."""
        await self._holdings.load()
        if self._journal is None:
            return
        for _ in range(_ATTEMPTS):
            if await self._save():
                break
            await self._holdings.load()
        else:
            raise ContentionError(f"the journal could not be recorded: others changed its blocks {_ATTEMPTS} times")
        count = len(self._journal.entries)
        if count:
            for lost in self._replayed.lost:
                _log.error("%s", lost)
                self._lost[lost.entry.handle] = lost
            self._journal.clear()
            _log.warning("the store has the %d changes of addresses that were made while it was away", count)
        if count or self.away:
            self.away = False
            self.on_return()

    async def _save(self) -> bool:
        """Write what the journal makes otherwise, in parts that every store takes; whether nobody else was faster."""
        while part := dict(islice(self._holdings.unsaved.items(), _BLOCKS_AT_ONCE)):
            if not await self._holdings.write(part, {}):
                return False
        return True

    def begin(self, fault: EnvironmentFault) -> bool:
        """The store does not answer: go by the journal from now on; False when that cannot be."""
        if not self.bridged or isinstance(fault, ContentionError):
            return False
        if not self.away:
            _log.warning("addresses are given by the journal: %s", fault.message)
            self.away = True
        self._because = fault.message
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="store's return")
        return True

    async def record(self, changed: Mapping[AnyPrefix, Block], now: float) -> None:
        """Write down what is `changed` of the blocks, and go by it. EnvironmentFault, with nothing changed, when the
        disk does not take it.
        """
        assert self._journal is not None
        written = [
            entry
            for cidr, after in changed.items()
            for entry in entries(self._holdings.blocks[cidr].block, after, self._node, now)
        ]
        await asyncio.to_thread(self._journal.append, written)
        self._written += len(written)
        self._holdings.amend(changed)

    def _overlay(self, blocks: Mapping[AnyPrefix, Block]) -> Mapping[AnyPrefix, Block]:
        self._replayed = replay(self._journal.entries if self._journal is not None else (), blocks, self._node)
        return self._replayed.blocks

    async def _look(self) -> None:
        """Until the store is back. What it answers may be no good: then the journal is gone by for longer."""
        while self.away:
            await asyncio.sleep(AGAIN_SECONDS)
            try:
                await self._holdings.ask()
                async with self._lock:
                    await self.refresh()
            except RoutedError as error:
                if not isinstance(error, EnvironmentFault) and error.message != self._because:
                    _log.error("%s", error)
                self._because = error.message
            except Exception as error:  # noqa: BLE001  a bug must not end the looking: nobody else does it
                _log.exception("whether the store is back could not be seen")
                self._because = repr(error)

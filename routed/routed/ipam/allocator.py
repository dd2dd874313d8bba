"""Durable assignment of this node's addresses: blocks in memory, changes in compare-and-swap transactions.

A change is computed from the blocks in memory (`routed.ipam.block`), written under the condition that the store still
holds those very blocks, and becomes visible here when the store has it. Whoever else wrote in between (a node that
borrows, a cleanup, a former agent on its way out) makes the condition fail; then the blocks are read again and the
change computed anew. What is asked for while a transaction is under way goes into the next one together.

Where an address comes from is `placement`'s.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar, cast

from routed.errors import EnvironmentFault, OperatorError, RoutedError
from routed.ipam.absence import Absence, ContentionError, JournalSeen
from routed.ipam.block import Allocation, Block
from routed.ipam.claims import to_give_back
from routed.ipam.draft import Draft
from routed.ipam.holdings import Holdings
from routed.ipam.journal_file import JournalFile
from routed.ipam.keys import PREFIX, key
from routed.ipam.placement import Placement
from routed.ipam.wish import ANYTHING, Wish
from routed.model.address import Address, AnyAddress, AnyPrefix, Family
from routed.model.cluster import Cluster
from routed.model.ipam import BlockState
from routed.store import Store, TooLargeError

__all__ = ["PREFIX", "Allocator", "key"]

T = TypeVar("T")
_ATTEMPTS = 16  # of one transaction; each lost one means that somebody else's was written
_MOST_TOGETHER = 256  # changes in one transaction
_LONGEST_LINGER = 0.05  # seconds: a store that does not answer is not waited for twice
_LINGER = 0.5  # of a transaction's time, for those to come back who were just answered while others wait
COOLDOWN_SECONDS = 30.0  # connections to the pod before are forgotten by then, and its routes withdrawn

_Change = Callable[[Draft], Awaitable[Any]]


class Allocator:
    """Addresses for `node`, of `blocks` or, once a cluster is adopted, of what that gives the node.

    A handle holds at most one address of a family. Blocks that are no longer the node's give no new addresses but keep
    those in use, over restarts too. All methods but `allocations` are for one event loop and may be called
    concurrently. They raise EnvironmentFault, with nothing changed, when the store cannot be reached, and ConflictError
    when another node holds addresses of a podCIDR of ours. With a `journal`, and once the blocks were read, addresses
    are given and taken back without the store too (`routed.ipam.absence`). `clock` gives seconds of the epoch.
    """

    def __init__(
        self,
        store: Store,
        blocks: Sequence[AnyPrefix] = (),
        *,
        node: str,
        cooldown: float = COOLDOWN_SECONDS,
        clock: Callable[[], float] = time.time,
        journal: JournalFile | None = None,
    ) -> None:
        self._node = node
        self._clock = clock
        self._holdings = Holdings(store, node)
        self._holdings.static = tuple(blocks)
        self._lock = asyncio.Lock()
        self._absence = Absence(self._holdings, node, journal, self._lock)
        self._placement = Placement(node, self._holdings, self._absence, cooldown, clock)
        self._queue: list[tuple[_Change, asyncio.Future[Any]]] = []
        self._enough = asyncio.Event()  # changes for the next transaction
        self._expected = 0
        self._writer: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Read the blocks from the store; the other methods do so by themselves if it was not done."""
        async with self._lock:
            await self._absence.load()

    async def set_blocks(self, blocks: Sequence[AnyPrefix]) -> None:
        """From now on assign from `blocks`, the first with a free address first.

        When this raises for an unreachable store, the blocks change all the same, with the next call that reaches it;
        when it raises for another node's or a damaged block, they stay as they were.
        """
        async with self._lock:
            before, self._holdings.static = self._holdings.static, tuple(blocks)
            self._holdings.stale = True
            try:
                await self._absence.refresh()
            except OperatorError:
                self._holdings.static = before
                raise

    async def adopt(self, cluster: Cluster) -> None:
        """From now on assign from what `cluster` gives the node. Raises as `set_blocks` does."""
        stated = cluster.assignable(self._node)
        known = {cidr for cidr, held in self._holdings.blocks.items() if held.affinity and not held.leaving}
        confirmed = {
            cidr
            for cidr, claim in cluster.affinities.items()
            if claim.node == self._node and claim.state is BlockState.CONFIRMED
        }
        if stated != self._holdings.static or not self._placement.claims or confirmed - known:
            await self.set_blocks(stated)
        self._placement.adopt(cluster)

    @property
    def cluster(self) -> Cluster:
        """As adopted last; an empty one before."""
        return self._placement.cluster

    def allocations(self) -> Mapping[AnyAddress, Allocation]:
        """Who on this node holds what, as last read or written: empty before the first read. The same object until that
        changes.
        """
        return self._holdings.allocations()

    def held_by(self, handle: str) -> tuple[AnyAddress, ...]:
        """What `handle` holds on this node, as last read or written."""
        return tuple(address for address, held in self.allocations().items() if held.handle == handle)

    def borrowed(self) -> tuple[AnyAddress, ...]:
        """The addresses on this node that are of other nodes' blocks."""
        return tuple(address for address, held in self.allocations().items() if held.node)

    async def assign(
        self,
        handle: str,
        attributes: Mapping[str, str] | None = None,
        address: Address | None = None,
        *,
        wish: Wish = ANYTHING,
    ) -> Address:
        """Give `handle` an IPv4 address durably: what it holds already, else `address`, else the next free one.

        Raises `AddressTakenError`, or `BlockFullError` when no block has a free address.
        """
        if address is not None:
            wish = Wish({Family.IPV4: address}, wish.pools, use=wish.use, said=wish.said)
        given = await self._change(lambda draft: self._assign(draft, handle, attributes, (Family.IPV4,), wish))
        return next(each for each in given if isinstance(each, Address))

    async def assign_each(
        self, handle: str, attributes: Mapping[str, str] | None = None, wish: Wish = ANYTHING
    ) -> tuple[AnyAddress, ...]:
        """Give `handle` an address of each family that is wanted or there, IPv4 first: all at once, or none.

        What it holds already it keeps. Raises `BlockFullError` when one family has no free address, OperatorError for
        what cannot be had.
        """
        return await self._change(
            lambda draft: self._assign(draft, handle, attributes, self._placement.families(draft, handle, wish), wish)
        )

    async def check_room(self, wish: Wish = ANYTHING) -> None:
        """Raise what `assign_each` would raise for `wish` and a new handle; nothing is assigned.

        A block that has to be claimed to tell stays claimed, until `tend` finds it idle.
        """

        async def look(draft: Draft) -> None:
            if not self._absence.bridged:
                await self._holdings.reach()
            changed, read = dict(draft.changed), dict(draft.read)
            await self._assign(draft, "a pod", None, self._placement.families(draft, "a pod", wish), wish)
            draft.changed, draft.read = changed, read

        await self._change(look)

    async def release(self, *handles: str) -> tuple[AnyAddress, ...]:
        """Take back durably what `handles` hold on this node, all at once; that is returned."""
        return await self._change(lambda draft: self._release(draft, handles))

    async def tend(self) -> None:
        """Give back claimed blocks that are not needed: withdraw them, and delete those that were withdrawn before."""
        async with self._lock:
            if self._absence.away:
                return
            await self._absence.refresh()
            await self._holdings.give_back()
            await self._absence.refresh()
            claimed = [held for held in self._holdings.blocks.values() if held.affinity and not held.leaving]
            wanted = [held.block.cidr for held in claimed if self._placement.serves(held.block.cidr)]
            now = self._placement.rules()
            idle = to_give_back([held.block.cooled(now) for held in claimed], wanted)
            await self._holdings.withdraw(idle)

    # ---- while the store is away

    def journal(self) -> JournalSeen:
        """What is told of the journal."""
        return self._absence.seen()

    def when_back(self, call: Callable[[], None]) -> None:
        """Have `call` called when the store has the journal: allocations may be others then."""
        self._absence.on_return = call

    def forget_lost(self, handle: str) -> None:
        """`handle` is deleted: that it lost an address is no news any more."""
        self._absence.forget(handle)

    async def _write(self, batch: Sequence[tuple[_Change, asyncio.Future[Any]]]) -> list[Any]:
        """What became of each change: its result, or its error."""
        if not self._absence.away:
            try:
                return await self._write_in_parts(batch)
            except EnvironmentFault as fault:
                if not self._absence.begin(fault):
                    raise
        draft = Draft(self._holdings)
        outcomes = await self._outcomes(draft, batch)
        await self._absence.record(draft.changed, self._clock())
        return outcomes

    # ---- transactions

    async def _change(self, change: Callable[[Draft], Awaitable[T]]) -> T:
        """Have `change` made in the next transaction. When the caller is cancelled it may be made all the same."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.append((change, future))
        if len(self._queue) >= self._expected:
            self._enough.set()
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_all(), name="ipam")
        return cast("T", await future)

    async def _write_all(self) -> None:
        while self._queue:
            async with self._lock:
                start = time.monotonic()
                batch, self._queue = self._queue[:_MOST_TOGETHER], self._queue[_MOST_TOGETHER:]
                batch = [(change, future) for change, future in batch if not future.done()]
                try:
                    outcomes = await self._write(batch)
                except asyncio.CancelledError:
                    for _, future in [*batch, *self._queue]:
                        future.cancel()
                    raise
                except Exception as error:  # noqa: BLE001  every caller is told
                    outcomes = [error] * len(batch)
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                _tell(future, outcome)
            if self._queue:
                await self._gather(
                    len(self._queue) + len(batch), min(_LINGER * (time.monotonic() - start), _LONGEST_LINGER)
                )

    async def _gather(self, expected: int, seconds: float) -> None:
        """Wait until so many changes are asked for, but not longer than `seconds`.

        Callers that each do one thing after the other would else fall into two halves for good, of which one waits
        while the other is written: twice the transactions.
        """
        self._expected = expected
        self._enough.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._enough.wait()

    async def _write_in_parts(self, batch: Sequence[tuple[_Change, asyncio.Future[Any]]]) -> list[Any]:
        """As `_write_store`, in several transactions where one is too large: each change may be of another block."""
        try:
            return await self._write_store(batch)
        except TooLargeError:
            if len(batch) < 2:
                raise
        middle = len(batch) // 2
        outcomes: list[Any] = []
        for part in (batch[:middle], batch[middle:]):
            try:
                outcomes += await self._write_in_parts(part)
            except EnvironmentFault:
                if not outcomes:
                    raise
                outcomes += await self._write(part)  # the store went away after the first part: by the journal
            except RoutedError as error:
                outcomes += [error] * len(part)
        return outcomes

    async def _write_store(self, batch: Sequence[tuple[_Change, asyncio.Future[Any]]]) -> list[Any]:
        for _ in range(_ATTEMPTS):
            await self._absence.refresh()
            draft = Draft(self._holdings)
            outcomes = await self._outcomes(draft, batch)
            if self._holdings.stale:
                continue
            if not draft.changed or await self._holdings.write(draft.changed, draft.read):
                return outcomes
        raise ContentionError(
            f"{len(batch)} changes of addresses could not be recorded: other writers changed their blocks {_ATTEMPTS} "
            "times meanwhile",
            hint="check that no second agent runs as this node",
        )

    async def _outcomes(self, draft: Draft, batch: Sequence[tuple[_Change, asyncio.Future[Any]]]) -> list[Any]:
        outcomes: list[Any] = []
        for change, _ in batch:
            try:
                outcomes.append(await change(draft))
            except RoutedError as error:
                outcomes.append(error)
        return outcomes

    async def _release(self, draft: Draft, handles: Sequence[str]) -> tuple[AnyAddress, ...]:
        given: list[AnyAddress] = []
        for handle in handles:
            for block in list(draft.of(handle, self._node)):
                after, address = block.release(handle, now=self._clock())
                draft.changed[block.cidr] = after
                given += () if address is None else (address,)
        return tuple(sorted(given, key=lambda address: (address.version, address)))

    async def _assign(
        self,
        draft: Draft,
        handle: str,
        attributes: Mapping[str, str] | None,
        families: Sequence[Family],
        wish: Wish,
    ) -> tuple[AnyAddress, ...]:
        given: list[AnyAddress] = []
        after: dict[AnyPrefix, Block] = {}
        for family in families:
            block, address = await self._placement.place(draft, handle, attributes, family, wish)
            given.append(address)
            after[block.cidr] = block
        draft.changed |= {cidr: block for cidr, block in after.items() if block is not draft.held(cidr).block}
        return tuple(given)


def _tell(future: asyncio.Future[Any], outcome: object) -> None:
    if future.done():
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)

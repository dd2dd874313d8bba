"""Whatever happens while one node is cut off from the store, or killed: no address has two holders in the store, what
was answered is what is gone by, and after the return the store has it, but for what others borrowed.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from routed.errors import RoutedError

from .cluster import World, node, pool
from .partition import JournallingNode

T = TypeVar("T")
HANDLES = st.sampled_from([f"h{number}" for number in range(8)])


class CutOffNode(RuleBasedStateMachine):
    """Node a has the journal; b borrows. Four blocks of six addresses, so that they meet."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.TemporaryDirectory()
        self.world = World(pool("10.1.0.0/28", blockSize=29), node("a"), node("b"), cooldown=5)
        self.run(self.world.start())
        self.one = JournallingNode(self.world, "a", Path(self.directory.name) / "a.journal")
        self.run(self.one.start())
        self.answered: dict[str, str] = {}  # handle to address, on a

    def teardown(self) -> None:
        self.run(self.one.stop())
        self.loop.close()
        self.directory.cleanup()

    def run(self, work: Awaitable[T]) -> T:
        async def alone() -> T:
            result = await work
            # whoever looks for the store's return does so by the clock: here it is a rule of its own
            await self.one.stop() if hasattr(self, "one") else None
            return result

        return self.loop.run_until_complete(alone())

    @rule(handle=HANDLES)
    def the_node_assigns(self, handle: str) -> None:
        try:
            given = str(self.run(self.one.allocator.assign(handle)))
        except RoutedError:
            assert handle not in self.answered
            return
        assert self.answered.setdefault(handle, given) == given

    @rule(handle=HANDLES)
    def the_node_releases(self, handle: str) -> None:
        given = [str(address) for address in self.run(self.one.allocator.release(handle))]
        known = self.answered.pop(handle, None)
        assert given == ([known] if known else [])

    @rule(handle=HANDLES)
    def the_other_assigns(self, handle: str) -> None:
        try:
            self.run(self.world.nodes["b"].assign(f"b-{handle}"))
        except RoutedError:
            return

    @rule(handle=HANDLES)
    def the_other_releases(self, handle: str) -> None:
        self.run(self.world.nodes["b"].release(f"b-{handle}"))

    @rule()
    def the_other_hears(self) -> None:
        self.run(self.world.hear("b"))

    @rule(seconds=st.integers(0, 6))
    def time_passes(self, seconds: int) -> None:
        self.world.now += seconds

    @precondition(lambda self: not self.one.store.away)
    @rule()
    def the_node_tends_and_hears(self) -> None:
        self.run(self.one.hear())
        self.run(self.one.allocator.tend())

    @rule()
    def the_node_is_cut_off(self) -> None:
        self.one.store.away = True

    @rule(handle=HANDLES, after=st.integers(0, 2), wanted=st.booleans())
    def an_answer_is_lost(self, handle: str, after: int, wanted: bool) -> None:
        self.world.store.breaks_after = after
        if wanted:
            self.the_node_assigns(handle)
        else:
            self.the_node_releases(handle)
        self.world.store.away, self.world.store.breaks_after = False, None

    @rule()
    def the_store_comes_back(self) -> None:
        self.one.store.away = False
        self.run(self._told())

    @rule()
    def the_agent_is_killed_and_starts_when_the_store_is_there(self) -> None:
        self.run(self.one.stop())
        self.one = JournallingNode(self.world, "a", self.one.path)
        self.run(self.one.start())
        self._forget_the_lost()

    async def _told(self) -> None:
        await self.one.allocator.set_blocks(())  # reads the store, as a cluster that changes does
        self._forget_the_lost()

    def _forget_the_lost(self) -> None:
        """What others have borrowed is lost, and said so."""
        held = {each.handle for each in self.one.allocator.allocations().values()}
        lost = self.one.allocator.journal().lost
        for handle in self.answered.keys() - held:
            start = f"{handle} lost its address {self.answered[handle]}, given while the store was away: "
            assert any(said.startswith(f"{start}node b has borrowed it") for said in lost), lost
            del self.answered[handle]

    @invariant()
    def what_was_answered_is_what_the_node_goes_by(self) -> None:
        if not self.one.store.away:
            return
        told = {held.handle: str(address) for address, held in self.one.allocator.allocations().items()}
        assert told == self.answered

    @invariant()
    def no_address_has_two_holders_and_what_the_store_was_told_of_it_holds(self) -> None:
        holders = self.world.holders  # fails for two holders in the store
        if not self.one.allocator.journal().away:
            ours = {handle: address for address, (name, handle) in holders.items() if name == "a"}
            assert ours == self.answered

    @invariant()
    def nothing_waits_once_the_store_is_back(self) -> None:
        seen = self.one.allocator.journal()
        assert seen.away or not seen.waiting


TestCutOffNode = CutOffNode.TestCase
TestCutOffNode.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)

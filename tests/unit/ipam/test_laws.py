"""Whatever nodes do, in whatever order and with whatever they have heard of one another: no address is given twice,
none is lost, and what was acknowledged is what the store holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from ipaddress import IPv4Address, ip_network
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from routed.errors import EnvironmentFault, RoutedError
from routed.ipam.wish import Wish
from routed.model.address import Family
from routed.model.ipam import BlockState

from .cluster import World, ipam, node, pool, reserving

T = TypeVar("T")
NAMES = "abc"
RESERVED = ip_network("10.1.0.9/32")
NODES = st.sampled_from(NAMES)
HANDLES = st.sampled_from([f"h{number}" for number in range(12)])


class Nodes(RuleBasedStateMachine):
    """Three nodes, six blocks of two addresses. A handle is a container's: it lives on one node."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        resources = pool("10.1.0.0/28", blockSize=30), pool("10.2.0.0/29", "more", blockSize=30)
        self.world = World(
            *resources, *map(node, NAMES), reserving(str(RESERVED)), ipam(maxBlocksPerHost=3), cooldown=5
        )
        self.run(self.world.start())
        self.ledger: dict[tuple[str, str], str] = {}  # what was acknowledged
        self.unknown = set[tuple[str, str]]()  # its answer was lost: it may have happened, or not

    def teardown(self) -> None:
        self.loop.close()

    def run(self, work: Awaitable[T]) -> T:
        return self.loop.run_until_complete(work)

    async def assign(self, name: str, handle: str, wish: Wish | None = None) -> None:
        owner = name, f"{name}-{handle}"
        try:
            (address,) = await self.world.nodes[name].assign_each(owner[1], {"of": handle}, wish or Wish())
        except EnvironmentFault as fault:
            if "store" in fault.message:
                self.unknown.add(owner)
            return
        except RoutedError:
            return
        if owner in self.unknown:  # whether a release before had been done
            self.ledger[owner] = str(address)
        assert self.ledger.setdefault(owner, str(address)) == str(address)
        self.unknown.discard(owner)

    async def release(self, name: str, handle: str) -> None:
        owner = name, f"{name}-{handle}"
        try:
            given = await self.world.nodes[name].release(owner[1])
        except EnvironmentFault:
            self.unknown.add(owner)
            return
        known = self.ledger.pop(owner, None)
        if owner not in self.unknown:
            assert [str(address) for address in given] == ([known] if known else [])
        self.unknown.discard(owner)

    @rule(name=NODES, handle=HANDLES)
    def one_assigns(self, name: str, handle: str) -> None:
        self.run(self.assign(name, handle))

    @rule(name=NODES, handle=HANDLES, last=st.integers(0, 15))
    def one_asks_by_name(self, name: str, handle: str, last: int) -> None:
        self.run(self.assign(name, handle, Wish({Family.IPV4: IPv4Address(f"10.1.0.{last}")})))

    @rule(name=NODES, handle=HANDLES)
    def one_releases(self, name: str, handle: str) -> None:
        self.run(self.release(name, handle))

    @rule(handles=st.lists(st.tuples(NODES, HANDLES, st.booleans()), min_size=2, max_size=9, unique_by=lambda x: x[:2]))
    def all_at_once(self, handles: list[tuple[str, str, bool]]) -> None:
        async def together() -> None:
            work: list[Awaitable[Any]] = [
                self.assign(name, handle) if wanted else self.release(name, handle) for name, handle, wanted in handles
            ]
            await asyncio.gather(*work, *(self.world.nodes[name].tend() for name in NAMES[:1]))

        self.run(together())

    @rule(name=NODES)
    def one_tends(self, name: str) -> None:
        self.run(self.world.nodes[name].tend())

    @rule(name=NODES)
    def one_hears(self, name: str) -> None:
        self.run(self.world.hear(name))

    @rule(name=NODES)
    def one_restarts(self, name: str) -> None:
        self.run(self.world.restart(name))

    @rule(seconds=st.integers(0, 6))
    def time_passes(self, seconds: int) -> None:
        self.world.now += seconds

    @rule(name=NODES, handle=HANDLES, after=st.integers(0, 2), wanted=st.booleans())
    def the_store_goes_away_in_between(self, name: str, handle: str, after: int, wanted: bool) -> None:
        self.world.store.breaks_after = after
        self.run(self.assign(name, handle) if wanted else self.release(name, handle))
        self.world.store.away, self.world.store.breaks_after = False, None

    @invariant()
    def what_was_acknowledged_is_what_the_store_holds(self) -> None:
        holders = {owner: address for address, owner in self.world.holders.items()}
        sure = {owner: address for owner, address in self.ledger.items() if owner not in self.unknown}
        assert {owner: address for owner, address in holders.items() if owner not in self.unknown} == sure

    @invariant()
    def nothing_reserved_is_given(self) -> None:
        assert str(RESERVED.network_address) not in self.world.holders

    @invariant()
    def every_block_has_its_claim(self) -> None:
        claims = self.world.cluster.affinities
        for cidr, block in self.world.blocks.items():
            assert claims[cidr].node == block.node
            assert claims[cidr].state is not BlockState.PENDING

    @invariant()
    def no_address_of_a_block_is_lost(self) -> None:
        for block in self.world.blocks.values():
            given_back = set(block.released) | set(block.allocations)
            assert given_back <= set(block.usable)
            assert block.free == len(block.usable) - len(block.allocations)


TestNodes = Nodes.TestCase
TestNodes.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)

"""What nodes had that are gone is given back, and nothing else is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from routed.ipam.block import encode
from routed.ipam.collect import Giving, Suspects, collect, release, suspects
from routed.ipam.survey import EVERYTHING, Survey, findings, usage
from routed.ipam.wish import Wish
from routed.model.address import Family
from routed.model.resources import AnyResource
from routed.store import Compare, Delete, Put
from routed.store.resources import apply, delete

from .cluster import World, node, pool, reserving

SMALL = pool("10.1.0.0/28", blockSize=30)


def run(story: Callable[[World], Awaitable[None]], *resources: AnyResource) -> None:
    world = World(*(resources or (SMALL, node("a"), node("b"))))

    async def told() -> None:
        await story(await world.start())

    asyncio.run(told())


def survey(world: World) -> Survey:
    return Survey.of([(item.key, item.value, item.mod_revision) for item in world.store.items(EVERYTHING)])


async def give(world: World, giving: Giving | None) -> bool:
    assert giving is not None
    compares = [Compare(key, at) for key, at in giving.compares.items()]
    puts = [Put(key, encode(block)) for key, block in giving.puts.items()]
    return (await world.store.txn(compares, [*puts, *map(Delete, giving.deletes)])).succeeded


async def fill(world: World, name: str, count: int) -> None:
    for number in range(count):
        await world.nodes[name].assign_each(f"{name}{number}")


def test_nothing_of_a_node_that_is_there_is_suspect():
    async def story(world: World) -> None:
        await fill(world, "a", 3)
        assert not suspects(survey(world))

    run(story)


def test_a_node_that_is_gone_gives_its_addresses_and_blocks_back():
    async def story(world: World) -> None:
        await fill(world, "a", 3)
        await fill(world, "b", 1)
        await delete(world.store, [("Node", "a")])
        first = suspects(survey(world))
        assert len(first.handles) == 3
        assert await give(world, collect(survey(world), "a", first.confirmed_by(suspects(survey(world))), world.now))
        assert {claim.node for claim in world.claims.values()} == {"b"}
        assert set(world.holders.values()) == {("b", "b0")}
        assert findings(survey(world)) == []
        assert not [key for key in world.store.values if "/holdings/a/" in key]

    run(story)


def test_what_changed_between_the_looks_stays():
    async def story(world: World) -> None:
        await fill(world, "a", 2)
        await delete(world.store, [("Node", "a")])
        first = suspects(survey(world))
        await world.nodes["a"].release("a0")
        world.now += 100
        await world.nodes["a"].assign_each("a0")  # another pod of the same name, at another time
        confirmed = first.confirmed_by(suspects(survey(world)))
        assert [handle for _, handle in confirmed.handles] == ["a1"]

    run(story)


def test_a_handle_goes_with_all_its_addresses_or_none():
    async def story(world: World) -> None:
        both = await world.nodes["a"].assign_each("both")
        await delete(world.store, [("Node", "a")])
        first = suspects(survey(world))
        ((_, suspect),) = first.handles.items()
        assert {address for address, _ in suspect.addresses} == set(both)
        assert await give(world, collect(survey(world), "a", first, world.now))
        assert world.holders == {}

    run(story, SMALL, pool("fd00::/64", "six"), node("a"), node("b"))


def test_a_node_that_comes_back_in_between_keeps_everything():
    async def story(world: World) -> None:
        await fill(world, "a", 2)
        await delete(world.store, [("Node", "a")])
        giving = collect(survey(world), "a", suspects(survey(world)), world.now)
        await apply(world.store, [node("a")])
        assert not await give(world, giving)
        assert len(world.holders) == 2

    run(story)


def test_an_address_that_a_gone_nodes_block_lent_stays_and_the_block_is_taken_over_by_who_wants_it():
    async def story(world: World) -> None:
        await fill(world, "a", 7)
        await world.hear()
        await fill(world, "b", 1)
        (lent,) = world.nodes["b"].borrowed()
        await delete(world.store, [("Node", "a")])
        assert await give(world, collect(survey(world), "a", suspects(survey(world)), world.now))
        assert world.holders == {str(lent): ("b", "b0")}
        assert world.claims == {}
        await world.restart("b")
        await fill(world, "b", 8)
        assert len(world.holders) == 8
        assert {claim.node for claim in world.claims.values()} == {"b"}
        assert str(lent) in world.holders

    run(story)


def test_a_lent_address_of_nobodys_block_takes_the_block_with_it():
    async def story(world: World) -> None:
        await fill(world, "a", 7)
        await world.hear()
        await fill(world, "b", 1)
        await delete(world.store, [("Node", "a")])
        await give(world, collect(survey(world), "a", suspects(survey(world)), world.now))
        await world.nodes["b"].release("b0")
        assert world.blocks == {}

    run(story)


def test_a_former_podcidr_of_a_gone_node_is_free_again():
    async def story(world: World) -> None:
        await fill(world, "a", 2)
        await delete(world.store, [("Node", "a")])
        assert await give(world, collect(survey(world), "a", suspects(survey(world)), world.now))
        await world.hear("b")
        await fill(world, "b", 8)
        assert len(world.claims) == 4

    run(story, SMALL, node("a", "10.1.0.0/29"), node("b"))


def test_an_address_that_is_released_while_its_block_changes_is_not_taken_from_the_next_one():
    async def story(world: World) -> None:
        (address,) = await world.nodes["a"].assign_each("first")
        stale = release(survey(world), [address], world.now)
        await world.nodes["a"].release("first")
        await world.nodes["a"].assign_each("second", wish=Wish({Family.IPV4: address}))
        assert not await give(world, stale)
        assert world.holders == {str(address): ("a", "second")}

    run(story)


def test_usage_counts_addresses_by_pool_and_block_and_who_borrows():
    async def story(world: World) -> None:
        await fill(world, "a", 7)
        await world.hear()
        await fill(world, "b", 1)
        (told,) = usage(survey(world))
        assert (told.used, told.usable, told.most, len(told.blocks)) == (8, 8, 4, 4)
        assert [each.lent for each in told.blocks if each.lent] == [{"b": 1}]

    run(story)


def test_a_healthy_store_has_no_findings_and_what_is_wrong_is_found():
    async def story(world: World) -> None:
        await fill(world, "a", 3)
        assert findings(survey(world)) == []
        await apply(world.store, [reserving("10.1.0.0/28")])
        assert [each.harmful for each in findings(survey(world))] == [False, False]
        block = next(iter(world.blocks.values()))
        await world.store.txn([], [Delete(f"/routed/v1/ipam/blocks/{str(block.cidr).replace('/', '-')}")])
        await world.store.txn([], [Put("/routed/v1/ipam/blocks/10.1.0.0-24", encode(block))])
        found = [each.what for each in findings(survey(world)) if each.harmful]
        assert any("is not there" in what for what in found)
        assert any("cannot be read: it holds the block" in what for what in found)

    run(story)


def test_no_suspects_is_false():
    assert not Suspects({}, {})

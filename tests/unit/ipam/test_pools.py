"""Addresses out of pools: blocks claimed, given back and borrowed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, ip_address, ip_network

import pytest

from routed.errors import ConflictError, EnvironmentFault, OperatorError
from routed.ipam.block import AddressTakenError, BlockFullError
from routed.ipam.wish import Wish
from routed.model.address import Family
from routed.model.ipam import BlockState
from routed.model.resources import AnyResource
from routed.store.resources import ContradictionError, apply, delete

from .cluster import World, ipam, node, pool, reserving

SMALL = pool("10.1.0.0/28", blockSize=30)  # 4 blocks of 2 addresses


def run(story: Callable[[World], Awaitable[None]], *resources: AnyResource, cooldown: float = 0.0) -> World:
    world = World(*(resources or (SMALL, node("a"), node("b"))), cooldown=cooldown)

    async def told() -> None:
        await story(await world.start())

    asyncio.run(told())
    return world


async def fill(world: World, name: str, count: int, prefix: str = "h") -> None:
    for number in range(count):
        await world.nodes[name].assign_each(f"{prefix}{name}{number}")


def test_a_node_claims_a_block_when_it_needs_one_and_not_before():
    async def story(world: World) -> None:
        assert world.claims == {}
        (address,) = await world.nodes["a"].assign_each("h")
        (claim,) = world.claims.values()
        assert (claim.node, claim.state) == ("a", BlockState.CONFIRMED)
        assert address in claim.cidr
        assert claim.cidr.prefixlen == 30

    run(story)


def test_the_next_block_is_claimed_when_the_first_is_full():
    async def story(world: World) -> None:
        await fill(world, "a", 3)
        assert len(world.claims) == 2

    run(story)


def test_a_claimed_block_is_among_the_nodes_blocks():
    async def story(world: World) -> None:
        await fill(world, "a", 1)
        (cidr,) = world.blocks
        assert world.cluster.own_blocks("a") == (cidr,)
        assert world.cluster.owner(ip_network(f"{cidr.network_address + 1}/32")) == "a"

    run(story)


@pytest.mark.parametrize("transactions", [0, 1])
def test_a_claim_that_did_not_come_to_its_end_is_not_announced_and_taken_up_or_dropped_by_a_restart(transactions: int):
    async def story(world: World) -> None:
        world.store.breaks_after = transactions
        with pytest.raises(EnvironmentFault):
            await world.nodes["a"].assign_each("h")
        world.store.away = False
        assert len(world.cluster.own_blocks("a")) == transactions
        restarted = await world.restart("a")
        await restarted.assign_each("h")
        assert [claim.state for claim in world.claims.values()] == [BlockState.CONFIRMED]
        assert len(world.blocks) == 1

    run(story)


def test_nodes_that_start_at_once_have_a_block_each():
    names = [chr(number) for number in range(ord("a"), ord("q"))]

    async def story(world: World) -> None:
        await asyncio.gather(*(each.assign_each("tunnel") for each in world.nodes.values()))
        assert sorted(claim.node for claim in world.claims.values()) == names

    run(story, pool("10.1.0.0/22"), *map(node, names))


def test_changes_at_once_are_one_transaction():
    async def story(world: World) -> None:
        await fill(world, "a", 1)
        before = world.store.transactions
        await asyncio.gather(*(world.nodes["a"].assign_each(f"h{number}") for number in range(40)))
        assert world.store.transactions - before <= 2

    run(story, pool("10.1.0.0/24"), node("a"))


def test_changes_at_once_that_are_too_many_for_one_transaction_are_written_in_parts():
    async def story(world: World) -> None:
        a = world.nodes["a"]
        await fill(world, "a", 8)  # two in each of four blocks
        world.store.most_operations = 2
        before = world.store.transactions
        await asyncio.gather(*(a.release(f"ha{number}") for number in range(8)))
        assert world.holders == {}
        assert world.store.transactions - before <= 4

    run(story)


def test_one_that_fails_does_not_keep_others_of_its_transaction_from_theirs():
    async def story(world: World) -> None:
        a = world.nodes["a"]
        outside = Wish({Family.IPV4: IPv4Address("10.9.9.9")})
        good, bad = await asyncio.gather(
            a.assign_each("good"), a.assign_each("bad", wish=outside), return_exceptions=True
        )
        assert isinstance(bad, ConflictError)
        assert {str(each) for each in good} == world.holders.keys()  # type: ignore[union-attr]

    run(story)


def test_looking_for_room_assigns_nothing_and_fails_as_an_assignment_would():
    async def story(world: World) -> None:
        a = world.nodes["a"]
        for _ in range(9):
            await a.check_room()
        assert (len(world.claims), world.holders) == (1, {})
        await fill(world, "a", 8)
        for look in (a.check_room, lambda: a.assign_each("more")):
            with pytest.raises(BlockFullError, match=r"all blocks of 10\.1\.0\.0/28 are claimed"):
                await look()

    run(story)


def test_looking_for_room_beside_an_assignment_changes_nothing_of_it():
    async def story(world: World) -> None:
        a = world.nodes["a"]
        _, given, _ = await asyncio.gather(a.check_room(), a.assign_each("h"), a.check_room())
        assert world.holders == {str(given[0]): ("a", "h")}

    run(story)


def test_no_more_blocks_are_claimed_than_a_node_may_have():
    async def story(world: World) -> None:
        await fill(world, "a", 2)
        with pytest.raises(BlockFullError, match=r"pods: the node has its 1 blocks \(maxBlocksPerHost\)"):
            await world.nodes["a"].assign_each("more")

    run(story, SMALL, node("a"), ipam(maxBlocksPerHost=1, strictAffinity=True))


def test_without_auto_allocation_nothing_is_claimed():
    async def story(world: World) -> None:
        with pytest.raises(BlockFullError, match="autoAllocateBlocks is false"):
            await world.nodes["a"].assign_each("h")
        assert world.claims == {}

    run(story, SMALL, node("a"), ipam(autoAllocateBlocks=False))


def test_when_all_blocks_are_claimed_addresses_are_borrowed_and_remembered_over_a_restart():
    async def story(world: World) -> None:
        await fill(world, "a", 7)
        await world.hear()
        (address,) = await world.nodes["b"].assign_each("hb", {"pod": "p"})
        assert world.holders[str(address)] == ("b", "hb")
        assert len(world.claims) == 4
        assert world.nodes["b"].borrowed() == (address,)
        assert address not in world.nodes["a"].allocations()
        restarted = await world.restart("b")
        assert restarted.borrowed() == (address,)
        assert await restarted.release("hb") == (address,)
        assert (restarted.allocations(), len(world.holders)) == ({}, 7)

    run(story)


def test_with_strict_affinity_nothing_is_borrowed():
    async def story(world: World) -> None:
        await fill(world, "a", 7)
        await world.hear()
        with pytest.raises(BlockFullError, match="strictAffinity"):
            await world.nodes["b"].assign_each("hb")

    run(story, SMALL, node("a"), node("b"), ipam(strictAffinity=True))


def test_a_full_pool_says_which_pools_were_tried_and_why_each_refused():
    async def story(world: World) -> None:
        await fill(world, "a", 8)
        await world.hear()
        with pytest.raises(BlockFullError) as caught:
            await world.nodes["b"].assign_each("hb")
        assert "off: it is disabled" in caught.value.message
        assert "racks: its nodeSelector rack == 'x' does not select node b" in caught.value.message
        assert "tunnels: its allowedUses have no Workload" in caught.value.message
        assert "pods: all blocks of 10.1.0.0/28 are claimed" in caught.value.message
        assert "pods: no other node's block of 10.1.0.0/28 has a free address" in caught.value.message

    run(
        story,
        *(SMALL, node("a"), node("b")),
        pool("10.2.0.0/24", "off", disabled=True),
        pool("10.3.0.0/24", "racks", nodeSelector="rack == 'x'"),
        pool("10.4.0.0/24", "tunnels", allowedUses=["Tunnel"]),
    )


def test_a_block_that_is_not_needed_is_withdrawn_first_and_deleted_later():
    async def story(world: World) -> None:
        a = world.nodes["a"]
        await fill(world, "a", 3)
        await a.release("ha0")
        await a.release("ha1")
        await a.tend()
        assert sorted(claim.state for claim in world.claims.values()) == ["confirmed", "pendingDeletion"]
        assert len(world.cluster.own_blocks("a")) == 1
        await world.hear()
        await a.tend()
        assert [claim.state for claim in world.claims.values()] == [BlockState.CONFIRMED]
        assert len(world.blocks) == 1

    run(story)


def test_a_block_of_which_somebody_borrowed_while_it_was_withdrawn_is_kept():
    async def story(world: World) -> None:
        a, b = world.nodes["a"], world.nodes["b"]
        await fill(world, "a", 8)
        await world.hear()
        await a.release("ha0")
        await a.release("ha1")
        await a.tend()
        (address,) = await b.assign_each("hb")  # it has not heard
        await a.tend()
        assert all(claim.state is BlockState.CONFIRMED for claim in world.claims.values())
        assert world.holders[str(address)] == ("b", "hb")
        assert len(world.claims) == 4

    run(story)


def test_addresses_that_cool_are_spared_until_there_is_nothing_else():
    async def story(world: World) -> None:
        a = world.nodes["a"]
        await fill(world, "a", 2)
        first = await a.release("ha0")
        (other,) = await a.assign_each("x")
        assert (other,) != first
        await fill(world, "a", 6, "y")
        assert set(world.holders) >= {str(each) for each in first}

    run(story, SMALL, node("a"), cooldown=30.0)


def test_reserved_addresses_are_not_given_and_reserved_blocks_not_claimed():
    async def story(world: World) -> None:
        await fill(world, "a", 5)
        assert not {"10.1.0.1"} & world.holders.keys()
        assert "10.1.0.12/30" not in world.claims
        with pytest.raises(BlockFullError):
            await world.nodes["a"].assign_each("more")

    run(story, SMALL, node("a"), reserving("10.1.0.1/32", "10.1.0.12/30"))


def test_pools_are_tried_in_the_order_in_which_they_are_asked_for():
    async def story(world: World) -> None:
        a, wish = world.nodes["a"], Wish(pools={Family.IPV4: ["two", "10.1.0.0/30"]})
        given = [str((await a.assign_each(f"h{number}", wish=wish))[0]) for number in range(4)]
        assert [each.rpartition(".")[0] for each in given] == ["10.2.0", "10.2.0", "10.1.0", "10.1.0"]
        with pytest.raises(OperatorError, match="no IPv4 pool 'three'"):
            await a.assign_each("h", wish=Wish(pools={Family.IPV4: ["three"]}))

    run(story, pool("10.1.0.0/30", "one"), pool("10.2.0.0/30", "two", nodeSelector="x == 'y'"), node("a"))


def by_name(address: str) -> Wish:
    return Wish({Family.IPV4: ip_address(address)})


def test_an_address_asked_for_by_name_has_its_block_claimed():
    async def story(world: World) -> None:
        assert list(map(str, await world.nodes["a"].assign_each("h", wish=by_name("10.1.0.5")))) == ["10.1.0.5"]
        assert world.claims.keys() == {"10.1.0.4/30"}

    run(story)


def test_an_address_asked_for_by_name_is_borrowed_from_the_node_that_has_its_block():
    async def story(world: World) -> None:
        await world.nodes["a"].assign_each("h", wish=by_name("10.1.0.5"))
        await world.nodes["b"].assign_each("hb", wish=by_name("10.1.0.6"))
        assert world.holders["10.1.0.6"] == ("b", "hb")
        with pytest.raises(AddressTakenError, match=r"10\.1\.0\.5 is held by h"):
            await world.nodes["b"].assign_each("more", wish=by_name("10.1.0.5"))

    run(story)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("10.9.9.9", "in no IPPool"),
        ("10.1.0.9", r"reserved \(IPReservation 10\.1\.0\.8/30\)"),
        ("10.2.0.1", "IPPool off, which is disabled"),
    ],
)
def test_an_address_that_cannot_be_had_is_refused_with_its_reason(address: str, reason: str):
    async def story(world: World) -> None:
        with pytest.raises(ConflictError, match=reason):
            await world.nodes["a"].assign_each("h", wish=by_name(address))
        assert world.holders == {}

    run(story, SMALL, node("a"), pool("10.2.0.0/24", "off", disabled=True), reserving("10.1.0.8/30"))


def test_an_address_that_another_pod_of_the_node_has_is_refused_and_its_holder_named():
    async def story(world: World) -> None:
        (taken,) = await world.nodes["a"].assign_each("first")
        with pytest.raises(AddressTakenError, match=f"{taken} is held by first"):
            await world.nodes["a"].assign_each("second", wish=by_name(str(taken)))
        assert list(world.holders) == [str(taken)]

    run(story)


def test_both_families_are_claimed_and_given_together():
    async def story(world: World) -> None:
        four, six = await world.nodes["a"].assign_each("h")
        assert four in ip_network("10.1.0.0/28")
        assert six in ip_network("fd00::/64")
        assert {cidr.prefixlen for cidr in world.blocks} == {30, 122}

    run(story, SMALL, pool("fd00::/64", "six"), node("a"))


def test_a_node_with_pod_cidrs_has_these_and_claims_nothing():
    async def story(world: World) -> None:
        await fill(world, "a", 2)
        with pytest.raises(BlockFullError, match=r"10\.1\.0\.4/30"):
            await world.nodes["a"].assign_each("more")
        assert world.claims == {}
        await fill(world, "b", 6)
        assert "10.1.0.4/30" not in world.claims

    run(story, SMALL, node("a", "10.1.0.4/30"), node("b"))


def test_nothing_is_claimed_of_a_pod_cidr_that_came_while_the_claim_was_made():
    async def story(world: World) -> None:
        await apply(world.store, [node("b", "10.1.0.0/29")])  # a has not heard of it
        await fill(world, "a", 4)
        assert not {"10.1.0.0/30", "10.1.0.4/30"} & world.claims.keys()

    run(story)


def test_nothing_is_claimed_of_a_former_pod_cidr_that_is_in_use():
    async def story(world: World) -> None:
        await fill(world, "b", 1)
        await apply(world.store, [node("b")])
        await world.hear()
        await fill(world, "a", 4)
        assert not {"10.1.0.0/30", "10.1.0.4/30"} & world.claims.keys()
        await world.nodes["b"].release("hb0")
        await fill(world, "a", 8)
        assert {"10.1.0.0/30", "10.1.0.4/30"} < world.claims.keys()

    run(story, SMALL, node("a"), node("b", "10.1.0.0/29"))


def test_a_pool_that_changes_while_a_block_is_claimed_gives_none():
    async def story(world: World) -> None:
        await apply(world.store, [pool("10.1.0.0/28", blockSize=29)])  # a has not heard of it
        with pytest.raises(BlockFullError):
            await world.nodes["a"].assign_each("h")
        assert world.claims == {}
        await world.hear()
        await world.nodes["a"].assign_each("h")
        assert [cidr.prefixlen for cidr in world.blocks] == [29]

    run(story)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (pool("10.1.0.0/28", blockSize=29), "spec.blockSize: /29 cannot be, as 4 blocks of /30 are in use"),
        (pool("10.1.0.0/29", blockSize=30), "spec.cidr: 2 blocks would be in no pool"),
        (node("b", "10.1.0.0/29"), r"spec.podCIDRs\[0\]: 10.1.0.0/29 overlaps 10.1.0.[04]/30"),
    ],
)
def test_what_would_take_blocks_in_use_away_is_refused(change: AnyResource, reason: str):
    async def story(world: World) -> None:
        await fill(world, "a", 8)
        with pytest.raises(ContradictionError, match=reason):
            await apply(world.store, [change])
        with pytest.raises(ContradictionError, match="4 blocks would be in no pool"):
            await delete(world.store, [("IPPool", "pods")])

    run(story)


def test_a_pool_whose_last_block_was_given_back_can_go():
    async def story(world: World) -> None:
        await fill(world, "a", 1)
        await world.nodes["a"].release("ha0")
        await apply(world.store, [pool("10.1.0.0/28", blockSize=30, disabled=True)])
        await world.hear()
        await world.nodes["a"].tend()
        await world.nodes["a"].tend()
        await delete(world.store, [("IPPool", "pods")])
        assert world.claims == {}

    run(story)


def test_a_block_whose_withdrawal_was_done_although_its_answer_was_lost_gives_nothing_more():
    async def main() -> None:
        world = await World(pool("10.1.0.0/16", blockSize=26), node("a")).start()
        allocator = world.nodes["a"]
        for number in range(70):
            await allocator.assign(f"h{number}")
        for number in range(70):
            await allocator.release(f"h{number}")
        await world.hear()
        world.now += 1000
        world.store.breaks_after = 0
        with pytest.raises(EnvironmentFault, match="connection lost"):
            await allocator.tend()
        world.store.away = False
        given = [await allocator.assign(f"i{number}") for number in range(90)]
        leaving = [cidr for cidr, claim in world.claims.items() if claim.state is not BlockState.CONFIRMED]
        assert leaving
        assert not [each for each in given if any(each in ip_network(cidr) for cidr in leaving)]

    asyncio.run(main())

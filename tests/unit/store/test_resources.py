"""Applying and deleting resources: one snapshot, one transaction."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Interface, IPv4Network

import pytest

from routed.errors import EnvironmentFault
from routed.model.codec import RESOURCES, encode_json, resource_key
from routed.model.resources import IPPool, IPPoolSpec, Metadata, Node, NodeBGPSpec, NodeSpec
from routed.store import Put, Store
from routed.store.resources import (
    Change,
    ContradictionError,
    NotFoundError,
    apply,
    delete,
    read_resources,
)


def node(name: str, number: int, *cidrs: str) -> Node:
    bgp = NodeBGPSpec(ipv4_address=IPv4Interface(f"10.1.1.{number}/24"))
    return Node(metadata=Metadata(name), spec=NodeSpec(bgp=bgp, pod_cidrs=tuple(map(IPv4Network, cidrs))))


def pool(name: str, cidr: str = "10.244.0.0/16") -> IPPool:
    return IPPool(metadata=Metadata(name), spec=IPPoolSpec(cidr=IPv4Network(cidr)))


def test_what_was_applied_is_read_back(backend):
    async def scenario(store: Store) -> None:
        resources = [node("a1", 1, "10.244.0.0/24"), pool("pods")]
        await apply(store, resources)
        assert set(map(encode_json, await read_resources(store))) == set(map(encode_json, resources))

    backend.run(scenario)


def test_apply_says_what_became_of_each_resource(backend):
    async def scenario(store: Store) -> None:
        await apply(store, [node("a1", 1), node("a2", 2)])
        assert await apply(store, [node("a1", 1), node("a2", 20), node("a3", 3)]) == [
            Change("Node", "a1", "unchanged"),
            Change("Node", "a2", "configured"),
            Change("Node", "a3", "created"),
        ]

    backend.run(scenario)


def test_applying_what_is_there_writes_nothing(backend):
    async def scenario(store: Store) -> None:
        await apply(store, [node("a1", 1)])
        before = (await store.range("")).revision
        await apply(store, [node("a1", 1)])
        assert (await store.range("")).revision == before

    backend.run(scenario)


def test_one_bad_resource_keeps_all_out(backend):
    async def scenario(store: Store) -> None:
        with pytest.raises(ContradictionError, match=r"Node a2: spec\.bgp\.ipv4Address") as caught:
            await apply(store, [node("a1", 1), node("a2", 1)])
        assert [problem.name for problem in caught.value.problems] == ["a2"]
        assert (await store.range("")).items == ()

    backend.run(scenario)


def test_apply_is_judged_with_what_the_store_holds_already(backend):
    async def scenario(store: Store) -> None:
        await apply(store, [pool("pods")])
        with pytest.raises(ContradictionError, match="IPPool pods"):
            await apply(store, [pool("more", "10.244.0.0/24")])

    backend.run(scenario)


def test_a_resource_appears_to_a_watch_together_with_those_applied_with_it(backend):
    async def scenario(store: Store) -> None:
        await apply(store, [node("a1", 1), node("a2", 2)])
        events = await anext(store.watch(RESOURCES, 1))
        assert [event.key for event in events] == [resource_key("Node", "a1"), resource_key("Node", "a2")]

    backend.run(scenario)


def test_of_two_applies_at_once_that_contradict_each_other_one_is_refused(backend):
    async def scenario(store: Store) -> None:
        async def one(name: str) -> bool:
            try:
                await apply(store, [pool(name)])
            except ContradictionError:
                return False
            return True

        assert sorted(await asyncio.gather(*(one(f"p{number}") for number in range(5)))) == [False] * 4 + [True]
        assert len(await read_resources(store)) == 1

    backend.run(scenario)


def test_applies_at_once_that_agree_all_succeed(backend):
    async def scenario(store: Store) -> None:
        await asyncio.gather(*(apply(store, [node(f"n{number}", number)]) for number in range(1, 9)))
        assert len(await read_resources(store)) == 8

    backend.run(scenario)


def test_delete_removes_and_says_so(backend):
    async def scenario(store: Store) -> None:
        await apply(store, [node("a1", 1), node("a2", 2)])
        assert await delete(store, [("Node", "a1")]) == [Change("Node", "a1", "deleted")]
        assert [resource.name for resource in await read_resources(store)] == ["a2"]

    backend.run(scenario)


def test_deleting_what_is_not_there_deletes_nothing_unless_told_to_ignore_it(backend):
    async def scenario(store: Store) -> None:
        await apply(store, [node("a1", 1)])
        names = [("Node", "a1"), ("Node", "a9")]
        with pytest.raises(NotFoundError, match="there is no Node a9"):
            await delete(store, names)
        assert len(await read_resources(store)) == 1
        assert [change.verb for change in await delete(store, names, ignore_not_found=True)] == ["deleted", "not found"]

    backend.run(scenario)


def test_what_others_still_need_is_not_deleted_alone_but_with_them(backend):
    async def scenario(store: Store) -> None:
        await apply(store, [node("a1", 1, "10.244.0.0/24"), pool("pods")])
        with pytest.raises(ContradictionError, match="lies in no pool"):
            await delete(store, [("IPPool", "pods")])
        await delete(store, [("IPPool", "pods"), ("Node", "a1")])
        assert await read_resources(store) == ()

    backend.run(scenario)


def test_a_resource_that_cannot_be_read_is_named_and_can_be_deleted_or_replaced(backend):
    async def scenario(store: Store) -> None:
        for name in ("a1", "a2"):
            await store.txn([], [Put(resource_key("Node", name), b"{}")])
        with pytest.raises(EnvironmentFault, match="Node/a1"):
            await read_resources(store)
        await delete(store, [("Node", "a1"), ("Node", "a2")])
        await store.txn([], [Put(resource_key("Node", "a1"), b"{}")])
        await apply(store, [node("a1", 1)])
        assert [resource.name for resource in await read_resources(store)] == ["a1"]

    backend.run(scenario)


class Interfering:
    """A store in which somebody changes a resource before each of our transactions."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.get, self.range, self.watch, self.close = store.get, store.range, store.watch, store.close

    async def txn(self, compares, operations):
        await self._store.txn([], [Put(operations[0].key, encode_json(node("a1", 9)))])
        return await self._store.txn(compares, operations)


def test_endless_interference_ends_in_a_fault(backend):
    async def scenario(store: Store) -> None:
        with pytest.raises(EnvironmentFault, match="others changed the resources"):
            await apply(Interfering(store), [node("a1", 1)])

    backend.run(scenario)

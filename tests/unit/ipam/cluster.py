"""A cluster of allocators over a store in memory, each of whose calls lets the others go first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from ipaddress import IPv4Interface, ip_network
from typing import Any

import msgspec

from routed.errors import EnvironmentFault
from routed.ipam.allocator import Allocator
from routed.ipam.block import Block, decode
from routed.ipam.keys import PREFIX, cidr_of
from routed.model.address import AnyPrefix
from routed.model.cluster import Cluster
from routed.model.codec import RESOURCES, decode_hook
from routed.model.ipam import BlockAffinitySpec
from routed.model.resources import (
    AnyResource,
    IPAMConfiguration,
    IPAMConfigurationSpec,
    IPPool,
    IPPoolSpec,
    IPReservation,
    IPReservationSpec,
    Metadata,
    Node,
    NodeBGPSpec,
    NodeSpec,
)
from routed.store import Compare, Delete, Event, KeyValue, Put, Range, TooLargeError, Txn
from routed.store.resources import apply, resources_of


class MemoryStore:
    """`Store`, with what tests want to know and to break."""

    def __init__(self) -> None:
        self.values: dict[str, tuple[bytes, int]] = {}
        self.revision = 0
        self.transactions = 0
        self.most_operations = 128  # of a transaction, as in etcd
        self.away = False
        self.breaks_after: int | None = None  # so many more transactions are carried out; the last one's answer is lost

    async def _call(self) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise EnvironmentFault("store: unreachable")

    async def get(self, key: str) -> KeyValue | None:
        await self._call()
        value, at = self.values.get(key, (b"", 0))
        return KeyValue(key, value, 1, at) if at else None

    async def range(self, prefix: str) -> Range:
        await self._call()
        return Range(self.revision, self.items(prefix))

    def items(self, prefix: str) -> tuple[KeyValue, ...]:
        found = sorted(self.values.items())
        return tuple(KeyValue(key, value, 1, at) for key, (value, at) in found if key.startswith(prefix))

    async def txn(self, compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> Txn:
        await self._call()
        if len(operations) > self.most_operations:
            raise TooLargeError("store: too many operations")
        self.transactions += 1
        if any(self.values.get(each.key, (b"", 0))[1] != each.mod_revision for each in compares):
            return Txn(False, self.revision)
        self.revision += 1
        done = Txn(True, self.revision)
        for each in operations:
            if isinstance(each, Put):
                self.values[each.key] = each.value, self.revision
            else:
                self.values.pop(each.key, None)
        if self.breaks_after is not None:
            self.breaks_after -= 1
            if self.breaks_after < 0:
                self.away, self.breaks_after = True, None
                raise EnvironmentFault("store: connection lost")
        await asyncio.sleep(0)
        return done

    def watch(self, prefix: str, from_revision: int) -> AsyncIterator[Sequence[Event]]:
        raise NotImplementedError

    async def close(self) -> None:
        pass


def pool(cidr: str, name: str = "pods", **fields: Any) -> IPPool:
    spec = msgspec.convert({"cidr": cidr, **fields}, IPPoolSpec, dec_hook=decode_hook)
    return IPPool(metadata=Metadata(name), spec=spec)


def node(name: str, *cidrs: str, **labels: str) -> Node:
    host = IPv4Interface(f"192.0.2.{ord(name[0]) - 90}/24")
    spec = NodeSpec(NodeBGPSpec(host), tuple(map(ip_network, cidrs)))
    return Node(metadata=Metadata(name, labels), spec=spec)


def ipam(**fields: Any) -> IPAMConfiguration:
    spec = msgspec.convert(fields, IPAMConfigurationSpec, dec_hook=decode_hook)
    return IPAMConfiguration(metadata=Metadata("default"), spec=spec)


def reserving(*cidrs: str) -> IPReservation:
    return IPReservation(metadata=Metadata("r"), spec=IPReservationSpec(tuple(map(ip_network, cidrs))))


class World:
    """Nodes, each with its allocator; `now` is their clock."""

    def __init__(self, *resources: AnyResource, cooldown: float = 0.0) -> None:
        self.store = MemoryStore()
        self.now = 1000.0
        self.nodes: dict[str, Allocator] = {}
        self._resources = resources
        self._cooldown = cooldown

    async def start(self) -> World:
        await apply(self.store, self._resources)
        for each in self._resources:
            if isinstance(each, Node):
                await self.restart(each.name)
        return self

    async def restart(self, name: str) -> Allocator:
        made = Allocator(self.store, node=name, cooldown=self._cooldown, clock=lambda: self.now)
        self.nodes[name] = made
        await made.adopt(self.cluster)
        return made

    async def hear(self, *names: str) -> None:
        """The nodes (default: all) learn of the cluster as it is."""
        for name in names or self.nodes:
            await self.nodes[name].adopt(self.cluster)

    @property
    def cluster(self) -> Cluster:
        return Cluster.of(resources_of(self.store.items(RESOURCES)))

    @property
    def blocks(self) -> dict[AnyPrefix, Block]:
        return {cidr_of(item.key): decode(item.value) for item in self.store.items(PREFIX)}

    @property
    def claims(self) -> dict[str, BlockAffinitySpec]:
        return {str(cidr): claim for cidr, claim in self.cluster.affinities.items()}

    @property
    def holders(self) -> dict[str, tuple[str, str]]:
        """Node and handle by address, as the store has it. Fails for an address that is there twice."""
        found: dict[str, tuple[str, str]] = {}
        for block in self.blocks.values():
            for ordinal, held in block.allocations.items():
                address = str(block.address(ordinal))
                assert address not in found
                found[address] = block.node_of(ordinal), held.handle
        return found

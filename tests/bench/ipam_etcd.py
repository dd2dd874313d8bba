"""IPAM on etcd, a real one with its data in a temporary directory: one busy node, and fifty that start at once."""

from __future__ import annotations

import asyncio
import socket
import statistics
import subprocess
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from ipaddress import IPv4Interface, ip_network
from pathlib import Path

from harness import Json, spread

from routed.ipam.allocator import Allocator
from routed.model.cluster import Cluster
from routed.model.resources import AnyResource, IPPool, IPPoolSpec, Metadata, Node, NodeBGPSpec, NodeSpec
from routed.store import Compare, Delete, Event, KeyValue, Put, Range, Txn
from routed.store.etcd import EtcdStore
from routed.store.etcd_url import parse
from routed.store.resources import apply, read_resources

CALLERS = 8
PODS = 248  # of one node: 4 blocks of /26
NODES = 50
POOL = "10.16.0.0/16"


class Counting:
    """`Store` over etcd that counts transactions which change something, and those whose condition failed."""

    def __init__(self, url: str) -> None:
        self._store = EtcdStore(parse(url))
        self.writes = 0
        self.conflicts = 0

    async def get(self, key: str) -> KeyValue | None:
        return await self._store.get(key)

    async def range(self, prefix: str) -> Range:
        return await self._store.range(prefix)

    async def txn(self, compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> Txn:
        done = await self._store.txn(compares, operations)
        self.writes += bool(operations)
        self.conflicts += not done.succeeded
        return done

    def watch(self, prefix: str, from_revision: int) -> AsyncIterator[Sequence[Event]]:
        return self._store.watch(prefix, from_revision)

    async def check(self) -> Sequence[str]:
        return await self._store.check()

    async def close(self) -> None:
        await self._store.close()


@contextmanager
def running(directory: Path) -> Iterator[str]:
    """One member of etcd; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        client, peer = (f"http://127.0.0.1:{each.getsockname()[1]}" for each in (one, two))
    options = ["--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
               "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"]  # fmt: skip
    with (directory / "etcd.log").open("wb") as log:
        command = ["setpriv", "--pdeathsig", "KILL", "etcd", "--data-dir", str(directory / "etcd"), *options]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield client.replace("http", "etcd")
    finally:
        process.terminate()
        process.wait()


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[Counting]:
    """A store of its own, as another machine has it."""
    store = Counting(url)
    try:
        yield store
    finally:
        await store.close()


def cluster(count: int) -> list[AnyResource]:
    """One /16, and so many nodes."""
    hosts = [IPv4Interface(f"192.0.2.{number + 1}/24") for number in range(count)]
    return [
        IPPool(metadata=Metadata("pods"), spec=IPPoolSpec(ip_network(POOL))),
        *(Node(metadata=Metadata(f"n{n}"), spec=NodeSpec(NodeBGPSpec(host))) for n, host in enumerate(hosts)),
    ]


async def busy_node(url: str, rounds: int) -> tuple[list[float], float]:
    """Assignments per second in each round, by callers that each do one after the other; and writes per assignment."""
    async with opened(f"{url}/busy") as store:
        await apply(store, cluster(1))
        allocator = Allocator(store, node="n0", cooldown=0)
        await allocator.adopt(Cluster.of(await read_resources(store)))

        async def caller(number: int) -> None:
            for turn in range(number, PODS, CALLERS):
                await allocator.assign_each(f"cni.{turn:064x}.eth0", {"pod": f"pod-{turn}", "namespace": "bench"})

        rates: list[float] = []
        writes = 0
        for _ in range(rounds):
            start, before = time.perf_counter(), store.writes
            await asyncio.gather(*map(caller, range(CALLERS)))
            rates.append(PODS / (time.perf_counter() - start))
            writes += store.writes - before
            await allocator.release(*(f"cni.{turn:064x}.eth0" for turn in range(PODS)))
        return rates, writes / (rounds * PODS)


async def start_at_once(url: str) -> tuple[float, int]:
    """Seconds until each of the nodes has a block and an address of it, and how many claims came too late."""
    async with opened(url) as store:
        await apply(store, cluster(NODES))

    async def node(name: str) -> int:
        async with opened(url) as store:
            allocator = Allocator(store, node=name)
            await allocator.adopt(Cluster.of(await read_resources(store)))
            await allocator.assign_each("first")
            assert any(allocator.allocations())
            return store.conflicts

    start = time.perf_counter()
    conflicts = await asyncio.gather(*(node(f"n{number}") for number in range(NODES)))
    return time.perf_counter() - start, sum(conflicts)


def measure(directory: Path, quick: bool) -> tuple[Mapping[str, float], Json]:
    """The figures whose name begins with etcd."""
    directory.mkdir()
    with running(directory) as url:
        rates, writes = asyncio.run(busy_node(url, 2 if quick else 20))
        starts = [asyncio.run(start_at_once(f"{url}/start{number}")) for number in range(1 if quick else 5)]
    seconds = [each for each, _ in starts]
    return {
        "etcd_assign_per_second": statistics.median(rates),
        "etcd_writes_per_assign": writes,
        "etcd_50_nodes_seconds": statistics.median(seconds),
    }, {
        "etcd_assign_per_second": spread(rates),
        "etcd_50_nodes_seconds": spread(seconds),
        "etcd_50_nodes_conflicts": [conflicts for _, conflicts in starts],
    }

"""./dev bench ipam: addresses given and taken back, beside host-local, on etcd, and in a cluster of 10,000 blocks."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Interface, ip_network
from pathlib import Path

import ipam_etcd
from harness import Json, at_least, at_most, main, say, spread, under, wait_for

from routed.ipam.allocator import Allocator
from routed.ipam.block import Allocation, Block, encode
from routed.ipam.keys import affinity_key, key
from routed.model.cluster import Cluster
from routed.model.codec import encode_json, resource_key
from routed.model.ipam import BlockAffinitySpec, BlockState, IPAMConfigurationSpec, affinity_name
from routed.model.resources import (
    AnyResource,
    BlockAffinity,
    IPAMConfiguration,
    IPPool,
    IPPoolSpec,
    Metadata,
    Node,
    NodeBGPSpec,
    NodeSpec,
)
from routed.store import Put
from routed.store.resources import read_resources
from routed.store.sqlite import SqliteStore
from routed_cni.protocol import Command, decode
from routed_cni.server import Server

HOST_LOCAL = Path("/usr/lib/cni/host-local")
CALLERS = 8
POOLS = {"large": "10.0.0.0/13", "small": "10.8.0.0/15"}  # 8192 and 2048 blocks of /26
NODES = 200

FIGURES = (
    at_least("assign_release_per_second", 1000, "8 callers over the agent's socket, SQLite, durable"),
    at_least("assign_vs_host_local", 5, "the same over 8 executions of host-local at a time"),
    under("full_pool_p99_ms", 10, "assignment, 10k blocks, 99% full, claims included"),
    under("rss_10k_blocks_mb", 50, "growth over the same process with one block"),
    at_least("etcd_assign_per_second", 1500, "one node, 8 callers at a time, one member"),
    at_most("etcd_writes_per_assign", 0.3, "the same, claims of blocks included"),
    under("etcd_50_nodes_seconds", 5, "50 nodes start at once in one /16: all have a block"),
)


# ---- through the socket


async def _serve(directory: Path) -> None:
    store = SqliteStore(directory / "store.db")
    allocator = Allocator(store, [ip_network("10.1.0.0/24")], node="node")

    async def handle(payload: bytes) -> tuple[int, bytes]:
        request = decode(payload)
        handle = f"cni.{request.container_id}.{request.interface}"
        if request.command is Command.ADD:
            address = await allocator.assign(handle, {"containerID": request.container_id, "network": request.network})
            return 0, str(address).encode()
        await allocator.release(handle)
        return 0, b""

    server = Server(directory / "cni.sock", handle)
    await server.start()
    await asyncio.Event().wait()


def serve(directory: Path) -> None:
    """The agent's part, in a process of its own."""
    asyncio.run(_serve(directory))


async def call(path: Path, command: str, container: str) -> bytes:
    """One call as the plugin makes it: its own connection."""
    variables = f"CNI_COMMAND={command}\0CNI_CONTAINERID={container}\0CNI_IFNAME=eth0\0CNI_NETNS=/run/netns/x"
    payload = variables.encode() + b'\0\0{"cniVersion":"1.0.0","name":"bench","type":"routed-cni"}'
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(len(payload).to_bytes(4, "big") + payload)
    answer = await reader.read()
    writer.close()
    return answer


async def pairs_per_second(path: Path, seconds: float) -> float:
    """Assignments that were taken back again, by callers that each do one thing after the other."""
    done, until = 0, time.monotonic() + seconds

    async def caller(number: int) -> None:
        nonlocal done
        turn = 0
        while time.monotonic() < until:
            turn += 1
            container = f"c{number}x{turn}"
            answer = await call(path, "ADD", container)
            assert b"10.1.0." in answer, answer
            await call(path, "DEL", container)
            done += 1

    start = time.monotonic()
    await asyncio.gather(*(caller(number) for number in range(CALLERS)))
    return done / (time.monotonic() - start)


def through_the_socket(directory: Path, seconds: float, repeats: int) -> list[float]:
    """Pairs per second, once per repeat."""
    directory.mkdir()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(directory,))
    server.start()
    path = directory / "cni.sock"
    try:
        wait_for("the CNI socket", path.exists, 30)
        return [asyncio.run(pairs_per_second(path, seconds)) for _ in range(repeats)]
    finally:
        server.terminate()
        server.join()


def host_local(directory: Path, seconds: float, repeats: int) -> list[float]:
    """The same by Debian's host-local, which writes a file per address and locks a directory."""
    configuration = json.dumps({
        "cniVersion": "1.0.0", "name": "bench", "type": "ptp",
        "ipam": {"type": "host-local", "subnet": "10.2.0.0/24", "dataDir": str(directory)},
    }).encode()  # fmt: skip

    def execute(command: str, container: str) -> None:
        environment = {"CNI_COMMAND": command, "CNI_CONTAINERID": container, "CNI_NETNS": "/run/netns/x",
                       "CNI_IFNAME": "eth0", "CNI_PATH": str(HOST_LOCAL.parent)}  # fmt: skip
        subprocess.run([HOST_LOCAL], input=configuration, env=environment, check=True, capture_output=True)

    def caller(number: int, until: float) -> int:
        done = 0
        while time.monotonic() < until:
            execute("ADD", f"c{number}x{done}")
            execute("DEL", f"c{number}x{done}")
            done += 1
        return done

    found: list[float] = []
    with ThreadPoolExecutor(CALLERS) as threads:
        for _ in range(repeats):
            start = time.monotonic()
            done = sum(threads.map(lambda number: caller(number, start + seconds), range(CALLERS)))  # noqa: B023  in this round
            found.append(done / (time.monotonic() - start))
    return found


def fsync_ms(directory: Path) -> float:
    """What one write to this disk costs, in the median."""
    times: list[float] = []
    with (directory / "fsync").open("wb") as file:
        for _ in range(50):
            file.write(b"x" * 4096)
            file.flush()
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


# ---- a cluster of many blocks


def filled(block: Block) -> Block:
    """Every address of it in use, as of pods."""
    held = {ordinal: Allocation(f"cni.{ordinal:064x}.eth0", {"pod": f"pod-{ordinal}", "namespace": "bench",
                                                            "containerID": f"{ordinal:064x}", "interface": "eth0"})
            for ordinal in block.usable}  # fmt: skip
    return Block(block.cidr, block.node, held, block.usable.stop)


def cluster_of(count: int) -> Iterator[Put]:
    """Pools, nodes, and `count` blocks of which the first 99 in a hundred are claimed by others and full."""
    spec = IPAMConfigurationSpec(max_blocks_per_host=0)
    resources: list[AnyResource] = [IPAMConfiguration(metadata=Metadata("default"), spec=spec)]
    blocks = [block for cidr in POOLS.values() for block in ip_network(cidr).subnets(new_prefix=26)]
    resources += [IPPool(metadata=Metadata(name), spec=IPPoolSpec(ip_network(cidr))) for name, cidr in POOLS.items()]
    for number in range(NODES):
        host = IPv4Interface(f"192.0.2.{number + 1}/24")
        resources.append(Node(metadata=Metadata(f"n{number}"), spec=NodeSpec(NodeBGPSpec(host))))
    for each in resources:
        yield Put(resource_key(each.kind, each.name), encode_json(each))
    for number, cidr in enumerate(blocks[: count * 99 // 100]):
        node = f"n{1 + number % (NODES - 1)}"
        claim = BlockAffinitySpec(cidr, node, BlockState.CONFIRMED)
        yield Put(affinity_key(cidr), encode_json(BlockAffinity(metadata=Metadata(affinity_name(cidr)), spec=claim)))
        yield Put(key(cidr), encode(filled(Block(cidr, node))))


async def build(path: Path, count: int) -> None:
    """The store of that cluster."""
    store, batch = SqliteStore(path, keep=16), list[Put]()
    for put in cluster_of(count):
        batch.append(put)
        if len(batch) == 500:
            await store.txn([], batch)
            batch = []
    await store.txn([], batch)
    await store.close()


async def full_pool(path: Path, count: int) -> tuple[list[float], Json]:
    """Milliseconds of each of `count` assignments, by a node that has nothing at first."""
    store = SqliteStore(path)
    allocator = Allocator(store, node="n0")
    cluster = Cluster.of(await read_resources(store))
    start = time.perf_counter()
    await allocator.adopt(cluster)
    adopted = 1000 * (time.perf_counter() - start)
    times: list[float] = []
    for number in range(count):
        start = time.perf_counter()
        await allocator.assign_each(f"cni.{number}.eth0", {"pod": f"pod-{number}"})
        times.append(1000 * (time.perf_counter() - start))
    await store.close()
    return times, {"adopt_ms": adopted, "full_pool_ms": spread(times), "first_ms": times[0]}


def rss_mb(path: Path) -> float:
    """Resident memory of a process that has adopted the store's cluster and given one address."""
    done = subprocess.run(
        [sys.executable, __file__, "--resident", str(path)], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


async def _resident(path: Path) -> None:
    store = SqliteStore(path)
    allocator = Allocator(store, node="n0")
    await allocator.adopt(Cluster.of(await read_resources(store)))
    await allocator.assign_each("h")
    status = Path("/proc/self/status").read_text()  # noqa: ASYNC240  nothing else runs
    print(next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024)
    await store.close()


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of `values` do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def measure(quick: bool) -> tuple[Mapping[str, float], Json]:
    """All figures, in a directory on the disk that also holds the machine's store."""
    seconds, repeats, blocks, assignments = (0.5, 1, 400, 100) if quick else (5.0, 5, 10_240, 3000)
    directory = Path(tempfile.mkdtemp(prefix="routed-bench-", dir="/var/tmp"))
    try:
        detail: Json = {"fsync_ms": fsync_ms(directory), "blocks": blocks, "callers": CALLERS}
        say("assigning through the socket, and host-local")
        ours = through_the_socket(directory / "socket", seconds, repeats)
        theirs = host_local(directory / "host-local", seconds, repeats)
        detail |= {"assign_release_per_second": spread(ours), "host_local_per_second": spread(theirs)}
        say("assigning on etcd, and 50 nodes that start at once")
        on_etcd, more = ipam_etcd.measure(directory / "etcd", quick)
        detail |= more
        say(f"a cluster of {blocks} blocks")
        asyncio.run(build(directory / "many.db", blocks))
        asyncio.run(build(directory / "one.db", 2))
        resident = rss_mb(directory / "many.db") - rss_mb(directory / "one.db")
        times, more = asyncio.run(full_pool(directory / "many.db", assignments))
        return {
            "assign_release_per_second": statistics.median(ours),
            "assign_vs_host_local": statistics.median(ours) / statistics.median(theirs),
            "full_pool_p99_ms": percentile(times, 0.99),
            "rss_10k_blocks_mb": max(0.0, resident),
            **on_etcd,
        }, detail | more
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--resident"]:
        asyncio.run(_resident(Path(sys.argv[2])))
    else:
        main("ipam", FIGURES, measure)

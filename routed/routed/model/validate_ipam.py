"""What blocks, pools and reservations must be to one another: no address with two owners, no block without a pool."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from routed.model.address import AnyPrefix
from routed.model.cluster import Cluster
from routed.model.prefixes import inside
from routed.model.problem import Problem
from routed.model.resources import IPAMConfiguration, IPPool

_SIZES = {4: (20, 32), 6: (116, 128)}


def ipam_problems(cluster: Cluster, configurations: Iterable[IPAMConfiguration]) -> Iterator[Problem]:
    """All contradictions of this subject."""
    for configuration in configurations:
        if configuration.name != "default":
            message = "there is one, and its name is default"
            yield Problem("IPAMConfiguration", configuration.name, "metadata.name", message, "rename it")
    for pool in cluster.pools.values():
        yield from _block_size(pool)
    yield from _blocks_in_pools(cluster)
    yield from _claimed_and_stated(cluster)


def _block_size(pool: IPPool) -> Iterator[Problem]:
    size, cidr = pool.spec.block_size, pool.spec.cidr
    low, high = _SIZES[cidr.version]
    if size is None:
        return
    if not low <= size <= high:
        message = f"{size} is no block size of an IPv{cidr.version} pool"
        yield Problem("IPPool", pool.name, "spec.blockSize", message, f"expected {low} to {high}")
    elif size < cidr.prefixlen:
        message = f"a block of /{size} is larger than the pool {cidr}"
        hint = f"expected {max(low, cidr.prefixlen)} to {high}"
        yield Problem("IPPool", pool.name, "spec.blockSize", message, hint)


def _blocks_in_pools(cluster: Cluster) -> Iterator[Problem]:
    """A block in use keeps its pool, and the pool its range and block size."""
    outside: list[AnyPrefix] = []
    changed: dict[str, list[AnyPrefix]] = {}
    for cidr in cluster.affinities:
        pool = cluster.pool(cidr)
        if pool is None:
            outside.append(cidr)
        elif cidr.prefixlen != pool.spec.block_length:
            changed.setdefault(pool.name, []).append(cidr)
    hint = "disable the pool and remove its pods first; nodes then give their blocks back (routed ipam show)"
    if outside:
        first = cluster.affinities[outside[0]]
        message = f"{_count(outside)} would be in no pool, the first {first.cidr} of Node {first.node}"
        name = next((pool.name for pool in cluster.pools.values() if _near(pool, first.cidr)), "")
        yield Problem("IPPool", name or "(deleted)", "spec.cidr", message, hint)
    for name, cidrs in changed.items():
        now, before = cluster.pools[name].spec.block_length, cidrs[0].prefixlen
        message = f"/{now} cannot be, as {_count(cidrs)} of /{before} are in use, the first {cidrs[0]}"
        yield Problem("IPPool", name, "spec.blockSize", message, f"leave it {before}, or {hint}")


def _claimed_and_stated(cluster: Cluster) -> Iterator[Problem]:
    """A node's podCIDR and a block that was claimed of a pool never have an address in common."""
    lengths = {(cidr.version, cidr.prefixlen) for cidr in cluster.affinities}
    stated = {cidr: name for name, node in cluster.nodes.items() for cidr in node.spec.pod_cidrs}
    inner = {
        cidr.supernet(new_prefix=length): cidr
        for cidr in stated
        for version, length in lengths
        if version == cidr.version and length <= cidr.prefixlen
    }
    wide = [cidr for cidr in stated if any(v == cidr.version and length > cidr.prefixlen for v, length in lengths)]
    for cidr, affinity in cluster.affinities.items():
        found = inner.get(cidr) or next((each for each in wide if inside(cidr, each)), None)
        if found is not None:
            name = stated[found]
            index = cluster.nodes[name].spec.pod_cidrs.index(found)
            message = f"{found} overlaps {cidr}, a block that Node {affinity.node} has claimed"
            hint = "give another podCIDR, or remove the pods of that block first (routed ipam show)"
            yield Problem(cluster.source_of_pod_cidrs(name), name, f"spec.podCIDRs[{index}]", message, hint)


def _near(pool: IPPool, cidr: AnyPrefix) -> bool:
    """Whether `cidr` begins as `pool` does: of a pool that was shrunk."""
    return pool.spec.cidr.version == cidr.version and inside(pool.spec.cidr, cidr.supernet(new_prefix=8))


def _count(cidrs: list[AnyPrefix]) -> str:
    return "1 block" if len(cidrs) == 1 else f"{len(cidrs)} blocks"

"""What is wanted of IPAM for one pod or tunnel, and which pools may serve it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from routed.errors import OperatorError
from routed.model.address import AnyAddress, Family
from routed.model.cluster import Cluster
from routed.model.ipam import PoolUse
from routed.model.resources import IPPool


@dataclass(frozen=True, slots=True)
class Wish:
    """`addresses` by name, of one family each; `pools` by name or range, in the order in which they are tried; without
    one of a family whatever is there. `families` None: those that the node can give. `said` is where it was asked for,
    `labels` are those of the pod's namespace.
    """

    addresses: Mapping[Family, AnyAddress] = field(default_factory=dict[Family, AnyAddress])
    pools: Mapping[Family, Sequence[str]] = field(default_factory=dict[Family, Sequence[str]])
    families: tuple[Family, ...] | None = None
    use: PoolUse = PoolUse.WORKLOAD
    said: str = ""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


ANYTHING = Wish()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a pool gives no address."""

    pool: str
    reason: str

    def __str__(self) -> str:
        return f"{self.pool}: {self.reason}"


def eligible(cluster: Cluster, node: str, family: Family, wish: Wish) -> tuple[list[IPPool], list[Refusal]]:
    """The pools that may give `node` an address of `family`, in order, and why the others may not.

    A pool that is asked for by name serves whatever node, as in Calico: the selectors are for those who ask for none.
    Raises OperatorError for a pool that is not there.
    """
    asked = wish.pools.get(family)
    labels = cluster.nodes[node].metadata.labels if node in cluster.nodes else {}
    pools: list[IPPool] = []
    refusals: list[Refusal] = []
    for pool in named(cluster, family, wish) if asked is not None else _in_order(cluster, family):
        spec = pool.spec
        if spec.disabled:
            refusals.append(Refusal(pool.name, "it is disabled"))
        elif wish.use not in spec.allowed_uses:
            refusals.append(Refusal(pool.name, f"its allowedUses have no {wish.use}"))
        elif asked is None and spec.node_selector is not None and not spec.node_selector.matches(labels):
            refusals.append(Refusal(pool.name, f"its nodeSelector {spec.node_selector} does not select node {node}"))
        elif asked is None and spec.namespace_selector is not None and not spec.namespace_selector.matches(wish.labels):
            refusals.append(Refusal(pool.name, f"its namespaceSelector {spec.namespace_selector} does not select it"))
        else:
            pools.append(pool)
    return pools, refusals


def named(cluster: Cluster, family: Family, wish: Wish) -> list[IPPool]:
    """The pools that `wish` asks for. Raises OperatorError for one that is not there."""
    there = _in_order(cluster, family)
    found: list[IPPool] = []
    for word in wish.pools.get(family, ()):
        pool = next((pool for pool in there if word in (pool.name, str(pool.spec.cidr))), None)
        if pool is None:
            known = ", ".join(f"{pool.name} ({pool.spec.cidr})" for pool in there) or "none"
            raise OperatorError(
                f"{wish.said or 'request'}: there is no IPv{4 if family is Family.IPV4 else 6} pool {word!r}",
                hint=f"there is: {known}",
            )
        if pool not in found:
            found.append(pool)
    return found


def _in_order(cluster: Cluster, family: Family) -> list[IPPool]:
    return sorted(cluster.pools_of(family).values(), key=lambda pool: pool.name)

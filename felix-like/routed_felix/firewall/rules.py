"""What the firewall shall do on this node, as one value. Pure; how it is written is the backends' matter.

- Guard: IP protocol 4 (RFC 2003), and VXLAN while a pool uses it, are taken from members' addresses only.
- A pod sends with its own addresses, no protocol 4 and no VXLAN to members: what it puts into a tunnel would come out
  as another's, and natOutgoing would make a member's packet of it.
- A pool with `natOutgoing`: what leaves its addresses for one in no pool is masqueraded, and nothing else is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import NamedTuple

from routed.model.address import AnyAddress, AnyPrefix, Family
from routed.model.cluster import Cluster
from routed.model.endpoint import Endpoint
from routed_felix.fabric import encapsulation_of
from routed_felix.state import Encapsulation

IPIP = 4  # the protocol number of IPv4 in IP, RFC 2003


class Source(NamedTuple):
    """An address that a pod may send with, and the node's end of its interface."""

    interface: str
    address: AnyAddress


@dataclass(frozen=True, slots=True)
class Rules:
    """The rule set of one node, both families in one; equal inputs give equal values.

    `members`: who may send us protocol 4. `pods`: what pods may send with; an interface that is in none is no pod's.
    `pools`: all ranges of pods, disjoint. `nat_pools`: those whose packets to others are masqueraded. `vxlan_port`: the
    UDP port that VXLAN comes to; 0 where no pool uses it.
    """

    members: frozenset[AnyAddress] = frozenset()
    pods: frozenset[Source] = frozenset()
    pools: frozenset[AnyPrefix] = frozenset()
    nat_pools: frozenset[AnyPrefix] = frozenset()
    vxlan_port: int = 0

    @property
    def pod_interfaces(self) -> frozenset[str]:
        """The node's ends of pods' interfaces."""
        return frozenset(source.interface for source in self.pods)

    def of(self, family: Family) -> Rules:
        """The part that is about `family`. A pod without an address of it is not in there."""
        return Rules(
            members=frozenset(each for each in self.members if Family.of(each) is family),
            pods=frozenset(each for each in self.pods if Family.of(each.address) is family),
            pools=frozenset(each for each in self.pools if Family.of(each) is family),
            nat_pools=frozenset(each for each in self.nat_pools if Family.of(each) is family),
            vxlan_port=self.vxlan_port,
        )


def rules_of(cluster: Cluster, endpoints: Iterable[Endpoint], vxlan_port: int) -> Rules:
    """What follows from the cluster, the pods of this node and the port of its VXLAN device.

    Disabled pools count: pods that have an address of one keep it.
    """
    pools = cluster.pools.values()
    return Rules(
        members=frozenset(cluster.any_members),
        pods=frozenset(Source(each.host_interface, each.address) for each in endpoints),
        pools=_disjoint(pool.spec.cidr for pool in pools),
        nat_pools=_disjoint(pool.spec.cidr for pool in pools if pool.spec.nat_outgoing),
        vxlan_port=vxlan_port if any(encapsulation_of(pool) is Encapsulation.VXLAN for pool in pools) else 0,
    )


def _disjoint(prefixes: Iterable[AnyPrefix]) -> frozenset[AnyPrefix]:
    """The same addresses in as few prefixes as possible: a set of intervals takes no overlapping ones."""
    both = tuple(prefixes)
    four = (each for each in both if isinstance(each, IPv4Network))
    six = (each for each in both if isinstance(each, IPv6Network))
    return frozenset((*collapse_addresses(four), *collapse_addresses(six)))

"""Import policy: which paths of a peer may enter the Loc-RIB, and with which LOCAL_PREF (design section 5)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from routed.model.address import Address, Prefix
from routed.model.cluster import Cluster
from routed.model.path import Path
from routed_bgp.sessions import own_blocks
from routed_bgp.update import Attributes

MEMBER_LOCAL_PREF = 90  # a path whose next hop is another member: the mesh, perhaps through a tunnel
FABRIC_LOCAL_PREF = 100  # a path through a router of the fabric; a shorter AS path over the mesh never beats it


class Rejection(StrEnum):
    """Why a path was not accepted, in words for an operator."""

    AS_LOOP = "our own AS is in the AS path"
    DEFAULT = "default route"
    OUTSIDE_POOLS = "outside every pool"
    OWN_BLOCK = "overlaps a block of this node"
    OWN_NEXT_HOP = "next hop is this node"


@dataclass(frozen=True, slots=True)
class Source:
    """Who sent a path."""

    peer: Address
    peer_as: int
    router_id: Address
    ebgp: bool


@dataclass(frozen=True, slots=True)
class ImportPolicy:
    """What the import of one node depends on."""

    local_as: int
    own_addresses: frozenset[Address]
    own_blocks: tuple[Prefix, ...]
    pools: tuple[Prefix, ...]
    members: frozenset[Address]

    @classmethod
    def of(cls, cluster: Cluster, node: str) -> Self:
        """The policy of `node`, which `cluster` must know (KeyError)."""
        own = cluster.address(node).ip
        return cls(
            local_as=cluster.as_number(node),
            own_addresses=frozenset([own]),
            own_blocks=own_blocks(cluster, node),
            pools=tuple(pool.spec.cidr for pool in cluster.pools.values()),
            members=frozenset(cluster.members) - {own},
        )

    def apply(self, prefix: Prefix, attributes: Attributes, source: Source) -> Path | Rejection:
        """The path to `prefix` as it enters the decision process, or why it does not."""
        numbers = attributes.as_numbers
        if self.local_as in numbers:  # RFC 4271 section 9.1.2
            return Rejection.AS_LOOP
        if prefix.prefixlen == 0:
            return Rejection.DEFAULT
        if not any(prefix.subnet_of(pool) for pool in self.pools):
            return Rejection.OUTSIDE_POOLS
        if any(prefix.overlaps(block) for block in self.own_blocks):
            return Rejection.OWN_BLOCK
        if attributes.next_hop in self.own_addresses:  # RFC 4271 section 5.1.3
            return Rejection.OWN_NEXT_HOP
        return Path(
            prefix=prefix,
            next_hop=attributes.next_hop,
            peer=source.peer,
            peer_as=source.peer_as,
            peer_router_id=source.router_id,
            ebgp=source.ebgp,
            as_path=numbers,
            as_path_length=attributes.as_path_length,
            origin=attributes.origin,
            local_pref=MEMBER_LOCAL_PREF if attributes.next_hop in self.members else FABRIC_LOCAL_PREF,
            med=attributes.med,
            communities=attributes.communities,
        )

"""What an operator says about addresses beyond pools and nodes, and who has which block.

`BlockAffinity` is written by agents and read by everybody; it is a resource, so that one watch tells of all.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, field

from routed.model.address import AnyPrefix
from routed.model.fields import AnyPrefixField
from routed.model.schema import Schema

__all__ = ["BlockAffinitySpec", "BlockState", "IPAMConfigurationSpec", "IPReservationSpec", "PoolUse", "affinity_name"]


class PoolUse(StrEnum):
    """For what addresses of a pool may be used."""

    WORKLOAD = "Workload"
    TUNNEL = "Tunnel"


class IPReservationSpec(Schema, frozen=True):
    """Addresses that no pod gets, neither by itself nor by name; those in use already stay."""

    reserved_cidrs: Annotated[
        tuple[AnyPrefixField, ...], Meta(description="The addresses; parts of pools, or whatever else.")
    ] = field(name="reservedCIDRs", default=())


class IPAMConfigurationSpec(Schema, frozen=True):
    """How nodes claim blocks of pools. A node with `podCIDRs` has these and claims none."""

    strict_affinity: Annotated[
        bool, Meta(description="A node gives addresses of its own blocks only, and borrows none of others.")
    ] = False
    max_blocks_per_host: Annotated[
        int, Meta(ge=0, le=2147483647, description="So many blocks of a family a node claims at most; 0: no limit.")
    ] = 20
    auto_allocate_blocks: Annotated[
        bool, Meta(description="A node claims a block when it needs one; false: it does with those that it has.")
    ] = True


class BlockState(StrEnum):
    """How far a claim is. Addresses are given, and the block announced, while it is confirmed only."""

    PENDING = "pending"
    CONFIRMED = "confirmed"
    PENDING_DELETION = "pendingDeletion"


class BlockAffinitySpec(Schema, frozen=True):
    """A block of a pool and the node that has it."""

    cidr: AnyPrefixField
    node: str
    state: BlockState


def affinity_name(cidr: AnyPrefix) -> str:
    """The name of the BlockAffinity of `cidr`: one name, so that a block has one node at most."""
    return f"{cidr.network_address.exploded}-{cidr.prefixlen}".replace(".", "-").replace(":", "-")

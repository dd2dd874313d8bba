"""The cluster as one immutable value: what the store holds, ready for the questions that decisions ask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from routed.model.address import Address, HostAddress, Prefix
from routed.model.resources import AnyResource, BGPConfiguration, BGPConfigurationSpec, BGPPeer, IPPool, Node


@dataclass(frozen=True)
class Cluster:
    """All resources at one store revision. Members are its nodes."""

    nodes: Mapping[str, Node] = field(default_factory=dict[str, Node])
    pools: Mapping[str, IPPool] = field(default_factory=dict[str, IPPool])
    peers: Mapping[str, BGPPeer] = field(default_factory=dict[str, BGPPeer])
    bgp: BGPConfigurationSpec = field(default_factory=BGPConfigurationSpec)

    @classmethod
    def of(cls, resources: Iterable[AnyResource]) -> Cluster:
        """Sort `resources` into their kinds."""
        nodes: dict[str, Node] = {}
        pools: dict[str, IPPool] = {}
        peers: dict[str, BGPPeer] = {}
        bgp = BGPConfigurationSpec()
        for resource in resources:
            match resource:
                case Node():
                    nodes[resource.name] = resource
                case IPPool():
                    pools[resource.name] = resource
                case BGPPeer():
                    peers[resource.name] = resource
                case BGPConfiguration():
                    if resource.name == "default":  # another name is refused by `validate`, never obeyed
                        bgp = resource.spec
        return cls(nodes, pools, peers, bgp)

    def address(self, node: str) -> HostAddress:
        """The node's own BGP address, with the length of its subnet."""
        return self.nodes[node].spec.bgp.ipv4_address

    def as_number(self, node: str) -> int:
        """The node's AS: its own if it states one, else the cluster's."""
        return self.nodes[node].spec.bgp.as_number or self.bgp.as_number

    @cached_property
    def members(self) -> Mapping[Address, str]:
        """Node name by node address."""
        return {node.spec.bgp.ipv4_address.ip: name for name, node in self.nodes.items()}

    @cached_property
    def blocks(self) -> Mapping[Prefix, str]:
        """Owner's name by block. Today a block is one of a node's podCIDRs."""
        return {block: name for name, node in self.nodes.items() for block in node.spec.pod_cidrs}

    def owner(self, prefix: Prefix) -> str | None:
        """The member whose block is `prefix` or covers it, if any."""
        for length in range(prefix.prefixlen, 0, -1):
            block = prefix.supernet(new_prefix=length)
            if block in self.blocks:
                return self.blocks[block]
        return None

    def assignable(self, node: str) -> tuple[Prefix, ...]:
        """The blocks of `node` from which addresses are given: those of a disabled pool only keep what was given."""
        blocks = self.nodes[node].spec.pod_cidrs if node in self.nodes else ()
        return tuple(block for block in blocks if not ((pool := self.pool(block)) and pool.spec.disabled))

    def pool(self, prefix: Prefix) -> IPPool | None:
        """The pool that contains `prefix`, if any; pools do not overlap."""
        for pool in self.pools.values():
            if prefix.subnet_of(pool.spec.cidr):
                return pool
        return None

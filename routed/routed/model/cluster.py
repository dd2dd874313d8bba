"""The cluster as one immutable value: what the store holds, ready for the questions that decisions ask.

The kernel edges know IPv4 only yet, so the plain names (`address`, `members`, `blocks`, `own_blocks`, `ipv4_pools`) are
IPv4; those for both families say `any`, those for IPv6 alone end in 6.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Network, IPv6Address, IPv6Interface, IPv6Network

import msgspec

from routed.model.address import Address, AnyAddress, AnyHostAddress, AnyPrefix, Family, HostAddress, Prefix
from routed.model.bgp_filter import BGPFilterSpec
from routed.model.fields import Community
from routed.model.ipam import BlockAffinitySpec, BlockState, IPAMConfigurationSpec
from routed.model.prefixes import inside
from routed.model.resources import (
    AnyResource,
    BGPConfiguration,
    BGPConfigurationSpec,
    BGPFilter,
    BGPPeer,
    BlockAffinity,
    IPAMConfiguration,
    IPPool,
    IPReservation,
    KubernetesNode,
    Namespace,
    Node,
)
from routed.model.selector import Selector


@dataclass(frozen=True)
class Cluster:
    """All resources at one store revision. Members are its nodes."""

    nodes: Mapping[str, Node] = field(default_factory=dict[str, Node])
    pools: Mapping[str, IPPool] = field(default_factory=dict[str, IPPool])
    peers: Mapping[str, BGPPeer] = field(default_factory=dict[str, BGPPeer])
    bgp: BGPConfigurationSpec = field(default_factory=BGPConfigurationSpec)
    filters: Mapping[str, BGPFilterSpec] = field(default_factory=dict[str, BGPFilterSpec])
    ipam: IPAMConfigurationSpec = field(default_factory=IPAMConfigurationSpec)
    reserved: tuple[AnyPrefix, ...] = ()
    namespaces: Mapping[str, Namespace] = field(default_factory=dict[str, Namespace])
    affinities: Mapping[AnyPrefix, BlockAffinitySpec] = field(default_factory=dict[AnyPrefix, BlockAffinitySpec])
    by_kubernetes: frozenset[str] = frozenset()  # nodes whose podCIDRs are those of Kubernetes' Node

    @classmethod
    def of(cls, resources: Iterable[AnyResource]) -> Cluster:
        """Sort `resources` into their kinds. Nodes have what Kubernetes says of them where they say nothing."""
        nodes: dict[str, Node] = {}
        kubernetes: list[KubernetesNode] = []
        pools: dict[str, IPPool] = {}
        peers: dict[str, BGPPeer] = {}
        filters: dict[str, BGPFilterSpec] = {}
        affinities: dict[AnyPrefix, BlockAffinitySpec] = {}
        namespaces: dict[str, Namespace] = {}
        reserved: list[AnyPrefix] = []
        bgp, ipam = BGPConfigurationSpec(), IPAMConfigurationSpec()
        for resource in resources:
            match resource:
                case Node():
                    nodes[resource.name] = resource
                case KubernetesNode():
                    kubernetes.append(resource)
                case IPPool():
                    pools[resource.name] = resource
                case BGPPeer():
                    peers[resource.name] = resource
                case BGPFilter():
                    filters[resource.name] = resource.spec
                case BGPConfiguration():
                    if resource.name == "default":  # another name is refused by `validate`, never obeyed
                        bgp = resource.spec
                case IPAMConfiguration():
                    if resource.name == "default":
                        ipam = resource.spec
                case IPReservation():
                    reserved += resource.spec.reserved_cidrs
                case Namespace():
                    namespaces[resource.name] = resource
                case BlockAffinity():
                    affinities[resource.spec.cidr] = resource.spec
        by_kubernetes = {
            each.name
            for each in kubernetes
            if each.spec.stated and each.name in nodes and not nodes[each.name].spec.pod_cidrs
        }
        nodes |= {each.name: _with(nodes[each.name], each) for each in kubernetes if each.name in nodes}
        return cls(
            nodes, pools, peers, bgp, filters, ipam, tuple(reserved), namespaces, affinities, frozenset(by_kubernetes)
        )

    # ---- nodes

    def source_of_pod_cidrs(self, node: str) -> str:
        """The kind of the resource that states the podCIDRs of `node`."""
        return "KubernetesNode" if node in self.by_kubernetes else "Node"

    def address(self, node: str) -> HostAddress:
        """The node's own BGP address, with the length of its subnet."""
        return self.nodes[node].spec.bgp.ipv4_address

    def address6(self, node: str) -> IPv6Interface | None:
        """The node's IPv6 address, if it has one."""
        return self.nodes[node].spec.bgp.ipv6_address

    def any_address(self, node: str, family: Family) -> AnyHostAddress | None:
        """The node's address in `family`, if it has one."""
        return self.address(node) if family is Family.IPV4 else self.address6(node)

    def any_addresses(self, node: str) -> tuple[AnyHostAddress, ...]:
        """All addresses of the node, IPv4 first."""
        other = self.address6(node)
        return (self.address(node),) if other is None else (self.address(node), other)

    def as_number(self, node: str) -> int:
        """The node's AS: its own if it states one, else the cluster's."""
        return self.nodes[node].spec.bgp.as_number or self.bgp.as_number

    def cluster_id(self, node: str) -> Address | None:
        """The cluster that the node is a route reflector of, if it is one."""
        return self.nodes[node].spec.bgp.route_reflector_cluster_id

    @cached_property
    def members(self) -> Mapping[Address, str]:
        """Node name by node address."""
        return {node.spec.bgp.ipv4_address.ip: name for name, node in self.nodes.items()}

    @cached_property
    def members6(self) -> Mapping[IPv6Address, str]:
        """Node name by IPv6 node address."""
        return {
            node.spec.bgp.ipv6_address.ip: name
            for name, node in self.nodes.items()
            if node.spec.bgp.ipv6_address is not None
        }

    @cached_property
    def any_members(self) -> Mapping[AnyAddress, str]:
        """Node name by node address of either family."""
        return {address.ip: name for name in self.nodes for address in self.any_addresses(name)}

    def select(self, selector: Selector) -> frozenset[str]:
        """The names of the nodes that `selector` selects."""
        found = self._selected.get(selector)
        if found is None:
            found = frozenset(name for name, node in self.nodes.items() if selector.matches(node.metadata.labels))
            self._selected[selector] = found
        return found

    @cached_property
    def _selected(self) -> dict[Selector, frozenset[str]]:
        return {}  # what `select` has found, for as long as this value lives

    # ---- addresses of pods

    @cached_property
    def blocks(self) -> Mapping[Prefix, str]:
        """Owner's name by block: a node's podCIDRs, and the blocks of pools that it has claimed."""
        return {block: name for block, name in self.any_blocks.items() if isinstance(block, IPv4Network)}

    @cached_property
    def blocks6(self) -> Mapping[IPv6Network, str]:
        """Owner's name by IPv6 block."""
        return {block: name for block, name in self.any_blocks.items() if isinstance(block, IPv6Network)}

    def blocks_of(self, family: Family) -> Mapping[AnyPrefix, str]:
        """Owner's name by block of `family`."""
        return self._blocks_by_family[family]

    @cached_property
    def _blocks_by_family(self) -> Mapping[Family, Mapping[AnyPrefix, str]]:
        found: dict[Family, dict[AnyPrefix, str]] = {family: {} for family in Family}
        for block, name in self.any_blocks.items():
            found[Family.of(block)][block] = name
        return found

    @cached_property
    def any_blocks(self) -> Mapping[AnyPrefix, str]:
        """Owner's name by block of either family."""
        return {block: name for name, blocks in self._blocks_of.items() for block in blocks}

    @cached_property
    def _blocks_of(self) -> Mapping[str, tuple[AnyPrefix, ...]]:
        """By node. A claim counts once it is confirmed, and no longer when it is about to be given up."""
        claimed: dict[str, list[AnyPrefix]] = {}
        for affinity in self.affinities.values():
            if affinity.state is BlockState.CONFIRMED:
                claimed.setdefault(affinity.node, []).append(affinity.cidr)
        return {name: (*node.spec.pod_cidrs, *claimed.get(name, ())) for name, node in self.nodes.items()}

    def own_blocks(self, node: str) -> tuple[Prefix, ...]:
        """The blocks of `node`, exported or not; none of a node that is not there."""
        return tuple(block for block in self.any_own_blocks(node) if isinstance(block, IPv4Network))

    def own_blocks6(self, node: str) -> tuple[IPv6Network, ...]:
        """The IPv6 blocks of `node`."""
        return tuple(block for block in self.any_own_blocks(node) if isinstance(block, IPv6Network))

    def any_own_blocks(self, node: str) -> tuple[AnyPrefix, ...]:
        """The blocks of `node` in both families."""
        return self._blocks_of.get(node, ())

    def owner(self, prefix: AnyPrefix) -> str | None:
        """The member whose block is `prefix` or covers it, if any."""
        for length in range(prefix.prefixlen, 0, -1):
            block = prefix.supernet(new_prefix=length)
            if block in self.any_blocks:
                return self.any_blocks[block]
        return None

    def assignable(self, node: str) -> tuple[AnyPrefix, ...]:
        """The podCIDRs of `node` from which addresses are given: those of a disabled pool only keep what was given."""
        blocks = self.nodes[node].spec.pod_cidrs if node in self.nodes else ()
        return tuple(block for block in blocks if not ((pool := self.pool(block)) and pool.spec.disabled))

    @cached_property
    def ipv4_pools(self) -> Mapping[Prefix, IPPool]:
        """The IPv4 pools by range."""
        return {pool.spec.cidr: pool for pool in self.pools.values() if isinstance(pool.spec.cidr, IPv4Network)}

    @cached_property
    def ipv6_pools(self) -> Mapping[IPv6Network, IPPool]:
        """The IPv6 pools by range."""
        return {pool.spec.cidr: pool for pool in self.pools.values() if isinstance(pool.spec.cidr, IPv6Network)}

    def pools_of(self, family: Family) -> Mapping[AnyPrefix, IPPool]:
        """The pools of `family` by range."""
        return self._any_pools[family]

    @cached_property
    def _any_pools(self) -> Mapping[Family, Mapping[AnyPrefix, IPPool]]:
        found: dict[Family, dict[AnyPrefix, IPPool]] = {family: {} for family in Family}
        for pool in self.pools.values():
            found[Family.of(pool.spec.cidr)][pool.spec.cidr] = pool
        return found

    def pool(self, prefix: AnyPrefix) -> IPPool | None:
        """The pool that contains `prefix`, if any; pools do not overlap."""
        for cidr, pool in self.pools_of(Family.of(prefix)).items():
            if inside(prefix, cidr):
                return pool
        return None

    # ---- BGP

    def scope(self, peer: BGPPeer) -> frozenset[str]:
        """The names of the nodes that have the sessions of `peer`, those of the reverse peerings aside."""
        spec = peer.spec
        if spec.node is not None:
            return frozenset([spec.node]) & self.nodes.keys()
        return frozenset(self.nodes) if spec.node_selector is None else self.select(spec.node_selector)

    def advertised_communities(self, prefix: AnyPrefix) -> tuple[Community, ...]:
        """What BGPConfiguration attaches to `prefix` when we originate it: that of every range that contains it.

        A name without a community, which `validate` refuses, is passed over.
        """
        names = {community.name: community.value for community in self.bgp.communities}
        found: dict[Community, None] = {}
        for advertisement in self.bgp.prefix_advertisements:
            if inside(prefix, advertisement.cidr):
                for word in advertisement.communities:
                    if word in names:
                        found[names[word]] = None
                    elif ":" in word:
                        found[Community.parse(word)] = None
        return tuple(found)


def _with(node: Node, other: KubernetesNode) -> Node:
    """`node` with what Kubernetes says of it."""
    labels = {**other.metadata.labels, **node.metadata.labels}
    spec = msgspec.structs.replace(node.spec, pod_cidrs=node.spec.pod_cidrs or other.spec.stated)
    metadata = msgspec.structs.replace(node.metadata, labels=labels)
    return msgspec.structs.replace(node, metadata=metadata, spec=spec)

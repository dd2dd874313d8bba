"""The node's place in the fabric: which interfaces face it, and what sizes of packet they allow. Pure."""

from __future__ import annotations

from fnmatch import fnmatchcase

from routed.model.address import Address, AnyAddress, Family
from routed.model.resources import EncapsulationMode, IPPool
from routed_felix.resolve import Resolver
from routed_felix.state import TUNNEL_OVERHEAD, TUNNELS, VXLAN_OVERHEAD, Encapsulation
from routed_felix.view import View

_ETHERNET_MTU = 1500
OVERHEAD = {Encapsulation.TUNNEL: TUNNEL_OVERHEAD, Encapsulation.VXLAN: VXLAN_OVERHEAD}
"""Bytes that an encapsulation adds to a packet."""


def resolver(view: View, family: Family | None = None) -> Resolver:
    """The resolver for `view`'s interfaces and underlay; those that BGP is to ignore lead nowhere.

    For another `family` than the view's it knows the interfaces only.
    """
    of = view.family if family is None else family
    ignored = view.cluster.bgp.ignored_interfaces
    interfaces = {
        name: each
        for name, each in view.interfaces.items()
        if not any(fnmatchcase(name, pattern) for pattern in ignored)
    }
    return Resolver(interfaces, view.underlay if of is view.family else (), view.settings.tunnel_devices, of)


def node_address(view: View) -> AnyAddress | None:
    """The node's own BGP address in the view's family; None when the store knows none."""
    stated = view.cluster.any_address(view.node, view.family) if view.node in view.cluster.nodes else None
    return None if stated is None else stated.ip


def encapsulation_of(pool: IPPool) -> Encapsulation:
    """How the pool's packets travel where they are encapsulated; DIRECT where they never are."""
    if pool.spec.encapsulation_mode is EncapsulationMode.NEVER:
        return Encapsulation.DIRECT
    return Encapsulation.VXLAN if pool.spec.ipip_mode is EncapsulationMode.NEVER else Encapsulation.TUNNEL


def may_encapsulate(pool: IPPool) -> bool:
    """Whether the pool's packets ever travel in a tunnel."""
    return encapsulation_of(pool) in TUNNELS


def tunnel_device(view: View, encapsulation: Encapsulation) -> str:
    """The device that wraps packets so."""
    return view.settings.vxlan_device if encapsulation is Encapsulation.VXLAN else view.settings.tunnel_device


def own_addresses(view: View) -> frozenset[AnyAddress]:
    """Every address of this machine, and the one that the store gives it."""
    found = {address.ip for interface in view.interfaces.values() for address in interface.addresses}
    stated = node_address(view)
    return frozenset(found if stated is None else found | {stated})


def fabric_interfaces(view: View, resolve: Resolver, next_hops: frozenset[str]) -> frozenset[str]:
    """The interfaces through which members, BGP peers and next hops are reached, and the one with the node address.

    `next_hops`: the devices that lead to the next hops of paths.
    """
    own = node_address(view)
    targets = {address for address, name in view.cluster.members.items() if name != view.node}
    targets |= {peer for peer in view.peers if isinstance(peer, Address)}
    targets -= {address.ip for interface in view.interfaces.values() for address in interface.addresses}
    found = {answer.hop.device for target in targets if (answer := resolve.resolve(target)) is not None}
    found |= {
        name
        for name, interface in view.interfaces.items()
        if interface.up and any(address.ip == own for address in interface.addresses)
    }
    return frozenset((found | next_hops) - {"lo"} - view.settings.tunnel_devices)


def underlay_mtu(view: View, interfaces: frozenset[str]) -> int | None:
    """The smallest MTU among the fabric interfaces, in bytes; None when no interface faces the fabric."""
    return min((view.interfaces[name].mtu for name in interfaces), default=None)


def pod_mtu(view: View, interfaces: frozenset[str]) -> int:
    """The MTU for a pod's interface, in bytes: the underlay's, less the most that wrapping its packets may add.

    All enabled pools count, since the pod may send to any of them. Without a fabric interface Ethernet's 1500 is the
    underlay's.
    """
    mtu = underlay_mtu(view, interfaces) or _ETHERNET_MTU
    ways = {encapsulation_of(pool) for pool in view.cluster.ipv4_pools.values() if not pool.spec.disabled}
    return mtu - max((OVERHEAD.get(way, 0) for way in ways), default=0)

"""The VXLAN network of the nodes: who is behind which MAC address, without anybody asking. Pure.

A node's MAC address on the VXLAN device follows from its node address, so that every node knows those of all others
without an exchange. For each other member there are a permanent neighbour, from node address to MAC address, and an
entry of the forwarding database, from there back to the node address, where the outer packet goes (RFC 7348 section 4).
They are there while a pool is VXLAN, whatever the routes are, so that a route that falls back to the tunnel finds them.
"""

from __future__ import annotations

from collections.abc import Mapping

from routed.model.address import Address, AnyAddress
from routed_felix.decide import Decider
from routed_felix.state import VXLAN_KIND, VXLAN_OVERHEAD, Encapsulation, FdbKey, Link, NeighbourKey, Vxlan
from routed_felix.view import View

_PREFIX = b"\x02\x72"  # locally administered, one station (IEEE 802-2014 section 8.2.2); "r" for routed


def mac_of(address: Address) -> str:
    """The MAC address of the VXLAN device of the node with this node address."""
    return (_PREFIX + address.packed).hex(":")


def vxlan_link(view: View, local: Address, mtu: int | None) -> Link:
    """The VXLAN device of the node with address `local`; `mtu`: that of the underlay, in bytes."""
    vxlan = Vxlan(view.settings.vxlan_vni, view.settings.vxlan_port, local, mac_of(local))
    return Link(VXLAN_KIND, mtu - VXLAN_OVERHEAD if mtu else None, vxlan=vxlan)


class Overlay:
    """The other members as neighbours; the same objects while these are the same, since they may be thousands."""

    def __init__(self) -> None:
        self._of: tuple[str | None, Mapping[Address, str], frozenset[AnyAddress]] | None = None
        self._neighbours: Mapping[NeighbourKey, str] = {}
        self._fdb: Mapping[FdbKey, Address] = {}

    def members(self, view: View, decider: Decider) -> tuple[Mapping[NeighbourKey, str], Mapping[FdbKey, Address]]:
        """The MAC address of each node that a tunnel may end at, and where the frames to it go."""
        device = decider.wrapping.get(Encapsulation.VXLAN)
        if device is None:
            return {}, {}
        of = device, view.cluster.members, decider.own_addresses
        if of != self._of:
            self._of = of
            others = sorted(view.cluster.members.keys() - decider.own_addresses, key=int)
            self._neighbours = {NeighbourKey(device, address): mac_of(address) for address in others}
            self._fdb = {FdbKey(key.device, mac): key.address for key, mac in self._neighbours.items()}
        return self._neighbours, self._fdb

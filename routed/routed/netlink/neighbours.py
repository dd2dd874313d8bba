"""Neighbours, and entries of forwarding databases, as the kernel tells and takes them. Pure: bytes to values and back.

Both are RTM_NEWNEIGH. A neighbour says which MAC address an IP address has; an entry of the forwarding database of a
VXLAN device (AF_BRIDGE, NTF_SELF) says to which IP address frames for a MAC address are sent.
"""

from __future__ import annotations

from dataclasses import dataclass

from routed.model.address import Address
from routed.netlink import constants as c
from routed.netlink.constants import Nda
from routed.netlink.message import AF_BRIDGE, AF_INET, NDMSG, attr, attrs, ip, u32

_KNOWN = frozenset({Nda.DST, Nda.LLADDR, Nda.CACHEINFO, Nda.PROBES, Nda.IFINDEX, Nda.PROTOCOL})
_MAC_OCTETS = 6


@dataclass(frozen=True, slots=True)
class NeighbourEntry:
    """RTM_NEWNEIGH of `family` AF_INET or AF_BRIDGE, on device `index`; `state` is NUD_*, `flags` NTF_*.

    `mac` is empty where the kernel knows none. `others` are the attribute types beyond what is represented here: of an
    entry of a forwarding database that has a port or VNI of its own, say.
    """

    family: int
    index: int
    address: Address | None
    mac: str
    state: int = c.NUD_PERMANENT
    flags: int = 0
    others: tuple[int, ...] = ()

    def pack(self) -> bytes:
        """The body that adds or deletes it."""
        body = NDMSG.pack(self.family, self.index, self.state, self.flags, 0)
        if self.address is not None:
            body += ip(Nda.DST, self.address)
        return body + (attr(Nda.LLADDR, bytes.fromhex(self.mac.replace(":", ""))) if self.mac else b"")

    @classmethod
    def unpack(cls, body: bytes) -> NeighbourEntry:
        """The entry of an RTM_NEWNEIGH or RTM_DELNEIGH body. An IPv6 address counts as none."""
        family, index, state, flags, _ = NDMSG.unpack_from(body)
        found = attrs(body, NDMSG.size)
        destination, mac = found.get(Nda.DST, b""), found.get(Nda.LLADDR, b"")
        return cls(
            family=family,
            index=index,
            address=Address(destination) if len(destination) == 4 else None,
            mac=mac.hex(":") if len(mac) == _MAC_OCTETS else "",
            state=state,
            flags=flags,
            others=tuple(sorted(found.keys() - _KNOWN)),
        )


def neighbour(index: int, address: Address, mac: str) -> NeighbourEntry:
    """A permanent neighbour."""
    return NeighbourEntry(AF_INET, index, address, mac)


def fdb_entry(index: int, mac: str, address: Address | None) -> NeighbourEntry:
    """A permanent entry of the forwarding database of the device itself; without `address`, for a deletion."""
    return NeighbourEntry(AF_BRIDGE, index, address, mac, flags=c.NTF_SELF)


def neighbour_filter(family: int, index: int) -> bytes:
    """The body of a strict RTM_GETNEIGH dump of one device."""
    return NDMSG.pack(family, 0, 0, 0, 0) + u32(Nda.IFINDEX, index)

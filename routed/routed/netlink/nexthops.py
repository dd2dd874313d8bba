"""Nexthop objects as the kernel tells and takes them: linux/nexthop.h. Pure: bytes to values and back.

An object is one next hop, or a group of others, weighed. Routes name it by its id. Linux 5.3 and later have them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from routed.model.address import Family
from routed.netlink import constants as c
from routed.netlink.constants import Nha
from routed.netlink.message import as_u32, attr, attrs, ip, u32
from routed.netlink.objects import AF, HopEntry

_NHMSG = struct.Struct("=BBBxI")  # struct nhmsg: family, scope, protocol, flags
_MEMBER = struct.Struct("=IBBH")  # struct nexthop_grp: id, weight less one, and what is reserved
_BEYOND_OURS = frozenset({Nha.BLACKHOLE, Nha.ENCAP_TYPE, Nha.ENCAP, Nha.FDB, Nha.RES_GROUP})
_MULTIPATH = b"\0\0"  # NEXTHOP_GRP_TYPE_MPATH: by hash of the flow
DUMP_NEXTHOPS = _NHMSG.pack(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class NexthopEntry:
    """RTM_NEWNEXTHOP: `hop`, or a group of the objects `members` by id.

    `odd`: it has what is not represented here (weights, encapsulation, a blackhole, another type of group).
    """

    id: int
    protocol: int = 0
    hop: HopEntry | None = None
    members: tuple[int, ...] = ()
    odd: bool = False

    def pack(self, family: Family = Family.IPV4) -> bytes:
        """The body that creates or replaces it, for routes of `family`."""
        if self.hop is None:
            body = _NHMSG.pack(0, 0, self.protocol, 0) + u32(Nha.ID, self.id)
            return body + attr(Nha.GROUP, b"".join(_MEMBER.pack(each, 0, 0, 0) for each in self.members))
        gateway = self.hop.gateway
        of = AF[family] if gateway is None else AF[Family.of(gateway)]
        body = _NHMSG.pack(of, 0, self.protocol, c.RTNH_F_ONLINK if self.hop.onlink else 0)
        body += u32(Nha.ID, self.id) + u32(Nha.OIF, self.hop.index)
        return body if gateway is None else body + ip(Nha.GATEWAY, gateway)

    @classmethod
    def unpack(cls, body: bytes) -> NexthopEntry:
        """The object of an RTM_NEWNEXTHOP or RTM_DELNEXTHOP body."""
        _, _, protocol, flags = _NHMSG.unpack_from(body)
        found = attrs(body, _NHMSG.size)
        number = as_u32(found[Nha.ID])
        odd = not _BEYOND_OURS.isdisjoint(found)
        if Nha.GROUP in found:
            rows = list(_MEMBER.iter_unpack(found[Nha.GROUP]))
            odd |= any(row[1] for row in rows) or found.get(Nha.GROUP_TYPE, _MULTIPATH) != _MULTIPATH
            return cls(number, protocol, None, tuple(row[0] for row in rows), odd)
        if Nha.OIF not in found:
            return cls(number, protocol, odd=True)
        packed = found.get(Nha.GATEWAY)
        gateway = None if packed is None else IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)
        hop = HopEntry(as_u32(found[Nha.OIF]), gateway, bool(flags & c.RTNH_F_ONLINK))
        return cls(number, protocol, hop, (), odd)


def deletion(number: int) -> bytes:
    """The body of RTM_DELNEXTHOP, which wants a protocol of 0. Groups lose the member; an empty one goes, with its
    routes."""
    return _NHMSG.pack(0, 0, 0, 0) + u32(Nha.ID, number)


def hops_of(number: int, known: Mapping[int, NexthopEntry]) -> tuple[HopEntry, ...]:
    """Where the object `number` leads; nothing for one that is not among `known`, or that drops."""
    entry = known.get(number)
    if entry is None:
        return ()
    if entry.hop is not None:
        return (entry.hop,)
    members = (known.get(each) for each in entry.members)
    return tuple(member.hop for member in members if member is not None and member.hop is not None)

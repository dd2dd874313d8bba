"""Links, addresses and routes as the kernel tells and takes them. Pure: bytes to values and back.

These are the kernel's own terms (indices, numbers), complete enough that a value read, packed and read again is the
same; what they mean to routed is decided elsewhere.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from routed.netlink import constants as c
from routed.netlink.constants import Ifa, Ifla, Rta
from routed.netlink.message import (
    AF_INET,
    IFADDR,
    IFINFO,
    RTMSG,
    as_text,
    as_u32,
    attr,
    attrs,
    ipv4,
    u32,
)

_RTNH = struct.Struct("=HBBi")  # struct rtnexthop: len, flags, hops, ifindex
_RTNL_KNOWN = frozenset(
    {Rta.DST, Rta.OIF, Rta.GATEWAY, Rta.PRIORITY, Rta.PREFSRC, Rta.MULTIPATH, Rta.CACHEINFO, Rta.TABLE}
)

DUMP_LINKS = IFINFO.pack(0, 0, 0, 0, 0) + u32(Ifla.EXT_MASK, c.RTEXT_FILTER_SKIP_STATS)


@dataclass(frozen=True, slots=True)
class LinkEntry:
    """RTM_NEWLINK: `flags` are IFF_*, `kind` is IFLA_INFO_KIND (empty for hardware), `mtu` in bytes."""

    index: int
    name: str
    mtu: int
    flags: int
    kind: str = ""
    alias: str = ""

    @classmethod
    def unpack(cls, body: bytes) -> LinkEntry:
        """The link of an RTM_NEWLINK or RTM_DELLINK body."""
        _, _, index, flags, _ = IFINFO.unpack_from(body)
        found = attrs(body, IFINFO.size)
        info = attrs(found.get(Ifla.LINKINFO, b""))
        return cls(
            index=index,
            name=as_text(found.get(Ifla.IFNAME, b"")),
            mtu=as_u32(found[Ifla.MTU]) if Ifla.MTU in found else 0,
            flags=flags,
            kind=as_text(info.get(Ifla.INFO_KIND, b"")),
            alias=as_text(found.get(Ifla.IFALIAS, b"")),
        )

    @property
    def administratively_up(self) -> bool:
        """IFF_UP."""
        return bool(self.flags & c.IFF_UP)

    @property
    def carrier(self) -> bool:
        """IFF_UP and IFF_LOWER_UP: up, and something is at the other end."""
        return self.flags & (c.IFF_UP | c.IFF_LOWER_UP) == c.IFF_UP | c.IFF_LOWER_UP


@dataclass(frozen=True, slots=True)
class AddressEntry:
    """RTM_NEWADDR of IPv4. `peer` is set on point-to-point addresses only; `protocol` is IFA_PROTO, 0 when unsaid."""

    index: int
    address: IPv4Interface
    peer: IPv4Address | None = None
    protocol: int = 0
    scope: int = c.RT_SCOPE_UNIVERSE

    def pack(self) -> bytes:
        """The body that adds or deletes this address. Kernels before 5.18 do not keep `protocol`."""
        body = IFADDR.pack(AF_INET, self.address.network.prefixlen, 0, self.scope, self.index)
        body += ipv4(Ifa.LOCAL, self.address.ip) + ipv4(Ifa.ADDRESS, self.peer or self.address.ip)
        if self.protocol:
            body += attr(Ifa.PROTO, bytes([self.protocol]))
        return body

    @classmethod
    def unpack(cls, body: bytes) -> AddressEntry:
        """The address of an RTM_NEWADDR or RTM_DELADDR body of family AF_INET."""
        _, length, _, scope, index = IFADDR.unpack_from(body)
        found = attrs(body, IFADDR.size)
        remote = IPv4Address(found[Ifa.ADDRESS])
        local = IPv4Address(found.get(Ifa.LOCAL, found[Ifa.ADDRESS]))
        return cls(
            index=index,
            address=IPv4Interface((local, length)),
            peer=remote if remote != local else None,
            protocol=found[Ifa.PROTO][0] if Ifa.PROTO in found else 0,
            scope=scope,
        )


@dataclass(frozen=True, slots=True)
class HopEntry:
    """One next hop: through `gateway` (None: the destination is on the link) out of device `index`."""

    index: int
    gateway: IPv4Address | None = None
    onlink: bool = False
    weight: int = 1


@dataclass(frozen=True, slots=True)
class RouteEntry:
    """RTM_NEWROUTE of IPv4.

    `kind` is RTN_*, `scope` RT_SCOPE_*. A blackhole has no hop; neither has a route by nexthop object when
    net.ipv4.nexthop_compat_mode is 0. `others` are the attribute types that it, or a hop of it, carries beyond what is
    represented here, e.g. a gateway of another family (RTA_VIA).
    """

    destination: IPv4Network
    hops: tuple[HopEntry, ...] = ()
    source: IPv4Address | None = None
    metric: int = 0
    tos: int = 0
    table: int = c.RT_TABLE_MAIN
    protocol: int = 0
    scope: int = c.RT_SCOPE_UNIVERSE
    kind: int = c.RTN_UNICAST
    others: tuple[int, ...] = ()

    def pack(self) -> bytes:
        """The body of RTM_NEWROUTE or RTM_DELROUTE (a deletion hits only a route that matches all of it)."""
        single = self.hops[0] if len(self.hops) == 1 else None
        flags = c.RTNH_F_ONLINK if single is not None and single.onlink else 0
        table = self.table if self.table < 256 else c.RT_TABLE_COMPAT
        length = self.destination.prefixlen
        body = RTMSG.pack(AF_INET, length, 0, self.tos, table, self.protocol, self.scope, self.kind, flags)
        body += u32(Rta.TABLE, self.table)
        if length:
            body += ipv4(Rta.DST, self.destination.network_address)
        if self.metric:
            body += u32(Rta.PRIORITY, self.metric)
        if self.source is not None:
            body += ipv4(Rta.PREFSRC, self.source)
        if single is not None:
            body += u32(Rta.OIF, single.index)
            if single.gateway is not None:
                body += ipv4(Rta.GATEWAY, single.gateway)
        elif self.hops:
            body += attr(Rta.MULTIPATH, b"".join(_pack_hop(hop) for hop in self.hops))
        return body

    @classmethod
    def unpack(cls, body: bytes) -> RouteEntry:
        """The route of an RTM_NEWROUTE or RTM_DELROUTE body of family AF_INET."""
        _, length, _, tos, table, protocol, scope, kind, flags = RTMSG.unpack_from(body)
        found = attrs(body, RTMSG.size)
        hops: tuple[HopEntry, ...] = ()
        others = found.keys() - _RTNL_KNOWN
        if Rta.MULTIPATH in found:
            hops, strange = _unpack_hops(found[Rta.MULTIPATH])
            others |= strange
        elif Rta.OIF in found:
            gateway = IPv4Address(found[Rta.GATEWAY]) if Rta.GATEWAY in found else None
            hops = (HopEntry(as_u32(found[Rta.OIF]), gateway, bool(flags & c.RTNH_F_ONLINK)),)
        return cls(
            destination=IPv4Network((found.get(Rta.DST, bytes(4)), length)),
            hops=hops,
            source=IPv4Address(found[Rta.PREFSRC]) if Rta.PREFSRC in found else None,
            metric=as_u32(found[Rta.PRIORITY]) if Rta.PRIORITY in found else 0,
            tos=tos,
            table=as_u32(found[Rta.TABLE]) if Rta.TABLE in found else table,
            protocol=protocol,
            scope=scope,
            kind=kind,
            others=tuple(sorted(others)),
        )


def route_filter(*, table: int = c.RT_TABLE_MAIN, protocol: int = 0) -> bytes:
    """The body of a strict RTM_GETROUTE dump: the kernel itself leaves out other tables and, if given, protocols."""
    return RTMSG.pack(AF_INET, 0, 0, 0, 0, protocol, 0, 0, 0) + u32(Rta.TABLE, table)


def protocol_of(body: bytes) -> int:
    """rtm_protocol of a route body, without decoding the rest: what makes skipping 100k routes cheap."""
    return body[5]


def _pack_hop(hop: HopEntry) -> bytes:
    inner = ipv4(Rta.GATEWAY, hop.gateway) if hop.gateway is not None else b""
    flags = c.RTNH_F_ONLINK if hop.onlink else 0
    return _RTNH.pack(_RTNH.size + len(inner), flags, hop.weight - 1, hop.index) + inner


def _unpack_hops(payload: bytes) -> tuple[tuple[HopEntry, ...], set[int]]:
    """The hops, and the types of attributes that they do not represent."""
    hops: list[HopEntry] = []
    others: set[int] = set()
    offset = 0
    while offset + _RTNH.size <= len(payload):
        length, flags, weight, index = _RTNH.unpack_from(payload, offset)
        if length < _RTNH.size:
            break
        found = attrs(payload[offset : offset + length], _RTNH.size)
        gateway = IPv4Address(found[Rta.GATEWAY]) if Rta.GATEWAY in found else None
        hops.append(HopEntry(index, gateway, bool(flags & c.RTNH_F_ONLINK), weight + 1))
        others |= found.keys() - {Rta.GATEWAY}
        offset += (length + 3) & ~3
    return tuple(hops), others

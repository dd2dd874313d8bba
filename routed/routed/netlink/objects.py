"""Links, addresses and routes as the kernel tells and takes them. Pure: bytes to values and back.

These are the kernel's own terms (indices, numbers), complete enough that a value read, packed and read again is the
same; what they mean to routed is decided elsewhere.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from routed.model.address import AnyAddress, AnyHostAddress, AnyPrefix, Family
from routed.netlink import constants as c
from routed.netlink.constants import Ifa, Ifla, Rta
from routed.netlink.message import (
    AF_INET,
    AF_INET6,
    IFADDR,
    IFINFO,
    RTMSG,
    as_text,
    as_u32,
    attr,
    attrs,
    ip,
    u32,
)

_RTNH = struct.Struct("=HBBi")  # struct rtnexthop: len, flags, hops, ifindex
_RTNL_KNOWN = frozenset(
    {Rta.DST, Rta.OIF, Rta.GATEWAY, Rta.PRIORITY, Rta.PREFSRC, Rta.MULTIPATH, Rta.CACHEINFO, Rta.TABLE, Rta.NH_ID}
)
_VIA = struct.Struct("=H")  # struct rtvia: family, then the address
_VIA_IPV6 = _VIA.pack(AF_INET6)
_MEDIUM = b"\0"  # RTA_PREF, which the kernel states on every IPv6 route: RFC 4191's preference, medium unless asked
_REJECTING = frozenset({c.RTN_BLACKHOLE, c.RTN_UNREACHABLE, c.RTN_PROHIBIT})
AF = {Family.IPV4: AF_INET, Family.IPV6: AF_INET6}
"""The kernel's numbers of the families."""

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
    """RTM_NEWADDR. `peer` is set on point-to-point addresses only; `protocol` is IFA_PROTO, 0 when unsaid."""

    index: int
    address: AnyHostAddress
    peer: AnyAddress | None = None
    protocol: int = 0
    scope: int = c.RT_SCOPE_UNIVERSE

    def pack(self) -> bytes:
        """The body that adds or deletes this address. Kernels before 5.18 do not keep `protocol`."""
        body = IFADDR.pack(AF[Family.of(self.address)], self.address.network.prefixlen, 0, self.scope, self.index)
        body += ip(Ifa.LOCAL, self.address.ip) + ip(Ifa.ADDRESS, self.peer or self.address.ip)
        if self.protocol:
            body += attr(Ifa.PROTO, bytes([self.protocol]))
        return body

    @classmethod
    def unpack(cls, body: bytes) -> AddressEntry:
        """The address of an RTM_NEWADDR or RTM_DELADDR body."""
        family, length, _, scope, index = IFADDR.unpack_from(body)
        found = attrs(body, IFADDR.size)
        remote = found[Ifa.ADDRESS]
        local = found.get(Ifa.LOCAL, remote)
        host = IPv6Interface((local, length)) if family == AF_INET6 else IPv4Interface((local, length))
        return cls(
            index=index,
            address=host,
            peer=_address(remote) if remote != local else None,
            protocol=found[Ifa.PROTO][0] if Ifa.PROTO in found else 0,
            scope=scope,
        )


@dataclass(frozen=True, slots=True)
class HopEntry:
    """One next hop: through `gateway` (None: the destination is on the link) out of device `index`.

    The gateway of an IPv4 route may be an IPv6 one (RTA_VIA).
    """

    index: int
    gateway: AnyAddress | None = None
    onlink: bool = False
    weight: int = 1


@dataclass(frozen=True, slots=True)
class RouteEntry:
    """RTM_NEWROUTE.

    `kind` is RTN_*, `scope` RT_SCOPE_*. A blackhole has no hop; neither has a route by nexthop object, which is the
    `nexthop` of that id, not 0: that some kernels tell where it leads as well (net.ipv4.nexthop_compat_mode) is no part
    of the route. `others` are the attribute types that it, or a hop of it, carries beyond what is
    represented here. For IPv6 the kernel reads and tells other things than for IPv4: the scope is always universe, a
    metric of 0 becomes 1024.
    """

    destination: AnyPrefix
    hops: tuple[HopEntry, ...] = ()
    source: AnyAddress | None = None
    metric: int = 0
    tos: int = 0
    table: int = c.RT_TABLE_MAIN
    protocol: int = 0
    scope: int = c.RT_SCOPE_UNIVERSE
    kind: int = c.RTN_UNICAST
    others: tuple[int, ...] = ()
    nexthop: int = 0

    def pack(self) -> bytes:
        """The body of RTM_NEWROUTE or RTM_DELROUTE (a deletion hits only a route that matches all of it)."""
        single = self.hops[0] if len(self.hops) == 1 else None
        flags = c.RTNH_F_ONLINK if single is not None and single.onlink else 0
        table = self.table if self.table < 256 else c.RT_TABLE_COMPAT
        length = self.destination.prefixlen
        family = AF[Family.of(self.destination)]
        body = RTMSG.pack(family, length, 0, self.tos, table, self.protocol, self.scope, self.kind, flags)
        body += u32(Rta.TABLE, self.table)
        if length:
            body += ip(Rta.DST, self.destination.network_address)
        if self.metric:
            body += u32(Rta.PRIORITY, self.metric)
        if self.source is not None:
            body += ip(Rta.PREFSRC, self.source)
        if self.nexthop:
            body += u32(Rta.NH_ID, self.nexthop)
        elif single is not None:
            body += u32(Rta.OIF, single.index)
            if single.gateway is not None:
                body += _pack_gateway(single.gateway, family)
        elif self.hops:
            body += attr(Rta.MULTIPATH, b"".join(_pack_hop(hop, family) for hop in self.hops))
        return body

    @classmethod
    def unpack(cls, body: bytes) -> RouteEntry:
        """The route of an RTM_NEWROUTE or RTM_DELROUTE body."""
        family, length, _, tos, table, protocol, scope, kind, flags = RTMSG.unpack_from(body)
        found = attrs(body, RTMSG.size)
        hops: tuple[HopEntry, ...] = ()
        others = found.keys() - _RTNL_KNOWN
        if found.get(Rta.PREF) == _MEDIUM:
            others.discard(Rta.PREF)
        nexthop = as_u32(found[Rta.NH_ID]) if Rta.NH_ID in found else 0
        if nexthop:
            others -= {Rta.VIA, Rta.ENCAP, Rta.ENCAP_TYPE}
        elif Rta.MULTIPATH in found:
            hops, strange = _unpack_hops(found[Rta.MULTIPATH])
            others |= strange
        elif Rta.OIF in found and not (family == AF_INET6 and kind in _REJECTING):  # an IPv6 blackhole is told with lo
            gateway = _unpack_gateway(found)
            if gateway is not None:
                others.discard(Rta.VIA)
            hops = (HopEntry(as_u32(found[Rta.OIF]), gateway, bool(flags & c.RTNH_F_ONLINK)),)
        network: AnyPrefix
        if family == AF_INET6:
            network = IPv6Network((found.get(Rta.DST, bytes(16)), length))
        else:
            network = IPv4Network((found.get(Rta.DST, bytes(4)), length))
        return cls(
            destination=network,
            hops=hops,
            source=_address(found[Rta.PREFSRC]) if Rta.PREFSRC in found else None,
            metric=as_u32(found[Rta.PRIORITY]) if Rta.PRIORITY in found else 0,
            tos=tos,
            table=as_u32(found[Rta.TABLE]) if Rta.TABLE in found else table,
            protocol=protocol,
            scope=scope,
            kind=kind,
            others=tuple(sorted(others)),
            nexthop=nexthop,
        )


def route_filter(*, family: Family = Family.IPV4, table: int = c.RT_TABLE_MAIN, protocol: int = 0) -> bytes:
    """The body of a strict RTM_GETROUTE dump: the kernel itself leaves out other tables and, if given, protocols."""
    return RTMSG.pack(AF[family], 0, 0, 0, 0, protocol, 0, 0, 0) + u32(Rta.TABLE, table)


def protocol_of(body: bytes) -> int:
    """rtm_protocol of a route body, without decoding the rest: what makes skipping 100k routes cheap."""
    return body[5]


def _address(packed: bytes) -> AnyAddress:
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)


def _pack_gateway(gateway: AnyAddress, family: int) -> bytes:
    """The gateway of a route of `family`."""
    if AF[Family.of(gateway)] == family:
        return ip(Rta.GATEWAY, gateway)
    return attr(Rta.VIA, _VIA.pack(AF[Family.of(gateway)]) + gateway.packed)


def _unpack_gateway(found: Mapping[int, bytes]) -> AnyAddress | None:
    if Rta.GATEWAY in found:
        return _address(found[Rta.GATEWAY])
    via = found.get(Rta.VIA, b"")
    return IPv6Address(via[_VIA.size :]) if via.startswith(_VIA_IPV6) and len(via) == _VIA.size + 16 else None


def _pack_hop(hop: HopEntry, family: int) -> bytes:
    inner = _pack_gateway(hop.gateway, family) if hop.gateway is not None else b""
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
        gateway = _unpack_gateway(found)
        hops.append(HopEntry(index, gateway, bool(flags & c.RTNH_F_ONLINK), weight + 1))
        others |= found.keys() - ({Rta.GATEWAY, Rta.VIA} if gateway is not None else {Rta.GATEWAY})
        offset += (length + 3) & ~3
    return tuple(hops), others

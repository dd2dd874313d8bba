"""What the kernel would do with a packet, asked of the kernel itself (RTM_GETROUTE): rules, all tables, all routes.

It is asked twice: which route of its table decides (RTM_F_FIB_MATCH, Linux 4.13), and where that leads for this packet,
which for a shared route is one of several next hops.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import Final

from routed.model.address import AnyAddress, AnyPrefix, Family
from routed.netlink import constants as c
from routed.netlink.constants import Msg, Rta
from routed.netlink.message import AF_INET, RTMSG, ip, u32
from routed.netlink.nexthops import DUMP_NEXTHOPS, NexthopEntry, hops_of
from routed.netlink.objects import AF, HopEntry, RouteEntry
from routed.netlink.socket import Netlink, NetlinkError
from routed_felix.state import Hop
from routed_felix.tunnel import dump_links

LOCAL: Final = "local"
UNICAST: Final = "unicast"
MAIN: Final = c.RT_TABLE_MAIN

_LOOKUP_TABLE, _FIB_MATCH = 0x1000, 0x2000  # linux/rtnetlink.h: RTM_F_LOOKUP_TABLE, RTM_F_FIB_MATCH
_KINDS = {c.RTN_UNICAST: UNICAST, 2: LOCAL, 3: "broadcast", 5: "multicast"}  # RTN_LOCAL, _BROADCAST, _MULTICAST
_REFUSALS = {
    errno.EINVAL: "blackhole",
    errno.EHOSTUNREACH: "unreachable",
    errno.EACCES: "prohibit",
    errno.ENETUNREACH: "no route",
    errno.EXDEV: "refused by rp_filter",
}


@dataclass(frozen=True, slots=True)
class FibAnswer:
    """How the kernel forwards to an address.

    `outcome` is `UNICAST`, `LOCAL`, or why the packet goes nowhere (a route's type, "no route"). `prefix`, `metric`,
    `table` and `protocol` are those of the route that decides, where the kernel says so; `ways` are all its next hops,
    `hop` the one that this packet takes, `source` the address that the kernel would put on a packet of its own.
    """

    outcome: str
    prefix: AnyPrefix | None = None
    protocol: int = 0
    metric: int = 0
    table: int = MAIN
    ways: tuple[Hop, ...] = ()
    hop: Hop | None = None
    source: AnyAddress | None = None


def ask(
    address: AnyAddress, *, source: AnyAddress | None = None, interface: str = "", namespace: str | None = None
) -> FibAnswer:
    """Ask for a packet to `address`; with `source` and `interface`, for one that came from there.

    Raises NetlinkError when the kernel does not answer, or knows no such interface (ENODEV).
    """
    with Netlink.open_in(namespace) if namespace else Netlink() as netlink:
        names = {link.index: link.name for link in dump_links(netlink)}
        family, bits = AF[Family.of(address)], address.max_prefixlen
        body = ip(Rta.DST, address)
        if interface:
            index = next((number for number, name in names.items() if name == interface), None)
            if index is None:
                raise NetlinkError(errno.ENODEV, os.strerror(errno.ENODEV))
            body += u32(Rta.IIF, index)
        table = _LOOKUP_TABLE if family == AF_INET else 0  # IPv6 tells the table in any case, and refuses the flag
        length = 0
        if source is not None:
            body, length = body + ip(Rta.SRC, source), source.max_prefixlen
        try:
            decides, taken = (
                _get(netlink, RTMSG.pack(family, bits, length, 0, 0, 0, 0, 0, flags) + body)
                for flags in (table | _FIB_MATCH, table)
            )
        except NetlinkError as error:
            if error.errno not in _REFUSALS:
                raise
            return FibAnswer(_REFUSALS[error.errno or 0])
        hops = _hops(taken.hops, names)
        ways = hops_of(decides.nexthop, _nexthops(netlink)) if decides.nexthop else decides.hops
        return FibAnswer(
            outcome=_KINDS.get(taken.kind, f"type {taken.kind}"),
            prefix=decides.destination,
            protocol=decides.protocol,
            metric=decides.metric,
            table=decides.table,
            ways=_hops(ways, names) or hops,
            hop=hops[0] if hops else None,
            source=taken.source,
        )


def _get(netlink: Netlink, question: bytes) -> RouteEntry:
    return RouteEntry.unpack(netlink.get(Msg.GETROUTE, question).body)


def _nexthops(netlink: Netlink) -> dict[int, NexthopEntry]:
    found = map(NexthopEntry.unpack, netlink.dump_bodies(Msg.GETNEXTHOP, DUMP_NEXTHOPS))
    return {entry.id: entry for entry in found}


def _hops(hops: tuple[HopEntry, ...], names: dict[int, str]) -> tuple[Hop, ...]:
    return tuple(Hop(names.get(hop.index, f"#{hop.index}"), hop.gateway, hop.onlink) for hop in hops)

"""Routes in our terms and in the kernel's."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass

from routed.model.address import Family
from routed.model.nlri import Nlri
from routed.netlink import constants as c
from routed.netlink.constants import Msg
from routed.netlink.objects import AF, HopEntry, RouteEntry, route_filter
from routed.netlink.routes import ANYWHERE
from routed.netlink.socket import Netlink, NetlinkError
from routed_felix.state import Hop, Route, RouteKind


@dataclass(frozen=True, slots=True)
class RouteEvent:
    """Somebody else touched a route of ours, or one with the key of ours. `entry` has `ANYWHERE` for its destination.

    `added`, or else deleted; `replaced`: it took the place of one with the same key.
    """

    nlri: Nlri
    entry: RouteEntry
    added: bool
    replaced: bool = False

    @property
    def family(self) -> Family:
        """Whose table it is in."""
        return Family.of(self.entry.destination)


class Terms:
    """Translates by the interfaces of now; `protocol` and `metric` are those of our routes."""

    def __init__(self, protocol: int, metric: int, family: Family = Family.IPV4) -> None:
        self._family = family
        self._protocol = protocol
        self._metric = metric
        self._index: Mapping[str, int] = {}
        self._name: Mapping[int, str] = {}

    def links_are(self, index: Mapping[str, int]) -> None:
        """Tell the interfaces of now."""
        if index != self._index:
            self._index = index
            self._name = {number: name for name, number in index.items()}

    def from_kernel(self, entry: RouteEntry) -> Route:
        """What a route of the kernel's is, whatever its prefix."""
        odd: list[str] = []
        if entry.others:
            odd.append(f"attributes {entry.others}")
        if any(hop.weight > 1 for hop in entry.hops):
            odd.append("weights")
        hops = tuple(Hop(self._name.get(hop.index, f"#{hop.index}"), hop.gateway, hop.onlink) for hop in entry.hops)
        kind = RouteKind.UNICAST
        if entry.kind == c.RTN_BLACKHOLE:
            kind = RouteKind.BLACKHOLE
        elif entry.kind != c.RTN_UNICAST:
            odd.append(f"type {entry.kind}")
        if entry.scope != (c.RT_SCOPE_UNIVERSE if entry.nexthop else self._scope(kind, hops)):
            odd.append(f"scope {entry.scope}")
        return Route(kind, hops, entry.source, ", ".join(odd), entry.nexthop)

    def to_kernel(self, route: Route) -> RouteEntry | None:
        """The route for the kernel, with any destination; None where one of its interfaces does not exist."""
        hops: list[HopEntry] = []
        for hop in route.hops:
            index = self._index.get(hop.device)
            if index is None:
                return None
            hops.append(HopEntry(index, hop.gateway, hop.onlink))
        return RouteEntry(
            destination=ANYWHERE[self._family],
            hops=tuple(hops),
            source=route.source,
            metric=self._metric,
            protocol=self._protocol,
            scope=self._scope(route.kind, route.hops),
            kind=c.RTN_BLACKHOLE if route.kind is RouteKind.BLACKHOLE else c.RTN_UNICAST,
            nexthop=route.nexthop,
        )

    def missing(self, route: Route) -> str:
        """Why `to_kernel` has no route, in words."""
        devices = sorted({hop.device for hop in route.hops} - self._index.keys())
        return f"interface {', '.join(devices) or '?'} does not exist"

    def _scope(self, kind: RouteKind, hops: tuple[Hop, ...]) -> int:
        """As iproute2 chooses: link for a destination on the link, else universe; IPv6 knows no other."""
        on_link = kind is RouteKind.UNICAST and len(hops) == 1 and hops[0].gateway is None
        return c.RT_SCOPE_LINK if on_link and self._family is Family.IPV4 else c.RT_SCOPE_UNIVERSE


def within_one_link(nlri: Nlri, family: Family) -> bool:
    """Whether it is a prefix of IPv6's link-local addresses (RFC 4291 section 2.5.6): every link has a route to them, a
    pod's as well, and none of these leads anywhere.
    """
    return family is Family.IPV6 and nlri[0] >= 10 and nlri[1] == 0xFE and nlri[2] & 0xC0 == 0x80


def dump_bodies(netlink: Netlink, *, family: Family = Family.IPV4, protocol: int = 0) -> list[bytes]:
    """The routes of the main table; only those of `protocol`, if given: the kernel filters. Raises NetlinkError."""
    try:
        bodies = netlink.dump_bodies(Msg.GETROUTE, route_filter(family=family, protocol=protocol))
        # a kernel that was booted without IPv6 answers with what it has
        return bodies if family is Family.IPV4 else [body for body in bodies if body[0] == AF[family]]
    except NetlinkError as error:
        if error.errno == errno.ENOENT:  # a network namespace in which the table was never used
            return []
        raise

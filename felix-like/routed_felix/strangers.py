"""Routes of the main table that are not ours: the underlay to calc, conflicts where they have a prefix of ours.

The kernel filters a dump by one protocol, not by all but one. So the first look is at everything; later ones ask for
the protocols that were seen then or in an event since, which costs nothing for the routes that are ours. The routes to
IPv6's link-local addresses, of which every pod's link has one, are nobody's underlay and are left out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from routed.model.address import AnyAddress, Family
from routed.model.nlri import Nlri, from_prefix, to_prefix
from routed.netlink import constants as c
from routed.netlink.constants import Rta
from routed.netlink.nexthops import NexthopEntry, hops_of
from routed.netlink.objects import RouteEntry, protocol_of
from routed.netlink.routes import split
from routed.netlink.socket import Netlink
from routed_felix.state import Conflict, Hop, RouteKey, UnderlayRoute
from routed_felix.terms import dump_bodies, within_one_link
from routed_felix.wanted import Wanted

_BEYOND_OURS = {Rta.VIA, Rta.ENCAP}  # RTA_VIA: by a gateway that is not even IPv6
_REJECTING = {c.RTN_BLACKHOLE, c.RTN_UNREACHABLE, c.RTN_PROHIBIT}


class Strangers:
    """What others have in the main table of one family, as of the last `look`."""

    def __init__(self, netlink: Netlink, protocol: int, metric: int, family: Family = Family.IPV4) -> None:
        self._family = family
        self._netlink = netlink
        self._protocol = protocol
        self._metric = metric
        self._entries: dict[int, tuple[RouteEntry, ...]] = {}  # by protocol
        self._at: dict[Nlri, list[UnderlayRoute]] = {}
        self.routes: tuple[UnderlayRoute, ...] = ()
        self.beside: frozenset[Nlri] = frozenset()  # prefixes where one has the very key of ours

    def look(self, names: Mapping[int, str], nexthops: Mapping[int, NexthopEntry]) -> list[bytes]:
        """Read all of the table; `names` are the interfaces, `nexthops` all there are.

        Returns the bodies of our own. Raises NetlinkError.
        """
        bodies, protocol = dump_bodies(self._netlink, family=self._family), self._protocol
        ours = [body for body in bodies if protocol_of(body) == protocol]
        found: dict[int, list[RouteEntry]] = {}
        others = [body for body in bodies if protocol_of(body) != protocol] if len(ours) < len(bodies) else []
        for body in self._underlay(others):
            found.setdefault(protocol_of(body), []).append(RouteEntry.unpack(body))
        self._entries = {each: tuple(entries) for each, entries in found.items()}
        self.links_are(names, nexthops)
        return ours

    def look_again(
        self,
        protocols: Collection[int],
        names: Mapping[int, str],
        nexthops: Mapping[int, NexthopEntry],
    ) -> None:
        """Read again what is not ours, `protocols` included. Raises NetlinkError."""
        every = self._entries.keys() | protocols
        if 0 in every:  # a filter of 0 is none
            self.look(names, nexthops)
            return
        for protocol in every:
            bodies = dump_bodies(self._netlink, family=self._family, protocol=protocol)
            self._entries[protocol] = tuple(RouteEntry.unpack(body) for body in self._underlay(bodies))
        self.links_are(names, nexthops)

    def _underlay(self, bodies: Iterable[bytes]) -> Iterator[bytes]:
        return (body for body in bodies if not within_one_link(split(body)[0], self._family))

    def links_are(self, names: Mapping[int, str], nexthops: Mapping[int, NexthopEntry]) -> None:
        """Tell the interfaces and nexthops of now."""
        routes = tuple(_underlay(entry, names, nexthops) for entries in self._entries.values() for entry in entries)
        if routes != self.routes:  # else the old object, which others compare with at once
            self.routes = routes
            self._at = {}
            for route in routes:
                self._at.setdefault(from_prefix(route.prefix), []).append(route)
            self.beside = frozenset(from_prefix(route.prefix) for route in routes if self._has_our_key(route))

    def _has_our_key(self, route: UnderlayRoute | RouteEntry) -> bool:
        return route.metric == self._metric and not route.tos

    def replaced(self, nlris: Collection[Nlri]) -> None:
        """Routes of ours have taken the place of strangers' with our very keys."""
        gone = {to_prefix(nlri, self._family) for nlri in nlris}
        self._entries = {
            protocol: tuple(e for e in entries if e.destination not in gone or not self._has_our_key(e))
            for protocol, entries in self._entries.items()
        }
        self.routes = tuple(r for r in self.routes if r.prefix not in gone or not self._has_our_key(r))
        self.beside -= frozenset(nlris)
        for nlri in nlris:
            self._at[nlri] = [route for route in self._at[nlri] if not self._has_our_key(route)]

    def uses(self, devices: Collection[str], sources: Collection[AnyAddress]) -> bool:
        """Whether one of the routes goes by one of `devices` or comes from one of `sources`."""
        return any(route.source in sources or any(hop.device in devices for hop in route.hops) for route in self.routes)

    def at(self, nlris: Collection[Nlri]) -> frozenset[Nlri]:
        """Those of `nlris` that strangers have routes to."""
        return frozenset(self._at.keys() & nlris) if self._at else frozenset()

    def in_the_way(self, wanted: Wanted) -> dict[Nlri, Conflict]:
        """Strangers' routes to prefixes of ours, whatever their metric. The lowest metric gets the packets."""
        found: dict[Nlri, Conflict] = {}
        for nlri, routes in self._at.items():
            if wanted.get(nlri) is None:
                continue
            for route in routes:
                if route.tos:
                    continue
                key = RouteKey(route.prefix, self._metric)
                effect = "used instead of" if route.metric < self._metric else "beside"
                found[nlri] = Conflict(
                    key,
                    f"route {key}: protocol {route.protocol} has one with metric {route.metric}, {effect} ours",
                    f"remove it (ip route del {route.prefix} metric {route.metric}) if it is not meant to be there",
                )
        return found


def _underlay(entry: RouteEntry, names: Mapping[int, str], nexthops: Mapping[int, NexthopEntry]) -> UnderlayRoute:
    leads = hops_of(entry.nexthop, nexthops) if entry.nexthop else entry.hops
    hops = tuple(Hop(names.get(hop.index, f"#{hop.index}"), hop.gateway) for hop in leads)
    return UnderlayRoute(
        prefix=entry.destination,
        hops=() if entry.kind in _REJECTING else hops,
        metric=entry.metric,
        tos=entry.tos,
        source=entry.source,
        protocol=entry.protocol,
        whole=_BEYOND_OURS.isdisjoint(entry.others),
    )

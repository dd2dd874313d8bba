"""Target: our routes in the main table. Ours are those with our protocol number; nothing else is ever changed."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence

from routed.model.address import Prefix
from routed.netlink import constants as c
from routed.netlink.constants import Flag, Msg, Rta
from routed.netlink.message import Message
from routed.netlink.objects import HopEntry, RouteEntry, protocol_of, route_filter
from routed.netlink.socket import Netlink, NetlinkError
from routed.reconcile import Delta
from routed_felix.state import Conflict, Hop, Route, RouteKey, RouteKind, UnderlayRoute

_GONE = {errno.ESRCH, errno.ENODEV}
_BEYOND_OURS = {Rta.VIA, Rta.ENCAP}
_REJECTING = {c.RTN_BLACKHOLE, c.RTN_UNREACHABLE, c.RTN_PROHIBIT}


class RoutesTarget:
    """Our routes, by key. Keeps in mind which keys it has programmed: those it puts back when a stranger takes them.

    A key that was not ours yet is created with EXCL, so that the kernel itself refuses when a stranger holds it: that
    is a conflict (`conflicts`, by key, as of the last apply), not a failure. `indices` gives interface indices by
    name; refresh it with `links_are` before `list` and `apply`.
    """

    def __init__(self, netlink: Netlink, protocol: int) -> None:
        self._netlink = netlink
        self._protocol = protocol
        self._index: Mapping[str, int] = {}
        self._name: Mapping[int, str] = {}
        self._ours: set[RouteKey] = set()
        self._copies: dict[RouteKey, list[RouteEntry]] = {}
        self.conflicts: dict[RouteKey, Conflict] = {}
        self.written: set[RouteKey] = set()  # by the last apply

    def links_are(self, index: Mapping[str, int]) -> None:
        """Tell the interfaces of now."""
        self._index = index
        self._name = {number: name for name, number in index.items()}

    def list(self) -> Mapping[RouteKey, Route]:
        """Our routes in the kernel. Raises NetlinkError."""
        found: dict[RouteKey, Route] = {}
        self._copies, self.conflicts, self.written = {}, {}, set()
        for entry in dump_routes(self._netlink, protocol=self._protocol):
            key = RouteKey(entry.destination, entry.metric, entry.tos)
            if key in found:  # `ip route append`: the kernel allows several; the first is the one in use
                self._copies.setdefault(key, []).append(entry)
                found[key] = Route(odd="more than one route")
            else:
                found[key] = self._from_kernel(entry)
        self._ours |= found.keys()
        return found

    def apply(self, delta: Delta[RouteKey, Route]) -> Mapping[RouteKey, str]:
        """Create, replace, then delete, in one batch. Returns the kernel's reason for each key that failed."""
        failures: dict[RouteKey, str] = {}
        keys: list[tuple[RouteKey, Msg]] = []
        messages: list[tuple[Msg, int, bytes]] = []
        for key, route in (*delta.create.items(), *delta.replace.items()):
            body = self._to_kernel(key, route)
            if body is None:
                failures[key] = f"interface {route.hop.device if route.hop else '?'} does not exist"
                continue
            keys.append((key, Msg.NEWROUTE))
            messages.append((Msg.NEWROUTE, Flag.CREATE | (Flag.REPLACE if key in self._ours else Flag.EXCL), body))
        for key in delta.replace:
            for copy in self._copies.get(key, ()):
                keys.append((key, Msg.DELROUTE))
                messages.append((Msg.DELROUTE, 0, copy.pack()))
        for key in delta.delete:
            entry = RouteEntry(
                destination=key.prefix,
                metric=key.metric,
                tos=key.tos,
                protocol=self._protocol,
                scope=c.RT_SCOPE_NOWHERE,
                kind=0,
            )
            for _ in range(1 + len(self._copies.get(key, ()))):
                keys.append((key, Msg.DELROUTE))
                messages.append((Msg.DELROUTE, 0, entry.pack()))
        refused = self._netlink.batch(messages)
        for index, (key, kind) in enumerate(keys):
            number = refused.get(index, 0)
            if kind == Msg.DELROUTE and (not number or number in _GONE):
                if key in delta.delete:
                    self._ours.discard(key)
            elif not number:
                self._ours.add(key)
                self.written.add(key)
            elif number == errno.EEXIST and key not in self._ours:
                self.conflicts[key] = Conflict(
                    key,
                    f"route {key}: a route that is not ours has this very key, left alone",
                    f"remove it (ip route del {key}) or configure another route_metric",
                )
            else:
                failures[key] = os.strerror(number)
        return failures

    def _from_kernel(self, entry: RouteEntry) -> Route:
        odd: list[str] = []
        if entry.others:
            odd.append(f"attributes {entry.others}")
        if len(entry.hops) > 1:
            odd.append("multipath")
        hop: Hop | None = None
        onlink = False
        if entry.hops:
            first = entry.hops[0]
            hop = Hop(self._name.get(first.index, f"#{first.index}"), first.gateway)
            onlink = first.onlink
        kind = RouteKind.UNICAST
        if entry.kind == c.RTN_BLACKHOLE:
            kind = RouteKind.BLACKHOLE
        elif entry.kind != c.RTN_UNICAST:
            odd.append(f"type {entry.kind}")
        if entry.scope != _scope(kind, hop):
            odd.append(f"scope {entry.scope}")
        return Route(kind, hop, entry.source, onlink, ", ".join(odd))

    def _to_kernel(self, key: RouteKey, route: Route) -> bytes | None:
        hops: tuple[HopEntry, ...] = ()
        if route.hop is not None:
            index = self._index.get(route.hop.device)
            if index is None:
                return None
            hops = (HopEntry(index, route.hop.gateway, route.onlink),)
        return RouteEntry(
            destination=key.prefix,
            hops=hops,
            source=route.source,
            metric=key.metric,
            tos=key.tos,
            protocol=self._protocol,
            scope=_scope(route.kind, route.hop),
            kind=c.RTN_BLACKHOLE if route.kind is RouteKind.BLACKHOLE else c.RTN_UNICAST,
        ).pack()


def _scope(kind: RouteKind, hop: Hop | None) -> int:
    """As iproute2 chooses: link for a destination on the link, else universe."""
    on_link = kind is RouteKind.UNICAST and hop is not None and hop.gateway is None
    return c.RT_SCOPE_LINK if on_link else c.RT_SCOPE_UNIVERSE


def dump_routes(netlink: Netlink, *, protocol: int = 0, without: int = 0) -> list[RouteEntry]:
    """The main table: only `protocol`'s routes (the kernel filters), or all but those of `without`."""
    return [
        RouteEntry.unpack(answer.body)
        for answer in _dump(netlink, protocol)
        if not without or protocol_of(answer.body) != without
    ]


def count_routes(netlink: Netlink, protocol: int) -> int:
    """How many routes of `protocol` the main table holds; decodes none."""
    return len(_dump(netlink, protocol))


def _dump(netlink: Netlink, protocol: int) -> list[Message]:
    try:
        answers = netlink.dump(Msg.GETROUTE, route_filter(protocol=protocol))
    except NetlinkError as error:
        if error.errno == errno.ENOENT:  # a network namespace in which the table was never used
            return []
        raise
    return [answer for answer in answers if answer.type == Msg.NEWROUTE]


def underlay_routes(entries: Sequence[RouteEntry], name: Mapping[int, str]) -> tuple[UnderlayRoute, ...]:
    """Strangers' routes in calc's terms."""
    return tuple(
        UnderlayRoute(
            prefix=entry.destination,
            hops=()
            if entry.kind in _REJECTING
            else tuple(Hop(name.get(hop.index, f"#{hop.index}"), hop.gateway) for hop in entry.hops),
            metric=entry.metric,
            tos=entry.tos,
            source=entry.source,
            protocol=entry.protocol,
            whole=_BEYOND_OURS.isdisjoint(entry.others),
        )
        for entry in entries
    )


def overlapping(foreign: Sequence[UnderlayRoute], desired: Mapping[RouteKey, Route]) -> dict[RouteKey, Conflict]:
    """Strangers' routes to prefixes of ours, whatever their metric. The lowest metric gets the packets."""
    ours: dict[Prefix, RouteKey] = {key.prefix: key for key in desired}
    found: dict[RouteKey, Conflict] = {}
    for route in foreign:
        key = ours.get(route.prefix)
        if key is not None and route.tos == key.tos:
            effect = "used instead of" if route.metric < key.metric else "beside"
            found[key] = Conflict(
                key,
                f"route {key}: protocol {route.protocol} has one with metric {route.metric}, {effect} ours",
                f"remove it (ip route del {route.prefix} metric {route.metric}) if it is not meant to be there",
            )
    return found

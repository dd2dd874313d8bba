"""Kernel events, boiled down to what has to be done about them."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from routed.model.address import AnyAddress, Family
from routed.netlink import constants as c
from routed.netlink.constants import Flag, Msg
from routed.netlink.filter import event_filter
from routed.netlink.message import AF_BRIDGE, AF_INET, IFINFO, Message
from routed.netlink.neighbours import NeighbourEntry
from routed.netlink.nexthops import NexthopEntry
from routed.netlink.objects import AddressEntry, LinkEntry
from routed.netlink.routes import RouteReader
from routed.netlink.socket import Netlink
from routed_felix.neighbours import NeighbourEvent
from routed_felix.state import Settings
from routed_felix.terms import RouteEvent
from routed_felix.tunnel import find_link

_BUFFER = 32 << 20  # bytes; holds some 330,000 events while the agent is busy elsewhere
_ADDRESSES, _ROUTES = c.RTMGRP_IPV4_IFADDR | c.RTMGRP_IPV6_IFADDR, c.RTMGRP_IPV4_ROUTE | c.RTMGRP_IPV6_ROUTE
_GROUPS = c.RTMGRP_LINK | _ADDRESSES | _ROUTES | c.RTMGRP_IPV4_NETCONF | c.RTMGRP_NEXTHOP


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened since the last read.

    `interfaces`: links or addresses. `down`: indices of links that were set down or deleted, and `gone`: addresses that
    were removed; with either the kernel flushes routes and does not say which. `strangers`: protocols of others whose
    routes changed. `routes`: what others did to routes of ours, or to keys of ours. `nexthops`: others touched nexthop
    objects, and deleted those of these ids, with their routes. `sysctls`: one that may be ours. `neighbours`: what
    became of neighbours of the VXLAN device, and of its forwarding database, our own writes to that included.
    `overflow`: events were lost, so that everything has to be compared.
    """

    interfaces: bool = False
    down: frozenset[int] = frozenset()
    gone: frozenset[AnyAddress] = frozenset()
    strangers: frozenset[tuple[Family, int]] = frozenset()
    routes: tuple[RouteEvent, ...] = ()
    nexthops: bool = False
    dropped: frozenset[int] = frozenset()
    sysctls: bool = False
    neighbours: tuple[NeighbourEvent, ...] = ()
    overflow: bool = False

    def __bool__(self) -> bool:
        some = self.interfaces or self.strangers or self.routes or self.nexthops or self.sysctls or self.neighbours
        return bool(some or self.overflow)


class Monitor:
    """A subscription to link, address, route and sysctl events of one network namespace.

    `own_port` is `Dataplane.port`: what that socket writes is no news, and the kernel leaves it out. Other echoes of
    ours may pass, which costs one reconcile that finds no difference and writes nothing.

    Neighbours are subscribed to while the VXLAN device is there, and the kernel leaves out those of other devices:
    ordinary ARP traffic costs nothing.
    """

    def __init__(self, settings: Settings, namespace: str | None = None, *, own_port: int = 0) -> None:
        self._settings = settings
        self._netlink = (
            Netlink.open_in(namespace, _GROUPS, receive_buffer=_BUFFER)
            if namespace
            else Netlink(_GROUPS, receive_buffer=_BUFFER)
        )
        self._reader = RouteReader()
        self._own_port = own_port
        self._vxlan = 0  # index of the VXLAN device, 0 while there is none
        with Netlink.open_in(namespace) if namespace else Netlink() as asking:
            found = find_link(asking, settings.vxlan_device)
        self._netlink.only(event_filter(not_from=own_port, neighbours_of=0))
        self._watch(found.index if found is not None else 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Readable when there is something to read."""
        return self._netlink.fileno()

    def close(self) -> None:
        """End the subscription."""
        self._netlink.close()

    def read(self) -> Changes:
        """All that is there now, without waiting."""
        try:
            return self._boiled_down(self._netlink.events())
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return Changes(overflow=True)
            raise

    def _boiled_down(self, events: Iterable[Message]) -> Changes:
        interfaces = sysctls = nexthops = False
        neighbours: list[NeighbourEvent] = []
        dropped: set[int] = set()
        down: set[int] = set()
        gone: set[AnyAddress] = set()
        strangers: set[tuple[Family, int]] = set()
        routes: list[RouteEvent] = []
        for event in events:
            match event.type:
                case Msg.NEWROUTE | Msg.DELROUTE:
                    found = self._route(event)
                    if found is None:
                        continue
                    entry = found.entry
                    if entry.protocol != self._settings.protocol:
                        strangers.add((found.family, entry.protocol))
                    if entry.protocol == self._settings.protocol or entry.metric == self._settings.metric:
                        routes.append(found)
                case Msg.NEWLINK | Msg.DELLINK:
                    interfaces = True
                    _, _, index, flags, _ = IFINFO.unpack_from(event.body)
                    if event.type == Msg.DELLINK or not flags & c.IFF_UP:
                        down.add(index)
                    self._link(event, index)
                case Msg.NEWADDR | Msg.DELADDR:
                    interfaces = True
                    if event.type == Msg.DELADDR:
                        gone.add(AddressEntry.unpack(event.body).address.ip)
                case Msg.NEWNEXTHOP | Msg.DELNEXTHOP:
                    nexthops = True
                    if event.type == Msg.DELNEXTHOP:
                        dropped.add(NexthopEntry.unpack(event.body).id)
                case Msg.NEWNEIGH | Msg.DELNEIGH:
                    if event.body[0] in (AF_INET, AF_BRIDGE):
                        found_here = NeighbourEntry.unpack(event.body)
                        neighbours.append(NeighbourEvent(found_here, event.type == Msg.NEWNEIGH))
                case Msg.NEWNETCONF:
                    sysctls = True
                case _:
                    pass
        return Changes(
            interfaces=interfaces,
            down=frozenset(down),
            gone=frozenset(gone),
            strangers=frozenset(strangers),
            routes=tuple(routes),
            nexthops=nexthops,
            dropped=frozenset(dropped),
            sysctls=sysctls,
            neighbours=tuple(neighbours),
        )

    def _link(self, event: Message, index: int) -> None:
        """Follow the VXLAN device as it comes and goes."""
        there = event.type == Msg.NEWLINK and LinkEntry.unpack(event.body).name == self._settings.vxlan_device
        if there:
            self._watch(index)
        elif index == self._vxlan:
            self._watch(0)

    def _watch(self, index: int) -> None:
        if index == self._vxlan:
            return
        self._netlink.only(event_filter(not_from=self._own_port, neighbours_of=index))
        if not self._vxlan:
            self._netlink.join(c.RTNLGRP_NEIGH)
        elif not index:
            self._netlink.leave(c.RTNLGRP_NEIGH)
        self._vxlan = index

    def _route(self, event: Message) -> RouteEvent | None:
        """A route event of the main table."""
        nlri, entry = self._reader.read(event.body)
        if entry.table != c.RT_TABLE_MAIN:
            return None
        added = event.type == Msg.NEWROUTE
        return RouteEvent(nlri, entry, added, added and bool(event.flags & Flag.REPLACE))

"""Kernel events, boiled down to what has to be done about them."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from routed.model.address import AnyAddress, Family
from routed.netlink import constants as c
from routed.netlink.constants import Flag, Msg
from routed.netlink.filter import event_filter
from routed.netlink.message import AF_BRIDGE, AF_INET, Message, attrs
from routed.netlink.neighbours import NeighbourEntry
from routed.netlink.nexthops import NexthopEntry
from routed.netlink.objects import AddressEntry, LinkEntry
from routed.netlink.routes import RouteReader
from routed.netlink.socket import Netlink
from routed_felix.neighbours import NeighbourEvent
from routed_felix.state import Settings
from routed_felix.terms import RouteEvent, within_one_link
from routed_felix.tunnel import find_link

_BUFFER = 32 << 20  # bytes; holds some 330,000 events while the agent is busy elsewhere
_ADDRESSES, _ROUTES = c.RTMGRP_IPV4_IFADDR | c.RTMGRP_IPV6_IFADDR, c.RTMGRP_IPV4_ROUTE | c.RTMGRP_IPV6_ROUTE
_GROUPS = c.RTMGRP_LINK | _ADDRESSES | _ROUTES | c.RTMGRP_IPV4_NETCONF | c.RTMGRP_NEXTHOP
_NETCONF_SIZE = 4  # struct netconfmsg, padded
_NETCONF_INDEX = 1  # linux/netconf.h: NETCONFA_IFINDEX, below 0 for `all` and `default`
_SIGNED = struct.Struct("=i")
ALL_INTERFACES = -1
"""In `Changes.sysctls`: a switch of all interfaces, or of those to come."""


def of_one_link(address: AnyAddress) -> bool:
    """Whether it is an address as every link has one, a pod's as well: it says nothing of where a next hop is."""
    return address.version == 6 and address.is_link_local


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened since the last read.

    `interfaces`: links or addresses. `links` has what became of each by its index, None where it is gone; `addressed`
    the indices of those whose addresses changed; where both are empty, all have to be looked at. `down`: indices of
    links that were set down or deleted, and `gone`: addresses that were removed; with either the kernel flushes routes
    and does not say which. `strangers`: protocols of others whose routes changed. `routes`: what others did to routes
    of ours, or to keys of ours. `nexthops`: others touched nexthop objects, and deleted those of these ids, with their
    routes. `sysctls`: one that may be ours, by the index of its interface, or
    `ALL_INTERFACES`.
    `neighbours`: what became of neighbours of the VXLAN device, and of its forwarding database, our own writes to that
    included. `overflow`: events were lost, so that everything has to be compared.
    """

    interfaces: bool = False
    links: Mapping[int, LinkEntry | None] = field(default_factory=dict[int, LinkEntry | None])
    addressed: frozenset[int] = frozenset()
    down: frozenset[int] = frozenset()
    gone: frozenset[AnyAddress] = frozenset()
    strangers: frozenset[tuple[Family, int]] = frozenset()
    routes: tuple[RouteEvent, ...] = ()
    nexthops: bool = False
    dropped: frozenset[int] = frozenset()
    sysctls: frozenset[int] = frozenset()
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
        nexthops = False
        links: dict[int, LinkEntry | None] = {}
        addressed: set[int] = set()
        sysctls: set[int] = set()
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
                    if entry.protocol != self._settings.protocol and not within_one_link(found.nlri, found.family):
                        strangers.add((found.family, entry.protocol))
                    if entry.protocol == self._settings.protocol or entry.metric == self._settings.metric:
                        routes.append(found)
                case Msg.NEWLINK | Msg.DELLINK:
                    if event.body[0] == AF_BRIDGE:  # a bridge's port, whose link is as it was
                        continue
                    link = LinkEntry.unpack(event.body)
                    links[link.index] = link if event.type == Msg.NEWLINK else None
                    if event.type == Msg.DELLINK or not link.administratively_up:
                        down.add(link.index)
                    self._follow(link, there=event.type == Msg.NEWLINK)
                case Msg.NEWADDR | Msg.DELADDR:
                    address = AddressEntry.unpack(event.body)
                    if of_one_link(address.address.ip):
                        continue
                    addressed.add(address.index)
                    if event.type == Msg.DELADDR:
                        gone.add(address.address.ip)
                case Msg.NEWNEXTHOP | Msg.DELNEXTHOP:
                    nexthops = True
                    if event.type == Msg.DELNEXTHOP:
                        dropped.add(NexthopEntry.unpack(event.body).id)
                case Msg.NEWNEIGH | Msg.DELNEIGH:
                    if event.body[0] in (AF_INET, AF_BRIDGE):
                        found_here = NeighbourEntry.unpack(event.body)
                        neighbours.append(NeighbourEvent(found_here, event.type == Msg.NEWNEIGH))
                case Msg.NEWNETCONF:
                    told = attrs(event.body, _NETCONF_SIZE).get(_NETCONF_INDEX)
                    sysctls.add(max(_SIGNED.unpack(told)[0], ALL_INTERFACES) if told else ALL_INTERFACES)
                case _:
                    pass
        return Changes(
            interfaces=bool(links or addressed),
            links=links,
            addressed=frozenset(addressed),
            down=frozenset(down),
            gone=frozenset(gone),
            strangers=frozenset(strangers),
            routes=tuple(routes),
            nexthops=nexthops,
            dropped=frozenset(dropped),
            sysctls=frozenset(sysctls),
            neighbours=tuple(neighbours),
        )

    def _follow(self, link: LinkEntry, *, there: bool) -> None:
        """Follow the VXLAN device as it comes and goes."""
        if there and link.name == self._settings.vxlan_device:
            self._watch(link.index)
        elif link.index == self._vxlan:
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

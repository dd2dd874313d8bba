"""Kernel events, boiled down to what the agent does about them."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Self

from routed.netlink import constants as c
from routed.netlink.constants import Msg
from routed.netlink.message import Message
from routed.netlink.objects import RouteEntry
from routed.netlink.socket import Netlink
from routed_felix.state import Settings

_BUFFER = 32 << 20  # bytes; holds some 330,000 events while the agent is busy elsewhere
_GROUPS = c.RTMGRP_LINK | c.RTMGRP_IPV4_IFADDR | c.RTMGRP_IPV4_ROUTE | c.RTMGRP_IPV4_NETCONF
_INTERFACE = {Msg.NEWLINK, Msg.DELLINK, Msg.NEWADDR, Msg.DELADDR}


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened since the last read.

    `interfaces_changed`: links, addresses or strangers' routes, so `Dataplane.read` and calc again. `ours_touched`:
    something of ours was changed by another hand, so apply again. `overflow`: events were lost, so do both.
    """

    interfaces_changed: bool = False
    ours_touched: bool = False
    overflow: bool = False

    def __bool__(self) -> bool:
        return self.interfaces_changed or self.ours_touched or self.overflow


class Monitor:
    """A subscription to link, address, route and sysctl events of one network namespace.

    `own_port` is `Dataplane.port`: what that socket writes is no news. Other echoes of our doing may pass, which costs
    one reconcile that finds no difference and writes nothing.
    """

    def __init__(self, settings: Settings, namespace: str | None = None, *, own_port: int = 0) -> None:
        self._settings = settings
        self._own_port = own_port
        self._netlink = (
            Netlink.open_in(namespace, _GROUPS, receive_buffer=_BUFFER)
            if namespace
            else Netlink(_GROUPS, receive_buffer=_BUFFER)
        )

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
            events = self._netlink.events()
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return Changes(interfaces_changed=True, ours_touched=True, overflow=True)
            raise
        interfaces = ours = False
        for event in events:
            if self._own_port and event.pid == self._own_port:
                continue
            if event.type in _INTERFACE:
                interfaces = True
            elif event.type == Msg.NEWNETCONF:
                ours = True
            elif event.type in (Msg.NEWROUTE, Msg.DELROUTE):
                mine, foreign = self._route(event)
                ours |= mine
                interfaces |= foreign
        return Changes(interfaces, ours)

    def _route(self, event: Message) -> tuple[bool, bool]:
        """Whether a route event touches ours (by protocol, or by metric: a takeover), and strangers' routes."""
        route = RouteEntry.unpack(event.body)
        if route.table != c.RT_TABLE_MAIN:
            return False, False
        if route.protocol == self._settings.protocol:
            return True, False
        return route.metric == self._settings.metric, True

"""The kernel edge as a whole: read what calc needs, make what calc wants.

What refers comes after what it refers to: the tunnel device, sysctls (one of them is the device's), addresses, routes;
then away goes what nothing refers to any more: routes, addresses, the device. A changed tunnel address is therefore
added, the routes move to it, and only then the old one goes: the kernel deletes routes whose source vanishes.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Generic, Self, TypeVar

from routed.model.address import Address, HostAddress
from routed.model.interface import Interface
from routed.netlink.objects import LinkEntry
from routed.netlink.socket import Netlink, NetlinkError
from routed.reconcile import Delta, Target, diff
from routed_felix.routes import RoutesTarget, count_routes, dump_routes, overlapping, underlay_routes
from routed_felix.state import Desired, Key, Report, Route, RouteKey, Settings, UnderlayRoute
from routed_felix.sysctls import Sysctls
from routed_felix.tunnel import TunnelAddresses, TunnelLink, driver_available, dump_addresses, dump_links

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Kernel:
    """What `read` found: interfaces by name, strangers' routes of the main table, whether a tunnel can be had."""

    interfaces: Mapping[str, Interface]
    underlay: tuple[UnderlayRoute, ...]
    tunnel: bool


class Dataplane:
    """The route programmer's hands, in one network namespace (None: where the thread is). Not for several threads.

    It needs no memory: whatever carries our marks is adopted when right and swept when unwanted. What it does keep is
    which routes it has programmed, to put back those that a stranger replaces.
    """

    def __init__(self, settings: Settings, namespace: str | None = None) -> None:
        self._settings = settings
        self._namespace = namespace
        self._netlink = Netlink.open_in(namespace) if namespace else Netlink()
        self._routes = RoutesTarget(self._netlink, settings.protocol)
        self._foreign: tuple[UnderlayRoute, ...] | None = None
        self._driver_failed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the socket; kernel state stays."""
        self._netlink.close()

    @property
    def port(self) -> int:
        """The netlink port that our writes come from; `Monitor` leaves out their echoes by it."""
        return self._netlink.port

    def read(self) -> Kernel:
        """The node as it is. Raises NetlinkError."""
        links = dump_links(self._netlink)
        names = {link.index: link.name for link in links}
        entries = dump_routes(self._netlink, without=self._settings.protocol)
        self._foreign = underlay_routes(entries, names)
        available = driver_available(self._netlink, self._settings.tunnel_device)
        present = self._settings.tunnel_device in names.values()
        return Kernel(
            interfaces=self._interfaces(links),
            underlay=self._foreign,
            # a driver that is on disk but does not load is missing, until the device appears after all
            tunnel=available and (present or not self._driver_failed),
        )

    def _interfaces(self, links: list[LinkEntry]) -> Mapping[str, Interface]:
        entries = dump_addresses(self._netlink)
        return {
            link.name: Interface(
                name=link.name,
                index=link.index,
                mtu=link.mtu,
                up=link.carrier,
                kind=link.kind,
                addresses=tuple(
                    # a point-to-point address lies in no subnet of the interface's
                    e.address if e.peer is None else HostAddress((e.address.ip, 32))
                    for e in entries
                    if e.index == link.index
                ),
            )
            for link in links
        }

    def holds_routes(self) -> bool:
        """Whether routes of ours are in the kernel: then this is a restart, else a first start. Raises NetlinkError."""
        return count_routes(self._netlink, self._settings.protocol) > 0

    def apply(self, desired: Desired) -> Report:
        """Bring the kernel to `desired`; what is right already is not touched. Never raises for a single object.

        Raises NetlinkError only when the kernel cannot even be asked.
        """
        device = self._settings.tunnel_device
        link = _Stage(TunnelLink(self._netlink, device, desired.links), desired.links)
        link.add()
        if device in desired.links:
            self._driver_failed = "driver" in link.failures.get(device, "")
        sysctls = _Stage(Sysctls(desired.sysctls, self._namespace), desired.sysctls)
        sysctls.add()
        on_tunnel = TunnelAddresses(self._netlink, device, self._settings.protocol, desired.addresses)
        addresses = _Stage(on_tunnel, desired.addresses)
        addresses.add()
        self._routes.links_are({entry.name: entry.index for entry in dump_links(self._netlink)})
        absent = {address.ip for address in addresses.failures}
        routes = _Stage(self._routes, {key: _without(absent, route) for key, route in desired.routes.items()})
        routes.both()
        addresses.remove()
        link.remove()

        in_the_way = overlapping(self._strangers(), desired.routes) | self._routes.conflicts
        on_device = on_tunnel.foreign() if desired.links else {}
        failures: dict[Key, str] = dict(
            chain[tuple[Key, str]](
                link.failures.items(), sysctls.failures.items(), addresses.failures.items(), routes.failures.items()
            )
        )
        missing = routes.failures.keys() | self._routes.conflicts.keys()
        return Report(
            programmed=sum(1 for key in desired.routes if key not in missing),
            changed=link.changed + sysctls.changed + addresses.changed + routes.changed - len(self._routes.conflicts),
            failures=failures,
            conflicts=(*in_the_way.values(), *on_device.values()),
        )

    def _strangers(self) -> tuple[UnderlayRoute, ...]:
        """Those of the last `read`, which the caller repeats when they change, less those that we just replaced."""
        if self._foreign is None:
            self.read()
        replaced = self._routes.written
        foreign = self._foreign or ()
        self._foreign = tuple(r for r in foreign if RouteKey(r.prefix, r.metric, r.tos) not in replaced)
        return self._foreign


def _without(absent: set[Address], route: Route) -> Route:
    """A route whose source could not be made goes without: the kernel would refuse it, and direct needs no tunnel."""
    return replace(route, source=None) if route.source is not None and route.source in absent else route


class _Stage(Generic[K, V]):
    """One target's part of an apply, in its two halves."""

    def __init__(self, target: Target[K, V], desired: Mapping[K, V]) -> None:
        self._target = target
        self._delta = diff(target.list(), desired)
        self.failures: dict[K, str] = {}
        self.changed = 0

    def add(self) -> None:
        """Creations and replacements."""
        self._run(self._delta.additions())

    def remove(self) -> None:
        """Deletions."""
        self._run(self._delta.deletions())

    def both(self) -> None:
        """All in one batch."""
        self._run(self._delta)

    def _run(self, delta: Delta[K, V]) -> None:
        if not delta:
            return
        try:
            failed = self._target.apply(delta)
        except NetlinkError as error:  # the kernel did not answer: all of it wants a retry, and the others go on
            reason = os.strerror(error.errno or errno.EIO)
            failed = dict.fromkeys((*delta.create, *delta.replace, *delta.delete), reason)
        self.failures.update(failed)
        self.changed += len(delta) - len(failed)

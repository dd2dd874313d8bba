"""The kernel edge as a whole: read what calc needs, make what calc wants.

What refers comes after what it refers to: the tunnel device, sysctls (one of them is the device's), addresses, nexthop
groups, routes; then away goes what nothing refers to any more: routes, groups, addresses, the device. A changed tunnel
address is therefore added, the routes move to it, and only then the old one goes: the kernel deletes routes whose
source vanishes.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_interface
from typing import Any, Generic, Self, TypeVar

from routed.model.address import Family, HostAddress
from routed.model.interface import Interface
from routed.netlink.objects import AddressEntry
from routed.netlink.socket import Netlink, NetlinkError
from routed.reconcile import Delta, Target, diff
from routed_felix.main_table import MainTable
from routed_felix.monitor import Changes
from routed_felix.state import (
    COMPATIBLE,
    NO_CHANGE,
    Change,
    Conflict,
    Desired,
    Key,
    Link,
    NodeState,
    Report,
    Settings,
    UnderlayRoute,
)
from routed_felix.sysctls import Sysctls
from routed_felix.terms import dump_bodies
from routed_felix.tunnel import TunnelAddresses, TunnelLink, driver_available, dump_addresses, dump_links
from routed_felix.wanted import NOTHING, Table, Wanted

_WAITING = 256  # reads of the monitor that nobody acted on: with more, everything is looked at instead

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Kernel:
    """What was found: interfaces by name, strangers' routes of the main tables, whether a tunnel can be had.

    Where nothing changed between two of them, they hold the same objects.
    """

    interfaces: Mapping[str, Interface]
    underlay: tuple[UnderlayRoute, ...]
    tunnel: bool
    underlay6: tuple[UnderlayRoute, ...] = ()


class Dataplane:
    """The route programmer's hands, in one network namespace (None: where the thread is). Not for several threads.

    Whatever carries our marks is adopted when right and swept when unwanted, so it needs no memory of an earlier life.
    In this one it keeps a picture of the kernel, which `take` tells of events, so that `change` costs what changed.
    """

    def __init__(self, settings: Settings, namespace: str | None = None) -> None:
        self._settings = settings
        self._namespace = namespace
        self._netlink = Netlink.open_in(namespace) if namespace else Netlink()
        self._tables = {family: MainTable(self._netlink, settings, family) for family in Family}
        self._kernel: Kernel | None = None
        self._names: dict[int, str] = {}
        self._events: list[Changes] = []
        self._node: NodeState | None = None  # as last brought about
        self._driver: bool | None = None  # whether it is there, as long as links are what they were
        self._driver_failed = False
        self._surroundings_changed = False  # so what failed may work now
        self._node_failures: dict[Key, str] = {}
        self._on_device: tuple[Conflict, ...] = ()

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

    def holds_routes(self) -> bool:
        """Whether routes of ours are in the kernel: then this is a restart, else a first start. Raises NetlinkError."""
        protocol = self._settings.protocol
        return any(dump_bodies(self._netlink, family=family, protocol=protocol) for family in Family)

    # ---- reading

    def read(self) -> Kernel:
        """The node as it is, all of it looked at anew. Raises NetlinkError."""
        self._events.clear()
        interfaces, tunnel = self._read_interfaces()
        for table in self._tables.values():
            table.read(self._names)
        self._node = None
        return self._keep(interfaces, tunnel)

    def take(self, changes: Changes) -> None:
        """Remember what happened in the kernel, for the next `reread`."""
        if changes:
            self._events.append(changes)
        if len(self._events) > _WAITING:
            self._events = [Changes(overflow=True)]

    def reread(self) -> Kernel:
        """The node as it is, looked at where events since the last time say so. Raises NetlinkError."""
        kernel = self._kernel
        if kernel is None or any(changes.overflow for changes in self._events):
            return self.read()
        events = tuple(self._events)
        interfaces, tunnel = kernel.interfaces, kernel.tunnel
        before = self._names
        if any(changes.interfaces or changes.strangers or changes.nexthops for changes in events):
            self._surroundings_changed = True
        if any(changes.interfaces for changes in events):
            interfaces, tunnel = self._read_interfaces()
            self._node = None
        for table in self._tables.values():
            table.hear(events, self._names, before)
        for changes in events:
            if changes.sysctls:
                self._node = None
        self._events.clear()
        return self._keep(interfaces, tunnel)

    def _read_interfaces(self) -> tuple[Mapping[str, Interface], bool]:
        links = dump_links(self._netlink)
        names = {link.index: link.name for link in links}
        if names != self._names:
            self._driver = None  # a module that is loaded brings its device
        self._names = names
        self._indices_are({link.name: link.index for link in links})
        device = self._settings.tunnel_device
        if self._driver is None:  # not with every look: where no list of modules tells, the kernel has to be asked
            self._driver = driver_available(self._netlink, device)
        available = self._driver
        # a driver that is on disk but does not load is missing, until the device appears after all
        tunnel = available and (device in self._names.values() or not self._driver_failed)
        by_index: dict[int, list[AddressEntry]] = {}
        for entry in (each for family in Family for each in dump_addresses(self._netlink, family)):
            # every link has a link-local address, a pod's as well, and it says nothing of where a next hop is
            if entry.address.version == 4 or not entry.address.is_link_local:
                by_index.setdefault(entry.index, []).append(entry)
        interfaces = {
            link.name: Interface(
                name=link.name,
                index=link.index,
                mtu=link.mtu,
                up=link.carrier,
                kind=link.kind,
                addresses=tuple(
                    # a point-to-point address lies in no subnet of the interface's
                    e.address if e.peer is None else ip_interface(e.address.ip)
                    for e in by_index.get(link.index, ())
                ),
            )
            for link in links
        }
        return interfaces, tunnel

    def _indices_are(self, index: Mapping[str, int]) -> None:
        for table in self._tables.values():
            table.links_are(index)

    def _keep(self, interfaces: Mapping[str, Interface], tunnel: bool) -> Kernel:
        found = Kernel(interfaces, self._tables[Family.IPV4].underlay, tunnel, self._tables[Family.IPV6].underlay)
        if self._kernel is not None and self._kernel.interfaces == interfaces:
            found = replace(found, interfaces=self._kernel.interfaces)
        self._kernel = found
        return found

    # ---- writing

    def apply(self, desired: Desired) -> Report:
        """Bring the kernel to `desired`, from scratch: all of ours is read and compared, what is right is not touched.

        Never raises for a single object; NetlinkError only when the kernel cannot even be asked.
        """
        if self._kernel is None:
            self.read()
        else:
            for table in self._tables.values():
                table.forget()
        self._node = None
        four, six = (Table.of(desired.routes, family) for family in Family)
        return self.sync(desired, four, six)

    def sync(self, node: NodeState, wanted: Wanted, wanted6: Wanted = NOTHING) -> Report:
        """Compare everything with the picture, after `read`, and bring it to `node` and what is wanted.

        `wanted` are the routes of IPv4, `wanted6` those of IPv6. Raises as `apply`.
        """
        return self._bring(node, {Family.IPV4: (None, wanted), Family.IPV6: (None, wanted6)}, retry=True)

    def change(
        self,
        change: Change,
        wanted: Wanted,
        change6: Change = NO_CHANGE,
        wanted6: Wanted = NOTHING,
        *,
        retry: bool = False,
    ) -> Report:
        """Carry out the changes, which lead to what is wanted, and put back what others did. Raises as `apply`.

        What failed before is tried again if it is in a change, or with `retry`.
        """
        if self._kernel is None:
            self.read()
        retry = retry or self._surroundings_changed
        steps = {Family.IPV4: (change, wanted), Family.IPV6: (change6, wanted6)}
        return self._bring(change.node, steps, retry=retry)

    @property
    def pending(self) -> bool:
        """Whether a `change` has something to do even if nothing else is wanted than before."""
        return self._node is None or any(table.pending for table in self._tables.values())

    def _bring(self, node: NodeState, steps: Mapping[Family, tuple[Change | None, Wanted]], *, retry: bool) -> Report:
        changed = 0
        self._surroundings_changed = False
        ending: tuple[_Stage[HostAddress, str], _Stage[str, Link]] | None = None
        if node != self._node or (retry and self._node_failures):
            ending, changed = self._prepare(node)
        for family, (change, wanted) in steps.items():
            changed += self._tables[family].write(change, wanted, retry=retry)
        if ending is not None:
            addresses, link = ending
            addresses.remove()
            link.remove()
            changed += addresses.removed + link.removed
            self._node_failures.update(addresses.failures.items())
            self._node_failures.update(link.failures.items())
            self._node = node  # what of it failed is tried again with `retry`
        return self._report(changed, {family: wanted for family, (_, wanted) in steps.items()})

    def _prepare(self, node: NodeState) -> tuple[tuple[_Stage[HostAddress, str], _Stage[str, Link]], int]:
        """Make what routes need; returns the two that may have to be cleaned up when the routes are done."""
        device = self._settings.tunnel_device
        link = _Stage(TunnelLink(self._netlink, device, node.links), node.links)
        link.add()
        failed = "driver" in link.failures.get(device, "") if device in node.links else self._driver_failed
        by_groups = self._tables[Family.IPV4].by_groups
        there = {key: value for key, value in node.sysctls.items() if key != COMPATIBLE or by_groups}
        sysctls = _Stage(Sysctls(there, self._namespace), there)
        sysctls.add()
        on_tunnel = TunnelAddresses(self._netlink, device, self._settings.protocol, node.addresses)
        addresses = _Stage(on_tunnel, node.addresses)
        addresses.add()
        if link.changed or addresses.changed or failed != self._driver_failed:  # of our own doings nobody tells us
            self._events.append(Changes(interfaces=True))
            self._driver_failed = failed
            self._indices_are({entry.name: entry.index for entry in dump_links(self._netlink)})
        self._tables[Family.IPV4].sources_absent({address.ip for address in addresses.failures})
        self._on_device = tuple(on_tunnel.foreign().values()) if node.links else ()
        failures: tuple[Mapping[Any, str], ...] = link.failures, sysctls.failures, addresses.failures
        self._node_failures = {key: reason for each in failures for key, reason in each.items()}
        return (addresses, link), link.changed + sysctls.changed + addresses.changed

    def _report(self, changed: int, wanted: Mapping[Family, Wanted]) -> Report:
        failures: dict[Key, str] = dict(self._node_failures)
        conflicts: list[Conflict] = []
        for table in self._tables.values():
            failures.update(table.failures())
            conflicts += table.conflicts()
        total = sum(map(len, wanted.values()))
        return Report(
            desired=total,
            programmed=total - sum(self._tables[family].missing(each) for family, each in wanted.items()),
            changed=changed,
            repaired=sum(table.take_repaired() for table in self._tables.values()),
            failures=failures,
            conflicts=(*conflicts, *self._on_device),
            warnings=tuple(warning for table in self._tables.values() for warning in table.warnings()),
        )


class _Stage(Generic[K, V]):
    """One target's part of an apply, in its two halves."""

    def __init__(self, target: Target[K, V], desired: Mapping[K, V]) -> None:
        self._target = target
        self._delta = diff(target.list(), desired)
        self.failures: dict[K, str] = {}
        self.changed = 0
        self.removed = 0

    def add(self) -> None:
        """Creations and replacements."""
        self._run(self._delta.additions())

    def remove(self) -> None:
        """Deletions."""
        before = self.changed
        self._run(self._delta.deletions())
        self.removed = self.changed - before

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

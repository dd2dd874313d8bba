"""The kernel edge as a whole: read what calc needs, make what calc wants.

What refers comes after what it refers to: tunnel devices, sysctls (some of them are the devices'), addresses,
neighbours and the forwarding database, nexthop groups, routes; then away goes what nothing refers to any more: routes,
groups, the database, neighbours, addresses, devices. A changed tunnel address is therefore added, the routes move to
it, and only then the old one goes: the kernel deletes routes whose source vanishes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from routed.model.address import Family
from routed.model.interface import Interface
from routed.netlink.objects import LinkEntry
from routed.netlink.socket import Netlink
from routed_felix.interfaces import POD_KIND, Interfaces
from routed_felix.main_table import MainTable
from routed_felix.monitor import ALL_INTERFACES, Changes
from routed_felix.neighbours import ForwardingDatabase, Neighbours
from routed_felix.pod_names import PodNames
from routed_felix.stage import Stage, carried, nowhere, only
from routed_felix.state import (
    COMPATIBLE,
    NO_CHANGE,
    Change,
    Conflict,
    Desired,
    Key,
    NodeState,
    Report,
    Settings,
    UnderlayRoute,
)
from routed_felix.sysctls import Sysctls, device_of
from routed_felix.terms import dump_bodies
from routed_felix.tunnel import TunnelAddresses, TunnelLink, driver_available, dump_links
from routed_felix.vxlan import VxlanLink, is_marked, is_ours, vxlan_available
from routed_felix.wanted import NOTHING, Table, Wanted

_WAITING = 256  # reads of the monitor that nobody acted on: with more, everything is looked at instead


@dataclass(frozen=True, slots=True)
class Kernel:
    """What was found: interfaces by name, strangers' routes of the main tables, whether IPIP and VXLAN can be had.

    Where nothing changed between two of them, they hold the same objects.
    """

    interfaces: Mapping[str, Interface]
    underlay: tuple[UnderlayRoute, ...]
    tunnel: bool
    underlay6: tuple[UnderlayRoute, ...] = ()
    vxlan: bool = False


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
        self._devices: frozenset[str] = frozenset()
        self._interfaces = Interfaces(self._netlink)
        self._events: list[Changes] = []
        self._neighbours = Neighbours(self._netlink, settings.vxlan_device)
        self._fdb = ForwardingDatabase(self._netlink, settings.vxlan_device)
        self._node: NodeState | None = None  # as last brought about
        self._driver: bool | None = None  # whether it is there, as long as links but pods' are what they were
        self._hardware: Mapping[int, str] = {}  # those, by index
        self._vxlan_driver = False  # likewise; what was there once is not looked for again
        self._driver_failed: frozenset[str] = frozenset()  # devices whose driver did not load
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
        self._forget_neighbours()
        self._interfaces.read()
        self._links_are(self._interfaces.links.values())
        self._find_devices()
        for table in self._tables.values():
            table.read(self._interfaces.names)
        self._node = None
        return self._keep()

    def take(self, changes: Changes) -> None:
        """Remember what happened in the kernel, for the next `reread`."""
        if changes:
            self._events.append(changes)
        if len(self._events) > _WAITING:
            self._events = [Changes(overflow=True)]

    def reread(self) -> Kernel:
        """The node as it is, looked at where events since the last time say so. Raises NetlinkError."""
        if self._kernel is None or any(changes.overflow for changes in self._events):
            return self.read()
        events = tuple(self._events)
        before = self._interfaces.names
        if any(changes.interfaces or changes.strangers or changes.nexthops for changes in events):
            self._surroundings_changed = True
        touched = self._interfaces.hear(events)
        if touched:
            self._links_are(self._interfaces.links.values())
            self._find_devices()
        names = self._interfaces.names
        for table in self._tables.values():
            table.hear(events, names, before)
        down = {index for changes in events for index in changes.down}
        if self._settings.vxlan_device in {each.get(index) for each in (before, names) for index in down}:
            self._forget_neighbours()
        for told in (each for changes in events for each in changes.neighbours):
            if self._neighbours.heard(told) or self._fdb.heard(told):
                self._node = None
        touched = touched.union(*(changes.sysctls for changes in events))
        called = {each[index] for each in (before, names) for index in touched if index in each}
        if ALL_INTERFACES in touched or not called.isdisjoint(self._own_devices()):
            self._node = None
        self._events.clear()
        return self._keep()

    def _own_devices(self) -> set[str]:
        """The interfaces that the node's own part is about: pods' links come and go without it."""
        node = self._node or NodeState()
        return {*self._settings.tunnel_devices, *map(device_of, node.sysctls), *node.names.values()}

    def _forget_neighbours(self) -> None:
        self._neighbours.forget()
        self._fdb.forget()

    def _links_are(self, links: Collection[LinkEntry]) -> None:
        index = {link.name: link.index for link in links}
        for table in self._tables.values():
            table.links_are(index)
        vxlan = next((link for link in links if link.name == self._settings.vxlan_device and is_marked(link)), None)
        for target in (self._neighbours, self._fdb):
            target.link_is(vxlan.index if vxlan is not None else 0)

    def _find_devices(self) -> None:
        """Find out which tunnel devices are there or can be made."""
        links = self._interfaces.links.values()
        hardware = {link.index: link.name for link in links if link.kind != POD_KIND}
        if self._driver is None or hardware != self._hardware:  # a module that is loaded brings its device
            # not with every look: where no list of modules tells, the kernel has to be asked
            self._driver = driver_available(self._netlink, self._settings.tunnel_device)
            self._vxlan_driver = self._vxlan_driver or vxlan_available(self._netlink)
            self._hardware = hardware
        vxlan = self._settings.vxlan_device
        possible = {self._settings.tunnel_device} if self._driver else set[str]()
        if self._vxlan_driver and all(is_ours(link) for link in links if link.name == vxlan):
            possible.add(vxlan)
        # a driver that is on disk but does not load is missing, until the device appears after all
        there = self._interfaces.by_name
        self._devices = frozenset(each for each in possible if each in there or each not in self._driver_failed)

    def _keep(self) -> Kernel:
        settings, devices = self._settings, self._devices
        tunnel, vxlan = settings.tunnel_device in devices, settings.vxlan_device in devices
        four, six = (self._tables[family].underlay for family in Family)
        self._kernel = Kernel(self._interfaces.by_name, four, tunnel, six, vxlan)
        return self._kernel

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
        ending: Sequence[Stage[Any, Any]] = ()
        if node != self._node or (retry and self._node_failures):
            if self._node is None or self._node_failures or replace(self._node, sysctls=node.sysctls) != node:
                ending, changed = self._prepare(node)
            else:  # what leads elsewhere switches the rp_filter of its interface, and nothing waits for more than that
                changed = self._switch(node, self._node)
        for family, (change, wanted) in steps.items():
            changed += self._tables[family].write(change, wanted, retry=retry)
        for stage in ending:
            stage.remove()
            changed += stage.removed
            self._node_failures.update(stage.failures)
        self._node = node  # what of it failed is tried again with `retry`
        return self._report(changed, {family: wanted for family, (_, wanted) in steps.items()})

    def _prepare(self, node: NodeState) -> tuple[Sequence[Stage[Any, Any]], int]:
        """Make what routes need; returns what may have to be cleaned up when the routes are done, in that order."""
        device, vxlan = self._settings.tunnel_device, self._settings.vxlan_device
        before, ipv4 = self._neighbours.index, self._tables[Family.IPV4]
        links = {device: Stage(TunnelLink(self._netlink, device, node.links), only(node.links, device))}
        if vxlan in node.links or before:
            links[vxlan] = Stage(VxlanLink(self._netlink, vxlan, node.links), only(node.links, vxlan))
        for link in links.values():
            link.add()
        names = Stage(PodNames(self._netlink, node.names), node.names)
        names.add()
        if names.changed or any(link.changed for link in links.values()):
            self._links_are(dump_links(self._netlink))
        if before not in (0, self._neighbours.index):  # made anew: what went by the old one has gone with it
            ipv4.lose_device(vxlan)
        sysctls = self._write_sysctls(node.sysctls)
        protocol = self._settings.protocol
        carriers = {
            name: TunnelAddresses(self._netlink, name, protocol, carried(node, name))
            for name in links
            if name == device or self._neighbours.index  # a stranger's device of that name is left alone
        }
        addresses = {name: Stage(target, carried(node, name)) for name, target in carriers.items()}
        self._neighbours.want(node.neighbours)
        self._fdb.want(node.fdb)
        neighbours, fdb = Stage(self._neighbours, node.neighbours), Stage(self._fdb, node.fdb)
        afterwards: list[Stage[Any, Any]] = [*addresses.values(), neighbours, fdb]
        for stage in afterwards:
            stage.add()
        # a driver is missing until its device is there; of one that is not wanted now the last word stands
        failed = frozenset(
            name
            for name in (device, vxlan)
            if ("driver" in links[name].failures.get(name, "") if name in node.links else name in self._driver_failed)
        )
        # of our own doings nobody tells us
        named = bool(names.changed)
        stood: list[Stage[Any, Any]] = [*links.values(), *addresses.values()]
        links_changed = named or any(each.changed for each in stood)
        if links_changed or failed != self._driver_failed:
            self._events.append(Changes(interfaces=True))
            self._driver_failed = failed
        ipv4.sources_absent(nowhere(node, addresses))
        self._on_device = tuple(
            conflict
            for name, target in carriers.items()
            if name in node.links
            for conflict in target.foreign().values()
        )
        stages: list[Stage[Any, Any]] = [*reversed(afterwards), *links.values()]
        self._node_failures = {}
        for stage in (*stages, sysctls):
            self._node_failures.update(stage.failures)
        self._node_failures.update((node.names[index], reason) for index, reason in names.failures.items())
        return stages, names.changed + sysctls.changed + sum(stage.changed for stage in stages)

    def _switch(self, node: NodeState, before: NodeState) -> int:
        """Make the sysctls of `node`, which is as `before` but for them. Returns how many were written."""
        stage = self._write_sysctls(dict(node.sysctls.items() - before.sysctls.items()))
        self._node_failures = {}
        self._node_failures.update(stage.failures)
        return stage.changed

    def _write_sysctls(self, values: Mapping[str, str]) -> Stage[str, str]:
        by_groups = self._tables[Family.IPV4].by_groups
        there = {key: value for key, value in values.items() if key != COMPATIBLE or by_groups}
        stage = Stage(Sysctls(there, self._namespace), there)
        stage.add()
        return stage

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

"""Our routes in the main table, and the picture of them that is kept here.

Ours are those with our protocol number; nothing else is ever changed. The picture comes from a dump, from the kernel's
acknowledgements of our own writes, and from events about what others did; so a change costs what it is large, and not
what the table is.

Each key is in one of these states: not ours (create with EXCL: the kernel itself refuses where a stranger holds it,
which is a conflict and no failure); ours, with what the kernel holds (a difference is replaced); ours and `LOST`:
another hand deleted it or took its place (put back with REPLACE).

A route by a `Group` names the nexthop group that `nexthops` keeps for it; where there are none, it has the hops itself.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from routed.model.address import AnyAddress, Family
from routed.model.nlri import Nlri, to_prefix
from routed.netlink import constants as c
from routed.netlink.constants import Flag, Msg
from routed.netlink.objects import RouteEntry
from routed.netlink.routes import ANYWHERE, Template, alike, whole
from routed.netlink.socket import Netlink, NetlinkError
from routed_felix.astray import GONE, Astray
from routed_felix.nexthops import NexthopsTarget
from routed_felix.scatter import scattered
from routed_felix.state import Conflict, Group, Hop, Route, RouteKey
from routed_felix.terms import RouteEvent, Terms, dump_bodies
from routed_felix.wanted import Wanted

LOST = Route(odd="not there, or not ours")
_SEVERAL = Route(odd="more than one route")
_REMEMBERED = 4096  # routes without their prefix: a few are usual


class RoutesTarget:
    """See the module; one for each family. `metric` is that of our routes; others of ours, or with a TOS, are swept.

    `failures` has the kernel's reason for each prefix that is not as it should be, `conflicts` those where a stranger
    holds the key. Interface indices are given by `links_are` before anything else.
    """

    def __init__(
        self,
        netlink: Netlink,
        protocol: int,
        metric: int,
        family: Family = Family.IPV4,
        nexthops: NexthopsTarget | None = None,
    ) -> None:
        self._nexthops = nexthops
        self._family = family
        self._netlink = netlink
        self._protocol = protocol
        self._metric = metric
        self._terms = Terms(protocol, metric, family)
        self._held: dict[Nlri, Route] = {}
        self._dirty: set[Nlri] = set()
        self._astray = Astray(netlink, protocol, family)
        self._ways: dict[Route, Route] = {}  # every route of the picture is one of these, so that `is` compares them
        self._most_ways = _REMEMBERED
        self._absent: frozenset[AnyAddress] = frozenset()
        self._listed = False  # the picture is the kernel's
        self._syncing = False
        self._compared = False  # and what is wrong with it is known
        self.beside: set[Nlri] = set()  # where a stranger holds our very key, as far as we know
        self.failures: dict[Nlri, str] = {}
        self.conflicts: dict[Nlri, Conflict] = {}
        self.intruded: set[RouteKey] = set()  # where others added routes with our protocol, since the last `sync`
        self.repaired = 0  # routes that others damaged, so far
        self.replaced: set[Nlri] = set()  # by the last writing, ours or what had taken our place

    @property
    def odd_failures(self) -> Mapping[RouteKey, str]:
        """The kernel's reason for each route of ours with another key than we use that could not be deleted."""
        return self._astray.failures

    # ---- the picture

    def links_are(self, index: Mapping[str, int]) -> None:
        """Tell the interfaces of now."""
        self._terms.links_are(index)

    def sources_absent(self, addresses: Collection[AnyAddress]) -> None:
        """Routes go without these sources from now on: the kernel would refuse them, and direct needs no tunnel."""
        if frozenset(addresses) != self._absent:
            self._absent = frozenset(addresses)
            self.forget()

    def is_settled(self) -> bool:
        """Whether `change` is enough; else `sync` is due."""
        return self._compared

    def forget(self) -> None:
        """Events were lost, or something happened that they do not tell enough about."""
        self._listed = self._compared = False

    @property
    def pending(self) -> bool:
        """Whether events ask for a `change`, even an empty one."""
        waiting = self._nexthops is not None and self._nexthops.pending
        return bool(self._dirty or self._astray) or waiting or not self._compared

    @property
    def keys(self) -> list[RouteKey]:
        """What of ours the kernel holds."""
        return [*(self._key(nlri) for nlri, route in self._held.items() if route is not LOST), *self._astray.odd]

    def relist(self) -> None:
        """Read our routes, and all nexthops, from the kernel. Raises NetlinkError."""
        if self._nexthops is not None:
            self._nexthops.relist()
        self.adopt(dump_bodies(self._netlink, family=self._family, protocol=self._protocol))

    def adopt(self, bodies: Iterable[bytes]) -> None:
        """Take the bodies of all our routes, as just dumped. A key that was ours and is missing is LOST."""
        held: dict[Nlri, Route] = {}
        odd: dict[RouteKey, RouteEntry] = {}
        copies: dict[Nlri, list[RouteEntry]] = {}
        for entry, found in alike(bodies, self._family):
            nlris = found
            if entry.metric != self._metric or entry.tos:
                for nlri in found:
                    stray = whole(nlri, entry)
                    odd[RouteKey(stray.destination, stray.metric, stray.tos)] = stray
                continue
            if not held.keys().isdisjoint(found):  # `ip route append`: the kernel allows several of one key
                for nlri in held.keys() & found:
                    copies.setdefault(nlri, []).append(whole(nlri, entry))
                    held[nlri] = _SEVERAL
                nlris = [nlri for nlri in found if nlri not in held]
            these = dict.fromkeys(nlris, self._way(self._terms.from_kernel(entry)))
            if held:
                held.update(these)
            else:  # mostly there is one way, or one that most go
                held = these
        if not held.keys() >= self._held.keys():
            held.update(dict.fromkeys(self._held.keys() - held.keys(), LOST))
        self._held = held
        self._astray.adopt(odd, copies)
        self._dirty.clear()
        self._listed, self._compared = True, False

    def heard(self, event: RouteEvent) -> None:
        """Another hand added, replaced or deleted a route of ours, or one with the very key of ours."""
        nlri, entry = event.nlri, event.entry
        ordinary = entry.metric == self._metric and not entry.tos
        held = self._held.get(nlri)
        if entry.protocol == self._protocol and not ordinary:
            key = RouteKey(to_prefix(nlri, self._family), entry.metric, entry.tos)
            self._astray.heard(key, whole(nlri, entry), added=event.added)
            if event.added:
                self.intruded.add(key)
        elif not ordinary:
            return
        elif event.replaced and nlri in self.beside:  # the first of that key, and whose that was only a dump tells
            self.forget()
        elif entry.protocol == self._protocol and event.added:
            route = self._way(self._terms.from_kernel(entry))
            if held is None or held is LOST or event.replaced:
                self._held[nlri] = route
                self._dirty.add(nlri)
            elif held != route:  # beside the one that we know of: which is in use only a dump tells
                self.forget()
        elif held is not None and (not event.added or event.replaced or held is LOST):
            # ours deleted, or a stranger's put in its place
            if entry.protocol == self._protocol or event.added:
                self._held[nlri] = LOST
                self._dirty.add(nlri)
        elif nlri in self.conflicts and not event.added:
            self._dirty.add(nlri)
        if entry.protocol != self._protocol and event.added:
            self.beside.add(nlri)

    def lose(
        self,
        *,
        devices: Collection[str] = (),
        sources: Collection[AnyAddress] = (),
        nexthops: Collection[int] = (),
    ) -> None:
        """The kernel flushed what went by these, or came from `sources`, and does not tell it route by route."""

        def gone(route: Route) -> bool:
            led = any(hop.device in devices for hop in route.hops) or route.nexthop in nexthops
            return led or route.source in sources

        if any(gone(route) for route in self._ways):
            doomed = {id(route) for route in {id(each): each for each in self._held.values()}.values() if gone(route)}
            lost = [nlri for nlri, route in self._held.items() if id(route) in doomed]
            self._held.update(dict.fromkeys(lost, LOST))
            self._dirty.update(lost)

    def _way(self, route: Route) -> Route:
        """The object that stands for `route`: what is the same object is compared at once."""
        if len(self._ways) > self._most_ways:
            self._ways = {each: each for each in {id(each): each for each in self._held.values()}.values()}
            self._most_ways = max(_REMEMBERED, 2 * len(self._ways))
        return self._ways.setdefault(route, route)

    # ---- writing

    def change(
        self,
        routes: Mapping[Nlri, Route | None],
        wanted: Wanted,
        groups: Mapping[Group, tuple[Hop, ...]] | None = None,
        *,
        retry: bool = False,
    ) -> int:
        """Make `routes`, `groups` and what events have touched as `wanted`; with `retry`, what failed as well.

        Returns how many objects were written. Raises NetlinkError when the kernel does not answer.
        """
        if groups and self._by_groups is not None:
            self._by_groups.changed(groups)
        elif groups:
            routes = {**wanted.by([group for group, hops in groups.items() if hops]), **routes}
        again = set(self._dirty)
        self.repaired += sum(self._damaged(nlri, wanted) for nlri in again if nlri not in routes)
        self.intruded |= {self._key(nlri) for nlri in again - routes.keys() if self._intrudes(nlri, wanted)}
        if retry:
            again |= self.failures.keys() | self.conflicts.keys()
        todo = {**routes, **{nlri: wanted.get(nlri) for nlri in again}} if again else routes
        return self._carry_out(todo, retry=retry) + self._sweep()

    def _damaged(self, nlri: Nlri, wanted: Wanted) -> bool:
        wish = wanted.get(nlri)
        return wish is not None and self._held.get(nlri) != self._possible(wish)

    def _intrudes(self, nlri: Nlri, wanted: Wanted) -> bool:
        return wanted.get(nlri) is None and self._held.get(nlri, LOST) is not LOST

    def sync(self, wanted: Wanted) -> int:
        """Make everything as `wanted`. Returns how many objects were written; raises NetlinkError."""
        self.intruded.clear()
        if not self._listed:
            self.relist()
        self._compared = self._syncing = True
        if self._nexthops is not None:
            self._nexthops.all_wanted(wanted.groups() if self._nexthops.usable else {})
        table = wanted.table()
        todo = self._difference(table) if self._held != table else {}
        held = self._held.get
        if self._held:
            self.repaired += sum(held(nlri) is LOST and route is not None for nlri, route in todo.items())
        for settled in (self.failures.keys() | self.conflicts.keys()) - todo.keys():
            self.failures.pop(settled, None)
            self.conflicts.pop(settled, None)
        try:
            return self._carry_out(todo, retry=True) + self._sweep()
        finally:
            self._syncing = False

    @property
    def _by_groups(self) -> NexthopsTarget | None:
        """What keeps the groups that routes go by; None where each has its hops itself."""
        return self._nexthops if self._nexthops is not None and self._nexthops.usable else None

    def _difference(self, table: Mapping[Nlri, Route]) -> dict[Nlri, Route | None]:
        todo: dict[Nlri, Route | None] = {}
        if not self._held:
            return {**table}
        held, possible = self._held.get, dict[int, Route]()  # by identity of the wish
        meant = possible.get
        for nlri, route in table.items():
            have, wish = held(nlri), meant(id(route))
            if wish is None or (wish.group is not None and have is not None and have.nexthop):
                wish = possible[id(route)] = self._claimed(route, have)
            if have is not wish:
                todo[nlri] = route
        todo.update(dict.fromkeys([nlri for nlri in self._held if nlri not in table]))
        return todo

    def _claimed(self, route: Route, have: Route | None) -> Route:
        """`_possible`, by the group that a prefix of it goes by already if that leads where it should."""
        if have is not None and have.nexthop and route.group is not None and self._by_groups is not None:
            self._by_groups.claim(route.group, have.nexthop)
        return self._possible(route)

    def _carry_out(self, todo: Mapping[Nlri, Route | None], *, retry: bool) -> int:
        """Write what differs from the picture: groups, creations and replacements of routes, then deletions."""
        done = self._bring_groups(todo, retry=retry)
        if self.failures or self.conflicts:
            for nlri in todo:
                self.failures.pop(nlri, None)
                self.conflicts.pop(nlri, None)
        held, beside = self._held, self.beside
        fresh: dict[tuple[int, int], tuple[Route, list[Nlri]]] = {}  # by identity of the wish, and length
        others: dict[tuple[int, int], tuple[Route, list[Nlri]]] = {}
        removals: dict[int, list[Nlri]] = {}
        crowded: list[tuple[Nlri, Route]] = []
        for nlri, wish in todo.items():
            have = held.get(nlri)
            if wish is None:
                if have is not None:
                    removals.setdefault(nlri[0], []).append(nlri)
                continue
            groups = fresh if have is None else others
            key = id(wish), nlri[0]
            group = groups.get(key)
            if group is None:
                group = groups[key] = self._possible(wish), []
            if have is None:
                group[1].append(nlri)
            elif have is group[0]:
                continue
            elif nlri in beside and have is not LOST:
                crowded.append((nlri, group[0]))
            else:
                group[1].append(nlri)
        self.replaced = set()
        done += self._astray.remove_copies(todo)
        done += sum(self._write_beside(nlri, route) for nlri, route in crowded)
        for groups in (fresh, others):
            for (_, length), (route, nlris) in groups.items():
                done += self._write(route, length, nlris, fresh=groups is fresh) if nlris else 0
        for length, nlris in removals.items():
            done += self._remove(length, nlris)
        self._dirty.clear()
        return done

    def _bring_groups(self, todo: Mapping[Nlri, Route | None], *, retry: bool) -> int:
        if self._by_groups is None:
            return 0
        wishes = {id(route): route for route in todo.values() if route is not None and route.group is not None}
        groups = {route.group: route.hops for route in wishes.values() if route.group is not None}
        try:
            return self._by_groups.bring(groups, retry=retry)
        except OSError:
            self.forget()
            raise

    def _write(self, route: Route, length: int, nlris: list[Nlri], *, fresh: bool) -> int:
        entry = self._in_kernel_terms(route, nlris)
        if entry is None:
            return 0
        flags = Flag.CREATE | (Flag.EXCL if fresh else Flag.REPLACE)
        if fresh and self._family is Family.IPV4:
            nlris = scattered(nlris)
        try:
            refused, repeated = self._netlink.write(Template.of(Msg.NEWROUTE, flags, entry, length), nlris)
        except NetlinkError as error:  # some may be there by now
            self._unanswered(nlris, error)
            return 0
        route = self._way(route)
        failed = [nlris[index] for index in refused]
        before = {nlri: self._held.get(nlri) for nlri in failed}
        self._held.update(dict.fromkeys(nlris, route))
        for nlri, number in zip(failed, refused.values(), strict=True):
            if number == errno.EEXIST and not fresh:
                continue  # this very route is there already, behind a stranger's of the same key
            was = before[nlri]
            if was is None:
                del self._held[nlri]
            else:
                self._held[nlri] = was
            if number != errno.EEXIST:
                self.failures[nlri] = os.strerror(number)
            elif repeated:  # perhaps it is ours: made by the messages whose answer was lost
                self.failures[nlri] = os.strerror(number)
                self.forget()
            elif nlri not in self.beside and not self._syncing:
                # Another hand's, or another of ours: an event that is still to be read says whose. All would have to be
                # read again else for each pod that is wired while we write.
                self.failures[nlri] = os.strerror(number)
            else:
                key = self._key(nlri)
                self.conflicts[nlri] = Conflict(
                    key,
                    f"route {key}: a route that is not ours has this very key, left alone",
                    f"remove it (ip route del {key}) or configure another route_metric",
                )
        if not fresh:
            self.replaced.update(nlris)
        return len(nlris) - len(refused)

    def _in_kernel_terms(self, route: Route, nlris: Collection[Nlri]) -> RouteEntry | None:
        """None, and the reason among the failures, where the kernel has not what `route` refers to."""
        if route.group is not None and self._by_groups is not None:
            reason = self._by_groups.failures.get(route.group, "its nexthop group is not there")
        elif (entry := self._terms.to_kernel(route)) is not None:
            return entry
        else:
            reason = self._terms.missing(route)
        self.failures.update(dict.fromkeys(nlris, reason))
        return None

    def _write_beside(self, nlri: Nlri, route: Route) -> int:
        """Replace ours where a stranger has a route of the same key: REPLACE would hit whichever is first.

        Unless ours has gone meanwhile: then the stranger has taken its place, of which no event was read yet.
        """
        entry = self._in_kernel_terms(route, [nlri])
        if entry is None:
            return 0
        removed = self._remove(nlri[0], [nlri])
        if nlri in self.failures:
            return 0
        if not removed:
            self.replaced.add(nlri)
        template = Template.of(Msg.NEWROUTE, Flag.CREATE | (Flag.APPEND if removed else Flag.REPLACE), entry, nlri[0])
        refused, _ = self._netlink.write(template, [nlri])
        if refused:
            self.failures[nlri] = os.strerror(refused[0])
            self.forget()
            return 0
        self._held[nlri] = self._way(route)
        return 1

    def _remove(self, length: int, nlris: list[Nlri]) -> int:
        entry = RouteEntry(
            destination=ANYWHERE[self._family],
            metric=self._metric,
            protocol=self._protocol,
            scope=c.RT_SCOPE_NOWHERE,
            kind=0,
        )
        try:
            refused, _ = self._netlink.write(Template.of(Msg.DELROUTE, 0, entry, length), nlris)
        except NetlinkError as error:
            self._unanswered(nlris, error)
            return 0
        kept = {nlris[index]: number for index, number in refused.items() if number not in GONE}
        for nlri in nlris:
            if nlri in kept:
                self.failures[nlri] = os.strerror(kept[nlri])
            else:
                del self._held[nlri]
        return len(nlris) - len(refused)

    def _sweep(self) -> int:
        """Delete what is ours and astray, and groups without routes."""
        return self._astray.sweep() + self._sweep_groups()

    def _sweep_groups(self) -> int:
        if self._nexthops is None or not self._nexthops.pending or not self._compared:
            return 0
        used: set[int] = set()
        if self.failures:  # what could not be moved goes by its old group
            used = {route.nexthop for route in {id(each): each for each in self._held.values()}.values()}
        try:
            return self._nexthops.sweep(used)
        except OSError:
            self.forget()
            raise

    def _unanswered(self, nlris: Collection[Nlri], error: NetlinkError) -> None:
        """The kernel did not answer: all of it wants a retry, after a look, and the others go on."""
        self.failures.update(dict.fromkeys(nlris, os.strerror(error.errno or errno.EIO)))
        self.forget()

    def _key(self, nlri: Nlri) -> RouteKey:
        return RouteKey(to_prefix(nlri, self._family), self._metric)

    def _possible(self, route: Route) -> Route:
        """`route` as the kernel can have it now, in the picture's object; by a group that is not there, as it is."""
        if route.source is not None and route.source in self._absent:
            route = replace(route, source=None)
        if route.group is not None and self._by_groups is not None:
            number = self._by_groups.id_of(route.group)
            if not number:
                return route
            route = Route(route.kind, (), route.source, nexthop=number)
        return self._way(route)

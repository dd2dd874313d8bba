"""The main table of one family: our routes in it with the nexthops that they go by, and what others have there."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from routed.model.address import AnyAddress, Family
from routed.model.nlri import Nlri, to_prefix
from routed.netlink.socket import Netlink
from routed_felix.monitor import Changes
from routed_felix.nexthops import NexthopsTarget
from routed_felix.routes import RoutesTarget
from routed_felix.state import Change, Conflict, Key, RouteKey, Settings, UnderlayRoute
from routed_felix.strangers import Strangers
from routed_felix.wanted import Wanted


class MainTable:
    """See the module; the pictures of its targets, kept by `hear`. Not for several threads."""

    def __init__(self, netlink: Netlink, settings: Settings, family: Family) -> None:
        protocol, metric = settings.protocol, settings.metric
        self.family = family
        self._protocol, self._metric = protocol, metric
        self._nexthops = NexthopsTarget(netlink, protocol, family, wanted=settings.nexthops)
        self._routes = RoutesTarget(netlink, protocol, metric, family, self._nexthops)
        self._strangers = Strangers(netlink, protocol, metric, family)
        self._in_the_way: dict[Nlri, Conflict] | None = None

    # ---- the picture

    @property
    def underlay(self) -> tuple[UnderlayRoute, ...]:
        """What others have there; the same object as long as it is the same."""
        return self._strangers.routes

    @property
    def by_groups(self) -> bool:
        """Whether routes go by nexthop groups."""
        return self._nexthops.usable

    def links_are(self, index: Mapping[str, int]) -> None:
        """Tell the interfaces of now."""
        self._nexthops.links_are(index)
        self._routes.links_are(index)

    def read(self, names: Mapping[int, str]) -> None:
        """Read all of it; `names` are the interfaces. Raises NetlinkError."""
        self._nexthops.relist()
        self._routes.adopt(self._strangers.look(names, self._nexthops.entries))
        self._in_the_way = None

    def hear(self, events: Sequence[Changes], names: Mapping[int, str], before: Mapping[int, str]) -> None:
        """Bring the picture up to date by events; `before` were the interfaces. Raises NetlinkError."""
        down = {index for changes in events for index in changes.down}
        gone = {address for changes in events for address in changes.gone}
        devices = {each[index] for each in (before, names) for index in down if index in each}
        if down or gone:  # what goes with them the kernel does not tell
            self._routes.lose(devices=devices, sources=gone)
        nexthops = bool(down) or any(changes.nexthops for changes in events)
        if nexthops:
            dropped = {number for changes in events for number in changes.dropped}
            self._routes.lose(nexthops=self._nexthops.relist() | dropped)
        protocols = {protocol for changes in events for family, protocol in changes.strangers if family is self.family}
        routes = [event for changes in events for event in changes.routes if event.family is self.family]
        beside = not {event.nlri for event in routes}.isdisjoint(self._strangers.beside)
        if protocols or gone or beside or self._strangers.uses(devices, gone):
            self._strangers.look_again(protocols, names, self._nexthops.entries)
            self._in_the_way = None
        elif names != before or nexthops:
            self._strangers.links_are(names, self._nexthops.entries)
        for event in routes:
            self._routes.heard(event)

    def sources_absent(self, addresses: Collection[AnyAddress]) -> None:
        """Routes go without these sources from now on."""
        self._routes.sources_absent(addresses)

    def lose_device(self, name: str) -> None:
        """A link of that name has been made anew: what went by the old one has gone with it. Raises NetlinkError."""
        self._routes.lose(devices={name}, nexthops=self._nexthops.relist())

    def forget(self) -> None:
        """What was read may be wrong: everything is looked at anew with the next writing."""
        self._routes.forget()

    @property
    def pending(self) -> bool:
        """Whether there is something to write even if nothing else is wanted than before."""
        return self._routes.pending

    # ---- writing

    def write(self, change: Change | None, wanted: Wanted, *, retry: bool) -> int:
        """Carry out `change`, which leads to `wanted`; None: compare everything. Returns how many objects were written.

        Raises NetlinkError when the kernel does not answer.
        """
        routes = self._routes
        routes.beside = set(self._strangers.beside)
        written = 0
        if change is not None and routes.is_settled():
            written += routes.change(change.routes, wanted, change.groups, retry=retry)
        if change is None or not routes.is_settled():  # an answer was lost: some may be there that count as failed
            written += routes.sync(wanted)
        replaced = self._strangers.at(routes.replaced)
        if replaced:
            self._strangers.replaced(replaced)
        if self._in_the_way is None or change is None or replaced or self._strangers.at(change.routes.keys()):
            self._in_the_way = self._strangers.in_the_way(wanted)
        return written

    # ---- what became of it

    def take_repaired(self) -> int:
        """How many routes that others had damaged were put back since this was asked last."""
        repaired, self._routes.repaired = self._routes.repaired, 0
        return repaired

    def failures(self) -> dict[Key, str]:
        """The kernel's reason for each object that is not as it should be."""
        found: dict[Key, str] = {}
        found.update(self._nexthops.reasons().items())
        found.update(self._routes.odd_failures.items())
        found.update((self._key(nlri), reason) for nlri, reason in self._routes.failures.items())
        return found

    def conflicts(self) -> list[Conflict]:
        """Strangers' routes in our way."""
        return [*{**(self._in_the_way or {}), **self._routes.conflicts}.values()]

    def warnings(self) -> list[Conflict]:
        """What others do to us that is put right, again and again."""
        intruded = sorted(self._routes.intruded, key=str)
        if not intruded:
            return []
        protocol, more = self._protocol, f" and {len(intruded) - 1} more" if len(intruded) > 1 else ""
        return [
            Conflict(
                intruded[0],
                f"protocol {protocol} is another program's too: it added the route {intruded[0]}{more}, "
                "deleted as ours",
                f"give routed a protocol of its own (route_protocol), or that program another than {protocol}",
            )
        ]

    def missing(self, wanted: Wanted) -> int:
        """How many of the wanted routes are not in the kernel."""
        refused = self._routes.failures.keys() | self._routes.conflicts.keys()
        return sum(wanted.get(nlri) is not None for nlri in refused)

    def _key(self, nlri: Nlri) -> RouteKey:
        return RouteKey(to_prefix(nlri, self.family), self._metric)

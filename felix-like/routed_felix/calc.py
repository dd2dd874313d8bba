"""Calc: from what is known to the kernel state that should be. Pure, and incremental where scale needs it.

    cluster, interfaces, underlay --> Decider (one verdict per place and ranked next hops)
    Loc-RIB, by prefix --------------> one look-up each --------> learned routes      the large part
    endpoints, own blocks -----------> own_part ----------------> own routes, links   the small part
    ends of tunnels in use ----------> outer_source ------------> host routes to members

Of a prefix in several of them the node's own comes first, then the learned, then the host route to a member.

When paths change, only their prefixes are looked at. When interfaces, the underlay, addresses or a pool's mode change,
verdicts are made anew; prefixes go with their verdict by its `Group`, and are looked at only where more than its hops
came out different. When pools or blocks come or go, every prefix is looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from heapq import nsmallest
from typing import TypeVar

from routed.model.address import Address, AnyPrefix, Family, Prefix
from routed.model.nlri import Nlri, from_prefix, position, to_prefix, widened
from routed_felix.decide import Decider, Trouble, Verdict
from routed_felix.fabric import encapsulation_of
from routed_felix.overlay import Overlay
from routed_felix.own import Own, own_part
from routed_felix.state import (
    DRIVERS,
    Change,
    Desired,
    Encapsulation,
    Forwarding,
    Group,
    Hop,
    NodeState,
    Problem,
    ProblemKind,
    Reason,
    Route,
    RouteKey,
)
from routed_felix.view import View

__all__ = ["Calculator", "View", "desired", "pod_mtu"]

K = TypeVar("K")

_SHOWN = 3  # prefixes named in one problem; the rest are counted


def desired(view: View) -> Desired:
    """The kernel state that `view` asks for, with the decision and reason for every prefix of the Loc-RIB and node.

    Never raises on odd input: what cannot be carried out is UNREACHABLE or left out, and in the problems.
    """
    calculator = Calculator(view.family)
    calculator.update(view)
    return calculator.desired()


def pod_mtu(view: View) -> int:
    """The MTU for a pod's interface, in bytes."""
    calculator = Calculator()
    calculator.update(view)
    return calculator.pod_mtu


class Calculator:
    """What `desired` computes, kept up to date, for one family; its length is the number of routes wanted now.

    It equals what a new one would make of the last view, whatever came before.
    """

    def __init__(self, family: Family = Family.IPV4) -> None:
        self._family = family
        self._view: View | None = None
        self._decider: Decider | None = None
        self._learned: dict[Nlri, Verdict] = {}
        self._own = Own()
        self._overlay = Overlay()
        self._outer: dict[Nlri, Route] = {}
        self._in_use: set[Verdict] = set()
        self._devices: Counter[str] = Counter()  # that lead to next hops, by how many verdicts in use
        self._ends: Counter[Address] = Counter()  # of tunnels, likewise
        self._problems: tuple[Problem, ...] | None = None

    # ---- in

    def update(self, view: View, changed: Collection[Nlri] | None = None) -> Change:
        """Take in `view`, which differs from the last in `changed` prefixes of `view.best` (None: perhaps in all)."""
        last, self._view = self._view, view
        self._problems = None
        devices = set(self._devices)
        routes: dict[Nlri, Route | None] = {}
        groups: dict[Group, tuple[Hop, ...]] = {}
        ends: set[Address] = set()
        decider = self._decider
        revised = anew = decider is None or not decider.places.fit(view)
        if decider is None:
            decider = self._decider = Decider(view)
        elif anew or not decider.surroundings_fit(view):
            revised = True
            if anew:
                decider.places.locate(view)
            ends |= self._revise(decider, view, routes, groups)
        looked_at: Collection[Nlri] = view.best if anew or changed is None else changed
        if looked_at is view.best and self._learned:
            looked_at = self._learned.keys() | view.best.keys()
        if self._learned:
            appeared, vanished = self._look(looked_at, view, decider, routes)
        else:
            appeared, vanished = self._look_first(view, decider, routes), list[Verdict]()
        ends |= self._account({*appeared, *vanished}, groups)
        own = self._own
        if revised or last is None or self._devices.keys() != devices or not _same_node(view, last):
            self._own = own_part(view, decider, self._overlay, frozenset(self._devices))
        stale = self._program_ends(decider, ends)
        if own is not self._own:
            both = own.routes.keys() | self._own.routes.keys()
            stale |= {nlri for nlri in both if own.routes.get(nlri) != self._own.routes.get(nlri)}
        for nlri in stale | (routes.keys() & self._own.routes.keys()) | (routes.keys() & self._outer.keys()):
            routes[nlri] = self.get(nlri)
        return Change(self._own.state, routes, groups)

    def _revise(
        self,
        decider: Decider,
        view: View,
        routes: dict[Nlri, Route | None],
        groups: dict[Group, tuple[Hop, ...]],
    ) -> set[Address]:
        """Decide again what is in use; put what changes into `routes` and `groups`. Returns all ends of tunnels."""
        ends = set(self._ends)
        self._devices.clear()
        self._ends.clear()
        moved, led = decider.revise(view, self._in_use)
        groups.update({verdict.group: verdict.route.hops if verdict.route else () for verdict in moved | led})
        for verdict in self._in_use:
            self._enter(verdict, 1)
        if moved:
            routes.update({nlri: verdict.route for nlri, verdict in self._learned.items() if verdict in moved})
        return ends | self._ends.keys()

    def _look(
        self, nlris: Iterable[Nlri], view: View, decider: Decider, routes: dict[Nlri, Route | None]
    ) -> tuple[list[Verdict], list[Verdict]]:
        """Look at the paths of `nlris` again; put the learned routes that change into `routes`.

        Returns the verdicts that came into use and those that went out of it, perhaps only for a moment. Nothing else
        is done for each prefix of a large change, so each line of the loop counts. Where all that went by one group
        goes by another verdict now, which leads the same way, that inherits the group: no route changes.
        """
        learned, appeared, vanished = self._learned, list[Verdict](), list[Verdict]()
        moved: dict[tuple[Verdict, Verdict], list[Nlri]] = {}
        verdicts: dict[Nlri, Verdict | None] = {}
        verdict_of, paths_of = learned.get, view.best.get
        places, decide = decider.places, decider.verdict
        exact, coarse, place_of = places.exact.get, places.coarse.get, places.place
        for nlri in nlris:
            paths, old = paths_of(nlri), verdict_of(nlri)
            if paths:
                place = exact(nlri) or coarse(nlri[:3]) or place_of(nlri)
                known = place.by_identity.get(id(paths))
                verdict = known[1] if known is not None and known[0] is paths else decide(place, paths)
                if verdict is old:
                    continue
                learned[nlri] = verdict
                if not verdict.count:
                    appeared.append(verdict)
                verdict.count += 1
            elif old is None:
                continue
            else:
                del learned[nlri]
                verdict = None
            verdicts[nlri] = verdict
            if old is not None:
                old.count -= 1
                if not old.count:
                    vanished.append(old)
                if verdict is not None:
                    moved.setdefault((old, verdict), []).append(nlri)
        settled: set[Verdict] = set()  # has inherited, or has nothing left to leave
        for (old, verdict), same in moved.items():
            if old.route != verdict.route:
                continue
            if old.route is not None:
                if old.count or verdict in self._in_use or not settled.isdisjoint((old, verdict)):
                    continue
                settled |= {old, verdict}
                verdict.inherit(old)
            for nlri in same:
                del verdicts[nlri]
        routes.update({nlri: verdict.route if verdict is not None else None for nlri, verdict in verdicts.items()})
        return appeared, vanished

    def _look_first(self, view: View, decider: Decider, routes: dict[Nlri, Route | None]) -> list[Verdict]:
        """The same of all prefixes while none is learned: 100,000 take 60 ms, and 180 in `_look`'s many steps."""
        learned, places = self._learned, decider.places
        exact, coarse, place_of = places.exact.get, places.coarse.get, places.place
        place = paths_before = verdict = None
        appeared: dict[Verdict, None] = {}
        counted = 0
        for nlri, paths in view.best.items():
            if paths:
                at = exact(nlri) or coarse(nlri[:3]) or place_of(nlri)
                if verdict is None or at is not place or paths is not paths_before:
                    if verdict is not None:
                        verdict.count += len(learned) - counted
                        counted = len(learned)
                    verdict, place, paths_before = decider.verdict(at, paths), at, paths
                    appeared[verdict] = None
                learned[nlri] = verdict
        if verdict is not None:
            verdict.count += len(learned) - counted
        routes.update({nlri: one.route for nlri, one in learned.items()})
        return list(appeared)

    def _account(self, verdicts: Iterable[Verdict], groups: dict[Group, tuple[Hop, ...]]) -> set[Address]:
        """Keep the books of which verdicts are in use; the ends of tunnels that this concerns. `groups`: out of use."""
        ends: set[Address] = set()
        for verdict in verdicts:
            if bool(verdict.count) is (verdict in self._in_use):
                continue
            if verdict.count:
                self._in_use.add(verdict)
                step = 1
            else:
                self._in_use.discard(verdict)
                groups[verdict.group] = ()
                step = -1
            self._enter(verdict, step)
            ends.update(verdict.ends)
        return ends

    def _enter(self, verdict: Verdict, step: int) -> None:
        for device in verdict.devices:
            _count(self._devices, device, step)
        for end in verdict.ends:
            _count(self._ends, end, step)

    def _program_ends(self, decider: Decider, ends: Iterable[Address]) -> set[Nlri]:
        """Bring the host routes to `ends` up to date; which of them changed."""
        changed: set[Nlri] = set()
        for end in ends:
            nlri = from_prefix(Prefix((end, 32)))
            route = decider.outer_source(end) if end in self._ends else None
            if route != self._outer.get(nlri):
                changed.add(nlri)
                if route is None:
                    del self._outer[nlri]
                else:
                    self._outer[nlri] = route
        return changed

    # ---- out: routes by prefix

    def get(self, nlri: Nlri, /) -> Route | None:
        """The route wanted now for one prefix."""
        route = self._own.routes.get(nlri)
        if route is None:
            verdict = self._learned.get(nlri)
            route = verdict.route if verdict is not None else None
        return route or self._outer.get(nlri)

    def __len__(self) -> int:
        """Costs the same whatever the size of the table."""
        total = len(self._own.routes) + sum(verdict.count for verdict in self._in_use if verdict.route is not None)
        total += sum(not self._hides_outer(nlri) for nlri in self._outer)
        return total - sum(self._has_route(nlri) for nlri in self._own.routes)

    def _has_route(self, nlri: Nlri) -> bool:
        verdict = self._learned.get(nlri)
        return verdict is not None and verdict.route is not None

    def _hides_outer(self, nlri: Nlri) -> bool:
        return nlri in self._own.routes or self._has_route(nlri)

    def table(self) -> dict[Nlri, Route]:
        """All routes wanted now, by prefix."""
        learned = self._learned.items()
        found = {nlri: verdict.route for nlri, verdict in learned if verdict.route is not None}
        for nlri, route in self._outer.items():
            found.setdefault(nlri, route)
        found.update(self._own.routes)
        return found

    def groups(self) -> dict[Group, tuple[Hop, ...]]:
        """The groups that they go by, with their hops."""
        return {verdict.group: verdict.route.hops for verdict in self._in_use if verdict.route is not None}

    def by(self, groups: Collection[Group]) -> dict[Nlri, Route]:
        """Those that go by one of `groups`."""
        led = {verdict: verdict.route for verdict in self._in_use if verdict.group in groups and verdict.route}
        return {
            nlri: led[verdict]
            for nlri, verdict in self._learned.items()
            if verdict in led and nlri not in self._own.routes
        }

    # ---- out: what is told

    @property
    def node(self) -> NodeState:
        """Links, addresses and sysctls as they should be."""
        return self._own.state

    @property
    def pod_mtu(self) -> int:
        """The MTU for a pod's interface, in bytes: that of the underlay, less what a tunnel adds if it may use one."""
        return self._own.pod_mtu

    def encapsulations(self) -> Mapping[Encapsulation, int]:
        """How many prefixes leave the node in which way. Costs the same whatever the size of the table."""
        found: Counter[Encapsulation] = Counter(dict.fromkeys(Encapsulation, 0))
        for verdict in self._in_use:
            if not verdict.ours:
                found[verdict.encapsulation] += verdict.count
        for nlri, decision in self._own.decisions.items():
            found[decision.encapsulation] += 1
            hidden = self._learned.get(nlri)
            if hidden is not None and not hidden.ours:
                found[hidden.encapsulation] -= 1
        return found

    def decision_for(self, prefix: AnyPrefix) -> Forwarding | None:
        """How packets to `prefix` leave the node and why; None where it is neither ours nor learned."""
        nlri = from_prefix(prefix)
        decision = self._own.decisions.get(nlri)
        if decision is not None:
            return decision
        verdict = self._learned.get(nlri)
        return None if verdict is None or verdict.ours else self._decision(nlri, verdict, self._lengths())

    def decisions(self) -> Iterator[Forwarding]:
        """All decisions, made one by one as they are asked for."""
        yield from self._own.decisions.values()
        lengths = self._lengths()
        for nlri, verdict in self._learned.items():
            if not verdict.ours and nlri not in self._own.decisions:
                yield self._decision(nlri, verdict, lengths)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What an operator should look at. Made when asked for: only where prefixes have a problem are all walked."""
        if self._problems is None:
            self._problems = tuple(sorted([*self._own.problems, *self._shared_problems()]))
        return self._problems

    def desired(self) -> Desired:
        """All of it as one value."""
        state = self._own.state
        metric = self._view.settings.metric if self._view else 0
        routes = {RouteKey(to_prefix(nlri, self._family), metric): route for nlri, route in self.table().items()}
        decisions = {decision.prefix: decision for decision in self.decisions()}
        return Desired(
            links=state.links,
            addresses=state.addresses,
            sysctls=state.sysctls,
            neighbours=state.neighbours,
            fdb=state.fdb,
            names=state.names,
            routes=dict(sorted(routes.items())),
            decisions=dict(sorted(decisions.items())),
            problems=self.problems,
        )

    def _decision(self, nlri: Nlri, verdict: Verdict, lengths: list[int]) -> Forwarding:
        prefix, because, key = to_prefix(nlri, self._family), verdict.because, None
        if verdict.route is not None and self._view is not None:
            key = RouteKey(prefix, self._view.settings.metric)
        if self._uninformed(nlri, verdict, lengths):
            because = Reason(because.why, f"{because.text}; {_uncovered(verdict)}")
        return Forwarding(prefix, verdict.encapsulation, because, verdict.hops, key)

    def _lengths(self) -> list[int]:
        """The lengths of learned prefixes, if they matter."""
        if any(verdict.asks is not None for verdict in self._in_use):
            return sorted({nlri[0] for nlri in self._learned})
        return []

    def _uninformed(self, nlri: Nlri, verdict: Verdict, lengths: list[int]) -> bool:
        """Never: the gateway we hand the packets to has announced to us neither this prefix nor one that covers it."""
        if verdict.asks is None:
            return False
        for length in lengths:
            if length >= nlri[0]:
                break
            covering = self._learned.get(widened(nlri, length))
            if covering is not None and verdict.asks in covering.speakers:
                return False
        return True

    def _some(self, nlris: Collection[Nlri]) -> str:
        names = ", ".join(str(to_prefix(nlri, self._family)) for nlri in nsmallest(_SHOWN, nlris, key=position))
        return names if len(nlris) <= _SHOWN else f"{names} and {len(nlris) - _SHOWN} more"

    def _shared_problems(self) -> Iterator[Problem]:
        no_driver = self._own.no_driver
        noted = {v for v in self._in_use if v.trouble or v.asks is not None or v.encapsulation in no_driver}
        troubles: dict[Trouble, list[Nlri]] = {}
        waiting: dict[str, list[Nlri]] = {}
        lengths = self._lengths()
        for nlri, verdict in self._learned.items() if noted else ():
            if verdict not in noted or nlri in self._own.decisions:
                continue
            if verdict.trouble is not None:
                troubles.setdefault(verdict.trouble, []).append(nlri)
            if self._uninformed(nlri, verdict, lengths):
                hint = "let the fabric learn the pool's routes, or set the pool's ipipMode or vxlanMode to CrossSubnet"
                subject = str(verdict.asks)
                trouble = Trouble(ProblemKind.GATEWAY_UNINFORMED, subject, _uncovered(verdict), hint)
                troubles.setdefault(trouble, []).append(nlri)
            if verdict.encapsulation in no_driver and verdict.place.pool is not None:
                waiting.setdefault(verdict.place.pool.name, []).append(nlri)
        for (kind, subject, cause, hint), nlris in troubles.items():
            yield Problem(kind, subject, f"{self._some(nlris)}: {cause}", hint)
        for pool in self._decider.encapsulating if no_driver and self._decider else ():
            way = encapsulation_of(pool)
            if way not in no_driver:
                continue
            field = "vxlanMode" if way is Encapsulation.VXLAN else "ipipMode"
            some = waiting.get(pool.name)
            cost = f"{self._some(some)}: not programmed" if some else "nothing needs it yet"
            mode = pool.spec.encapsulation_mode
            message = f"pool {pool.name} is {mode} but this kernel has no {way.upper()} driver; {cost}"
            hint = f"modprobe {DRIVERS[way][1]}, or set {field}: Never on pool {pool.name}"
            yield Problem(ProblemKind.MISSING_DRIVER, pool.name, message, hint)


def _same_node(view: View, last: View) -> bool:
    """Whether what only the small part depends on is as it was."""
    return (
        (view.interfaces is last.interfaces or view.interfaces == last.interfaces)
        and (view.endpoints is last.endpoints or tuple(view.endpoints) == tuple(last.endpoints))
        and tuple(view.peers) == tuple(last.peers)
        and view.gateways == last.gateways
    )


def _count(counter: Counter[K], key: K, step: int) -> None:
    counter[key] += step
    if not counter[key]:
        del counter[key]


def _uncovered(verdict: Verdict) -> str:
    return f"no path from gateway {verdict.asks} covers it"

"""The kernel edge over time: read, calculate, write; again when something failed, and now and then in any case.

A round costs what changed: prefixes that BGP names, and what kernel events were about. Everything is read and compared
at the start, after lost events or an unanswered request, and at the periodic resync.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

from routed.agent.backoff import Backoff
from routed.errors import EnvironmentFault
from routed.model.address import AnyAddress, AnyPrefix, Family, HostAddress
from routed.model.nlri import Nlri
from routed_felix.calc import Calculator
from routed_felix.dataplane import Dataplane, Kernel
from routed_felix.fabric import encapsulation_of
from routed_felix.monitor import Changes
from routed_felix.state import Change, Encapsulation, Forwarding, Problem, Report
from routed_felix.view import View

_log = logging.getLogger("routed.agent")

Changed = Mapping[Family, Collection[Nlri] | None]

_LARGE = 1000  # routes; writing fewer takes less time than asking another thread is worth
_TOLD = 10  # failures and conflicts of one round that get a line in the log each; the rest are counted


@dataclass(frozen=True)
class Counts:
    """Numbers for status and metrics; `by_encapsulation` counts prefixes, programmed or not."""

    desired: int
    programmed: int
    failures: int
    conflicts: int
    by_encapsulation: Mapping[Encapsulation, int]


@dataclass(slots=True)
class Work:
    """What was done since the agent started: writings and comparisons of everything, their seconds; objects written,
    and routes of ours put back that another hand had changed."""

    applies: int = 0
    apply_seconds: float = 0.0
    resyncs: int = 0
    resync_seconds: float = 0.0
    writes: int = 0
    repairs: int = 0


class Programmer:
    """What calc decided last, and what the kernel made of it.

    `view_of` joins what the kernel holds with what else is known of a family. `views` are the last ones. `fault` is set
    while the kernel cannot be asked.
    """

    def __init__(self, dataplane: Dataplane, view_of: Callable[[Kernel, Family], View], resync_seconds: float) -> None:
        self.views: Mapping[Family, View] = {}
        self.report = Report()
        self.fault: EnvironmentFault | None = None
        self.work = Work()
        self._calculators = {family: Calculator(family) for family in Family}
        self._dataplane = dataplane
        self._view_of = view_of
        self._resync_seconds = resync_seconds
        self._resync_at: float | None = None
        self._backoff = Backoff()
        # prefixes that calc has not seen yet; None: it has seen none
        self._changed: dict[Family, set[Nlri] | None] = dict.fromkeys(Family)
        self._whole = True  # the kernel has to be compared with all that is wanted
        self._comparing = False  # in this round
        self._large = False

    @property
    def next_deadline(self) -> float | None:
        """When to reconcile even though nothing changed."""
        return min((time for time in (self._backoff.due, self._resync_at) if time is not None), default=None)

    def take(self, changes: Changes) -> bool:
        """Take in what the monitor read; whether it asks for a round."""
        self._dataplane.take(changes)
        return bool(changes)

    def reconcile(self, now: float, changed: Changed, *, write: bool) -> None:
        """Bring the kernel to what is wanted; unless `write`, only find out what that is.

        `changed`: the prefixes of each Loc-RIB whose paths are others than at the last call; None when that is unknown.
        """
        try:
            work = self._begin(now, changed, write=write)
            if work is not None:
                work()
        except EnvironmentFault as fault:
            self._failed(now, fault)
        else:
            self._ended(now)

    async def reconcile_aside(self, now: float, changed: Changed, *, write: bool) -> None:
        """The same, with long writing in another thread, where the kernel's share of it holds up nobody.

        The Loc-RIB may change meanwhile; nothing else may be asked of the programmer but `take` and what it tells.
        """
        try:
            work = self._begin(now, changed, write=write)
            if work is not None and (self._large or self._comparing):
                await asyncio.to_thread(work)
            elif work is not None:
                work()
        except EnvironmentFault as fault:
            self._failed(now, fault)
        else:
            self._ended(now)

    def fail_over(self, lost: frozenset[AnyAddress]) -> None:
        """Sessions have ended (`View.lost`): what goes by them goes another way at once, before the RIB says so.

        Nothing where everything is about to be compared in any case. Raises EnvironmentFault when the kernel does not
        answer.
        """
        if not self.views or self._whole or self.fault is not None:
            return
        self.views, self._whole = {family: replace(view, lost=lost) for family, view in self.views.items()}, True
        steps = {family: self._calculators[family].update(view, ()) for family, view in self.views.items()}
        self._write(steps, whole=False, retry=False)

    def _begin(self, now: float, changed: Changed, *, write: bool) -> Callable[[], None] | None:
        """Read and calculate; returns what is left to do, which needs the kernel and calc's result only."""
        for family, nlris in changed.items():
            known = self._changed[family]
            if nlris is None:
                self._changed[family] = None
            elif known is not None:
                known.update(nlris)
        resync = self._resync_at is None or now >= self._resync_at
        retry = self._backoff.due is not None and now >= self._backoff.due
        whole = self._comparing = write and (self._whole or resync)
        if resync and not write:  # everything is compared as soon as may be: till then it must not be due
            self._resync_at = now + self._resync_seconds
        changes = self._calculate(whole=whole)
        self._whole = True  # until it is done: what is not written now is named by nobody again
        return partial(self._write, changes, whole=whole, retry=retry) if write else None

    def _calculate(self, *, whole: bool) -> dict[Family, Change]:
        try:
            kernel = self._dataplane.read() if whole else self._dataplane.reread()
        except OSError as error:  # of the netlink socket: the kernel cannot even be asked
            raise _unanswered(error) from error
        self.views = {family: self._view_of(kernel, family) for family in Family}
        changes: dict[Family, Change] = {}
        for family, view in self.views.items():
            changes[family] = self._calculators[family].update(view, self._changed[family])
            self._changed[family] = set()
        self._large = sum(len(change.routes) for change in changes.values()) > _LARGE
        return changes

    def _write(self, changes: Mapping[Family, Change], *, whole: bool, retry: bool) -> None:
        before, started = self.report, time.perf_counter()
        try:
            four, six = (self._calculators[family] for family in Family)
            change, change6 = (changes[family] for family in Family)
            if whole:
                self.report = self._dataplane.sync(change.node, four, six)
            else:
                self.report = self._dataplane.change(change, four, change6, six, retry=retry)
        except OSError as error:
            raise _unanswered(error) from error
        self._whole = False
        self._account(time.perf_counter() - started, whole=whole)
        _tell(self.report, before, whole=whole)

    def _account(self, seconds: float, *, whole: bool) -> None:
        work, report = self.work, self.report
        work.writes += report.changed
        work.repairs += report.repaired
        if whole:
            work.resyncs += 1
            work.resync_seconds += seconds
        else:
            work.applies += 1
            work.apply_seconds += seconds

    def _failed(self, now: float, fault: EnvironmentFault) -> None:
        self._whole = True
        if str(fault) != str(self.fault):
            _log.error("%s", fault)
        self.fault = fault
        self._backoff.failed(now)

    def _ended(self, now: float) -> None:
        if self._comparing:
            self._resync_at = now + self._resync_seconds
        self.fault = None
        if self.report.failures:
            self._backoff.failed(now)
        else:
            self._backoff.succeeded()

    def pod_mtu(self) -> int:
        """The MTU for a new pod's interface, in bytes. Raises EnvironmentFault when the kernel does not answer."""
        if not self.views:
            self._calculate(whole=False)
        return self._calculators[Family.IPV4].pod_mtu

    def require_address(self, node: str, stated: HostAddress) -> None:
        """Raise EnvironmentFault, with what there is instead, unless some interface has the address of `node`."""
        try:
            interfaces = self._dataplane.reread().interfaces.values()
        except OSError as error:
            raise _unanswered(error) from error
        if not any(stated.ip == address.ip for each in interfaces for address in each.addresses):
            present = ", ".join(
                f"{a} on {each.name}" for each in interfaces for a in each.addresses if each.name != "lo"
            )
            raise EnvironmentFault(
                f"Node {node}: spec.bgp.ipv4Address {stated} is on no interface of this machine "
                f"(there is: {present or 'none'})",
                hint="correct the Node (routed apply), set `node` to this machine's Node, or add the address",
            )

    # ---- what is told

    @property
    def counts(self) -> Counts:
        """Costs the same whatever the size of the table."""
        return Counts(
            desired=sum(map(len, self._calculators.values())),
            programmed=self.report.programmed,
            failures=len(self.report.failures),
            conflicts=len(self.report.conflicts),
            by_encapsulation={
                way: sum(each.encapsulations()[way] for each in self._calculators.values()) for way in Encapsulation
            },
        )

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What calc sees that an operator should look at; kept until the next round."""
        return tuple(problem for each in self._calculators.values() for problem in each.problems)

    def needs(self, encapsulation: Encapsulation) -> bool:
        """Whether a pool may have its packets wrapped so."""
        view = self.views.get(Family.IPV4)
        pools = view.cluster.ipv4_pools.values() if view is not None else ()
        return any(encapsulation_of(pool) is encapsulation for pool in pools)

    def decision_for(self, prefix: AnyPrefix) -> Forwarding | None:
        """How packets to exactly this prefix leave the node, and why; None where it is neither ours nor learned."""
        return self._calculators[Family.of(prefix)].decision_for(prefix)

    def decisions(self) -> Iterator[Forwarding]:
        """All decisions, made as they are asked for. Not to be kept across a round."""
        return chain.from_iterable(each.decisions() for each in self._calculators.values())


def _tell(report: Report, before: Report, *, whole: bool) -> None:
    new = [f"{key}: {reason}" for key, reason in report.failures.items() if before.failures.get(key) != reason]
    told, known = (*report.conflicts, *report.warnings), {*before.conflicts, *before.warnings}
    new += [str(conflict) for conflict in told if conflict not in known]
    for line in new[:_TOLD]:
        _log.warning("%s", line)
    if len(new) > _TOLD:
        _log.warning("and %d more like these; routed node status has them all", len(new) - _TOLD)
    if report.changed:
        level = logging.INFO if whole else logging.DEBUG
        _log.log(level, "kernel: %d changed, %d routes", report.changed, report.programmed)


def _unanswered(error: OSError) -> EnvironmentFault:
    reason = error.strerror or str(error)
    return EnvironmentFault(f"the kernel does not answer by netlink: {reason}", hint="it is asked again and again")

"""The firewall over time: written when the rules change, put back when another hand touched them, tried again when not.

It has a task of its own beside the routes' rounds: `nft` takes some milliseconds in a thread, and neither a routing
table that arrives nor a firewall that cannot be had holds up the other.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from routed.agent.backoff import Backoff
from routed.errors import EnvironmentFault
from routed.model.cluster import Cluster
from routed.model.endpoint import Endpoint
from routed_felix.firewall.rules import Rules, rules_of

_log = logging.getLogger("routed.agent")

_QUIET_SECONDS = 10.0  # between two lines in the log on repairs: two programs that fight would fill it
_REST_SECONDS = 0.005  # at least, after a look: what comes in a burst is one
_LONGEST_REST_SECONDS = 0.2  # however long the look took


class Kept(Protocol):
    """What a keeper needs of `routed_felix.firewall.firewall.Firewall`, with its contract."""

    warning: str

    @property
    def backend(self) -> str: ...  # noqa: D102

    @property
    def watched(self) -> float | None: ...  # noqa: D102

    def fileno(self) -> int: ...  # noqa: D102

    def changed(self) -> bool: ...  # noqa: D102

    def survey(self) -> None: ...  # noqa: D102

    def bring(self, rules: Rules) -> bool: ...  # noqa: D102


@dataclass(slots=True)
class FirewallWork:
    """Since the agent started: writings, those that put back what another hand had changed, and failures."""

    writes: int = 0
    repairs: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class FirewallSeen:
    """The firewall at one moment. `backend`: what keeps it, empty for nothing; `right`: it was as wanted, when looked
    at last."""

    backend: str
    right: bool
    work: FirewallWork


class FirewallKeeper:
    """Keeps the rules that follow from the cluster and the pods. `fault` is set while they are not in the kernel."""

    def __init__(self, firewall: Kept, resync_seconds: float, now: Callable[[], float], vxlan_port: int = 0) -> None:
        self.fault: EnvironmentFault | None = None
        self.work = FirewallWork()
        self._firewall = firewall
        self._resync_seconds = resync_seconds
        self._now = now
        self._vxlan_port = vxlan_port
        self._follows_from: tuple[Cluster, tuple[Endpoint, ...]] | None = None
        self._wanted: Rules | None = None
        self._brought: Rules | None = None
        self._dirty = asyncio.Event()
        self._backoff = Backoff()
        self._look_at = 0.0
        self._quiet_until = 0.0
        self._survey_at = 0.0

    @property
    def seen(self) -> FirewallSeen:
        """What is told of it."""
        return FirewallSeen(self._firewall.backend, self.fault is None and self._brought is not None, self.work)

    @property
    def problems(self) -> tuple[str, ...]:
        """What an operator should look at."""
        return tuple(text for text in (str(self.fault or ""), self._firewall.warning) if text)

    def want(self, cluster: Cluster, pods: Iterable[Endpoint]) -> None:
        """Work by this cluster and these pods from now on. Costs little where both are as before."""
        followed, following = self._follows_from, (cluster, tuple(pods))
        if followed is not None and followed[0] is cluster and followed[1] == following[1]:
            return
        self._follows_from = following
        rules = rules_of(*following, self._vxlan_port)
        if rules != self._wanted:
            self._wanted = rules
            self._dirty.set()

    async def run(self) -> None:
        """Bring about what is wanted, for ever."""
        loop, descriptor = asyncio.get_running_loop(), self._firewall.fileno()
        while True:
            loop.add_reader(descriptor, self._heard)
            try:
                await self._wait()
            finally:
                loop.remove_reader(descriptor)  # while we write, events are the writer's to read
            if self._wanted is not None:
                started = time.monotonic()
                await self._bring(self._wanted)
                spent = time.monotonic() - started
                await asyncio.sleep(min(max(_REST_SECONDS, spent), _LONGEST_REST_SECONDS))

    def _heard(self) -> None:
        try:
            changed = self._firewall.changed()
        except OSError as error:
            _log.warning("events of nf_tables could not be read: %s", error.strerror or error)
            changed = True
        if changed:
            self._dirty.set()

    async def _wait(self) -> None:
        """Until something changed or is due."""
        times = () if self._wanted is None else (self._backoff.due, self._look_at)
        soonest = min((each for each in times if each is not None), default=math.inf)
        while not self._dirty.is_set() and (left := soonest - self._now()) > 0:
            pause = min(left, self._firewall.watched or math.inf)
            try:
                async with asyncio.timeout(None if pause == math.inf else pause):
                    await self._dirty.wait()
            except TimeoutError:
                self._heard()
        self._dirty.clear()

    async def _bring(self, rules: Rules) -> None:
        before, warning = self._firewall.backend, self._firewall.warning
        if self._now() >= self._survey_at:
            await asyncio.to_thread(self._firewall.survey)
            self._survey_at = self._now() + self._resync_seconds
        try:
            written = await asyncio.to_thread(self._firewall.bring, rules)
        except EnvironmentFault as fault:
            self.work.failures += 1
            if str(fault) != str(self.fault):
                _log.error("%s", fault)
            self.fault = fault
            self._backoff.failed(self._now())
        else:
            self.fault = None
            self._backoff.succeeded()
            self._account(rules, written=written)
        if self._firewall.backend != before:
            _log.info("firewall: kept by %s", self._firewall.backend)
        if self._firewall.warning not in ("", warning):
            _log.warning("%s", self._firewall.warning)
        self._look_at = self._now() + self._resync_seconds

    def _account(self, rules: Rules, *, written: bool) -> None:
        self.work.writes += written
        if written and rules == self._brought:
            self.work.repairs += 1
            now = self._now()
            if now >= self._quiet_until:
                self._quiet_until = now + _QUIET_SECONDS
                _log.warning("firewall: put back what another hand had changed (%d times so far)", self.work.repairs)
        self._brought = rules

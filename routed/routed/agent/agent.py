"""The agent: inputs in, one desired state out, reconciled.

    store -> Cluster ---+
    Routing -> Loc-RIB -+--> View -> calc -> Desired -> Dataplane -> kernel
    plugin -> endpoints +                                   |
    netlink events -----+ <---------------------------------+ repair

Everything happens in one event loop. Whatever changes an input sets `_dirty`; one task computes and applies, so that a
burst of events costs one reconcile. An input changes without an `await` in between, so that no reconcile sees half of
it. What must not happen too early is `Gate`'s to decide.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass
from functools import partial

from routed.agent.backoff import Backoff
from routed.agent.bgp_observation import BgpObservation, Tally
from routed.agent.changeover import Changeover
from routed.agent.cluster_source import Reading, readings
from routed.agent.drain_source import drains
from routed.agent.explainer import Explainer
from routed.agent.failover import FailOver
from routed.agent.faults import Faults, Subject
from routed.agent.firewall_keeper import FirewallKeeper, Kept
from routed.agent.gate import Gate, missing
from routed.agent.leak_keeper import LeakKeeper
from routed.agent.neighbourhood import Neighbourhood
from routed.agent.notify import notify
from routed.agent.pace import Pace
from routed.agent.pages import serve
from routed.agent.path_source import PathSource
from routed.agent.programmer import Programmer
from routed.agent.recording.recorder import RecordedProgrammer, RecordedRouting, Recorder
from routed.agent.routing import Routing
from routed.agent.status import Observation, TunnelDevice
from routed.agent.tunnel_address import TunnelAddress
from routed.config import AgentConfig
from routed.errors import EnvironmentFault, OperatorError
from routed.ipam.allocator import Allocator
from routed.model.address import Address, AnyAddress, Family
from routed.model.cluster import Cluster
from routed.model.nlri import Nlri
from routed.store import Store
from routed_bgp.bfd.client import Bfd, BfdFault
from routed_bgp.bfd.ledger import BfdChange
from routed_bgp.decision import multipath
from routed_bgp.policy import host
from routed_bgp.speaker import SessionDown, SessionUp, Speaker, SpeakerFailed, SpeakerStarted
from routed_cni.plugin import Plugin
from routed_felix.dataplane import Dataplane, Kernel
from routed_felix.monitor import Changes, Monitor
from routed_felix.state import Encapsulation, Settings
from routed_felix.view import View

_log = logging.getLogger("routed.agent")

TEND_SECONDS = 60.0  # between withdrawing a block and its deletion too: routers have heard of it by then
SECRETS_SECONDS = 5.0  # between two looks at the files with passwords


@dataclass(frozen=True)
class Parts:
    """The edges that the agent composes; tests put others in their place."""

    store: Store
    speaker: Speaker
    dataplane: Dataplane
    monitor: Monitor
    firewall: Kept
    allocator: Allocator
    plugin: Plugin
    bfd: Bfd


class Agent:
    """One node's agent, from the first read of the store to SIGTERM."""

    def __init__(
        self,
        config: AgentConfig,
        settings: Settings,
        parts: Parts,
        kernel: asyncio.Lock,
        *,
        now: Callable[[], float] = time.monotonic,
        recorder: Recorder | None = None,
    ) -> None:
        """`kernel` is held while the kernel is read and written, and by the plugin, which has its own thread, while it
        takes a pod's route away: between the two, that would look like damage. It makes routes at any time: the
        endpoint is announced before, and `_view` asks for the endpoints after the kernel was read. What decides is told
        to `recorder`, if there is one.
        """
        self._config = config
        self._settings = settings
        self._parts = parts
        self._kernel = kernel
        self._now = now
        self._routing = (
            Routing(config, parts.speaker, parts.bfd, now)
            if recorder is None
            else RecordedRouting(config, parts.speaker, parts.bfd, recorder)
        )
        self._around: tuple[object, ...] = ()
        self._hops: frozenset[AnyAddress] = frozenset()
        self._note = ""  # how the speaker runs, if not as it should
        self._cluster = Cluster()
        self._unreadable: tuple[EnvironmentFault, ...] = ()
        best = {family: self._routing.rib.best(family) for family in Family}
        self._paths = PathSource(config.node, best, config.bgp_sync_seconds)
        self._sharing = partial(multipath, ebgp=config.bgp_multipath_ebgp, ibgp=config.bgp_multipath_ibgp)
        devices = {Encapsulation.TUNNEL: config.tunnel_device, Encapsulation.VXLAN: config.vxlan_device}
        self._tunnel = TunnelAddress(parts.allocator, config.node, devices)
        self._tunnel_address: Address | None = None
        self._changeover = Changeover()
        self._tally = Tally()
        self._faults = Faults()
        self._gate = Gate(config.bgp_sync_seconds, holds_routes=True)
        self._programmer = (
            Programmer(parts.dataplane, self._view, config.resync_seconds)
            if recorder is None
            else RecordedProgrammer(parts.dataplane, self._view, config.resync_seconds, recorder)
        )
        self._fail_over = FailOver(self._programmer, kernel, lambda: self._gate.may_write)
        self._explainer = Explainer(
            config.node,
            settings,
            (config.bgp_multipath_ebgp, config.bgp_multipath_ibgp),
            cluster=lambda: self._cluster,
            paths=self._paths,
            programmer=self._programmer,
            plugin=parts.plugin,
            allocator=parts.allocator,
        )
        self._leaks = LeakKeeper(parts.plugin, config.leak_grace_seconds, now)
        self._firewall = FirewallKeeper(parts.firewall, config.resync_seconds, now, config.vxlan_port)
        self._dirty = asyncio.Event()
        parts.allocator.when_back(self._dirty.set)
        self._speaking = asyncio.Event()
        self._starting = False
        self._serving = False  # from now on nothing but a bug ends the agent
        self._ready = False
        self._pace = Pace(lambda: self._routing.waiting, parts.plugin)

    # ---- life

    async def run(self, serve_plugin: Callable[[], Awaitable[object]], stop: asyncio.Event) -> None:
        """Work until `stop` is set; then leave, with kernel state and forwarding as they are.

        Raises RoutedError when it cannot start: before the node can serve, whatever is wrong ends it.
        """
        async with AsyncExitStack() as stack:
            self._gate = Gate(self._config.bgp_sync_seconds, holds_routes=self._parts.dataplane.holds_routes())
            serve(
                stack,
                self._config,
                not_ready=self.not_ready,
                observe=self.observe,
                observe_bgp=self.observe_bgp,
                explain=self._explainer.explain,
            )
            loop, monitor = asyncio.get_running_loop(), self._parts.monitor.fileno()
            loop.add_reader(monitor, self._kernel_changed)
            stack.callback(loop.remove_reader, monitor)
            stopping = asyncio.create_task(stop.wait(), name="stop")
            tasks = [
                asyncio.create_task(self._follow_store(serve_plugin), name="store"),
                asyncio.create_task(self._follow_speaker(), name="speaker"),
                asyncio.create_task(self._follow_bfd(), name="bfd"),
                asyncio.create_task(self._follow_drain(), name="drain"),
                asyncio.create_task(self._follow_secrets(), name="secrets"),
                asyncio.create_task(self._tend_blocks(), name="blocks"),
                asyncio.create_task(self._leaks.run(lambda: self._serving), name="leaks"),
                asyncio.create_task(self._work(), name="reconcile"),
                asyncio.create_task(self._firewall.run(), name="firewall"),
            ]
            try:
                await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
                notify("STOPPING=1")
            finally:
                for task in (*tasks, stopping):
                    task.cancel()
                await asyncio.wait([*tasks, stopping])
            # a task that failed by itself: a fault at start, or a bug; every one is asked, or asyncio complains
            errors = [task.exception() for task in tasks if not task.cancelled()]
            for error in filter(None, errors):
                raise error

    # ---- the store

    async def _follow_store(self, serve_plugin: Callable[[], Awaitable[object]]) -> None:
        """Take in every change of the cluster. A store that goes away changes nothing that is programmed."""
        backoff = Backoff()
        read = False
        while True:
            try:
                async with aclosing(readings(self._parts.store)) as following:
                    async for reading in following:
                        read = True
                        await self._take(reading, serve_plugin)
                        self._faults.set(Subject.STORE, None)
                        backoff.succeeded()
            except EnvironmentFault as fault:
                if not read or self._starting:  # a mistake of the configuration, not an outage
                    raise
                self._faults.set(Subject.STORE, fault)
                await asyncio.sleep(backoff.failed(self._now()))

    async def _take(self, reading: Reading, serve_plugin: Callable[[], Awaitable[object]]) -> None:
        self._unreadable = reading.unreadable
        cluster, node = reading.cluster, self._config.node
        if node not in cluster.nodes:
            await self._leave(cluster)
        elif not self._serving:
            self._starting = True
            await self._begin(cluster)
            await serve_plugin()
            self._starting, self._serving = False, True
        else:
            try:
                await self._adopt(cluster)
                self._faults.set(Subject.CLUSTER, None)
            except OperatorError as error:  # what was good before stays; the operator sees it in the status
                self._faults.set(Subject.CLUSTER, error)
        self._dirty.set()

    async def _leave(self, cluster: Cluster) -> None:
        """The cluster does not know this node: it has no sessions. What it forwards stays until somebody cleans up."""
        _log.warning("Node %s is not in the store: waiting for it (routed apply -f FILE)", self._config.node)
        if self._known:
            self._gate.reset()
            self._cluster = cluster
            await self._routing.adopt(cluster)

    async def _begin(self, cluster: Cluster) -> None:
        """The first cluster with this node. Nothing is made, in the store or the kernel, before BGP can listen."""
        self._programmer.require_address(self._config.node, cluster.address(self._config.node))
        if await self._routing.adopt(cluster):
            await self._speaking.wait()  # if it fails instead, `_follow_speaker` ends the agent
        await self._adopt(cluster)

    async def _adopt(self, cluster: Cluster) -> None:
        """Work by this cluster from now on. Raises with nothing changed but, perhaps, an address assigned."""
        await self._parts.allocator.adopt(cluster)
        tunnel_address = await self._tunnel.assign(cluster)
        self._faults.set(Subject.TUNNEL, self._tunnel.fault)
        # from here to the speaker nothing is awaited: a cluster without its sessions would count as in sync
        self._cluster, self._tunnel_address = cluster, tunnel_address
        self._changeover.adopt(cluster, self._now())
        self._paths.adopt(cluster, self._now())
        self._gate.begin(self._now())
        await self._routing.adopt(cluster)

    @property
    def _known(self) -> bool:
        """Whether the cluster that we work by has this node."""
        return self._config.node in self._cluster.nodes

    # ---- the other inputs

    async def _follow_speaker(self) -> None:
        async for event in self._parts.speaker.events():
            match event:
                case SpeakerStarted(note):
                    if note:
                        _log.warning("%s", note)
                    self._note = note
                    self._faults.set(Subject.BGP, None)
                    self._speaking.set()
                    self._dirty.set()
                case SpeakerFailed(fault):
                    if not self._serving:
                        raise fault
                    self._faults.set(Subject.BGP, fault)
                case _:
                    self._tally.take(event)
                    was_up = event.peer in self._routing.opens
                    async with self._fail_over.before(event.peer, gone=was_up and isinstance(event, SessionDown)):
                        await self._routing.handle(event)
                    # a session that comes or goes has deadlines, which `_wait` has to learn of, also without a route
                    turned = isinstance(event, SessionUp | SessionDown)
                    if turned or self._routing.pending or not self._gate.in_sync:
                        self._dirty.set()

    async def _follow_bfd(self) -> None:
        async for event in self._parts.bfd.events():
            match event:
                case BfdFault(fault):
                    self._faults.set(Subject.BFD, fault)
                case BfdChange():
                    async with self._fail_over.before(event.peer, gone=event.failed):
                        await self._routing.bfd_changed(event)
                    if self._routing.pending:
                        self._dirty.set()

    async def _follow_drain(self) -> None:
        """A store that goes away leaves the node as drained as it is."""
        backoff = Backoff()
        while True:
            try:
                async with aclosing(drains(self._parts.store, self._config.node)) as following:
                    async for drain in following:
                        self._routing.drain(drain)
                        backoff.succeeded()
            except EnvironmentFault:  # `_follow_store` has told, or ends the agent
                await asyncio.sleep(backoff.failed(self._now()))

    async def _follow_secrets(self) -> None:
        """A password that is changed, or written where it was missing, counts without a change of the cluster."""
        while True:
            await asyncio.sleep(SECRETS_SECONDS)
            try:
                if self._serving and await self._routing.read_secrets():
                    self._faults.set(Subject.CLUSTER, None)
                    self._dirty.set()
            except OperatorError as error:
                self._faults.set(Subject.CLUSTER, error)

    async def _tend_blocks(self) -> None:
        """Give blocks back that no pod needs, so that others have them."""
        while True:
            await asyncio.sleep(TEND_SECONDS)
            if self._serving:
                with suppress(EnvironmentFault, OperatorError):  # there is time; who needs an address is told
                    await self._parts.allocator.tend()

    def _kernel_changed(self) -> None:
        """Something happened in the kernel. If it matters, what follows is read with the reconcile that it asks for."""
        if self._read_monitor():
            asyncio.get_running_loop().remove_reader(self._parts.monitor.fileno())
            self._pace.urgent = True
            self._dirty.set()

    def _read_monitor(self) -> bool:
        """Take in all events that wait; whether one of them matters."""
        started = time.monotonic()
        try:
            return self._programmer.take(self._parts.monitor.read())
        except OSError as error:
            _log.warning("netlink events could not be read (%s): comparing everything", error.strerror or error)
            return self._programmer.take(Changes(overflow=True))
        finally:
            self._pace.spent += time.monotonic() - started

    def endpoints_changed(self) -> None:
        """A pod came or went."""
        self._pace.urgent = True
        self._dirty.set()

    # ---- the one desired state

    async def _work(self) -> None:
        loop, monitor = asyncio.get_running_loop(), self._parts.monitor.fileno()
        while True:
            await self._wait()
            self._pace.begun()
            now = self._now()
            loop.add_reader(monitor, self._kernel_changed)  # what comes from here on asks for another reconcile
            await self._routing.expire(now)
            waiting = not self._gate.in_sync
            if waiting:
                self._gate.watch(now, synced=self._routing.rib.synced(now), peers=self._routing.rib.status)
            if waiting and (self._gate.in_sync or self._routing.whole(now)):
                self._routing.release()
            if self._known:
                self._changeover.settle(now)
                async with self._kernel:
                    started = time.monotonic()
                    # only now: a pod that was given up while we waited has no route, and the events say so
                    self._read_monitor()
                    pods = self._parts.plugin.endpoints().values()
                    self._firewall.want(self._cluster, pods)
                    for family in Family:
                        assigned = (host(pod.address) for pod in pods if Family.of(pod.address) is family)
                        self._routing.assign(family, frozenset(assigned))
                    borrowed = (each for each in self._parts.allocator.borrowed() if each.version == 4)
                    self._routing.borrow(frozenset(map(host, borrowed)))
                    await self._routing.settle()
                    changed: dict[Family, set[Nlri] | None] = {}
                    changed.update((family, self._routing.take_changes(family)) for family in Family)
                    table = any(changed.values())
                    if self._paths.settle(now, synced=self._routing.rib.synced(now)):
                        changed, table = dict.fromkeys(Family), True
                    self._read_monitor()  # the links of pods wired while that settled, before endpoints are asked for
                    await self._programmer.reconcile_aside(now, changed, write=self._gate.may_write)
                    # a table that arrives is wanted in the kernel soon: only what others do to the kernel must wait
                    self._pace.spent = 0.0 if table else self._pace.spent + time.monotonic() - started
                started = time.monotonic()
                await self._look_around()  # many next hops are many questions, and a table judged again
                self._pace.spent += time.monotonic() - started
            self._tell_ready()

    async def _look_around(self) -> None:
        """Tell BGP what its next hops and peers are to this node, when that may be something else than before."""
        views, hops = self._programmer.views, self._routing.rib.next_hops
        if not views:
            return
        around = Neighbourhood.surroundings(views)
        if hops == self._hops and around == self._around:
            return
        self._around, self._hops = around, hops
        await self._routing.interfaces_changed(Neighbourhood(views))
        if self._routing.pending:
            self._dirty.set()

    async def _wait(self) -> None:
        """Until something changed or is due; after a change, until a round may begin."""
        times = [self._routing.next_deadline]
        if self._known:  # else nobody would meet these, and they would be due for ever
            times += [self._gate.next_deadline, self._programmer.next_deadline, self._paths.next_deadline]
            times.append(self._changeover.next_deadline)
        soonest = min((each for each in times if each is not None), default=None)
        try:
            async with asyncio.timeout(None if soonest is None else max(0.0, soonest - self._now())):
                await self._dirty.wait()
        except TimeoutError:
            return
        finally:
            self._dirty.clear()
        await self._pace.rest()
        self._dirty.clear()

    def _view(self, kernel: Kernel, family: Family) -> View:
        return View(
            node=self._config.node,
            cluster=self._changeover.cluster,
            family=family,
            best=self._paths.best(family),
            peers=tuple(session.peer for session in self._routing.sessions),
            gateways=self._routing.gateways,
            endpoints=tuple(self._parts.plugin.endpoints().values()),
            interfaces=kernel.interfaces,
            underlay=kernel.underlay if family is Family.IPV4 else kernel.underlay6,
            tunnel=kernel.tunnel,
            vxlan=kernel.vxlan,
            tunnel_address=self._tunnel_address,
            settings=self._settings,
            sharing=self._sharing,
            lost=frozenset(self._fail_over.lost),
            kept=self._changeover.kept,
        )

    # ---- what is told

    def pod_mtu(self) -> int:
        """The MTU for a new pod's interface, in bytes."""
        return self._programmer.pod_mtu()

    def require_serving(self) -> None:
        """Raise EnvironmentFault as long as a pod that is added could not be given what it needs."""
        if not self._known:
            raise EnvironmentFault(
                f"Node {self._config.node} is not in the store", hint="routed apply -f FILE with this Node"
            )

    def not_ready(self) -> str | None:
        """Why the node cannot serve yet, in words; None when it can."""
        if not self._known:
            if self._starting:
                return "BGP is starting"
            return f"Node {self._config.node} is not in the store"
        for fault in (self._faults.get(Subject.BGP), self._programmer.fault):
            if fault is not None:
                return fault.message
        if not self._gate.in_sync:
            return f"waiting for End-of-RIB from {missing(self._routing.rib.status())}"
        if self._programmer.report.failures:
            return f"{len(self._programmer.report.failures)} objects could not be written to the kernel"
        return None

    def _tell_ready(self) -> None:
        if not self._ready and self.not_ready() is None:
            self._ready = True
            notify("READY=1")
            _log.info("ready")

    def observe_bgp(self) -> BgpObservation:
        """All that is told of BGP, as of now."""
        return BgpObservation.of(
            self._routing,
            self._tally,
            self._parts.bfd.states(),
            self._now(),
            note=self._note,
            widths=(self._config.bgp_multipath_ebgp, self._config.bgp_multipath_ibgp),
        )

    def observe(self) -> Observation:
        """All that status and metrics tell, as of now."""
        programmer, faults = self._programmer, [*self._faults, *self._unreadable]
        faults += [fault.error for fault in self._routing.faults]
        if programmer.fault is not None:
            faults.append(programmer.fault)
        return Observation(
            node=self._config.node,
            not_ready=self.not_ready(),
            in_sync=self._gate.in_sync,
            bgp=self.observe_bgp(),
            counts=programmer.counts,
            work=programmer.work,
            decisions=programmer.decisions(),
            problems=programmer.problems,
            report=programmer.report,
            tunnel=TunnelDevice(
                self._config.tunnel_device,
                needed=programmer.needs(Encapsulation.TUNNEL),
                available=any(view.tunnel for view in programmer.views.values()),
            ),
            vxlan=TunnelDevice(
                self._config.vxlan_device,
                needed=programmer.needs(Encapsulation.VXLAN),
                available=any(view.vxlan for view in programmer.views.values()),
            ),
            tunnel_address=self._tunnel_address,
            addresses_in_use=len(self._parts.allocator.allocations()),
            journal=self._parts.allocator.journal(),
            leaks=self._leaks.seen,
            firewall=self._firewall.seen,
            endpoints=len({pod.host_interface for pod in self._parts.plugin.endpoints().values()}),
            faults=(*map(str, faults), *self._parts.allocator.journal().problems(), *self._firewall.problems),
        )

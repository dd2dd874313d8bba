"""The commands, inside the agent: addresses from IPAM, links from the wiring, endpoints for calc.

An endpoint is announced (`on_change`) before its route is made and withdrawn before that is taken away. In between,
the reconciler may want a route whose device is missing, which it must bear in any case: the kernel deletes the link
with the sandbox, often before DEL. The other order would let it see a route of ours that nobody wants, and delete it.

DEL answers when nothing reaches the pod any more, and nothing it sends goes on. Its link is deleted by the janitor, and
its address is free when the link is gone. An agent that is killed in between leaves a link that is marked, or an
address without a link: `repair` finds both.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

from routed.errors import EnvironmentFault, OperatorError, RoutedError
from routed.ipam.allocator import Allocator
from routed.ipam.block import BlockFullError
from routed.ipam.leaks import Held
from routed.ipam.request import wish_of
from routed.ipam.wish import Wish
from routed.model.address import AnyAddress
from routed.model.endpoint import Endpoint
from routed_cni import condition, delegation, inspection, protocol, results, veths, wiring
from routed_cni.faults import CniError, Code
from routed_cni.janitor import Janitor
from routed_cni.protocol import Command, Request
from routed_cni.record import Place, Record, attributes
from routed_cni.results import Attachment

T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class Plugin:
    """Answers CNI requests for this node.

    `mtu` gives a new pod's MTU in bytes; `ready` raises EnvironmentFault as long as pods should not be added; `limited`
    says why pods that are there may not be reached, None if they are; `on_change` is called when `endpoints` or the
    addresses that are borrowed changed, and must return at once. Pods are wired in the network namespace that the
    process is in, by one thread: the kernel's own lock lets no two work at a time. `kernel` is held while a pod's route
    is taken away: whoever compares the kernel with what is wanted holds it too, or would put the route back. An ADD
    does not wait for that: such a one looks at the kernel first and asks for `endpoints` then, so that no route comes
    as a surprise. `calls` counts the requests that came, `under_way` those that are not answered yet.
    """

    def __init__(
        self,
        allocator: Allocator,
        *,
        mtu: Callable[[], int],
        on_change: Callable[[], None],
        ready: Callable[[], None],
        limited: Callable[[], str | None] = lambda: None,
        kernel: asyncio.Lock | None = None,
        route_protocol: int = 114,
        route_metric: int = 1024,
    ) -> None:
        self.calls = 0
        self.under_way = 0
        self._allocator = allocator
        self._mtu = mtu
        self._on_change = on_change
        self._ready = ready
        self._limited = limited
        self._route_protocol = route_protocol
        self._route_metric = route_metric
        self._record = Record(allocator)
        self._turns: dict[Place, _Turn] = {}
        self._kernel = kernel or asyncio.Lock()
        self._closed = False
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="routed-wiring")
        self._janitor = Janitor(lambda names: veths.remove(names), self._gone)  # noqa: PLW0108  tests replace it

    def endpoints(self) -> Mapping[AnyAddress, Endpoint]:
        """All pod interfaces of this node, by address; complete once the allocator has read its blocks."""
        return self._record.endpoints()

    async def repair(self) -> None:
        """Put right what a former agent was killed at; to be called once, before the first request.

        An address whose link is not there is nobody's: no sandbox outlives its link's other end, and an ADD that was
        not answered is not taken for done. A link of ours without an address is the rest of one, or of a DEL. Raises
        EnvironmentFault when the store cannot be reached, CniError when the kernel does not answer.
        """
        await self._allocator.load()
        links = await self._in_worker(veths.survey)
        for veth in links.values():
            if veth.addresses and not veth.doomed:
                self._record.give(Place(veth.container_id, veth.interface), veth)
        places = self._record.places()
        self._record.taken(*places.values())
        lost = [name for name in places if name not in links or links[name].doomed]
        self._record.leave(*(places[name] for name in lost))
        stray = [name for name in links if name not in places or links[name].doomed]
        if unfinished := sorted({*lost, *stray}):
            _log.warning("pod interfaces that a former agent left half made or half deleted: %s", ", ".join(unfinished))
            self._janitor.add(*unfinished)
            self._on_change()

    async def handle(self, payload: bytes) -> tuple[int, bytes]:
        """Carry out the request in `payload`; the plugin's exit status and what it prints. Raises nothing."""
        self.calls += 1
        self.under_way += 1
        try:
            return 0, await self._answer(protocol.decode(payload))
        except CniError as error:
            told = error
        except RoutedError as error:
            told = _told(error)
        except Exception as error:  # noqa: BLE001  the last line before the runtime, which must get an answer
            _log.exception("a CNI request failed by a fault of routed's")
            told = CniError(Code.BUG, f"routed failed: {error!r}", "see the agent's log; please report it")
        finally:
            self.under_way -= 1
        _log.warning("CNI request refused: %s %s", told.msg, told.details)
        return 1, results.encode_error(protocol.requested_version(payload), told)

    def close(self) -> None:
        """Let go of the threads; a request under way that still needs them is told to try again later."""
        self._closed = True
        self._janitor.close()
        self._worker.shutdown()

    async def _answer(self, request: Request) -> bytes:
        place = Place(request.container_id, request.interface)
        match request.command:
            case Command.VERSION:
                return results.encode_version(request.version)
            case Command.STATUS:
                await self._status(request)
            case Command.ADD:
                self._check_ready(Code.TRY_AGAIN_LATER)
                async with self._turn(place):
                    return results.encode_result(request.version, await self._add(request, place), request.previous)
            case Command.DEL:
                async with self._turn(place):
                    await self._delete(place)
                    await self._give_back(request, place)
            case Command.CHECK:
                async with self._turn(place):
                    await self._check(request, place)
            case Command.GC:
                await self._collect(request)
        return b""

    # ---- STATUS

    def _check_ready(self, code: Code) -> None:
        try:
            self._ready()
        except RoutedError as error:
            raise CniError(code, f"routed agent is not ready: {error.message}", error.hint or "") from error

    async def _status(self, request: Request) -> None:
        self._check_ready(Code.NOT_AVAILABLE)
        if why := self._limited():
            raise CniError(
                Code.LIMITED_CONNECTIVITY, f"pods may not be reached: {why}", "see `routed node status` on this node"
            )
        if request.settings.delegate:
            await delegation.forward(request)
        elif not self._janitor.pending:  # what leaves makes room
            try:
                await self._allocator.check_room(self._wish(request))
            except RoutedError as error:
                raise CniError(Code.NOT_AVAILABLE, error.message, error.hint or "") from error

    # ---- ADD

    async def _add(self, request: Request, place: Place) -> Attachment:
        mtu = request.settings.mtu or self._mtu()
        await self._allocator.load()
        await self._settle(request, place)
        known = self._record.holds(place)
        plan = wiring.Wire(
            sandbox=request.netns,
            interface=place.interface,
            host_interface=place.name,
            addresses=(),
            mtu=mtu,
            alias="",
            protocol=self._route_protocol,
            metric=self._route_metric,
            mac=request.settings.mac,
            forwarding=request.settings.forwarding,
        )
        try:
            # the disk and the kernel work at the same time, and neither waits for the reconciler: it knows no link yet
            making = asyncio.create_task(self._in_thread(lambda: wiring.make(plan)))
            try:
                addresses, dns = await self._addresses(request, place)
            except BaseException:
                await asyncio.gather(making, return_exceptions=True)
                raise
            self._record.taken(place)
            pair = await making
            self._record.stay(place)  # of a DEL that failed
            self._on_change()
            given = addresses if request.settings.delegate else ()
            alias = veths.alias(place.container_id, place.interface, given, request.network)
            whole = replace(plan, addresses=addresses, alias=alias)
            # without `kernel`: who finds the route has been told of the endpoint, and asks for it after looking
            attachment = await self._in_thread(lambda: wiring.wire(whole, pair))
        except BaseException:
            # a retried ADD that fails must not take from a pod that runs what the first one gave it
            if not known and not self._closed:
                await self._undo(request, place)
            raise
        _log.info("added %s/%s: %s on %s", place.container_id, place.interface, _listed(addresses), place.name)
        return replace(attachment, dns=dns)

    def _wish(self, request: Request) -> Wish:
        namespace = request.arguments.get("K8S_POD_NAMESPACE", "")
        by_name = request.arguments.get("IP", "")
        return wish_of(request.configuration, namespace, self._allocator.cluster, by_name)

    async def _settle(self, request: Request, place: Place) -> None:
        """Wait for a link that leaves, if it is this pod interface's, or may be in this sandbox."""
        if place.name in self._janitor.pending:
            await self._janitor.finish(place.name)
        if not self._janitor.pending:
            return
        if await self._in_thread(lambda: wiring.occupied(request.netns)):
            await self._janitor.finish()

    async def _addresses(self, request: Request, place: Place) -> tuple[tuple[AnyAddress, ...], Mapping[str, object]]:
        kept = attributes(place, request.network, request.arguments)
        if not request.settings.delegate:
            wish = self._wish(request)
            try:
                return await self._allocator.assign_each(place.handle, kept, wish), request.settings.dns
            except BlockFullError:
                if not self._janitor.pending:
                    raise
            await self._janitor.finish()  # pods that left still hold what this one needs
            return await self._allocator.assign_each(place.handle, kept, wish), request.settings.dns
        given = await delegation.add(request)
        endpoints = self.endpoints()
        for address in given.addresses:
            if address in endpoints and endpoints[address].host_interface != place.name:
                raise CniError(
                    Code.INVALID_CONFIGURATION,
                    f"IPAM plugin {request.settings.delegate} gave {address}, which pod interface "
                    f"{endpoints[address].container_id}/{endpoints[address].interface} has",
                    "give it addresses that no pool of routed's has",
                )
        self._record.give(
            place,
            veths.Veth(place.name, False, place.container_id, place.interface, given.addresses, request.network),
        )
        return given.addresses, given.dns or request.settings.dns

    async def _undo(self, request: Request, place: Place) -> None:
        self._janitor.add(place.name)  # even if the store is away
        try:
            await self._delete(place)
            await self._janitor.finish(place.name)
            await self._give_back(request, place)
        except (CniError, RoutedError):  # the runtime is told why ADD failed, and sends a DEL, which tries again
            _log.warning("undoing the ADD of %s failed", request.container_id, exc_info=True)

    # ---- DEL

    async def _delete(self, place: Place) -> None:
        """Give the interface up; what it holds is taken back when its link is gone."""
        try:
            await self._allocator.load()
        except EnvironmentFault:
            if not self._record.addresses(place):  # nobody knows whether it holds any
                raise
        addresses = self._record.addresses(place)
        self._allocator.forget_lost(place.handle)
        if addresses:
            self._record.leave(place)
            self._on_change()
        doomed = await self._in_worker(
            lambda: veths.doom(place.name, addresses, protocol=self._route_protocol, metric=self._route_metric)
        )
        if addresses or doomed:
            self._janitor.add(place.name)
        if addresses:
            _log.info("deleted %s/%s: %s", place.container_id, place.interface, _listed(addresses))

    async def _give_back(self, request: Request, place: Place) -> None:
        """To the IPAM plugin, which may give the address away at once: so the link is to be gone."""
        if not request.settings.delegate:
            return
        await self._janitor.finish(place.name)
        names = {"CNI_CONTAINERID": place.container_id, "CNI_IFNAME": place.interface}
        await delegation.forward(replace(request, environment={**request.environment, **names}), Command.DEL)

    async def _gone(self, names: Collection[str]) -> None:
        """The janitor saw links go. If the store is away now, their addresses stay taken until it is back."""
        places = [place for name in names if (place := self._record.leaving(name)) is not None]
        if places:
            borrowed = self._allocator.borrowed()
            await self._allocator.release(*(place.handle for place in places))
            if self._allocator.borrowed() != borrowed:  # what was announced for it alone is to be withdrawn
                self._on_change()
        for place in places:
            self._record.forget(place)
            self._record.stay(place)

    # ---- CHECK and GC

    async def _check(self, request: Request, place: Place) -> None:
        if place.name in self._janitor.pending:
            await self._janitor.finish(place.name)
        await self._allocator.load()
        wanted = condition.expected(request.previous or {}, place.interface, place.name)
        held = self._record.addresses(place)
        seen = await self._in_worker(
            lambda: inspection.inspect(request.netns, place.interface, place.name, wanted.addresses)
        )
        if not held and seen.host is None:
            raise CniError(
                Code.UNKNOWN_CONTAINER,
                f"there is no pod interface {place.container_id}/{place.interface}",
                "it was never added here, or deleted since: nothing is to be cleaned up",
            )
        faults = [f"IPAM does not hold {address} for it" for address in wanted.addresses if address not in held]
        faults += condition.differences(wanted, seen, veths.HOST_MAC)
        if faults:
            raise CniError(
                Code.NOT_AS_EXPECTED,
                f"pod interface {place.container_id}/{place.interface}: {faults[0]}",
                "; ".join(faults[1:]),
            )
        if request.settings.delegate:
            await delegation.forward(request)

    async def _collect(self, request: Request) -> None:
        """As much as can be, and then what could not. An interface with a call under way is not looked at."""
        await self._allocator.load()
        stale = [
            place
            for place in self._record.of_network(request.network) - self._turns.keys()
            if (place.container_id, place.interface) not in request.valid
        ]
        errors: list[str] = []
        for place in stale:
            try:
                async with self._turn(place):
                    await self._delete(place)
                    await self._give_back(request, place)
            except (CniError, RoutedError) as error:
                errors.append(f"{place.container_id}/{place.interface}: {error}")
        try:
            await self._janitor.finish()
            if request.settings.delegate:
                await delegation.forward(request)
        except (CniError, RoutedError) as error:
            errors.append(str(error))
        if errors:
            raise CniError(Code.TRY_AGAIN_LATER, f"not all could be collected: {errors[0]}", "; ".join(errors[1:]))

    # ---- leaks

    async def missing(self) -> Mapping[str, Held]:
        """What IPAM holds for interfaces that are not there, by handle; those with a call under way left out."""
        links = await self._in_worker(veths.survey)
        gone = {
            place.handle
            for name, place in self._record.places().items()
            if name not in links and name not in self._janitor.pending and place not in self._turns
        }
        held: dict[str, set[tuple[AnyAddress, int]]] = {}
        for address, each in self._allocator.allocations().items():
            if each.handle in gone:
                held.setdefault(each.handle, set()).add((address, each.since))
        return {handle: frozenset(addresses) for handle, addresses in held.items()}

    async def give_up(self, handles: Collection[str]) -> None:
        """Treat these as deleted, unless their interfaces are there after all. Raises CniError, RoutedError."""
        for place in [place for place in self._record.places().values() if place.handle in handles]:
            async with self._turn(place):
                if place.name not in await self._in_worker(veths.survey):
                    await self._delete(place)

    # ---- how

    async def _in_worker(self, work: Callable[[], T]) -> T:
        async with self._kernel:
            return await self._in_thread(work)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise CniError(Code.TRY_AGAIN_LATER, "routed agent is stopping", "it answers when it runs again")
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    @asynccontextmanager
    async def _turn(self, place: Place) -> AsyncGenerator[None]:
        """One request at a time for one pod interface: a runtime may give up an ADD and send DEL while it runs."""
        turn = self._turns.setdefault(place, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[place]


def _listed(addresses: Sequence[AnyAddress]) -> str:
    return ", ".join(map(str, addresses))


def _told(error: RoutedError) -> CniError:
    """Who can act on it, in the specification's codes."""
    match error:
        case EnvironmentFault():
            code = Code.TRY_AGAIN_LATER
        case OperatorError():
            code = Code.INVALID_CONFIGURATION
        case _:
            code = Code.BUG
    return CniError(code, error.message, error.hint or "")

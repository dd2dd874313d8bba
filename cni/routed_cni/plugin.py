"""ADD, DEL and STATUS, inside the agent: addresses from IPAM, links from the wiring, endpoints for calc.

There is no record of pods but IPAM's: an allocation's attributes say which pod interface holds the address, so that
`endpoints` is right from the first moment of a restarted agent.

An endpoint is announced (`on_change`) before its link is made and withdrawn before its link is deleted. In between,
the reconciler may want a route whose device is missing, which it must bear in any case: the kernel deletes the link
with the sandbox, often before DEL. The other order would let it see a route of ours that nobody wants, and delete it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from routed.errors import EnvironmentFault, OperatorError, RoutedError
from routed.ipam.allocator import Allocator
from routed.ipam.request import wish_of
from routed.ipam.wish import Wish
from routed.model.address import AnyAddress
from routed.model.endpoint import Endpoint
from routed_cni import protocol, wiring
from routed_cni.protocol import Attachment, CniError, Code, Command, Request

T = TypeVar("T")

_log = logging.getLogger(__name__)
_CONTAINER, _INTERFACE = "containerID", "interface"
# CNI_ARGS of Kubernetes' runtimes, by the attribute that keeps them
_POD_ARGUMENTS = {"namespace": "K8S_POD_NAMESPACE", "pod": "K8S_POD_NAME", "podUID": "K8S_POD_UID"}


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class Plugin:
    """Answers CNI requests for this node.

    `mtu` gives a new pod's MTU in bytes; `ready` raises EnvironmentFault as long as pods should not be added;
    `on_change` is told all endpoints after each change and must return at once. Pods are wired in the network
    namespace that the process is in, by one thread: the kernel's own lock lets no two work at a time. `kernel` is held
    meanwhile: whoever compares the kernel with what is wanted holds it too, so that it never sees half a pod.
    """

    def __init__(
        self,
        allocator: Allocator,
        *,
        mtu: Callable[[], int],
        on_change: Callable[[Mapping[AnyAddress, Endpoint]], None],
        ready: Callable[[], None],
        kernel: asyncio.Lock | None = None,
        route_protocol: int = 114,
        route_metric: int = 1024,
    ) -> None:
        self._allocator = allocator
        self._mtu = mtu
        self._on_change = on_change
        self._ready = ready
        self._route_protocol = route_protocol
        self._route_metric = route_metric
        self._leaving: set[str] = set()
        self._turns: dict[str, _Turn] = {}
        self._kernel = kernel or asyncio.Lock()
        self._closed = False
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="routed-wiring")

    def endpoints(self) -> Mapping[AnyAddress, Endpoint]:
        """All pod interfaces of this node, by address; complete once the allocator has read its blocks."""
        found: dict[AnyAddress, Endpoint] = {}
        for address, held in self._allocator.allocations().items():
            container, interface = held.attributes.get(_CONTAINER), held.attributes.get(_INTERFACE)
            if container and interface and held.handle not in self._leaving:
                found[address] = Endpoint(container, interface, address, wiring.host_interface(container, interface))
        return found

    async def handle(self, payload: bytes) -> tuple[int, bytes]:
        """Carry out the request in `payload`; the plugin's exit status and what it prints. Raises nothing."""
        try:
            return 0, await self._answer(protocol.decode(payload))
        except CniError as error:
            told = error
        except RoutedError as error:
            told = _told(error)
        except Exception as error:  # noqa: BLE001  the last line before the runtime, which must get an answer
            _log.exception("a CNI request failed by a fault of routed's")
            told = CniError(Code.BUG, f"routed failed: {error!r}", "see the agent's log; please report it")
        _log.warning("CNI request refused: %s %s", told.msg, told.details)
        return 1, protocol.encode_error(protocol.requested_version(payload), told)

    def close(self) -> None:
        """Let go of the wiring thread; a request under way that still needs it is told to try again later."""
        self._closed = True
        self._worker.shutdown()

    async def _answer(self, request: Request) -> bytes:
        match request.command:
            case Command.VERSION:
                return protocol.encode_version()
            case Command.STATUS:
                self._check_ready(Code.NOT_AVAILABLE)
                return b""
            case Command.ADD:
                self._check_ready(Code.TRY_AGAIN_LATER)
                async with self._turn(_handle(request)):
                    return protocol.encode_result(request.version, await self._add(request))
            case Command.DEL:
                async with self._turn(_handle(request)):
                    await self._delete(request)
                return b""

    def _check_ready(self, code: Code) -> None:
        try:
            self._ready()
        except RoutedError as error:
            raise CniError(code, f"routed agent is not ready: {error.message}", error.hint or "") from error

    async def _add(self, request: Request) -> Attachment:
        handle = _handle(request)
        mtu = self._mtu()
        await self._allocator.load()
        known = self._holds(handle)
        try:
            addresses = await self._allocator.assign_each(handle, _attributes(request), self._wish(request))
            self._leaving.discard(handle)
            self._on_change(self.endpoints())
            plan = wiring.Wire(
                sandbox=request.netns,
                interface=request.interface,
                host_interface=wiring.host_interface(request.container_id, request.interface),
                addresses=addresses,
                mtu=mtu,
                alias=wiring.alias(request.container_id, request.interface),
                protocol=self._route_protocol,
                metric=self._route_metric,
            )
            attachment = await self._in_worker(lambda: wiring.wire(plan))
        except BaseException:
            # a retried ADD that fails must not take from a pod that runs what the first one gave it
            if not known and not self._closed:
                await self._undo(request)
            raise
        what = request.container_id, request.interface, _listed(addresses), plan.host_interface
        _log.info("added %s/%s: %s on %s", *what)
        return attachment

    def _wish(self, request: Request) -> Wish:
        namespace = request.arguments.get(_POD_ARGUMENTS["namespace"], "")
        return wish_of(request.configuration, namespace, self._allocator.cluster)

    async def _undo(self, request: Request) -> None:
        try:
            await self._delete(request)
        except (CniError, RoutedError):  # the runtime is told why ADD failed, and sends a DEL, which tries again
            _log.warning("undoing the ADD of %s failed", request.container_id, exc_info=True)

    async def _delete(self, request: Request) -> None:
        """Link first, address last: it is nobody else's as long as a packet may find the old pod."""
        handle = _handle(request)
        name = wiring.host_interface(request.container_id, request.interface)
        self._leaving.add(handle)
        if self._holds(handle):
            self._on_change(self.endpoints())
        await self._in_worker(lambda: wiring.unwire(name))
        # if this fails, the handle stays among the leaving: its link is gone, and DEL comes again
        addresses = await self._allocator.release(handle)
        self._leaving.discard(handle)
        if addresses:
            _log.info("deleted %s/%s: %s", request.container_id, request.interface, _listed(addresses))

    def _holds(self, handle: str) -> bool:
        return any(held.handle == handle for held in self._allocator.allocations().values())

    async def _in_worker(self, work: Callable[[], T]) -> T:
        async with self._kernel:
            if self._closed:
                raise CniError(Code.TRY_AGAIN_LATER, "routed agent is stopping", "it answers when it runs again")
            return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    @asynccontextmanager
    async def _turn(self, handle: str) -> AsyncGenerator[None]:
        """One request at a time for one pod interface: a runtime may give up an ADD and send DEL while it runs."""
        turn = self._turns.setdefault(handle, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[handle]


def _handle(request: Request) -> str:
    """IPAM's name of a pod interface. Both parts may hold dots, but only the ID keeps them: no two have one handle."""
    return f"cni.{request.container_id}.{request.interface.replace('.', '/')}"


def _attributes(request: Request) -> dict[str, str]:
    attributes = {_CONTAINER: request.container_id, _INTERFACE: request.interface, "network": request.network}
    for name, argument in _POD_ARGUMENTS.items():
        if value := request.arguments.get(argument):
            attributes[name] = value
    return attributes


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

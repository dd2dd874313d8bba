"""What the agent composes, as a few lines each that do as they are told; time is a number."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from routed.agent.agent import Agent, Parts
from routed.agent.firewall_keeper import Kept
from routed.config import AgentConfig
from routed.errors import EnvironmentFault
from routed.ipam.allocator import Allocator
from routed.ipam.keys import STATIC
from routed.model.address import Address, AnyAddress, Family, HostAddress, Prefix
from routed.model.codec import encode_json, resource_key
from routed.model.fields import PeerAddress
from routed.model.interface import Interface
from routed.model.path import Origin, Segment
from routed.model.resources import (
    AnyResource,
    BGPPeer,
    BGPPeerSpec,
    EncapsulationMode,
    IPPool,
    IPPoolSpec,
    Metadata,
    Node,
    NodeBGPSpec,
    NodeSpec,
)
from routed.netlink.socket import NetlinkError
from routed.store import Compare, Delete, Event, KeyValue, Put, Range, Txn
from routed_bgp import encode
from routed_bgp.attributes import Attributes
from routed_bgp.bfd.ledger import BfdStatus
from routed_bgp.bfd.messages import BfdSession
from routed_bgp.dialect import Dialect
from routed_bgp.nlri import Nlri, from_prefix, to_prefix
from routed_bgp.open import GracefulRestart, Open
from routed_bgp.sessions import Session
from routed_bgp.speaker import SessionUp, SpeakerStarted, UpdatesReceived
from routed_bgp.update import Decoder, messages
from routed_felix.dataplane import Kernel
from routed_felix.firewall.rules import Rules
from routed_felix.monitor import Changes
from routed_felix.routes import Wanted
from routed_felix.state import Change, NodeState, Report, Route, Settings

ME, OTHER, THIRD, TOR = "10.1.1.11", "10.1.1.12", "10.1.1.13", "10.9.9.1"


def node(name: str, address: str, *blocks: str) -> Node:
    return Node(
        metadata=Metadata(name), spec=NodeSpec(NodeBGPSpec(HostAddress(f"{address}/24")), tuple(map(Prefix, blocks)))
    )


def pool(
    mode: EncapsulationMode = EncapsulationMode.NEVER, cidr: str = "10.244.0.0/16", *, disabled: bool = False
) -> IPPool:
    return IPPool(metadata=Metadata("pods"), spec=IPPoolSpec(Prefix(cidr), mode, disabled=disabled))


def router(address: str = TOR, asn: int = 65101) -> BGPPeer:
    return BGPPeer(metadata=Metadata("tor"), spec=BGPPeerSpec(PeerAddress(Address(address)), asn))


US, THEM = node("a1", ME, "10.244.1.0/26"), node("a2", OTHER, "10.244.2.0/26")


class FakeStore:
    """A store in memory; `fault` is what every call raises, `gate` what reads of IPAM wait for."""

    def __init__(self) -> None:
        self.values: dict[str, tuple[bytes, int]] = {}
        self.events: list[Event] = []
        self.revision = 0
        self.fault: EnvironmentFault | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self._changed = asyncio.Event()

    def put(self, key: str, value: bytes | None) -> None:
        self.revision += 1
        if value is None:
            self.values.pop(key, None)
        else:
            self.values[key] = value, self.revision
        self.events.append(Event(key, value, self.revision))
        self.wake()

    def wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def apply(self, *resources: AnyResource) -> None:
        for resource in resources:
            self.put(resource_key(resource.kind, resource.name), encode_json(resource))

    def delete(self, resource: AnyResource) -> None:
        self.put(resource_key(resource.kind, resource.name), None)

    def _check(self) -> None:
        if self.fault is not None:
            raise self.fault

    async def get(self, key: str) -> KeyValue | None:
        self._check()
        value, at = self.values.get(key, (b"", 0))
        return KeyValue(key, value, 1, at) if at else None

    async def range(self, prefix: str) -> Range:
        if prefix == STATIC:
            await self.gate.wait()
        self._check()
        found = [KeyValue(key, value, 1, at) for key, (value, at) in self.values.items() if key.startswith(prefix)]
        return Range(self.revision, tuple(found))

    async def txn(self, compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> Txn:
        self._check()
        if any(self.values.get(each.key, (b"", 0))[1] != each.mod_revision for each in compares):
            return Txn(False, self.revision)
        for each in operations:
            self.put(each.key, each.value if isinstance(each, Put) else None)
        return Txn(True, self.revision)

    async def watch(self, prefix: str, from_revision: int) -> AsyncIterator[Sequence[Event]]:
        while True:
            changed = self._changed
            self._check()
            for event in self.events:
                if event.mod_revision >= from_revision and event.key.startswith(prefix):
                    yield [event]
            from_revision = self.revision + 1
            await changed.wait()

    async def close(self) -> None:
        pass


class FakeSpeaker:
    """Starts at once unless `starts` is False."""

    def __init__(self) -> None:
        self.starts = True
        self.wanted: list[Sequence[Session]] = []
        self.told: dict[str, dict[str, str]] = {}  # next hop, or End-of-RIB, by prefix, by peer
        self.resets: list[tuple[str, int, int]] = []
        self.retries: list[str] = []
        self._events: asyncio.Queue[Any] = asyncio.Queue()

    async def set(self, sessions: Sequence[Session]) -> None:
        if self.starts and sessions and not self.wanted:
            self.tell(SpeakerStarted())
        self.wanted.append(sessions)

    @property
    def peers(self) -> set[str]:
        return {str(session.peer) for session in self.wanted[-1]} if self.wanted else set()

    def send(self, peers: Collection[AnyAddress], data: bytes) -> None:
        decoder = Decoder(Dialect(ebgp=False))
        for kind, body in messages(data):
            assert kind == 2
            update = decoder.decode(body)
            for peer in map(str, peers):
                told = self.told.setdefault(peer, {})
                for nlri in update.withdrawn:
                    told.pop(str(to_prefix(nlri, update.family)))
                for nlri in update.announced:
                    assert update.attributes
                    told[str(to_prefix(nlri, update.family))] = str(update.attributes.next_hop)
                if update.end_of_rib:
                    told["End-of-RIB"] = ""

    async def reset(self, peer: AnyAddress, code: int = 6, subcode: int = 4) -> None:
        self.resets.append((str(peer), code, subcode))

    async def retry(self, peer: AnyAddress) -> None:
        self.retries.append(str(peer))

    async def events(self) -> AsyncIterator[Any]:
        while True:
            yield await self._events.get()

    def tell(self, *events: Any) -> None:
        for event in events:
            self._events.put_nowait(event)

    def up(self, peer: str = OTHER, *, restarting: bool = False) -> None:
        graceful = GracefulRestart(restarting, 60, ((Family.IPV4, True),))
        self.tell(SessionUp(Address(peer), Open(64512, 90, Address(peer), True, graceful)))

    def announce(self, *prefixes: str, peer: str = OTHER, path: tuple[int, ...] = ()) -> None:
        as_path = (Segment(True, path),) if path else ()
        attributes = Attributes(origin=Origin.IGP, as_path=as_path, next_hop=Address(peer), local_pref=0)
        nlris = [from_prefix(Prefix(prefix)) for prefix in prefixes]
        self._update(peer, *encode.announce(attributes, Family.IPV4, nlris, asn4=True, ebgp=False))

    def withdraw(self, *prefixes: str, peer: str = OTHER) -> None:
        self._update(peer, *encode.withdraw(Family.IPV4, [from_prefix(Prefix(prefix)) for prefix in prefixes]))

    def end_of_rib(self, peer: str = OTHER) -> None:
        self._update(peer, encode.end_of_rib(Family.IPV4))

    def _update(self, peer: str, *whole: bytes) -> None:
        self.tell(UpdatesReceived(Address(peer), b"".join(whole)))


class FakeBfd:
    """BFD that does as it is told."""

    def __init__(self) -> None:
        self.wanted: list[Collection[BfdSession]] = []
        self._events: asyncio.Queue[Any] = asyncio.Queue()

    async def set(self, wanted: Collection[BfdSession]) -> None:
        self.wanted.append(wanted)

    def states(self) -> tuple[BfdStatus, ...]:
        return ()

    async def events(self) -> AsyncIterator[Any]:
        while True:
            yield await self._events.get()

    def tell(self, *events: Any) -> None:
        for event in events:
            self._events.put_nowait(event)


class FakeDataplane:
    """A kernel with the node's address on eth1, and a link to a router on eth2; keeps the table after every write."""

    def __init__(self) -> None:
        self.eth2_up = True
        self.applied: list[dict[Nlri, Route]] = []
        self.failures: dict[Any, str] = {}
        self.held = False
        self.dead = False
        self.failing = False  # it can be asked, and takes nothing
        self.reads = self.looks = 0
        self._table: dict[Nlri, Route] = {}
        self._table6: dict[Nlri, Route] = {}
        self._kernel = self._look()

    def holds_routes(self) -> bool:
        return self.held

    def take(self, changes: Changes) -> None:
        if changes:
            self._kernel = self._look()

    def read(self) -> Kernel:
        self.reads += 1
        self._kernel = self._look()
        return self.reread()

    def reread(self) -> Kernel:
        self.looks += 1
        if self.dead:
            raise NetlinkError(110, "timed out")
        return self._kernel

    def sync(self, node: NodeState, wanted: Wanted, wanted6: Wanted) -> Report:
        self._table, self._table6 = dict(wanted.table()), dict(wanted6.table())
        return self._report()

    def change(
        self, change: Change, wanted: Wanted, change6: Change, wanted6: Wanted, *, retry: bool = False
    ) -> Report:
        if self.failing:
            raise NetlinkError(105, "no buffer space")
        for table, named, all_of_it in ((self._table, change, wanted), (self._table6, change6, wanted6)):
            table.update(all_of_it.by(named.groups))
            for nlri, route in named.routes.items():
                table.pop(nlri, None)
                if route is not None:
                    table[nlri] = route
            assert table == dict(all_of_it.table()), "a change that was not named"
        return self._report()

    @property
    def routes(self) -> set[str]:
        return {str(to_prefix(nlri, Family.IPV4)) for nlri in self.applied[-1]} if self.applied else set()

    def gateway(self, prefix: str) -> str:
        route = self.applied[-1].get(from_prefix(Prefix(prefix))) if self.applied else None
        return str(route.hops[0].gateway) if route and route.hops else "none"

    def _look(self) -> Kernel:
        eth1 = Interface("eth1", 2, 1500, True, addresses=(HostAddress(f"{ME}/24"),))
        eth2 = Interface("eth2", 3, 1500, self.eth2_up, addresses=(HostAddress("10.9.9.11/24"),))
        return Kernel({"eth1": eth1, "eth2": eth2}, (), tunnel=True)

    def _report(self) -> Report:
        self.applied.append(dict(self._table))
        return Report(len(self._table), len(self._table), 0, self.failures)


class FakeMonitor:
    """Readable when `poke`d."""

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK)

    def fileno(self) -> int:
        return self._descriptor

    def poke(self) -> None:
        os.eventfd_write(self._descriptor, 1)

    def read(self) -> Changes:
        with suppress(BlockingIOError):
            return Changes(interfaces=bool(os.eventfd_read(self._descriptor)))
        return Changes()

    def close(self) -> None:
        os.close(self._descriptor)


class FakeFirewall(Kept):
    """Takes any rules; `fault` is raised instead. Readable when `poke`d, and then as if another hand was in it."""

    backend, warning = "fake", ""
    watched: float | None = None

    def __init__(self) -> None:
        self.brought: list[Rules] = []
        self.surveys = 0
        self.fault: EnvironmentFault | None = None
        self.damaged = False
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK)

    def fileno(self) -> int:
        return self._descriptor

    def poke(self) -> None:
        self.damaged = True
        os.eventfd_write(self._descriptor, 1)

    def changed(self) -> bool:
        with suppress(BlockingIOError):
            os.eventfd_read(self._descriptor)
        return self.damaged

    def survey(self) -> None:
        self.surveys += 1

    def bring(self, rules: Rules) -> bool:
        if self.fault is not None:
            raise self.fault
        written = self.damaged or self.brought[-1:] != [rules]
        self.damaged = False
        self.brought.append(rules)
        return written


class FakePlugin:
    calls = 0
    under_way = 0

    def endpoints(self) -> dict[Any, Any]:
        return {}


class Bench:
    """An agent among fakes. `now` is its clock; `poke` makes it look at it."""

    def __init__(self, **settings: Any) -> None:
        self.store, self.speaker, self.dataplane, self.monitor = (
            FakeStore(), FakeSpeaker(), FakeDataplane(), FakeMonitor(),
        )  # fmt: skip
        self.firewall = FakeFirewall()
        self.plugin = FakePlugin()
        self.bfd = FakeBfd()
        self.now = 1000.0
        self._looks = 0
        self.stop = asyncio.Event()
        self.serving = 0
        self.health_port = free_port()
        config = AgentConfig(
            node="a1", run_dir=Path("/nonexistent"), health_port=self.health_port, metrics_port=free_port(), **settings
        )
        parts: Any = Parts(
            self.store,
            self.speaker,
            self.dataplane,  # type: ignore[arg-type]
            self.monitor,  # type: ignore[arg-type]
            self.firewall,
            Allocator(self.store, node="a1"),
            self.plugin,  # type: ignore[arg-type]
            self.bfd,
        )
        self.allocator: Allocator = parts.allocator
        self.agent = Agent(config, Settings(), parts, asyncio.Lock(), now=self._time)

    async def serve(self) -> None:
        self.serving += 1

    async def run(self) -> None:
        await self.agent.run(self.serve, self.stop)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.monitor.poke()

    @property
    def seen(self) -> Any:
        return self.agent.observe()

    def _time(self) -> float:
        self._looks += 1
        return self.now

    async def until(self, condition: Any, seconds: float = 5.0) -> None:
        """Wait for something of parts that know nothing of waiting."""
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.002)

    async def idle(self) -> None:
        """Give everything that is under way the time to happen."""
        self.monitor.poke()
        looks = self._looks
        for _ in range(30):
            await asyncio.sleep(0.002)
        assert self._looks < looks + 30, "the agent is in a busy loop"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[Bench]:
    """The agent runs while the block does, and must end well."""
    task = asyncio.create_task(bench.run())
    try:
        yield bench
        bench.stop.set()
        await asyncio.wait_for(task, 5)
    finally:
        task.cancel()
        await asyncio.wait([task])
        bench.monitor.close()

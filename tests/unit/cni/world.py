"""The plugin over a real store; the kernel's part is names of links, and a log of what was done to them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from routed.errors import EnvironmentFault
from routed.ipam.allocator import Allocator
from routed.model.address import AnyAddress
from routed.model.endpoint import Endpoint
from routed.store import Compare, Delete, KeyValue, Put, Txn
from routed.store.sqlite import SqliteStore
from routed_cni import veths, wiring
from routed_cni.plugin import Plugin
from routed_cni.results import Attachment

FIRST = IPv4Address("10.1.0.1")
CONFIGURATION = {"cniVersion": "1.0.0", "name": "n", "type": "t"}
NEWEST = {"cniVersion": "1.1.0"}


class MoodyStore(SqliteStore):
    """The embedded store, that can be away."""

    away = False

    async def get(self, key: str) -> KeyValue | None:
        if self.away:
            raise EnvironmentFault("store: unreachable", hint="start it")
        return await super().get(key)

    async def txn(self, compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> Txn:
        if self.away:
            raise EnvironmentFault("store: unreachable", hint="start it")
        return await super().txn(compares, operations)


@dataclass
class World:
    """A plugin over a real store; links are the names in `links`, and what happened is in `log`."""

    store: MoodyStore
    links: set[str] = field(default_factory=set[str])
    log: list[str] = field(default_factory=list[str])
    announced: Mapping[AnyAddress, Endpoint] = field(default_factory=dict[AnyAddress, Endpoint])
    unready: EnvironmentFault | None = None
    wiring_fails: Exception | None = None
    stuck: bool = False
    doomed: set[str] = field(default_factory=set[str])
    limited: str | None = None
    broom: threading.Event = field(default_factory=threading.Event)
    gate: threading.Event = field(default_factory=threading.Event)
    first_announced: asyncio.Event = field(default_factory=asyncio.Event)
    kernel: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.gate.set()
        self.broom.set()
        self.plugin = self.start()

    def start(self) -> Plugin:
        return Plugin(
            Allocator(self.store, [IPv4Network("10.1.0.0/29")], node="n"),
            kernel=self.kernel,
            mtu=lambda: 1480,
            on_change=self.on_change,
            ready=self.ready,
            limited=lambda: self.limited,
        )

    def on_change(self) -> None:
        self.announced = self.plugin.endpoints()
        self.first_announced.set()
        self.log.append(f"announce {len(self.announced)}")

    def ready(self) -> None:
        if self.unready:
            raise self.unready

    def make(self, plan: wiring.Wire) -> wiring.Pair:
        self.log.append("make")
        self.links.add(plan.host_interface)
        return wiring.Pair(1, 2)

    def wire(self, plan: wiring.Wire, _: wiring.Pair) -> Attachment:
        assert self.gate.wait(10)
        self.log.append("wire")
        if self.wiring_fails:
            self.links.discard(plan.host_interface)
            raise self.wiring_fails
        return Attachment(plan.host_interface, "", plan.interface, "", plan.sandbox, plan.addresses, plan.mtu)

    def doom(self, name: str, addresses: object, **_: int) -> bool:
        self.log.append("doom")
        if name in self.links:
            self.doomed.add(name)
        return name in self.links

    def remove(self, names: Collection[str]) -> dict[str, str]:
        assert self.broom.wait(10)
        self.log.append("remove")
        if self.stuck:
            return dict.fromkeys(names, "Device or resource busy")
        self.links -= set(names)
        self.doomed -= set(names)
        return {}

    def survey(self) -> dict[str, veths.Veth]:
        return {name: veths.Veth(name, name in self.doomed) for name in self.links}

    async def call(
        self,
        command: str,
        container: str = "c",
        interface: str = "eth0",
        fields: Mapping[str, object] | None = None,
        **more: str,
    ) -> tuple[int, str]:
        variables = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_IFNAME": interface,
            "CNI_NETNS": "/run/netns/x",
            **more,
        }
        configuration = {**CONFIGURATION, **(fields or {})}
        payload = b"\0".join(f"{key}={value}".encode() for key, value in variables.items())
        status, output = await self.plugin.handle(payload + b"\0\0" + json.dumps(configuration).encode())
        return status, output.decode()

    async def swept(self) -> None:
        """Until the janitor has nothing to do."""
        if task := self.plugin._janitor._task:
            await asyncio.wait_for(task, 10)

    async def held(self) -> list[str]:
        fresh = Allocator(self.store, [IPv4Network("10.1.0.0/29")], node="n")
        await fresh.load()
        return [held.handle for held in fresh.allocations().values()]


Story = Callable[[World], Awaitable[None]]
Tell = Callable[[Story], None]

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from routed.errors import EnvironmentFault
from routed.ipam.allocator import Allocator
from routed.model.endpoint import Endpoint
from routed.store import Compare, Delete, Put, Txn
from routed.store.sqlite import SqliteStore
from routed_cni import wiring
from routed_cni.plugin import Plugin
from routed_cni.protocol import Attachment, CniError, Code

FIRST = IPv4Address("10.1.0.1")


class MoodyStore(SqliteStore):
    """The embedded store, that can be away."""

    away = False

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
    announced: Mapping[IPv4Address, Endpoint] = field(default_factory=dict[IPv4Address, Endpoint])
    unready: EnvironmentFault | None = None
    wiring_fails: Exception | None = None
    gate: threading.Event = field(default_factory=threading.Event)
    first_announced: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()
        self.plugin = self.start()

    def start(self) -> Plugin:
        return Plugin(
            Allocator(self.store, [IPv4Network("10.1.0.0/29")], node="n"),
            mtu=lambda: 1480,
            on_change=self.on_change,
            ready=self.ready,
        )

    def on_change(self, endpoints: Mapping[IPv4Address, Endpoint]) -> None:
        self.announced = endpoints
        self.first_announced.set()
        self.log.append(f"announce {len(endpoints)}")

    def ready(self) -> None:
        if self.unready:
            raise self.unready

    def wire(self, plan: wiring.Wire) -> Attachment:
        assert self.gate.wait(10)
        self.log.append("wire")
        if self.wiring_fails:
            raise self.wiring_fails
        self.links.add(plan.host_interface)
        return Attachment(plan.host_interface, "", plan.interface, "", plan.sandbox, plan.addresses, plan.mtu)

    def unwire(self, name: str) -> bool:
        self.log.append("unwire")
        self.links.discard(name)
        return True

    configuration = b'{"cniVersion":"1.0.0","name":"n","type":"t"}'

    async def call(self, command: str, container: str = "c", interface: str = "eth0", **more: str) -> tuple[int, str]:
        variables = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_IFNAME": interface,
            "CNI_NETNS": "/run/netns/x",
            **more,
        }
        payload = b"\0".join(f"{key}={value}".encode() for key, value in variables.items())
        status, output = await self.plugin.handle(payload + b"\0\0" + self.configuration)
        return status, output.decode()

    async def held(self) -> list[str]:
        fresh = Allocator(self.store, [IPv4Network("10.1.0.0/29")], node="n")
        await fresh.load()
        return [held.handle for held in fresh.allocations().values()]


Story = Callable[[World], Awaitable[None]]


@pytest.fixture
def tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Story], None]:
    async def told(story: Story) -> None:
        world = World(MoodyStore(tmp_path / "store.db"))
        monkeypatch.setattr(wiring, "wire", world.wire)
        monkeypatch.setattr(wiring, "unwire", world.unwire)
        try:
            await story(world)
        finally:
            world.plugin.close()
            await world.store.close()

    return lambda story: asyncio.run(told(story))


Tell = Callable[[Story], None]


def test_an_add_answers_with_the_address_and_both_interfaces(tell: Tell):
    async def story(world: World) -> None:
        status, output = await world.call("ADD")
        result = json.loads(output)
        assert status == 0
        assert result["ips"] == [{"address": "10.1.0.1/32", "gateway": "169.254.1.1", "interface": 1}]
        assert [interface["name"] for interface in result["interfaces"]] == [*world.links, "eth0"]

    tell(story)


def test_an_endpoint_is_announced_before_its_link_is_made_and_withdrawn_before_it_is_deleted(tell: Tell):
    async def story(world: World) -> None:
        await world.call("ADD")
        await world.call("DEL")
        assert world.log == ["announce 1", "wire", "announce 0", "unwire"]

    tell(story)


def test_endpoints_are_known_to_a_restarted_agent(tell: Tell):
    async def story(world: World) -> None:
        await world.call("ADD", "c1", "eth0")
        await world.call("ADD", "c1", "eth0.5")
        before = world.plugin.endpoints()
        assert before[FIRST] == Endpoint("c1", "eth0", FIRST, wiring.host_interface("c1", "eth0"))
        world.plugin = world.start()
        await world.call("DEL", "none")
        assert world.plugin.endpoints() == before
        assert len(before) == 2

    tell(story)


def test_allocations_that_are_no_pods_are_no_endpoints(tell: Tell):
    async def story(world: World) -> None:
        allocator = Allocator(world.store, [IPv4Network("10.1.0.0/29")], node="n")
        await allocator.assign("tunnel")
        await world.call("ADD")
        assert list(world.plugin.endpoints()) == [IPv4Address("10.1.0.2")]

    tell(story)


def test_the_allocation_says_whose_it_is(tell: Tell):
    async def story(world: World) -> None:
        await world.call("ADD", "c", "eth0", CNI_ARGS="K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_UID=")
        fresh = Allocator(world.store, [IPv4Network("10.1.0.0/29")], node="n")
        await fresh.load()
        held = fresh.allocations()[FIRST]
        assert held.handle == "cni.c.eth0"
        assert held.attributes == {
            "containerID": "c",
            "interface": "eth0",
            "network": "n",
            "namespace": "shop",
            "pod": "web",
        }

    tell(story)


ASKING = (
    b'{"cniVersion":"1.0.0","name":"n","type":"t","runtimeConfig":{"io.kubernetes.cri.pod-annotations":'
    b'{"cni.projectcalico.org/ipAddrs":"[\\"10.1.0.5\\"]"}}}'
)


def test_a_pod_gets_the_address_that_its_annotation_asks_for(tell: Tell):
    async def story(world: World) -> None:
        world.configuration = ASKING
        status, output = await world.call("ADD")
        assert (status, "10.1.0.5/32" in output) == (0, True)
        status, output = await world.call("ADD", "another")
        assert (status, "10.1.0.5 is held by cni.c.eth0" in output) == (1, True)
        assert await world.held() == ["cni.c.eth0"]

    tell(story)


def test_pods_whose_names_differ_in_their_dots_only_are_two(tell: Tell):
    async def story(world: World) -> None:
        await world.call("ADD", "a.b", "c")
        await world.call("ADD", "a", "b.c")
        assert len(world.plugin.endpoints()) == len(world.links) == 2

    tell(story)


def test_a_failed_wiring_takes_no_address_and_leaves_no_endpoint(tell: Tell):
    async def story(world: World) -> None:
        world.wiring_fails = CniError(Code.INVALID_ENVIRONMENT, "CNI_NETNS /x: No such file or directory", "hint")
        status, output = await world.call("ADD")
        assert (status, json.loads(output)["code"]) == (1, 4)
        assert (await world.held(), dict(world.announced), world.links) == ([], {}, set())

    tell(story)


def test_a_fault_of_ours_is_told_logged_and_undone(tell: Tell, caplog: pytest.LogCaptureFixture):
    async def story(world: World) -> None:
        world.wiring_fails = KeyError("x")
        status, output = await world.call("ADD")
        assert (status, json.loads(output)["code"]) == (1, 100)
        assert await world.held() == []

    tell(story)
    assert "Traceback" in caplog.text


def test_a_failing_retry_leaves_the_running_pod_what_the_first_add_gave_it(tell: Tell):
    async def story(world: World) -> None:
        await world.call("ADD")
        world.wiring_fails = CniError(Code.INVALID_ENVIRONMENT, "no")
        assert (await world.call("ADD"))[0] == 1
        assert await world.held() == ["cni.c.eth0"]
        assert list(world.announced) == [FIRST]
        assert len(world.links) == 1

    tell(story)


def test_a_repeated_add_gets_the_same_address(tell: Tell):
    async def story(world: World) -> None:
        assert await world.call("ADD") == await world.call("ADD")

    tell(story)


def test_a_delete_succeeds_however_often_and_for_what_never_was(tell: Tell):
    async def story(world: World) -> None:
        await world.call("ADD")
        for _ in range(3):
            assert await world.call("DEL", CNI_NETNS="") == (0, "")
        assert await world.call("DEL", "never") == (0, "")
        assert await world.held() == []

    tell(story)


def test_while_the_agent_is_not_ready_adds_wait_and_deletes_do_not(tell: Tell):
    async def story(world: World) -> None:
        await world.call("ADD")
        world.unready = EnvironmentFault("waiting for BGP", hint="see routed node status")
        status, output = await world.call("ADD", "other")
        assert status == 1
        assert json.loads(output) == {
            "cniVersion": "1.0.0",
            "code": 11,
            "msg": "routed agent is not ready: waiting for BGP",
            "details": "see routed node status",
        }
        assert await world.call("DEL") == (0, "")

    tell(story)


def test_status_is_an_error_of_its_own_code_until_the_agent_is_ready(tell: Tell):
    async def story(world: World) -> None:
        world.unready = EnvironmentFault("waiting for BGP")
        assert json.loads((await world.call("STATUS"))[1])["code"] == 50
        world.unready = None
        assert await world.call("STATUS") == (0, "")

    tell(story)


def test_an_add_without_the_store_is_to_be_tried_again_and_wires_nothing(tell: Tell):
    async def story(world: World) -> None:
        world.store.away = True
        status, output = await world.call("ADD")
        assert (status, json.loads(output)["code"], json.loads(output)["msg"]) == (1, 11, "store: unreachable")
        assert "wire" not in world.log
        world.store.away = False
        assert "10.1.0.1/32" in (await world.call("ADD"))[1]

    tell(story)


def test_a_delete_that_cannot_free_the_address_is_an_error_and_the_next_one_frees_it(tell: Tell):
    async def story(world: World) -> None:
        await world.call("ADD")
        world.store.away = True
        status, output = await world.call("DEL")
        assert (status, json.loads(output)["code"]) == (1, 11)
        assert dict(world.plugin.endpoints()) == {}
        world.store.away = False
        assert await world.call("DEL") == (0, "")
        assert await world.held() == []

    tell(story)


@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_a_request_that_finds_the_agent_stopping_is_to_be_tried_again(tell: Tell, command: str):
    async def story(world: World) -> None:
        await world.call("ADD", "other")
        world.plugin.close()
        status, output = await world.call(command)
        assert (status, json.loads(output)["code"], json.loads(output)["msg"]) == (1, 11, "routed agent is stopping")
        world.plugin = world.start()
        assert await world.call("DEL") == (0, "")
        assert await world.held() == ["cni.other.eth0"]

    tell(story)


def test_a_full_node_says_so_and_an_address_is_there_after_a_delete(tell: Tell):
    async def story(world: World) -> None:
        for number in range(6):
            assert (await world.call("ADD", f"c{number}"))[0] == 0
        status, output = await world.call("ADD", "more")
        assert (status, json.loads(output)["code"]) == (1, 11)
        assert "all 6 usable addresses" in json.loads(output)["msg"]
        await world.call("DEL", "c3")
        assert "10.1.0.4/32" in (await world.call("ADD", "more"))[1]

    tell(story)


def test_a_delete_sent_while_the_add_runs_is_carried_out_after_it(tell: Tell):
    async def story(world: World) -> None:
        world.gate.clear()
        adding = asyncio.create_task(world.call("ADD"))
        await world.first_announced.wait()
        deleting = asyncio.create_task(world.call("DEL"))
        await asyncio.sleep(0.01)
        assert not deleting.done()
        world.gate.set()
        assert [status for status, _ in await asyncio.gather(adding, deleting)] == [0, 0]
        assert (world.links, await world.held(), dict(world.announced)) == (set(), [], {})

    tell(story)


def test_a_cancelled_add_is_undone(tell: Tell):
    async def story(world: World) -> None:
        world.gate.clear()
        adding = asyncio.create_task(world.call("ADD"))
        await world.first_announced.wait()
        adding.cancel()
        await asyncio.sleep(0)
        world.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await adding
        assert (world.links, await world.held(), dict(world.announced)) == (set(), [], {})

    tell(story)


def test_parallel_adds_get_different_addresses(tell: Tell):
    async def story(world: World) -> None:
        answers = await asyncio.gather(*(world.call("ADD", f"c{number}") for number in range(6)))
        assert len({json.loads(output)["ips"][0]["address"] for _, output in answers}) == 6
        assert len(world.announced) == 6

    tell(story)


def test_a_malformed_request_is_answered_as_the_specification_says(tell: Tell):
    async def story(world: World) -> None:
        status, output = await world.plugin.handle(b"CNI_COMMAND=ADD\0\0{")
        assert (status, json.loads(output)["code"]) == (1, 4)
        assert world.log == []

    tell(story)

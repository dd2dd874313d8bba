from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from routed.errors import EnvironmentFault
from routed.ipam.allocator import Allocator
from routed.model.address import AnyAddress
from routed.model.endpoint import Endpoint
from routed.store import Compare, Delete, Put, Txn
from routed.store.sqlite import SqliteStore
from routed_cni import veths, wiring
from routed_cni.faults import CniError, Code
from routed_cni.plugin import Plugin
from routed_cni.results import Attachment

FIRST = IPv4Address("10.1.0.1")
CONFIGURATION = {"cniVersion": "1.0.0", "name": "n", "type": "t"}
NEWEST = {"cniVersion": "1.1.0"}


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


@pytest.fixture
def tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Story], None]:
    async def told(story: Story) -> None:
        world = World(MoodyStore(tmp_path / "store.db"))
        monkeypatch.setattr(wiring, "make", world.make)
        monkeypatch.setattr(wiring, "wire", world.wire)
        monkeypatch.setattr(wiring, "occupied", lambda _: bool(world.links))
        for name in ("doom", "remove", "survey"):
            monkeypatch.setattr(veths, name, getattr(world, name))
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


def test_an_endpoint_is_announced_before_its_route_is_made_and_withdrawn_before_it_is_given_up(tell: Tell):
    async def story(world: World) -> None:
        await world.call("ADD")
        await world.call("DEL")
        await world.swept()
        assert world.log == ["make", "announce 1", "wire", "announce 0", "doom", "remove"]

    tell(story)


def test_endpoints_are_known_to_a_restarted_agent(tell: Tell):
    async def story(world: World) -> None:
        await world.call("ADD", "c1", "eth0")
        await world.call("ADD", "c1", "eth0.5")
        before = dict(world.plugin.endpoints())
        assert before[FIRST] == Endpoint("c1", "eth0", FIRST, veths.host_interface("c1", "eth0"))
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


ASKING = {"runtimeConfig": {"io.kubernetes.cri.pod-annotations": {"cni.projectcalico.org/ipAddrs": '["10.1.0.5"]'}}}


def test_a_pod_gets_the_address_that_its_annotation_asks_for(tell: Tell):
    async def story(world: World) -> None:
        status, output = await world.call("ADD", fields=ASKING)
        assert (status, "10.1.0.5/32" in output) == (0, True)
        status, output = await world.call("ADD", "another", fields=ASKING)
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


@pytest.mark.parametrize("restarted", [False, True])
def test_a_failing_retry_leaves_the_running_pod_what_the_first_add_gave_it(tell: Tell, *, restarted: bool):
    async def story(world: World) -> None:
        await world.call("ADD")
        if restarted:
            world.plugin = world.start()
            await world.plugin.repair()
        world.wiring_fails = CniError(Code.INVALID_ENVIRONMENT, "no")
        assert (await world.call("ADD"))[0] == 1
        assert await world.held() == ["cni.c.eth0"]
        assert list(world.announced) == [FIRST]

    tell(story)


def test_an_add_that_fails_where_a_deleted_pod_was_is_undone(tell: Tell):
    async def story(world: World) -> None:
        await world.call("ADD")
        await world.call("DEL")
        await world.swept()
        world.wiring_fails = CniError(Code.INVALID_ENVIRONMENT, "no")
        assert (await world.call("ADD"))[0] == 1
        await world.swept()
        assert await world.held() == []

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
        await world.swept()
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
        assert json.loads((await world.call("STATUS", fields=NEWEST))[1])["code"] == 50
        world.unready = None
        assert await world.call("STATUS", fields=NEWEST) == (0, "")

    tell(story)


def test_an_add_without_the_store_is_to_be_tried_again_and_wires_nothing(tell: Tell):
    async def story(world: World) -> None:
        world.store.away = True
        status, output = await world.call("ADD")
        assert (status, json.loads(output)["code"], json.loads(output)["msg"]) == (1, 11, "store: unreachable")
        assert "wire" not in world.log
        await world.swept()
        assert world.links == set()
        world.store.away = False
        assert "10.1.0.1/32" in (await world.call("ADD"))[1]

    tell(story)


def test_an_address_that_cannot_be_freed_stays_taken_until_the_store_is_back(tell: Tell):
    async def story(world: World) -> None:
        await world.call("ADD")
        world.store.away = True
        assert await world.call("DEL") == (0, "")
        assert dict(world.plugin.endpoints()) == {}
        status, output = await world.call("ADD")
        assert (status, json.loads(output)["msg"]) == (1, "store: unreachable")
        world.store.away = False
        await world.swept()
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
        await world.swept()
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
        await world.swept()
        assert (world.links, await world.held(), dict(world.announced)) == (set(), [], {})

    tell(story)


def test_an_add_waits_for_no_round_of_the_reconciler_and_a_delete_does(tell: Tell):
    async def story(world: World) -> None:
        async with world.kernel:
            assert (await asyncio.wait_for(world.call("ADD"), 10))[0] == 0
            assert world.log.index("announce 1") < world.log.index("wire")
            world.first_announced.clear()
            leaving = asyncio.create_task(world.call("DEL"))
            await asyncio.wait_for(world.first_announced.wait(), 10)
            assert world.log[-1] == "announce 0"
        assert (await asyncio.wait_for(leaving, 10))[0] == 0
        assert "doom" in world.log

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


def test_a_delete_answers_before_the_link_is_gone_and_the_address_is_free_only_then(tell: Tell):
    async def story(world: World) -> None:
        await world.call("ADD")
        world.broom.clear()
        assert await world.call("DEL") == (0, "")
        assert (len(world.links), await world.held()) == (1, ["cni.c.eth0"])
        assert dict(world.plugin.endpoints()) == {}
        world.broom.set()
        await world.swept()
        assert (world.links, await world.held()) == (set(), [])

    tell(story)


def test_links_that_are_given_up_together_are_deleted_in_one_go(tell: Tell):
    async def story(world: World) -> None:
        for number in range(6):
            await world.call("ADD", f"c{number}")
        await asyncio.gather(*(world.call("DEL", f"c{number}") for number in range(6)))
        await world.swept()
        assert (world.links, await world.held()) == (set(), [])
        assert world.log.count("remove") == 1

    tell(story)


def test_an_add_of_the_same_interface_first_finishes_the_link_that_leaves(tell: Tell):
    async def story(world: World) -> None:
        await world.call("ADD")
        await world.call("DEL")
        _, output = await world.call("ADD")
        assert json.loads(output)["ips"][0]["address"] == "10.1.0.2/32"
        added = ["make", "announce 1", "wire"]
        assert world.log == [*added, "announce 0", "doom", "remove", *added]
        await world.swept()
        assert (len(world.links), await world.held()) == (1, ["cni.c.eth0"])

    tell(story)


def test_an_add_into_a_sandbox_whose_last_link_leaves_first_finishes_that(tell: Tell):
    async def story(world: World) -> None:
        await world.call("ADD", "old")
        await world.call("DEL", "old")
        await world.call("ADD", "new")
        assert world.log[-4:] == ["remove", "make", "announce 1", "wire"]

    tell(story)


def test_an_add_that_finds_no_address_takes_one_that_leaves(tell: Tell, monkeypatch: pytest.MonkeyPatch):
    async def story(world: World) -> None:
        monkeypatch.setattr(wiring, "occupied", lambda _: False)
        for number in range(6):
            await world.call("ADD", f"c{number}")
        await world.call("DEL", "c2")
        assert "10.1.0.3/32" in (await world.call("ADD", "new"))[1]

    tell(story)


def test_a_link_that_cannot_be_deleted_keeps_its_address_and_an_add_says_why(tell: Tell):
    async def story(world: World) -> None:
        await world.call("ADD")
        world.stuck = True
        assert await world.call("DEL") == (0, "")
        status, output = await world.call("ADD")
        assert (status, json.loads(output)["code"]) == (1, 11)
        assert "Device or resource busy" in json.loads(output)["msg"]
        assert await world.held() == ["cni.c.eth0"]
        world.stuck = False
        assert (await world.call("ADD"))[0] == 0

    tell(story)


@pytest.mark.parametrize("left", ["a marked link", "a link without its address", "an address without its link"])
def test_what_a_killed_agent_left_is_put_right_at_start(tell: Tell, left: str):
    async def story(world: World) -> None:
        await world.call("ADD", "kept")
        await world.call("ADD", "lost")
        name = veths.host_interface("lost", "eth0")
        match left:
            case "a marked link":
                world.doomed.add(name)
            case "a link without its address":
                await Allocator(world.store, [IPv4Network("10.1.0.0/29")], node="n").release("cni.lost.eth0")
            case _:
                world.links.remove(name)
        world.plugin.close()
        world.plugin = world.start()
        await world.plugin.repair()
        assert [endpoint.container_id for endpoint in world.plugin.endpoints().values()] == ["kept"]
        await world.swept()
        assert (world.links, await world.held()) == ({veths.host_interface("kept", "eth0")}, ["cni.kept.eth0"])

    tell(story)


def test_a_start_after_a_good_end_changes_nothing(tell: Tell):
    async def story(world: World) -> None:
        await world.call("ADD")
        world.plugin.close()
        world.plugin, world.log = world.start(), []
        await world.plugin.repair()
        assert not world.plugin._janitor.pending
        assert world.log == []

    tell(story)


def test_status_says_why_pods_may_not_be_reached(tell: Tell):
    """Section 2, STATUS: 51 where also containers that are there have limited connectivity."""

    async def story(world: World) -> None:
        world.limited = "waiting for End-of-RIB from tor"
        status, output = await world.call("STATUS", fields=NEWEST)
        assert (status, json.loads(output)["code"]) == (1, 51)
        assert "End-of-RIB from tor" in json.loads(output)["msg"]

    tell(story)


def collect(*valid: tuple[str, str]) -> dict[str, object]:
    return {**NEWEST, "cni.dev/valid-attachments": [{"containerID": c, "ifname": i} for c, i in valid]}


def test_gc_keeps_the_valid_attachments_and_frees_the_rest(tell: Tell):
    """Section 2, GC: what a plugin holds for attachments that are not listed is removed when it answers."""

    async def story(world: World) -> None:
        for container, interface in (("a", "eth0"), ("a", "eth1"), ("b", "eth0")):
            await world.call("ADD", container, interface)
        assert await world.call("GC", fields=collect(("a", "eth0"), ("unknown", "eth0"))) == (0, "")
        assert (world.links, await world.held()) == ({veths.host_interface("a", "eth0")}, ["cni.a.eth0"])

    tell(story)


def test_gc_leaves_other_networks_alone(tell: Tell):
    """Section 2, GC: it is about the attachments to one network."""

    async def story(world: World) -> None:
        await world.call("ADD", "a", fields={"name": "other"})
        await world.call("ADD", "b")
        await world.call("GC", fields=collect())
        assert await world.held() == ["cni.a.eth0"]

    tell(story)


def test_gc_leaves_alone_what_is_being_added(tell: Tell):
    async def story(world: World) -> None:
        world.gate.clear()
        adding = asyncio.create_task(world.call("ADD"))
        await world.first_announced.wait()
        collecting = asyncio.create_task(world.call("GC", fields=collect()))
        await asyncio.sleep(0.01)
        world.gate.set()
        assert [status for status, _ in await asyncio.gather(adding, collecting)] == [0, 0]
        assert await world.held() == ["cni.c.eth0"]

    tell(story)


def test_gc_removes_as_much_as_it_can_and_then_tells_what_it_could_not(tell: Tell, monkeypatch: pytest.MonkeyPatch):
    """Section 2, GC: "continue; removing as many resources as possible, and report the errors"."""

    async def story(world: World) -> None:
        for container in ("a", "b", "c"):
            await world.call("ADD", container)
        stubborn, doom = veths.host_interface("b", "eth0"), veths.doom

        def refuse(name: str, *arguments: Any, **more: Any) -> bool:
            if name == stubborn:
                raise CniError(Code.IO_FAILURE, "cannot give it up")
            return doom(name, *arguments, **more)

        monkeypatch.setattr(veths, "doom", refuse)
        status, output = await world.call("GC", fields=collect())
        assert (status, "b/eth0: cannot give it up" in json.loads(output)["msg"]) == (1, True)
        assert (world.links, await world.held()) == ({stubborn}, ["cni.b.eth0"])

    tell(story)

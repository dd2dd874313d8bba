"""ADD over a real store, with links that are only names: what is given, announced, and undone."""

from __future__ import annotations

import asyncio
import json
from ipaddress import IPv4Address, IPv4Network

import pytest
from tests.unit.cni.world import FIRST, Tell, World

from routed.ipam.allocator import Allocator
from routed_cni.faults import CniError, Code


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


@pytest.mark.spec("CNI 1.1.0", "5 Error.10")
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


@pytest.mark.spec("CNI 1.1.0", "3 Lifecycle.4")
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

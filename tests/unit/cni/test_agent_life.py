"""What a stopping agent answers, and a starting one puts right."""

from __future__ import annotations

import json
from ipaddress import IPv4Network

import pytest
from tests.unit.cni.world import FIRST, Tell, World

from routed.ipam.allocator import Allocator
from routed.model.endpoint import Endpoint
from routed_cni import veths


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

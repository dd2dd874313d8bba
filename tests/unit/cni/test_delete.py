"""DEL, and the links that leave after it."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.unit.cni.world import Tell, World

from routed_cni import wiring


@pytest.mark.spec("CNI 1.1.0", "2 DEL.3")
def test_a_delete_succeeds_however_often_and_for_what_never_was(tell: Tell):
    async def story(world: World) -> None:
        await world.call("ADD")
        for _ in range(3):
            assert await world.call("DEL", CNI_NETNS="") == (0, "")
        assert await world.call("DEL", "never") == (0, "")
        await world.swept()
        assert await world.held() == []

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

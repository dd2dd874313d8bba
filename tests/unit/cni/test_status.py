"""STATUS, and what is answered while the agent is not ready."""

from __future__ import annotations

import json

import pytest
from tests.unit.cni.world import NEWEST, Tell, World

from routed.errors import EnvironmentFault


@pytest.mark.spec("CNI 1.1.0", "2 STATUS.1", "2 STATUS.2")
def test_status_is_an_error_of_its_own_code_until_the_agent_is_ready(tell: Tell):
    async def story(world: World) -> None:
        world.unready = EnvironmentFault("waiting for BGP")
        assert json.loads((await world.call("STATUS", fields=NEWEST))[1])["code"] == 50
        world.unready = None
        assert await world.call("STATUS", fields=NEWEST) == (0, "")

    tell(story)


@pytest.mark.spec("CNI 1.1.0", "2 STATUS.2", "2 STATUS.3")
def test_status_says_why_pods_may_not_be_reached(tell: Tell):
    """Section 2, STATUS: 51 where also containers that are there have limited connectivity."""

    async def story(world: World) -> None:
        world.limited = "waiting for End-of-RIB from tor"
        status, output = await world.call("STATUS", fields=NEWEST)
        assert (status, json.loads(output)["code"]) == (1, 51)
        assert "End-of-RIB from tor" in json.loads(output)["msg"]

    tell(story)


@pytest.mark.spec("CNI 1.1.0", "2 STATUS.3")
def test_status_says_when_no_address_is_left_and_takes_none(tell: Tell):
    async def story(world: World) -> None:
        for number in range(6):
            assert await world.call("STATUS", fields=NEWEST) == (0, "")
            await world.call("ADD", f"c{number}")
        status, output = await world.call("STATUS", fields=NEWEST)
        assert (status, json.loads(output)["code"]) == (1, 50)
        assert "all 6 usable addresses" in json.loads(output)["msg"]
        world.broom.clear()
        await world.call("DEL", "c3")
        assert await world.call("STATUS", fields=NEWEST) == (0, "")
        world.broom.set()
        await world.swept()
        assert await world.call("STATUS", fields=NEWEST) == (0, "")
        assert sorted(await world.held()) == [f"cni.c{number}.eth0" for number in range(6) if number != 3]

    tell(story)


@pytest.mark.spec("CNI 1.1.0", "2 STATUS.3")
@pytest.mark.parametrize("ipam", [{"ipv4_pools": ["gone"]}, {"range": "10.0.0.0/8"}])
def test_status_says_when_no_add_can_succeed_with_this_configuration(tell: Tell, ipam: dict[str, object]):
    async def story(world: World) -> None:
        status, output = await world.call("STATUS", fields={**NEWEST, "ipam": ipam})
        assert (status, json.loads(output)["code"]) == (1, 50)
        assert str(next(iter(ipam))) in json.loads(output)["msg"]

    tell(story)


@pytest.mark.spec("CNI 1.1.0", "2 STATUS.2")
def test_status_refuses_the_ipam_plugin_that_add_refuses_and_delete_does_not(tell: Tell):
    async def story(world: World) -> None:
        fields = {**NEWEST, "ipam": {"type": "dhcp"}}
        for command in ("STATUS", "ADD"):
            status, output = await world.call(command, fields=fields)
            assert (status, json.loads(output)["code"]) == (1, 7)
            assert "leave ipam.type out" in json.loads(output)["details"]
        assert await world.call("DEL", fields=fields) == (0, "")

    tell(story)


@pytest.mark.spec("CNI 1.1.0", "2 STATUS.3")
def test_status_says_when_the_store_is_away(tell: Tell):
    async def story(world: World) -> None:
        world.store.away = True
        status, output = await world.call("STATUS", fields=NEWEST)
        assert (status, json.loads(output)["code"], json.loads(output)["msg"]) == (1, 50, "store: unreachable")
        world.store.away = False
        assert await world.call("STATUS", fields=NEWEST) == (0, "")

    tell(story)


@pytest.mark.spec("CNI 1.1.0", "2 STATUS.4", "2 STATUS.5", "5 Error.9")
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

"""GC: specification section 2."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.unit.cni.world import NEWEST, Tell, World

from routed_cni import veths
from routed_cni.faults import CniError, Code


def collect(*valid: tuple[str, str]) -> dict[str, object]:
    return {**NEWEST, "cni.dev/valid-attachments": [{"containerID": c, "ifname": i} for c, i in valid]}


@pytest.mark.spec("CNI 1.1.0", "2 GC.1", "2 GC.8")
def test_gc_keeps_the_valid_attachments_and_frees_the_rest(tell: Tell):
    """Section 2, GC: what a plugin holds for attachments that are not listed is removed when it answers."""

    async def story(world: World) -> None:
        for container, interface in (("a", "eth0"), ("a", "eth1"), ("b", "eth0")):
            await world.call("ADD", container, interface)
        assert await world.call("GC", fields=collect(("a", "eth0"), ("unknown", "eth0"))) == (0, "")
        assert (world.links, await world.held()) == ({veths.host_interface("a", "eth0")}, ["cni.a.eth0"])

    tell(story)


@pytest.mark.spec("CNI 1.1.0", "2 GC.2")
def test_gc_leaves_other_networks_alone(tell: Tell):
    """Section 2, GC: it is about the attachments to one network."""

    async def story(world: World) -> None:
        await world.call("ADD", "a", fields={"name": "other"})
        await world.call("ADD", "b")
        await world.call("GC", fields=collect())
        assert await world.held() == ["cni.a.eth0"]

    tell(story)


@pytest.mark.spec("CNI 1.1.0", "3 Lifecycle.3")
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


@pytest.mark.spec("CNI 1.1.0", "2 GC.3", "2 GC.8")
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

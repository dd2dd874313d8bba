"""Sandboxes that go without a DEL: what they held is taken back, and nobody else's."""

from __future__ import annotations

from tests.kernel.agent.world import POOL, World, member
from tests.waiting import until


def handles(world: World) -> list[str]:
    return sorted(handle for held in world.held().values() for handle in held if handle.startswith("cni."))


def test_an_address_of_a_sandbox_that_went_without_a_del_is_taken_back_after_the_grace_time(world: World):
    world.apply(POOL, member(1))
    node = world.node(1, leak_grace_seconds=1)
    node.start()
    node.ready(40)
    stays, goes = world.pod(node), world.pod(node)
    assert len(handles(world)) == 2
    goes.namespace.close()
    until(lambda: handles(world) == [f"cni.{stays.namespace.name}.eth0"], 30)
    until(lambda: "routed_ipam_leaks_released_total 1.0" in node.http("/metrics", 9091)[1], 10)
    assert any("its interface is gone without a DEL" in line for line in node.log.read_text().splitlines())
    assert node.cni("DEL", goes.namespace.name, goes.namespace.path) == (0, {})

"""Many links deleted at once, as the kernel carries it out."""

from __future__ import annotations

import errno

from tests.kernel.felix.world import World

from routed.netlink.links import delete_links
from routed.netlink.socket import Netlink


def _veths(world: World, count: int) -> list[int]:
    for number in range(count):
        world.ip("link", "add", f"v{number}", "type", "veth", "peer", "name", f"p{number}")
    return [link["ifindex"] for link in world.look("link") if link["ifname"].startswith("v")]


def _names(world: World) -> set[str]:
    return {link["ifname"] for link in world.look("link")}


def test_they_and_their_other_ends_are_gone_and_nothing_else(world: World) -> None:
    before = _names(world)
    indices = _veths(world, 30)
    world.ip("link", "add", "other", "type", "veth", "peer", "name", "end")

    with Netlink.open_in(world.path) as netlink:
        assert delete_links(netlink, indices) == {}

    assert _names(world) == {*before, "other", "end"}


def test_what_is_gone_already_is_no_failure(world: World) -> None:
    indices = _veths(world, 3)
    world.ip("link", "del", "v1")

    with Netlink.open_in(world.path) as netlink:
        assert delete_links(netlink, indices) == {}
        assert delete_links(netlink, indices) == {}
        assert delete_links(netlink, []) == {}


def test_what_cannot_be_deleted_is_told(world: World) -> None:
    loopback = next(link["ifindex"] for link in world.look("link") if link["ifname"] == "lo")

    with Netlink.open_in(world.path) as netlink:
        assert delete_links(netlink, [loopback]) == {0: errno.EOPNOTSUPP}
        world.ip("link", "set", "lo", "group", "default")

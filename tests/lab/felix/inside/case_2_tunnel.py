"""tunl0 on a kernel that has the driver; the witness is iproute2."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest
from tests.kernel.felix.words import via, wanted
from tests.kernel.felix.world import World
from tests.lab.felix.inside.words import FAR, NEAR, OWN, TUNNELLED, tunnelled
from tests.unit.felix.words import learned, view

from routed_felix.calc import desired
from routed_felix.cleanup import cleanup
from routed_felix.dataplane import Dataplane
from routed_felix.monitor import Monitor
from routed_felix.state import Desired, Settings

DELROUTE = 25
FALLBACK = Path("/proc/sys/net/core/fb_tunnels_only_for_init_net")


@pytest.fixture
def plane(world: World) -> Iterator[Dataplane]:
    with Dataplane(Settings(), world.path) as opened:
        yield opened


def test_the_tunnel_stands_with_mtu_alias_address_and_loose_filter(world: World, plane: Dataplane) -> None:
    assert plane.apply(TUNNELLED).complete
    link = world.link("tunl0")
    assert (link["mtu"], link["ifalias"], "UP" in link["flags"]) == (1480, "routed:tunnel", True)
    assert world.addresses("tunl0") == ["192.168.11.1/32"]
    assert world.sysctl("net/ipv4/conf/tunl0/rp_filter") == "2"


def test_a_tunnel_route_is_onlink_to_the_member_with_the_tunnel_address_as_source(
    world: World, plane: Dataplane
) -> None:
    plane.apply(TUNNELLED)
    table = world.routes()
    far = table[FAR]
    assert (far["gateway"], far["dev"], far["prefsrc"]) == ("10.2.2.21", "tunl0", "192.168.11.1")
    assert "onlink" in far["flags"]
    assert table[NEAR]["prefsrc"] == "192.168.11.1"


def test_a_second_apply_and_a_restart_write_nothing(world: World, plane: Dataplane) -> None:
    plane.apply(TUNNELLED)
    with world.listen() as listener, Dataplane(Settings(), world.path) as restarted:
        assert plane.apply(TUNNELLED).changed == 0
        assert restarted.apply(TUNNELLED).changed == 0
        assert restarted.holds_routes()
        assert listener.heard() == []


def test_falling_back_to_the_tunnel_and_returning_replaces_and_never_deletes(world: World, plane: Dataplane) -> None:
    direct = tunnelled(far=via("10.1.1.1", source="192.168.11.1"))
    plane.apply(direct)
    with world.listen() as listener:
        plane.apply(TUNNELLED)
        assert world.routes()[FAR]["dev"] == "tunl0"
        plane.apply(direct)
        assert world.routes()[FAR]["dev"] == "eth1"
        assert DELROUTE not in listener.heard()


def test_a_new_tunnel_address_moves_the_routes_before_the_old_one_goes(world: World, plane: Dataplane) -> None:
    plane.apply(TUNNELLED)
    before = set(world.routes())
    with world.listen() as listener:
        assert plane.apply(tunnelled("192.168.11.2")).complete
        heard = listener.heard()
    # the old address' entry in the local table is the only route that goes
    assert heard.count(DELROUTE) == 1
    assert set(world.routes()) == before
    assert world.addresses("tunl0") == ["192.168.11.2/32"]
    assert {entry.get("prefsrc") for entry in world.routes().values()} == {"192.168.11.2", None}


def test_a_new_tunnel_address_after_a_restart_leaves_no_old_one(world: World, plane: Dataplane) -> None:
    plane.apply(TUNNELLED)
    with Dataplane(Settings(), world.path) as restarted:
        assert restarted.apply(tunnelled("192.168.11.2")).complete
    assert world.addresses("tunl0") == ["192.168.11.2/32"]


def test_a_removed_tunnel_address_and_the_routes_it_took_along_come_back(world: World, plane: Dataplane) -> None:
    plane.apply(TUNNELLED)
    right = world.routes()
    world.ip("addr", "del", "192.168.11.1/32", "dev", "tunl0")
    assert set(world.routes()) == {OWN}
    assert plane.apply(TUNNELLED).complete
    assert world.routes() == right


def test_a_tunnel_set_down_by_another_hand_comes_back_with_its_routes(world: World, plane: Dataplane) -> None:
    plane.apply(TUNNELLED)
    with Monitor(Settings(), world.path, own_port=plane.port) as monitor:
        world.ip("link", "set", "tunl0", "down")
        assert monitor.read().interfaces
    assert FAR not in world.routes()
    assert plane.apply(TUNNELLED).complete
    assert world.routes()[FAR]["dev"] == "tunl0"


def test_the_echo_of_our_own_writes_dies_out(world: World, plane: Dataplane) -> None:
    with Monitor(Settings(), world.path, own_port=plane.port) as monitor:
        plane.apply(TUNNELLED)
        for _ in range(2):
            if monitor.read():
                plane.read()
                assert plane.apply(TUNNELLED).changed == 0
        assert not monitor.read()


def test_a_wrong_mtu_is_put_right(world: World, plane: Dataplane) -> None:
    plane.apply(TUNNELLED)
    world.ip("link", "set", "tunl0", "mtu", "1400")
    assert plane.apply(TUNNELLED).changed == 1
    assert world.link("tunl0")["mtu"] == 1480


def test_a_foreign_address_on_the_tunnel_is_named_and_kept(world: World, plane: Dataplane) -> None:
    world.ip("addr", "add", "172.30.0.1/32", "dev", "tunl0")
    report = plane.apply(TUNNELLED)
    assert [conflict.key for conflict in report.conflicts] == [IPv4Interface("172.30.0.1/32")]
    assert "172.30.0.1/32 on tunl0" in report.conflicts[0].message
    assert not report.failures
    plane.apply(Desired())
    assert world.addresses("tunl0") == ["172.30.0.1/32"]
    assert "UP" in world.link("tunl0")["flags"]


def test_cleanup_leaves_the_tunnel_up_while_a_strangers_address_is_on_it_and_names_it(
    world: World, plane: Dataplane
) -> None:
    plane.apply(TUNNELLED)
    world.ip("addr", "add", "172.30.0.1/32", "dev", "tunl0")
    removed = cleanup(Settings(), world.path)
    assert (removed.addresses, removed.tunnel_down) == (("192.168.11.1/32",), False)
    assert "172.30.0.1/32" in removed.failures[0]
    assert [conflict.key for conflict in removed.left] == [IPv4Interface("172.30.0.1/32")]
    assert "UP" in world.link("tunl0")["flags"]


def test_cleanup_sets_the_tunnel_down_and_takes_its_mark_off(world: World, plane: Dataplane) -> None:
    plane.apply(TUNNELLED)
    removed = cleanup(Settings(), world.path)
    assert (len(removed.routes), removed.addresses, removed.tunnel_down) == (3, ("192.168.11.1/32",), True)
    link = world.link("tunl0")
    assert ("ifalias" in link, "UP" in link["flags"]) == (False, False)
    assert world.addresses("tunl0") == []
    assert world.routes() == {}
    assert not cleanup(Settings(), world.path)


def test_a_tunnel_that_a_stranger_set_up_is_used_but_neither_marked_nor_set_down(
    world: World, plane: Dataplane
) -> None:
    world.ip("link", "set", "tunl0", "up")
    assert plane.apply(TUNNELLED).complete
    assert "ifalias" not in world.link("tunl0")
    assert not cleanup(Settings(), world.path).tunnel_down
    assert "UP" in world.link("tunl0")["flags"]
    assert world.addresses("tunl0") == []


def test_the_wanted_address_put_there_by_a_stranger_is_used_and_kept(world: World, plane: Dataplane) -> None:
    world.ip("link", "set", "tunl0", "up")
    world.ip("addr", "add", "192.168.11.1/32", "dev", "tunl0")
    with world.listen() as listener:
        assert plane.apply(Desired(addresses=TUNNELLED.addresses)).complete
        assert listener.heard() == []
    cleanup(Settings(), world.path)
    assert world.addresses("tunl0") == ["192.168.11.1/32"]


def test_cleanup_takes_unmarked_addresses_that_the_caller_names(world: World) -> None:
    world.ip("addr", "add", "192.168.11.1/32", "dev", "tunl0")
    removed = cleanup(Settings(), world.path, addresses=[IPv4Address("192.168.11.1")])
    assert removed.addresses == ("192.168.11.1/32",)
    assert world.addresses("tunl0") == []


def test_a_tunnel_no_longer_wanted_is_taken_down(world: World, plane: Dataplane) -> None:
    plane.apply(TUNNELLED)
    assert plane.apply(wanted({NEAR: via("10.1.1.12")})).complete
    assert world.addresses("tunl0") == []
    assert "UP" not in world.link("tunl0")["flags"]
    assert set(world.routes()) == {NEAR}


def test_where_the_kernel_gives_no_tunl0_it_is_made_and_cleanup_deletes_it() -> None:
    FALLBACK.write_text("2")
    try:
        world = World()
    finally:
        FALLBACK.write_text("0")
    try:
        with Dataplane(Settings(), world.path) as plane:
            assert plane.read().tunnel
            assert plane.apply(TUNNELLED).complete
            assert world.link("tunl0")["linkinfo"]["info_kind"] == "ipip"
            assert world.link("tunl0")["ifalias"] == "routed:tunnel made"
            assert plane.apply(TUNNELLED).changed == 0
        assert cleanup(Settings(), world.path).tunnel_down
        assert "tunl0" not in {link["ifname"] for link in world.look("link")}
    finally:
        world.close()


def test_two_nodes_in_different_subnets_reach_each_other_in_protocol_4(world: World, plane: Dataplane) -> None:
    far = World("10.2.2.21/24", gateway="10.2.2.1", router=world.outside)
    try:
        with Dataplane(Settings(), far.path) as other:
            for name, hands, place, tunnel, block, hop in (
                ("a1", plane, world, "192.168.11.1", FAR, "10.2.2.21"),
                ("b1", other, far, "192.168.21.1", OWN, "10.1.1.11"),
            ):
                kernel = hands.read()
                state = desired(
                    view(
                        node=name,
                        blocks=(),
                        best=learned({block: hop}),
                        interfaces=kernel.interfaces,
                        underlay=kernel.underlay,
                        tunnel=kernel.tunnel,
                        tunnel_address=IPv4Address(tunnel),
                    )
                )
                assert (state.problems, hands.apply(state).complete) == ((), True)
                assert place.sysctl("net/ipv4/ip_forward") == "1"
            world._run("nsenter", f"--net={world.path}", "ping", "-c3", "-i0.2", "-W3", "192.168.21.1")
        for place in (world, far):
            stats = place.look("-s", "link", "show", "dev", "tunl0")[0]["stats64"]
            assert (stats["rx"]["packets"], stats["tx"]["packets"]) == (3, 3)
    finally:
        far.close()

"""VXLAN by the kernel's own driver: the device, its neighbours and forwarding database, and what pods send."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from tests.kernel.felix.overlay import DEVICE, PORT, Member, Wire
from tests.kernel.felix.world import World
from tests.unit.felix import words

from routed.netlink.socket import inside
from routed_felix.cleanup import cleanup
from routed_felix.state import ProblemKind, Settings

A1, B1 = words.NODES["a1"], words.NODES["b1"]
A1_MAC, B1_MAC = "02:72:0a:01:01:0b", "02:72:0a:02:02:15"
TO_B1 = {B1[1]: "10.2.2.21"}
OTHERS = {"10.1.1.12": "02:72:0a:01:01:0c", "10.2.2.21": B1_MAC, "10.2.2.22": "02:72:0a:02:02:16"}
FAR = "192.168.21.5"
DELROUTE = 25


@pytest.fixture
def a1(world: World) -> Iterator[Member]:
    with Member(world, "a1", words.vxlan()) as member:
        yield member


@pytest.fixture
def b1(world: World) -> Iterator[Member]:
    other = World("10.2.2.21/24", gateway="10.2.2.1", router=world.outside)
    try:
        with Member(other, "b1", words.vxlan()) as member:
            yield member
    finally:
        other.close()


def both(a1: Member, b1: Member) -> None:
    for member, best in ((a1, TO_B1), (b1, {A1[1]: "10.1.1.11"})):
        member.wire()
        member.begin()
        member.learns(best)
        member.settle()


# ---- what is there


def test_the_device_has_our_vni_port_address_mtu_and_mark(a1: Member) -> None:
    a1.begin()
    link = a1.world.link(DEVICE)
    data = link["linkinfo"]["info_data"]
    assert (data["id"], data["port"], data["local"], data["learning"]) == (4096, PORT, "10.1.1.11", False)
    assert (link["mtu"], link["ifalias"], link["address"], "UP" in link["flags"]) == (
        1450,
        "routed:vxlan",
        A1_MAC,
        True,
    )
    assert a1.world.addresses(DEVICE) == ["192.168.11.1/32"]
    assert a1.world.sysctl(f"net/ipv4/conf/{DEVICE}/rp_filter") == "2"


def test_every_other_member_is_a_neighbour_with_a_way_to_it_before_any_route_needs_it(a1: Member) -> None:
    assert a1.begin().complete
    assert a1.neighbours() == OTHERS
    assert a1.fdb() == {mac: address for address, mac in OTHERS.items()}
    assert a1.world.routes().keys() == {A1[1]}


def test_members_come_and_go(a1: Member) -> None:
    a1.begin()
    nodes = {name: each for name, each in words.vxlan().nodes.items() if name != "b2"}
    a1.becomes(cluster=replace(words.vxlan(), nodes=nodes))
    assert "10.2.2.22" not in a1.neighbours()
    assert "10.2.2.22" not in a1.fdb().values()
    a1.becomes(cluster=words.vxlan())
    assert a1.neighbours() == OTHERS


def test_it_goes_when_no_pool_needs_it(a1: Member) -> None:
    a1.begin()
    a1.learns(TO_B1)
    assert a1.way(FAR) == (DEVICE, "10.2.2.21")
    a1.becomes(cluster=words.cluster("Never"))
    a1.settle()
    assert a1.way(FAR) == ("eth1", "10.1.1.1")
    assert DEVICE not in {link["ifname"] for link in a1.world.look("link")}


# ---- packets


def test_pods_across_a_router_reach_each_other_in_udp(a1: Member, b1: Member) -> None:
    both(a1, b1)
    with Wire(a1.world) as wire:
        assert a1.reaches(FAR)
        seen = wire.seen()
    assert {("10.1.1.11", "10.2.2.21", f"udp/{PORT}"), ("10.2.2.21", "10.1.1.11", f"udp/{PORT}")} <= seen
    assert not any(a1.pod_address in packet or FAR in packet for packet in seen)


def test_it_falls_back_from_the_fabric_and_returns_without_a_route_less(a1: Member, b1: Member) -> None:
    both(a1, b1)
    a1.world.beyond("ip", "route", "add", B1[1], "via", "10.2.2.21")  # the fabric carries the block
    with a1.world.listen() as listener:
        a1.learns({B1[1]: words.TOR})
        assert a1.way(FAR) == ("eth1", words.TOR)
        with Wire(a1.world) as wire:
            assert a1.reaches(FAR), "one direction is direct, the other in the tunnel"
            assert (a1.pod_address, FAR, "1") in wire.seen()
        a1.learns(TO_B1)
        assert a1.way(FAR) == (DEVICE, "10.2.2.21")
        assert a1.reaches(FAR)
        heard = listener.heard()
    assert DELROUTE not in heard


def test_packets_as_large_as_a_pod_may_send_cross_in_one_piece(a1: Member, b1: Member) -> None:
    both(a1, b1)
    size = str(a1._calculator.pod_mtu - 28)
    command = ["nsenter", f"--net=/run/netns/{a1.pod}", "ping", "-nc1", "-W2", "-Mdo", "-s", size, FAR]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0


# ---- other hands


DAMAGES: dict[str, Callable[[Member], None]] = {
    "neighbour deleted": lambda m: m.world.ip("neigh", "del", "10.2.2.21", "dev", DEVICE),
    "neighbour replaced": lambda m: m.world.ip(
        "neigh", "replace", "10.2.2.21", "lladdr", "02:00:00:00:00:01", "dev", DEVICE
    ),
    "neighbour not permanent": lambda m: m.world.ip(
        "neigh", "replace", "10.2.2.21", "lladdr", B1_MAC, "dev", DEVICE, "nud", "stale"
    ),
    "neighbour too many": lambda m: m.world.ip(
        "neigh", "add", "10.2.2.99", "lladdr", "02:00:00:00:00:01", "dev", DEVICE
    ),
    "fdb entry deleted": lambda m: m.bridge("fdb", "del", B1_MAC, "dev", DEVICE),
    "fdb entry replaced": lambda m: m.bridge("fdb", "replace", B1_MAC, "dev", DEVICE, "dst", "10.9.9.9"),
    "fdb entry with a port": lambda m: m.bridge(
        "fdb", "replace", B1_MAC, "dev", DEVICE, "dst", "10.2.2.21", "port", "4790"
    ),
    "fdb entry too many": lambda m: m.bridge("fdb", "append", "00:00:00:00:00:00", "dev", DEVICE, "dst", "10.9.9.9"),
    "device down": lambda m: m.world.ip("link", "set", DEVICE, "down"),
    "device deleted": lambda m: m.world.ip("link", "del", DEVICE),
    "MAC address changed": lambda m: m.world.ip("link", "set", DEVICE, "address", "02:00:00:00:00:01"),
    "MTU changed": lambda m: m.world.ip("link", "set", DEVICE, "mtu", "1400"),
    "address deleted": lambda m: m.world.ip("addr", "del", "192.168.11.1/32", "dev", DEVICE),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_what_another_hand_does_is_heard_and_put_right(a1: Member, damage: Callable[[Member], None]) -> None:
    a1.begin()
    a1.learns(TO_B1)
    a1.settle()
    before = a1.world.link(DEVICE)
    damage(a1)
    assert a1.hears()
    a1.settle()
    after = a1.world.link(DEVICE)
    assert {key: after[key] for key in ("mtu", "address", "ifalias")} == {
        key: before[key] for key in ("mtu", "address", "ifalias")
    }
    assert a1.neighbours() == OTHERS
    assert a1.fdb() == {mac: address for address, mac in OTHERS.items()}
    assert a1.world.addresses(DEVICE) == ["192.168.11.1/32"]
    assert a1.world.routes()[B1[1]]["dev"] == DEVICE
    assert a1.way(FAR) == (DEVICE, "10.2.2.21")


def test_neighbours_of_other_devices_are_not_even_told(a1: Member) -> None:
    a1.begin()
    a1.settle()
    a1.world.ip("neigh", "replace", "10.1.1.77", "lladdr", "02:00:00:00:00:01", "dev", "eth1")
    a1.world.ip("neigh", "del", "10.1.1.77", "dev", "eth1")
    a1.world.ip("neigh", "add", "10.2.2.99", "lladdr", "02:00:00:00:00:01", "dev", DEVICE)  # and this one is
    assert a1.hears()
    assert a1.monitor.read().neighbours
    assert not a1.monitor._netlink.events()


def test_a_node_without_vxlan_hears_of_no_neighbours(a1: Member) -> None:
    a1.becomes(cluster=words.cluster("Never"))
    a1.settle()
    a1.world.ip("neigh", "replace", "10.1.1.77", "lladdr", "02:00:00:00:00:01", "dev", "eth1")
    a1.world.ip("link", "add", "p1", "type", "veth", "peer", "name", "p2")  # told after it
    assert a1.hears()
    assert not a1.monitor.read().neighbours


# ---- lives


def test_a_restart_without_memory_writes_nothing(a1: Member) -> None:
    a1.begin()
    a1.learns(TO_B1)
    a1.settle()
    with a1.world.listen(neighbours=True) as listener:
        a1.plane.close()
        a1.monitor.close()
        a1.born()
        assert a1.begin().complete
        assert (a1.report.changed, listener.heard()) == (0, [])
        a1.settle()
        assert listener.heard() == []


def test_a_device_left_without_a_mark_is_adopted(a1: Member) -> None:
    words_of_it = f"{DEVICE} address {A1_MAC} mtu 1450 type vxlan id 4096 dstport {PORT} local 10.1.1.11 nolearning"
    a1.world.ip("link", "add", *words_of_it.split())
    index = a1.world.link(DEVICE)["ifindex"]
    assert a1.begin().complete
    link = a1.world.link(DEVICE)
    assert (link["ifindex"], link["ifalias"]) == (index, "routed:vxlan")


@pytest.mark.parametrize("other", [Settings(vxlan_vni=77), Settings(vxlan_port=8472)], ids=["VNI", "port"])
def test_a_device_of_another_vni_or_port_is_made_anew_with_all_that_goes_by_it(a1: Member, other: Settings) -> None:
    a1.begin()
    a1.learns(TO_B1)
    a1.settle()
    with Member(a1.world, "a1", words.vxlan(), other) as later:
        later.begin()
        later.learns(TO_B1)
        later.settle()
        data = later.world.link(DEVICE)["linkinfo"]["info_data"]
        assert (data["id"], data["port"]) == (other.vxlan_vni, other.vxlan_port)
        assert later.neighbours() == OTHERS
        assert later.way(FAR) == (DEVICE, "10.2.2.21")


def test_cleanup_takes_all_of_it(a1: Member) -> None:
    a1.begin()
    a1.learns(TO_B1)
    a1.settle()
    removed = cleanup(Settings(), a1.world.path)
    assert (removed.vxlan, removed.failures) == (DEVICE, ())
    assert DEVICE not in {link["ifname"] for link in a1.world.look("link")}
    assert a1.world.routes() == {}
    assert not cleanup(Settings(), a1.world.path)


# ---- strangers


def test_a_strangers_device_of_that_name_is_left_alone_and_told(a1: Member) -> None:
    a1.world.ip("link", "add", DEVICE, "type", "vxlan", "id", "9", "dstport", "8472")
    a1.world.ip("link", "set", DEVICE, "alias", "somebody's")
    a1.world.ip("neigh", "add", "10.9.9.9", "lladdr", "02:00:00:00:00:01", "dev", DEVICE)
    a1.begin()
    a1.learns(TO_B1)
    a1.settle()
    assert a1.world.look("neigh", "show", "dev", DEVICE, "nud", "permanent")
    assert B1[1] not in a1.world.routes()
    (problem,) = [each for each in a1._calculator.problems if each.kind is ProblemKind.TUNNEL_DEVICE_TAKEN]
    assert DEVICE in problem.message
    assert not cleanup(Settings(), a1.world.path).vxlan


def test_an_unmarked_device_is_left_alone_by_a_node_that_needs_none(a1: Member) -> None:
    a1.world.ip("link", "add", DEVICE, "type", "vxlan", "id", "9", "dstport", "8472")
    a1.world.ip("neigh", "add", "10.9.9.9", "lladdr", "02:00:00:00:00:01", "dev", DEVICE)
    a1.becomes(cluster=words.cluster("Never"))
    a1.settle()
    assert a1.neighbours() == {"10.9.9.9": "02:00:00:00:00:01"}
    assert not cleanup(Settings(), a1.world.path).vxlan


def test_another_vxlan_device_on_the_port_is_named(a1: Member) -> None:
    a1.world.ip("link", "add", "flannel", "type", "vxlan", "id", "4096", "dstport", str(PORT))
    report = a1.begin()
    assert f"UDP port {PORT} with VNI 4096 is taken by interface flannel" in report.failures[DEVICE]
    a1.world.ip("link", "del", "flannel")
    a1.settle()
    assert a1.neighbours() == OTHERS


def test_a_program_on_the_port_is_told(a1: Member) -> None:
    with inside(a1.world.path), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", PORT))
        report = a1.begin()
        assert f"UDP port {PORT} with VNI 4096 is taken by a program" in report.failures[DEVICE]
        a1.round()
        with a1.world.listen(neighbours=True) as listener:
            assert DEVICE in a1.round().failures
            assert listener.heard() == [], "a try that makes events would be followed by the next at once"
    a1.settle()
    assert "UP" in a1.world.link(DEVICE)["flags"]

"""Read, calc, apply: a whole node on a kernel without the IPIP driver."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address
from pathlib import Path

import pytest
from tests.kernel.felix.world import World
from tests.unit.felix.words import cluster, learned, view

from routed.model.endpoint import Endpoint
from routed.netlink.socket import Netlink
from routed_felix.calc import desired, pod_mtu
from routed_felix.dataplane import Dataplane
from routed_felix.state import Desired, Encapsulation, Hop, ProblemKind, Report, Route, RouteKey, Settings
from routed_felix.tunnel import driver_available


@pytest.mark.without_ipip
def test_without_the_driver_direct_prefixes_work_and_the_problem_names_pool_and_module(world: World) -> None:
    world.ip("link", "add", "rtdpod", "type", "veth", "peer", "name", "pod")
    world.ip("link", "set", "rtdpod", "up")
    with Dataplane(Settings(), world.path) as plane:
        kernel = plane.read()
        result = desired(
            view(
                cluster=cluster(),
                best=learned({"192.168.12.0/26": "10.1.1.12", "192.168.21.0/26": "10.2.2.21"}),
                endpoints=[Endpoint("c1", "eth0", IPv4Address("192.168.11.5"), "rtdpod")],
                interfaces=kernel.interfaces,
                underlay=kernel.underlay,
                tunnel=kernel.tunnel,
                tunnel_address=IPv4Address("192.168.11.1"),
            )
        )
        report = plane.apply(result)

    assert not kernel.tunnel
    assert report.complete
    table = world.routes()
    assert set(table) == {"192.168.11.0/26", "192.168.11.5", "192.168.12.0/26"}
    assert table["192.168.11.0/26"]["type"] == "blackhole"
    assert (table["192.168.11.5"]["dev"], table["192.168.11.5"]["scope"]) == ("rtdpod", "link")
    assert table["192.168.12.0/26"]["gateway"] == "10.1.1.12"
    assert "prefsrc" not in table["192.168.12.0/26"]
    assert result.decisions[IPv4Network("192.168.21.0/26")].encapsulation is Encapsulation.TUNNEL
    problem = next(p for p in result.problems if p.kind is ProblemKind.MISSING_DRIVER)
    assert "pool pods" in problem.message
    assert "modprobe ipip" in problem.hint
    assert world.sysctl("net/ipv4/conf/eth1/rp_filter") == "2"


def test_a_pods_link_that_somebody_renamed_gets_its_name_back_and_the_route_stays(world: World) -> None:
    world.ip("link", "add", "rtdpod", "type", "veth", "peer", "name", "pod")
    world.ip("link", "set", "rtdpod", "alias", "routed:pod c1/eth0", "up")
    pod = Endpoint("c1", "eth0", IPv4Address("192.168.11.5"), "rtdpod")

    def step(plane: Dataplane) -> Report:
        found = plane.read().interfaces
        return plane.apply(desired(view(cluster=cluster("Never"), endpoints=[pod], interfaces=found, tunnel=False)))

    with Dataplane(Settings(), world.path) as plane:
        step(plane)
        world.ip("link", "set", "rtdpod", "down")
        world.ip("link", "set", "rtdpod", "name", "other")
        world.ip("link", "set", "other", "up")
        assert step(plane).complete
        assert step(plane).complete  # what went with the link while it was down is back at the latest
        assert "routed:pod c1/eth0" in world.link("rtdpod")["ifalias"]
        assert world.routes()["192.168.11.5"]["dev"] == "rtdpod"
        assert step(plane).changed == 0


def test_lost_carrier_takes_the_routes_away_and_its_return_brings_them_back(world: World) -> None:
    def step(plane: Dataplane) -> set[str]:
        kernel = plane.read()
        best = learned({"192.168.12.0/26": "10.1.1.12"})
        plane.apply(
            desired(
                view(cluster=cluster(), best=best, interfaces=kernel.interfaces, underlay=kernel.underlay, tunnel=False)
            )
        )
        return set(world.routes())

    def tor(state: str) -> None:
        world.beyond("ip", "link", "set", world.tor, state)
        world.until(lambda: ("LOWER_UP" in world.link("eth1")["flags"]) == (state == "up"))

    with Dataplane(Settings(), world.path) as plane:
        assert step(plane) == {"192.168.11.0/26", "192.168.12.0/26"}
        tor("down")
        assert step(plane) == {"192.168.11.0/26"}
        tor("up")
        assert step(plane) == {"192.168.11.0/26", "192.168.12.0/26"}


@pytest.mark.without_ipip
def test_the_probe_for_the_driver_changes_nothing(world: World, tmp_path: Path) -> None:
    before = world.look("link")
    with world.listen() as listener, Netlink.open_in(world.path) as netlink:
        assert not driver_available(netlink, "tunl0", modules=tmp_path)
        assert listener.heard() == []
    assert world.look("link") == before


def test_a_module_on_disk_counts_as_a_driver(world: World, tmp_path: Path) -> None:
    import os

    tree = tmp_path / os.uname().release
    tree.mkdir()
    (tree / "modules.dep").write_text("kernel/net/ipv4/ipip.ko.xz: kernel/net/ipv4/ip_tunnel.ko.xz\n")
    with Netlink.open_in(world.path) as netlink:
        assert driver_available(netlink, "tunl0", modules=tmp_path)


@pytest.mark.without_ipip
def test_a_module_that_is_named_alike_does_not_count(world: World, tmp_path: Path) -> None:
    import os

    tree = tmp_path / os.uname().release
    tree.mkdir()
    (tree / "modules.dep").write_text("kernel/net/ipv4/ipip_other.ko: \nkernel/net/ipv4/ip_tunnel.ko:\n")
    with Netlink.open_in(world.path) as netlink:
        assert not driver_available(netlink, "tunl0", modules=tmp_path)


@pytest.mark.without_ipip
def test_an_interface_of_another_kind_under_the_tunnels_name_is_no_tunnel(world: World) -> None:
    world.ip("link", "add", "tunl0", "type", "bridge")
    with Dataplane(Settings(), world.path) as plane:
        kernel = plane.read()
        assert not kernel.tunnel
        result = desired(view(cluster=cluster(), interfaces=kernel.interfaces, underlay=kernel.underlay, tunnel=False))
        assert [p.kind for p in result.problems] == [ProblemKind.TUNNEL_DEVICE_TAKEN]
        plane.apply(result)
    assert "UP" not in world.link("tunl0")["flags"]


def test_a_gateway_of_another_family_is_one_like_any_other(world: World) -> None:
    world.ip("-4", "route", "replace", "default", "via", "inet6", "fe80::1", "dev", "eth1")
    world.ip("-4", "route", "add", "10.9.0.0/16", "nexthop", "via", "inet6", "fe80::1", "dev", "eth1")
    world.ip("-4", "route", "add", "10.8.0.0/16", "via", "10.1.1.1")
    with Dataplane(Settings(), world.path) as plane:
        found = {str(each.prefix): (each.hops, each.whole) for each in plane.read().underlay}
        by_ipv6 = Hop("eth1", IPv6Address("fe80::1"))
        assert found["0.0.0.0/0"] == found["10.9.0.0/16"] == ((by_ipv6,), True)
        assert found["10.8.0.0/16"] == ((Hop("eth1", IPv4Address("10.1.1.1")),), True)
        shared = Route(hops=(Hop("eth1", IPv4Address("10.1.1.1")), by_ipv6))
        routes = {IPv4Network("192.168.1.0/26"): Route(hops=(by_ipv6,)), IPv4Network("192.168.2.0/26"): shared}
        state = Desired(routes={RouteKey(prefix, 1024): route for prefix, route in routes.items()})
        assert plane.apply(state).complete
        assert world.routes()["192.168.1.0/26"]["via"] == {"family": "inet6", "host": "fe80::1"}
        with world.listen() as listener:
            assert plane.apply(state).changed == 0
            assert listener.heard() == []


def test_the_pod_mtu_follows_the_uplinks(world: World) -> None:
    world.ip("link", "set", "eth1", "mtu", "1400")
    with Dataplane(Settings(), world.path) as plane:
        kernel = plane.read()
    assert (
        pod_mtu(view(cluster=cluster(), interfaces=kernel.interfaces, underlay=kernel.underlay, tunnel=False)) == 1380
    )


@pytest.mark.without_ipip
def test_a_tunnel_that_cannot_be_made_does_not_cost_the_direct_routes(world: World) -> None:
    with Dataplane(Settings(), world.path) as plane:
        kernel = plane.read()
        best = learned({"192.168.12.0/26": "10.1.1.12"})
        report = plane.apply(desired(view(best=best, interfaces=kernel.interfaces, underlay=kernel.underlay)))
    assert "modprobe ipip" in report.failures["tunl0"]
    assert IPv4Interface("192.168.11.1/32") in report.failures
    assert set(world.routes()) == {"192.168.11.0/26", "192.168.12.0/26"}


FORWARDING6 = "net/ipv6/conf/all/forwarding"


def test_a_node_that_is_made_to_forward_ipv6_still_listens_to_its_routers(world: World) -> None:
    for name, value in (("eth1", "1"), ("default", "1"), ("lo", "0")):
        world.set_sysctl(f"net/ipv6/conf/{name}/accept_ra", value)
    with Dataplane(Settings(), world.path) as plane:
        state = Desired(sysctls={FORWARDING6: "1"})
        assert plane.apply(state).complete
        assert world.sysctl(FORWARDING6) == "1"
        found = [world.sysctl(f"net/ipv6/conf/{name}/accept_ra") for name in ("eth1", "default", "lo")]
        assert found == ["2", "2", "0"]
        assert plane.apply(state).changed == 0

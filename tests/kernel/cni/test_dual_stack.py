"""Pods with an address of each family: wired, answered, and gone as one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.kernel.cni.node import CIDR, CIDR6, CONFIGURATION, Node, look, ping, run

from routed_cni.veths import HOST_MAC, host_interface

GATEWAY6 = "fe80::ecee:eeff:feee:eeee"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path, CIDR, CIDR6)
    try:
        yield made
    finally:
        made.close()


def sysctl(namespace: str, name: str, value: str) -> None:
    run("nsenter", f"--net=/run/netns/{namespace}", "sysctl", "-qw", f"{name}={value}")


def routes6(namespace: str, *of: str) -> list[Any]:
    """Without what the kernel itself puts there."""
    found: list[Any] = look(namespace, "-6", "-d", "route", "show", "table", "main", *of)
    return [route for route in found if route["protocol"] != "kernel"]


def test_the_pod_has_both_addresses_and_a_default_route_for_each(node: Node):
    pod = node.pod()
    answer = node.cni("ADD", pod)
    (eth0,) = look(pod, "addr", "show", "dev", "eth0")
    found = {(a["local"], a["prefixlen"]) for a in eth0["addr_info"] if a["scope"] == "global"}
    assert found == {(answer.address, 32), (answer.address6, 128)}
    assert not any(a.get("tentative") for a in eth0["addr_info"] if a["local"] == answer.address6)
    (default,) = look(pod, "-6", "route", "show", "default")
    assert (default["gateway"], default["dev"]) == (GATEWAY6, "eth0")
    assert {(n["dst"], n["lladdr"]) for n in look(pod, "neigh", "show", "nud", "permanent")} == {
        ("169.254.1.1", HOST_MAC),
        (GATEWAY6, HOST_MAC),
    }
    assert [(each["address"], each["gateway"]) for each in answer.result["ips"]] == [
        (f"{answer.address}/32", "169.254.1.1"),
        (f"{answer.address6}/128", GATEWAY6),
    ]
    assert answer.result["routes"] == [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]


def test_the_node_has_a_route_of_ours_a_neighbour_and_the_gateways_address(node: Node):
    pod = node.pod()
    answer = node.cni("ADD", pod)
    name, mac = host_interface(pod, "eth0"), look(pod, "link", "show", "eth0")[0]["address"]
    (route,) = routes6(node.name)
    assert {key: route[key] for key in ("dst", "dev", "protocol", "metric")} == {
        "dst": answer.address6,
        "dev": name,
        "protocol": "114",
        "metric": 1024,
    }
    (neighbour,) = look(node.name, "-6", "neigh", "show", "nud", "permanent")
    assert (neighbour["dst"], neighbour["lladdr"], neighbour["dev"]) == (answer.address6, mac, name)
    (link,) = look(node.name, "addr", "show", "dev", name)
    assert [a["local"] for a in link["addr_info"] if not a.get("tentative")] == [GATEWAY6]


def test_pods_reach_each_other_over_both(node: Node):
    sysctl(node.name, "net.ipv6.conf.all.forwarding", "1")
    one, two = node.pod(), node.pod()
    node.cni("ADD", one)
    answer = node.cni("ADD", two)
    assert ping(one, answer.address).received == 3
    assert ping(one, answer.address6).received == 3


def test_a_pod_that_flushes_its_neighbours_finds_the_gateway_again(node: Node):
    sysctl(node.name, "net.ipv6.conf.all.forwarding", "1")
    one, two = node.pod(), node.pod()
    node.cni("ADD", one)
    answer = node.cni("ADD", two)
    run("ip", "-n", one, "-6", "neigh", "flush", "nud", "permanent")
    assert ping(one, answer.address6).received == 3


def test_ipv6_that_is_switched_off_on_either_side_is_switched_on_for_the_pods_link(node: Node):
    for switch in ("all", "default"):
        sysctl(node.name, f"net.ipv6.conf.{switch}.disable_ipv6", "1")
    pod = node.pod()
    for switch in ("all", "default"):
        sysctl(pod, f"net.ipv6.conf.{switch}.disable_ipv6", "1")
    answer = node.cni("ADD", pod)
    assert [route["dst"] for route in routes6(node.name)] == [answer.address6]
    assert ping(pod, answer.address6, 1).received == 1


def test_a_deleted_pod_gives_back_both(node: Node):
    pod = node.pod()
    first = node.cni("ADD", pod)
    assert node.cni("ADD", pod).result == first.result
    assert node.cni("DEL", pod).status == 0
    assert routes6(node.name) == []
    node.settled()
    other = node.pod()
    again = node.cni("ADD", other)
    assert (again.address == first.address, again.address6 == first.address6) == (False, False)


def test_a_family_whose_default_route_another_interface_has_leaves_it_that_and_still_answers(node: Node):
    sysctl(node.name, "net.ipv6.conf.all.forwarding", "1")
    pod, other = node.pod(), node.pod()
    run("ip", "-n", pod, "link", "add", "net1", "type", "veth", "peer", "name", "net2")
    for words in (("link", "set", "net2", "up"), ("link", "set", "net1", "up")):
        run("ip", "-n", pod, *words)
    run("ip", "-n", pod, "-6", "route", "add", "default", "dev", "net1")  # metric 1024, as ours would have
    answer = node.cni("ADD", pod)
    assert answer.result["routes"] == [{"dst": "0.0.0.0/0"}]
    node.cni("ADD", other)
    assert [ping(other, address).received for address in (answer.address, answer.address6)] == [3, 3]


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0"])
def test_older_results_say_the_family(node: Node, version: str):
    answer = node.cni("ADD", node.pod(), configuration={**CONFIGURATION, "cniVersion": version})
    assert [each["version"] for each in answer.result["ips"]] == ["4", "6"]


def test_a_node_with_ipv6_blocks_alone_wires_ipv6_alone(tmp_path: Path):
    node = Node(tmp_path, CIDR6)
    try:
        pod = node.pod()
        answer = node.cni("ADD", pod)
        assert [each["gateway"] for each in answer.result["ips"]] == [GATEWAY6]
        assert (node.routes(), look(pod, "-4", "route")) == ([], [])
        assert node.cni("DEL", pod).status == 0
    finally:
        node.close()

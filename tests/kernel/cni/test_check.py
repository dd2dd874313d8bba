"""CHECK against a real kernel: specification section 2, CHECK, and what each of its sentences asks for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.kernel.cni.node import CIDR, CIDR6, CONFIGURATION, Answer, Node, run

from routed_cni.veths import host_interface


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path, CIDR, CIDR6)
    try:
        yield made
    finally:
        made.close()


def ip(namespace: str, words: str, pod: str, added: Answer) -> None:
    """`ip` in `namespace`, with HOST, ADDRESS and ADDRESS6 for the pod's."""
    names = {"HOST": host_interface(pod, "eth0"), "ADDRESS6": added.address6, "ADDRESS": added.address}
    for name, value in names.items():
        words = words.replace(name, value)
    run("ip", "-n", namespace, *words.split())


@pytest.mark.spec("CNI 1.1.0", "2 CHECK.6")
@pytest.mark.parametrize("version", ["0.4.0", "1.0.0", "1.1.0"])
def test_what_add_made_passes_at_once_and_says_nothing(node: Node, version: str):
    """ "must handle CHECK being called immediately after an ADD"; "must return either nothing or an error"."""
    pod = node.pod()
    added = node.cni("ADD", pod, configuration={**CONFIGURATION, "cniVersion": version})
    checked = node.check(pod, added, cniVersion=version)
    assert (checked.status, checked.output) == (0, "")


@pytest.mark.spec("CNI 1.1.0", "2 CHECK.2")
@pytest.mark.parametrize(
    "words",
    [
        "route add 10.200.0.0/16 via 169.254.1.1 dev eth0 onlink",
        "addr add 10.201.0.1/24 dev eth0",
        "route add default via 169.254.1.1 dev eth0 metric 50 onlink",
        "rule add from 10.200.0.1 lookup 77",
    ],
)
def test_what_a_later_plugin_added_is_allowed(node: Node, words: str):
    """ "must allow for a later chained plugin to have modified networking resources, e.g. routes"."""
    pod = node.pod()
    added = node.cni("ADD", pod)
    ip(pod, words, pod, added)
    assert node.check(pod, added).status == 0


@pytest.mark.spec("CNI 1.1.0", "2 CHECK.2")
def test_a_later_plugin_that_took_the_default_route_and_said_so_is_allowed(node: Node):
    """ "must consult the prevResult to determine the expected interfaces and addresses"."""
    pod = node.pod()
    added = node.cni("ADD", pod)
    ip(pod, "route del default", pod, added)
    ip(pod, "link set eth0 address 02:00:00:00:00:99 mtu 1300", pod, added)
    ip(node.name, "neigh replace ADDRESS lladdr 02:00:00:00:00:99 dev HOST nud permanent", pod, added)
    ip(node.name, "neigh replace ADDRESS6 lladdr 02:00:00:00:00:99 dev HOST nud permanent", pod, added)
    ip(pod, "neigh replace fe80::ecee:eeff:feee:eeee lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent", pod, added)
    ip(pod, "-6 route replace default via fe80::ecee:eeff:feee:eeee dev eth0", pod, added)
    result = added.result
    result["routes"] = [{"dst": "::/0"}]
    result["interfaces"][1].update(mac="02:00:00:00:00:99", mtu=1300)
    assert node.cni("CHECK", pod, configuration={**CONFIGURATION, "prevResult": result}).output == ""


BROKEN = [
    # "missing or in an invalid state": interface, address, route
    ("pod", "link set eth0 down", "eth0 is down"),
    ("pod", "link set eth0 name gone0", "eth0 is missing"),
    ("pod", "link del eth0", "HOST is missing"),
    ("pod", "link set eth0 mtu 1300", "eth0 has the MTU 1300, expected 1480"),
    ("pod", "link set eth0 address 02:00:00:00:00:99", "eth0 has the MAC 02:00:00:00:00:99"),
    ("pod", "addr del ADDRESS/32 dev eth0", "eth0 has lost its address ADDRESS"),
    ("pod", "addr del ADDRESS6/128 dev eth0", "eth0 has lost its address ADDRESS6"),
    ("pod", "route del default", "the pod has no default route through 169.254.1.1"),
    ("pod", "-6 route del default", "the pod has no default route through fe80::ecee:eeff:feee:eeee"),
    # "resources not tracked in the Result type", and the pod "is generally unreachable"
    ("pod", "neigh del 169.254.1.1 dev eth0", "neighbour 169.254.1.1 on eth0 is not ee:ee:ee:ee:ee:ee"),
    ("node", "link set HOST down", "HOST is down"),
    ("node", "link set HOST address 02:00:00:00:00:98", "HOST has the MAC 02:00:00:00:00:98"),
    ("node", "route del ADDRESS", "no route to ADDRESS through HOST"),
    ("node", "-6 route del ADDRESS6", "no route to ADDRESS6 through HOST"),
    ("node", "route add ADDRESS dev lo", "no route to ADDRESS through HOST"),
    ("node", "neigh del ADDRESS dev HOST", "neighbour ADDRESS on HOST is not"),
    ("node", "-6 neigh del ADDRESS6 dev HOST", "neighbour ADDRESS6 on HOST is not"),
]


@pytest.mark.spec("CNI 1.1.0", "2 CHECK.3", "2 CHECK.4", "2 CHECK.5")
@pytest.mark.parametrize(("where", "words", "told"), BROKEN, ids=[f"{where}: {words}" for where, words, _ in BROKEN])
def test_what_is_missing_or_wrong_is_told(node: Node, where: str, words: str, told: str):
    """ "should return an error if a resource ... is missing or in an invalid state"."""
    pod = node.pod()
    added = node.cni("ADD", pod, configuration={**CONFIGURATION, "cniVersion": "1.1.0"})
    run("ip", "-n", node.name, "link", "set", "lo", "up")
    ip(pod if where == "pod" else node.name, words, pod, added)
    error = node.check(pod, added, cniVersion="1.1.0").error
    for name, value in (
        ("HOST", host_interface(pod, "eth0")), ("ADDRESS6", added.address6), ("ADDRESS", added.address),
    ):  # fmt: skip
        told = told.replace(name, value)
    assert error["code"] == 101
    assert told in error["msg"] + error.get("details", "")


@pytest.mark.spec("CNI 1.1.0", "2 CHECK.4")
def test_an_address_that_ipam_gave_to_another_is_told(node: Node):
    """ "IP reservations"."""
    pod, other = node.pod(), node.pod()
    node.cni("ADD", pod)
    stolen = node.cni("ADD", other)
    error = node.check(pod, stolen).error
    assert (error["code"], f"IPAM does not hold {stolen.address}" in error["msg"]) == (101, True)


@pytest.mark.spec("CNI 1.1.0", "2 CHECK.8", "5 Error.4")
def test_a_pod_that_was_deleted_is_unknown(node: Node):
    """Section 5, Error, code 3; the janitor has finished with it."""
    pod = node.pod()
    added = node.cni("ADD", pod)
    node.cni("DEL", pod)
    error = node.check(pod, added).error
    assert error["code"] == 3
    assert (node.links(), node.held()) == ([], [])


def test_the_link_of_another_sandbox_is_not_taken_for_the_pods(node: Node):
    pod, other = node.pod(), node.pod()
    added = node.cni("ADD", pod)
    node.cni("ADD", other)
    error = node.cni(
        "CHECK", pod, CNI_NETNS=f"/run/netns/{other}", configuration={**CONFIGURATION, "prevResult": added.result}
    ).error
    assert "are not the two ends of one link" in error["msg"]


@pytest.mark.spec("CNI 1.1.0", "2 CHECK.1")
@pytest.mark.parametrize(
    "previous",
    [
        {},
        {"interfaces": [], "ips": []},
        {"interfaces": [{"name": "eth0"}]},
        {"interfaces": "eth0"},
        {"interfaces": [{"name": "eth0", "sandbox": "/n"}], "ips": [{"address": "x"}]},
    ],
)
def test_a_result_that_is_none_of_this_interface_is_an_invalid_configuration(node: Node, previous: dict[str, Any]):
    pod = node.pod()
    node.cni("ADD", pod)
    error = node.cni("CHECK", pod, configuration={**CONFIGURATION, "prevResult": previous}).error
    assert (error["code"], "prevResult" in error["msg"]) == (7, True)

"""Who waits for whom, and who has which address in the management network."""

from __future__ import annotations

import pytest

from routed_lab.topology import Stage, Step

STAGED = "nodes:\n  a: {{kind: linux, {}}}\n  b: {{kind: linux, {}}}\n"


def waiting(stage: str, node: str, what: str) -> str:
    return f"stages: {{{stage}: {{wait-for: [{{node: {node}, stage: {what}}}]}}}}"


def test_waits_of_all_levels_add_up_without_duplicates(read):
    lab = read("""\
        defaults: {kind: linux}
        groups: {late: {stages: {create: {wait-for: [{node: a, stage: create}]}}}}
        nodes:
          a: {startup-delay: 3}
          b: {group: late, stages: {create: {wait-for: [{node: a, stage: create}, {node: a, stage: healthy}]}}}
        """)

    assert lab.nodes["a"].delay == 3
    assert lab.nodes["b"].waits == {Stage.CREATE: (Step("a", Stage.CREATE), Step("a", Stage.HEALTHY))}


def test_the_end_of_a_nodes_program_can_be_waited_for(read):
    lab = read(STAGED.format("cmd: 'true'", waiting("create", "a", "exit")))

    assert lab.nodes["b"].waits == {Stage.CREATE: (Step("a", Stage.EXIT),)}


@pytest.mark.parametrize(
    ("of_a", "of_b", "said"),
    [
        (waiting("create", "c", "create"), "", 'node a waits for "c", which the topology does not have'),
        (waiting("create", "a", "create"), "", "node a waits for itself"),
        (waiting("create", "b", "exit"), "", "waits for the end of b, which has no program of its own that ends"),
        (waiting("create", "b", "ready"), "", 'is "ready", expected one of create, create-links'),
        (
            waiting("create", "b", "create"),
            waiting("create", "a", "create"),
            "in a circle: a create -> b create -> a create",
        ),
        (waiting("create", "b", "healthy"), waiting("configure", "a", "create-links"), "in a circle: "),
        ("stages: {create: {wait-for: [{node: b}]}}", "", 'has no "stage"'),
        ("stages: {create: {exec: [{command: x, target: moon}]}}", "", 'is "moon", expected container or host'),
    ],
)
def test_a_wait_without_an_end_is_refused(refusal, of_a: str, of_b: str, said: str):
    assert said in refusal(STAGED.format(of_a, of_b))


def test_waits_in_both_directions_may_be_no_circle(read):
    read(STAGED.format(waiting("configure", "b", "create"), waiting("healthy", "a", "create-links")))


def managed(mgmt: str, nodes: str = "b: {kind: linux}, a: {kind: linux}") -> str:
    return f"name: small\nmgmt: {mgmt}\ntopology: {{nodes: {{{nodes}}}}}\n"


def addresses(lab) -> dict[str, list[str]]:
    return {name: [str(address) for address in held] for name, held in lab.management.addresses.items()}


def test_a_lab_that_does_not_ask_for_it_has_no_management_network(read):
    assert read("nodes: {a: {kind: linux}}").management is None


def test_the_subnets_are_containerlabs_unless_the_file_names_one(read):
    plain, own = read(managed("{network: x}")), read(managed("{ipv4-subnet: 192.0.2.0/28, bridge: br-m, mtu: 1400}"))

    assert addresses(plain) == {
        "a": ["172.20.20.2/24", "3fff:172:20:20::2/64"],
        "b": ["172.20.20.3/24", "3fff:172:20:20::3/64"],
    }
    assert addresses(own) == {"a": ["192.0.2.2/28"], "b": ["192.0.2.3/28"]}
    assert (own.management.bridge, own.management.mtu) == ("br-m", 1400)
    assert [str(address) for address in own.management.gateways] == ["192.0.2.1/28"]


def test_nodes_keep_their_own_addresses_and_the_others_get_what_is_free(read):
    nodes = "a: {kind: linux}, b: {kind: linux, mgmt-ipv4: 192.0.2.9}, c: {kind: linux, network-mode: none}"
    lab = read(managed("{ipv4-subnet: 192.0.2.0/28, ipv4-gw: 192.0.2.14, ipv4-range: 192.0.2.8/29}", nodes))

    assert addresses(lab) == {"a": ["192.0.2.8/28"], "b": ["192.0.2.9/28"]}


@pytest.mark.parametrize(
    ("mgmt", "nodes", "said"),
    [
        (
            "{ipv4-subnet: 10.0.0.0/33}",
            "a: {kind: linux}",
            'mgmt.ipv4-subnet is "10.0.0.0/33", expected an IPv4 prefix',
        ),
        ("{ipv4-subnet: '2001:db8::/64'}", "a: {kind: linux}", "expected an IPv4 prefix"),
        ("{ipv4-subnet: 10.0.0.0/31}", "a: {kind: linux}", "has no room for a node"),
        (
            "{ipv4-subnet: 10.0.0.0/24, ipv4-range: 10.0.1.0/25}",
            "a: {kind: linux}",
            "10.0.1.0/25 is not in 10.0.0.0/24",
        ),
        ("{ipv4-subnet: 10.0.0.0/24, ipv4-gw: 10.1.0.1}", "a: {kind: linux}", "expected an address in 10.0.0.0/24"),
        ("{driver: macvlan}", "a: {kind: linux}", 'mgmt.driver is "macvlan"; this lab makes only bridge'),
        (
            "{}",
            "a: {kind: linux, mgmt-ipv4: 172.20.20.5}, b: {kind: linux, mgmt-ipv4: 172.20.20.5}",
            "node b has the management address 172.20.20.5 of node a",
        ),
        ("{}", "a: {kind: linux, mgmt-ipv4: 172.20.20.1}", "has the management address 172.20.20.1 of the bridge"),
        ("{}", "a: {kind: linux, mgmt-ipv4: 10.0.0.1}", "expected an address in 172.20.20.0/24"),
        ("{}", "a: {kind: linux, network-mode: none, mgmt-ipv4: 172.20.20.5}", "is not in the management network"),
        (
            "{ipv4-subnet: 10.0.0.0/30}",
            "a: {kind: linux}, b: {kind: linux}",
            "10.0.0.0/30 has no address left for node b",
        ),
    ],
)
def test_a_management_network_that_cannot_be_is_refused(refusal, mgmt: str, nodes: str, said: str):
    assert said in refusal(managed(mgmt, nodes))


def test_eth0_belongs_to_the_management_network_where_there_is_one(read, refusal):
    link = 'links: [{endpoints: ["a:eth0", "b:eth1"]}]'
    nodes = "nodes: {a: {kind: linux}, b: {kind: linux, mgmt-ipv4: 172.20.20.9}}"
    read(f"nodes: {{a: {{kind: linux}}, b: {{kind: linux}}}}\n{link}\n")

    assert "a:eth0, which is its interface in the management network" in refusal(f"{nodes}\n{link}\n")

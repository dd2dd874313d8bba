"""The links of a topology file, in containerlab's two notations (links/link.go)."""

from __future__ import annotations

import pytest

from routed_lab.topology import Dummy, End, Link

NODES = """\
nodes:
  a: {kind: linux}
  b: {kind: linux}
  side: {kind: linux, network-mode: "container:a"}
  br1: {kind: bridge}
  in|a: {kind: bridge, network-mode: "container:a"}
links:
"""


def test_brief_links_have_containerlabs_mtu(read):
    lab = read(
        NODES + '- endpoints: ["a:eth1", "b:Ethernet1-1.7"]\n- {endpoints: [a:x, br1:p1], mtu: 1500, vars: {a: 1}}\n'
    )

    assert lab.links == (
        Link(End("a", "eth1"), End("b", "Ethernet1-1.7"), 9500),
        Link(End("a", "x"), End("br1", "p1"), 1500),
    )


def test_extended_links_have_addresses_and_ends_elsewhere(read):
    lab = read(
        NODES
        + """\
- type: veth
  mtu: 2000
  endpoints:
    - {node: a, interface: eth1, mac: 02-00-00-00-00-0A}
    - {node: b, interface: eth1}
- {type: host, host-interface: to-b, endpoint: {node: b, interface: eth2, mac: 0200.0000.0004}}
- {type: mgmt-net, host-interface: b3, endpoint: {node: b, interface: eth3}}
- {type: dummy, endpoint: {node: b, interface: dummy0}, labels: {x: y}}
- endpoints: ["host:to-a", "a:eth2"]
"""
    )

    assert lab.links == (
        Link(End("a", "eth1"), End("b", "eth1"), 2000, "02:00:00:00:00:0a"),
        Link(End("b", "eth2"), End("host", "to-b"), 9500, "02:00:00:00:00:04"),
        Link(End("b", "eth3"), End("mgmt-net", "b3")),
        Link(End("host", "to-a"), End("a", "eth2")),
    )
    assert lab.dummies == (Dummy(End("b", "dummy0")),)
    assert lab.needs == {"veth", "bridge", "dummy"}
    assert lab.management is not None


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("endpoints: [a:eth1]", "link 1 has 1 end (a:eth1), expected two"),
        ("endpoints: [a:eth1, b:eth1, b:eth2]", "link 1 has 3 ends"),
        ("endpoints: [a:eth1, c:eth1]", 'at node "c", which the topology does not have; it has a, b'),
        ("endpoints: [a:eth1, a:eth1]", "an interface has one cable"),
        ("endpoints: [a:eth1, side:eth1]", "a and side share a network namespace"),
        ("endpoints: [a:in, b:eth1]", "in use on line 8; in|a and a share a network namespace"),
        ("endpoints: [in|a:in, b:eth1]", "at in|a:in, which is the bridge itself"),
        ("endpoints: [a:eth1, b]", "expected NODE:INTERFACE"),
        ("endpoints: [a:eth1, 'b:e/1']", "expected NODE:INTERFACE"),
        ("endpoints: [a:eth1, macvlan:eth0]", "which reaches beyond the lab"),
        ("endpoints: [{node: a, interface: x}, b:eth1]", "an end of link 1 is a mapping, expected text"),
        ("{type: macvlan, host-interface: eth0, endpoint: {node: a, interface: eth1}}", "is of type macvlan, which"),
        ("{type: vxlan, endpoint: {node: a, interface: eth1}}", "is of type vxlan, which reaches beyond the lab"),
        ("{type: wireless, endpoints: [a:eth1, b:eth1]}", 'is of type "wireless", expected veth, host,'),
        ("{type: veth, endpoints: [a:eth1, b:eth1]}", 'an end of link 1 is the text "a:eth1", expected a mapping'),
        ("{type: veth, endpoints: [{node: a}, {node: b, interface: x}]}", 'an end of link 1 has no "interface"'),
        ("{type: veth, endpoints: [{node: a, interface: x}, {node: host, interface: y}]}", "write type: host"),
        ("{type: host, endpoint: {node: a, interface: eth1}}", 'link 1 has no "host-interface"'),
        ("{type: host, host-interface: x, endpoint: [{node: a, interface: x}]}", "is a list, expected a mapping"),
        ("{type: dummy, endpoint: {node: br1, interface: x}}", "is a dummy at the bridge br1"),
        ("{endpoints: [a:eth1, b:eth1], mtu: big}", "expected a whole number from 68 to 65535"),
        ("{endpoints: [a:eth1, b:eth1], mtu: 67}", "expected a whole number from 68 to 65535"),
        ("{type: dummy, endpoint: {node: a, interface: x, mac: 01:00:00:00:00:01}}", "six bytes as 02:00:00:00:00:01"),
        ("{type: dummy, endpoint: {node: a, interface: x, mac: 02:00:00:00:00}}", "six bytes"),
        ("{endpoints: [a:eth1, b:eth1], speed: 1}", 'unknown key "speed" in link 1'),
    ],
)
def test_a_link_that_cannot_be_is_refused_with_its_place(refusal, link: str, said: str):
    message = refusal(f"{NODES}- {link}\n")

    assert said in message
    assert "small.clab.yml:" in message


@pytest.mark.parametrize("other", ["host:eth76", "mgmt-net:eth76", "br2:eth76"])
def test_bridges_and_the_machine_share_containerlabs_root_namespace(refusal, other: str):
    # containerlab's own clab/test_data/topo7-dup-rootnetns.yml
    nodes = "nodes: {br1: {kind: bridge}, br2: {kind: bridge}, l1: {kind: linux}}\n"

    said = refusal(f'{nodes}links:\n- endpoints: ["l1:eth1", "br1:eth76"]\n- endpoints: ["l1:eth2", "{other}"]\n')

    assert "which is in use on line 5; br1 and" in said

"""What the wire should carry by the topology file, and how what it carried is judged."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from routed.errors import OperatorError
from routed.model.resources import EncapsulationMode, IPPool, IPPoolSpec
from routed_lab import expect, topology
from routed_lab.capture import Sighting, Wrapping
from routed_lab.expect import Encapsulation, Pair
from routed_lab.topology import Pod, Topology

DIRECT, IPIP, MIXED, UNSEEN = Encapsulation.DIRECT, Encapsulation.IPIP, Encapsulation.MIXED, Encapsulation.UNSEEN
TOPOLOGIES = Path(__file__).parents[3] / "topologies"
NODES = ["node-a1", "node-a2", "node-b1", "node-b2"]


@pytest.fixture(scope="module")
def mesh() -> Topology:
    return topology.load(TOPOLOGIES / "two-racks-mesh.clab.yml")


@pytest.fixture(scope="module")
def tor() -> Topology:
    return topology.load(TOPOLOGIES / "two-racks-tor.clab.yml")


def rack(pod: Pod) -> str:
    return pod.node[5]


def with_vxlan(lab: Topology, mode: EncapsulationMode) -> Topology:
    return replace(
        lab,
        resources=tuple(
            IPPool(metadata=one.metadata, spec=IPPoolSpec(cidr=one.spec.cidr, vxlan_mode=mode))
            if isinstance(one, IPPool)
            else one
            for one in lab.resources
        ),
    )


def with_mode(lab: Topology, mode: EncapsulationMode) -> Topology:
    return replace(
        lab,
        resources=tuple(
            IPPool(metadata=one.metadata, spec=IPPoolSpec(cidr=one.spec.cidr, ipip_mode=mode))
            if isinstance(one, IPPool)
            else one
            for one in lab.resources
        ),
    )


def test_in_the_mesh_pairs_within_a_rack_are_direct_and_the_others_encapsulated(mesh: Topology):
    expected = expect.expected(mesh)

    assert Counter(expected.values()) == {DIRECT: 24, IPIP: 32}
    assert all((found is DIRECT) == (rack(source) == rack(dest)) for (source, dest), found in expected.items())


def test_where_the_fabric_carries_the_prefixes_all_pairs_are_direct(tor: Topology):
    assert Counter(expect.expected(tor).values()) == {DIRECT: 56}


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("dual-tor", {DIRECT: 12}),
        ("dual-tor-frr", {DIRECT: 12}),
        ("dual-tor-gobgp", {DIRECT: 12}),
        ("md5-ttl", {DIRECT: 12}),
        ("one-node-per-subnet", {DIRECT: 30}),
        ("spine-leaf-rr", {DIRECT: 24, IPIP: 32}),
        ("three-subnets", {DIRECT: 6, IPIP: 24}),
        ("twenty-nodes", {DIRECT: 380}),
    ],
)
def test_what_each_topology_that_ships_implies(name: str, counts: dict[Encapsulation, int]):
    assert Counter(expect.expected(topology.load(TOPOLOGIES / f"{name}.clab.yml")).values()) == counts


def test_a_node_with_a_loopback_address_has_a_session_with_the_tor_of_each_of_its_links():
    sessions = expect.sessions_of(topology.load(TOPOLOGIES / "dual-tor.clab.yml"), "node-a1")

    assert [(one.router, str(one.router_address), str(one.node_address)) for one in sessions] == [
        ("tor-a1", "10.1.1.1", "10.1.0.11"),
        ("tor-a2", "10.1.2.1", "10.1.0.11"),
    ]


@pytest.mark.parametrize("node", NODES)
def test_without_its_tor_session_a_nodes_pairs_with_the_other_rack_are_encapsulated(tor: Topology, node: str):
    expected = expect.expected(tor, without_tor=(node,))

    encapsulated = {pair for pair, found in expected.items() if found is IPIP}
    assert len(encapsulated) == 16
    assert all(node in (source.node, dest.node) and rack(source) != rack(dest) for source, dest in encapsulated)


def test_always_encapsulates_all_but_what_stays_on_a_node(tor: Topology):
    expected = expect.expected(with_mode(tor, EncapsulationMode.ALWAYS))

    assert Counter(expected.values()) == {DIRECT: 8, IPIP: 48}


def test_a_vxlan_pool_is_encapsulated_where_an_ipip_pool_is(mesh: Topology, tor: Topology):
    cross, always = EncapsulationMode.CROSS_SUBNET, EncapsulationMode.ALWAYS
    vxlan = Encapsulation.VXLAN

    assert Counter(expect.expected(with_vxlan(mesh, cross)).values()) == {DIRECT: 24, vxlan: 32}
    without = expect.expected(with_vxlan(tor, cross), without_tor=("node-a1",))
    assert Counter(without.values()) == {DIRECT: 40, vxlan: 16}
    assert Counter(expect.expected(with_vxlan(tor, always)).values()) == {DIRECT: 8, vxlan: 48}


def test_never_encapsulates_nothing(mesh: Topology):
    assert Counter(expect.expected(with_mode(mesh, EncapsulationMode.NEVER)).values()) == {DIRECT: 56}


def test_a_tor_session_is_a_peering_with_a_router_of_the_file_in_the_nodes_subnet(tor: Topology):
    sessions = expect.tor_sessions(tor)

    assert [(one.node, one.router, str(one.router_address), str(one.node_address)) for one in sessions] == [
        ("node-a1", "tor-a", "10.1.1.1", "10.1.1.11"),
        ("node-a2", "tor-a", "10.1.1.1", "10.1.1.12"),
        ("node-b1", "tor-b", "10.1.2.1", "10.1.2.11"),
        ("node-b2", "tor-b", "10.1.2.1", "10.1.2.12"),
    ]


def test_a_node_that_is_not_there_or_has_no_tor_session_is_refused(mesh: Topology, tor: Topology):
    with pytest.raises(OperatorError, match='"node-c1" is no node of lab two-racks-tor') as caught:
        expect.sessions_of(tor, "node-c1")
    assert caught.value.hint == "its nodes are node-a1, node-a2, node-b1, node-b2"
    with pytest.raises(OperatorError, match='"tor-a" is no node'):
        expect.sessions_of(tor, "tor-a")
    with pytest.raises(OperatorError, match="node node-a1 of lab two-racks-mesh has no session with a top-of-rack"):
        expect.sessions_of(mesh, "node-a1")


# ---- judging one ping: the words are NODE:INTERFACE, after it "4" for protocol 4 and "v" for VXLAN, "<" before a reply

LOCAL: Pair = (Pod("node-a1", 1), Pod("node-a1", 2))
IN_RACK: Pair = (Pod("node-a1", 1), Pod("node-a2", 1))
ACROSS: Pair = (Pod("node-a1", 1), Pod("node-b1", 1))

RACK_OUT = "node-a1:rtd1 node-a1:eth1 tor-a:eth2 tor-a:eth3 node-a2:eth1 node-a2:rtd1"
RACK_BACK = "<node-a2:rtd1 <node-a2:eth1 <tor-a:eth3 <tor-a:eth2 <node-a1:eth1 <node-a1:rtd1"
TUNNEL_OUT = (
    "node-a1:rtd1 node-a1:tunl0 node-a1:eth1:4 tor-a:eth2:4 tor-a:br0:4 tor-a:eth1:4 spine:eth1:4 spine:eth2:4"
    " tor-b:eth1:4 tor-b:br0:4 tor-b:eth2:4 node-b1:eth1:4 node-b1:tunl0 node-b1:rtd1"
)
TUNNEL_BACK = "<node-b1:rtd1 <node-b1:tunl0 <node-b1:eth1:4 <spine:eth1:4 <node-a1:eth1:4 <node-a1:tunl0 <node-a1:rtd1"


def seen(words: str) -> list[Sighting]:
    sightings: list[Sighting] = []
    for time, word in enumerate(words.split()):
        node, interface, *wrapped = word.removeprefix("<").split(":")
        wrapping = {"": Wrapping.BARE, "4": Wrapping.IPIP, "v": Wrapping.VXLAN}["".join(wrapped)]
        sightings.append(Sighting(node, interface, time * 1_000_000, word.startswith("<"), wrapping))
    return sightings


def verdict(lab: Topology, pair: Pair, words: str, expectation: Encapsulation = DIRECT, *, reachable: bool = True):
    return expect.judge(lab, pair, expectation, reversed(seen(words)), reachable=reachable)


def test_a_bare_ping_and_reply_are_direct(mesh: Topology):
    found = verdict(mesh, IN_RACK, f"{RACK_OUT} {RACK_BACK}")

    assert found.carried is DIRECT
    assert found.right
    assert found.path == ("node-a1", "tor-a", "node-a2")
    assert found.rtt == 11.0


def test_protocol_4_on_the_links_is_the_tunnel_though_the_pods_see_bare_packets(mesh: Topology):
    found = verdict(mesh, ACROSS, f"{TUNNEL_OUT} {TUNNEL_BACK}", IPIP)

    assert found.carried is IPIP
    assert found.right
    assert found.path == ("node-a1", "tor-a", "spine", "tor-b", "node-b1")


def test_udp_to_the_vxlan_port_on_the_links_is_the_other_tunnel(mesh: Topology):
    in_vxlan = f"{TUNNEL_OUT} {TUNNEL_BACK}".replace(":4", ":v").replace("tunl0", "vxlan.routed")

    assert verdict(mesh, ACROSS, in_vxlan, Encapsulation.VXLAN).right
    assert not verdict(mesh, ACROSS, in_vxlan, IPIP).right


def test_the_wrong_encapsulation_is_wrong(mesh: Topology):
    assert not verdict(mesh, ACROSS, f"{TUNNEL_OUT} {TUNNEL_BACK}", DIRECT).right
    assert not verdict(mesh, IN_RACK, f"{RACK_OUT} {RACK_BACK}", IPIP).right


def test_a_reply_that_travels_otherwise_is_wrong(mesh: Topology):
    found = verdict(mesh, ACROSS, f"{TUNNEL_OUT} {TUNNEL_BACK.replace(':4', '')}", IPIP)

    assert found.carried is MIXED
    assert not found.right


def test_a_ping_that_changes_its_encapsulation_on_the_way_is_wrong(mesh: Topology):
    found = verdict(mesh, ACROSS, f"{TUNNEL_OUT.replace('spine:eth2:4', 'spine:eth2')} {TUNNEL_BACK}", IPIP)

    assert found.carried is MIXED
    assert not found.right


@pytest.mark.parametrize("expectation", [DIRECT, IPIP])
def test_a_ping_that_no_link_carried_is_wrong(mesh: Topology, expectation: Encapsulation):
    found = verdict(mesh, ACROSS, "node-a1:rtd1", expectation, reachable=False)

    assert found.carried is UNSEEN
    assert not found.right
    assert found.rtt is None


def test_between_pods_of_one_node_no_link_is_used(mesh: Topology):
    at_home = "node-a1:rtd1 node-a1:rtd2 <node-a1:rtd2 <node-a1:rtd1"

    assert verdict(mesh, LOCAL, at_home).right
    assert verdict(mesh, LOCAL, at_home).path == ("node-a1",)
    assert not verdict(mesh, LOCAL, f"{at_home} node-a1:eth1").right
    assert not verdict(mesh, LOCAL, "", reachable=False).right


def test_the_summary_counts_and_each_reachable_pair_is_direct_or_encapsulated(mesh: Topology):
    verdicts = [
        verdict(mesh, IN_RACK, f"{RACK_OUT} {RACK_BACK}"),
        verdict(mesh, ACROSS, f"{TUNNEL_OUT} {TUNNEL_BACK}", IPIP),
        verdict(mesh, ACROSS, f"{TUNNEL_OUT} {TUNNEL_BACK.replace(':4', '')}", IPIP),
        verdict(mesh, ACROSS, "", IPIP),
        verdict(mesh, ACROSS, TUNNEL_OUT, IPIP, reachable=False),
    ]

    assert expect.summary(mesh, verdicts, 1.2345) == {
        "topology": "two-racks-mesh",
        "pairs": 5,
        "reachable": 4,
        "direct": 2,
        "encapsulated": 2,
        "wrong": 2,
        "seconds": 1.23,
    }


def test_a_row_names_pods_and_path(mesh: Topology):
    assert expect.row(verdict(mesh, IN_RACK, f"{RACK_OUT} {RACK_BACK}")) == [
        "node-a1-pod1",
        "node-a2-pod1",
        "node-a1 > tor-a > node-a2",
        "direct",
        "direct",
        11.0,
    ]

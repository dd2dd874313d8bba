"""Resources that contradict one another, and those that do not."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.model.cluster import Cluster
from routed.model.resources import (
    BGPConfiguration,
    BGPConfigurationSpec,
    BGPPeer,
    BGPPeerSpec,
    IPPool,
    IPPoolSpec,
    Metadata,
    Node,
    NodeBGPSpec,
    NodeSpec,
)
from routed.model.validate import validate


def node(name: str, address: str, *cidrs: str) -> Node:
    bgp = NodeBGPSpec(ipv4_address=IPv4Interface(address))
    return Node(metadata=Metadata(name), spec=NodeSpec(bgp=bgp, pod_cidrs=tuple(map(IPv4Network, cidrs))))


def pool(name: str, cidr: str) -> IPPool:
    return IPPool(metadata=Metadata(name), spec=IPPoolSpec(cidr=IPv4Network(cidr)))


def peer(name: str, address: str, node_name: str | None = None) -> BGPPeer:
    spec = BGPPeerSpec(peer_ip=IPv4Address(address), as_number=65000, node=node_name)
    return BGPPeer(metadata=Metadata(name), spec=spec)


POOL = pool("pods", "10.244.0.0/16")
A1 = node("a1", "10.1.1.11/24", "10.244.0.0/24")
A2 = node("a2", "10.1.1.12/24", "10.244.1.0/24")


def test_a_sound_cluster_has_no_problem():
    default = BGPConfiguration(metadata=Metadata("default"))
    b1 = node("b1", "10.1.2.11/24", "10.244.2.0/24", "10.244.3.0/24")
    peers = [peer("tor-a1", "10.1.1.1", "a1"), peer("tor-a2", "10.1.1.1", "a2"), peer("everywhere", "10.9.9.9")]
    assert validate([POOL, A1, A2, b1, default, *peers]) == ()


def test_an_empty_cluster_has_no_problem():
    assert validate([]) == ()


@pytest.mark.parametrize(
    ("resources", "where", "what"),
    [
        ([POOL, pool("more", "10.244.128.0/17")], "IPPool more: spec.cidr", "overlaps IPPool pods's 10.244.0.0/16"),
        ([POOL, pool("same", "10.244.0.0/16")], "IPPool same: spec.cidr", "overlaps IPPool pods's"),
        ([pool("all", "0.0.0.0/0")], "IPPool all: spec.cidr", "overlaps 0.0.0.0/8, which no pod can use"),
        ([POOL, node("a9", "10.244.9.1/24")], "IPPool pods: spec.cidr", "overlaps the subnet 10.244.9.0/24 of Node a9"),
        ([A1, node("a9", "10.1.1.11/16"), POOL], "Node a9: spec.bgp.ipv4Address", "is also Node a1's"),
        ([node("a9", "10.1.1.0/24")], "Node a9: spec.bgp.ipv4Address", "is the network or broadcast address"),
        ([node("a9", "10.1.1.255/24")], "Node a9: spec.bgp.ipv4Address", "is the network or broadcast address"),
        ([node("a9", "127.0.0.1/8")], "Node a9: spec.bgp.ipv4Address", "is no address of a machine"),
        (
            [POOL, A1, node("a9", "10.1.1.9/24", "10.244.0.128/25")],
            "Node a9: spec.podCIDRs[0]",
            "overlaps Node a1's spec.podCIDRs[0] 10.244.0.0/24",
        ),
        (
            [POOL, node("a9", "10.1.1.9/24", "10.244.0.0/24", "10.244.0.0/24")],
            "Node a9: spec.podCIDRs[1]",
            "overlaps Node a9's spec.podCIDRs[0]",
        ),
        (
            [POOL, node("a9", "10.1.1.9/24", "10.245.0.0/24")],
            "Node a9: spec.podCIDRs[0]",
            "10.245.0.0/24 lies in no pool (IPPool pods 10.244.0.0/16)",
        ),
        ([A1], "Node a1: spec.podCIDRs[0]", "lies in no pool (none yet)"),
        ([POOL, A1, peer("tor", "10.1.1.1", "a7")], "BGPPeer tor: spec.node", "there is no Node a7 (nodes: a1)"),
        ([POOL, A1, peer("tor", "0.0.0.0")], "BGPPeer tor: spec.peerIP", "0.0.0.0 is no address of a machine"),
        ([POOL, A1, peer("tor", "224.0.0.5")], "BGPPeer tor: spec.peerIP", "224.0.0.5 is no address of a machine"),
        ([POOL, A1, peer("tor", "10.1.1.11")], "BGPPeer tor: spec.peerIP", "is Node a1's own address"),
        (
            [POOL, A1, peer("one", "10.1.1.1", "a1"), peer("two", "10.1.1.1", "a1")],
            "BGPPeer two: spec.peerIP",
            "BGPPeer one already makes a session with 10.1.1.1",
        ),
        (
            [POOL, A1, peer("one", "10.1.1.1", "a1"), peer("two", "10.1.1.1")],
            "BGPPeer two: spec.peerIP",
            "BGPPeer one already",
        ),
        (
            [POOL, A1, peer("one", "10.1.1.1"), peer("two", "10.1.1.1", "a1")],
            "BGPPeer two: spec.peerIP",
            "BGPPeer one already",
        ),
        (
            [BGPConfiguration(metadata=Metadata("node.a1"))],
            "BGPConfiguration node.a1: metadata.name",
            "settings of single nodes are not supported",
        ),
    ],
)
def test_a_contradiction_names_object_field_and_what_is_wrong(resources, where, what):
    [problem] = [problem for problem in validate(resources) if str(problem).startswith(where)]
    assert what in problem.message
    assert problem.hint


@pytest.mark.parametrize("address", ["10.1.1.0/31", "10.1.1.1/31", "10.1.1.0/32"])
def test_point_to_point_and_loopback_lengths_have_no_network_address(address):
    assert validate([node("a1", address)]) == ()


def test_all_problems_come_at_once():
    found = validate(
        [POOL, pool("more", "10.244.0.0/17"), node("a9", "10.1.1.0/24", "10.9.0.0/24"), peer("t", "1.1.1.1", "x")]
    )
    assert {problem.name for problem in found} == {"more", "a9", "t"}


PREFIXES = st.builds(
    lambda address, length: IPv4Network((address, length), strict=False),
    st.integers(0x0A000000, 0x0A0000FF),
    st.integers(24, 32),
)


@given(st.lists(PREFIXES, max_size=6))
def test_pools_are_refused_if_and_only_if_two_overlap(prefixes):
    pools = [pool(f"p{number}", str(prefix)) for number, prefix in enumerate(prefixes)]
    overlap = any(one.overlaps(other) for index, one in enumerate(prefixes) for other in prefixes[:index])
    assert bool(validate(pools)) == overlap


def test_settings_of_another_name_than_default_are_not_obeyed():
    odd = BGPConfiguration(metadata=Metadata("odd"), spec=BGPConfigurationSpec(as_number=1))
    default = BGPConfiguration(metadata=Metadata("default"), spec=BGPConfigurationSpec(as_number=2))
    assert Cluster.of([default, odd]).bgp.as_number == 2

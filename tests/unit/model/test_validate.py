"""Resources that contradict one another, and those that do not."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, ip_address, ip_network
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.model.address import Address
from routed.model.cluster import Cluster
from routed.model.codec import decode_hook
from routed.model.fields import PeerAddress
from routed.model.resources import (
    BGPConfiguration,
    BGPConfigurationSpec,
    BGPFilter,
    BGPFilterSpec,
    BGPPeer,
    BGPPeerSpec,
    EncapsulationMode,
    IPPool,
    IPPoolSpec,
    Metadata,
    Node,
    NodeBGPSpec,
    NodeSpec,
)
from routed.model.validate import validate


def node(name: str, address: str, *cidrs: str, six: str = "", reflects: bool = False, asn: int | None = None) -> Node:
    bgp = NodeBGPSpec(
        ipv4_address=IPv4Interface(address),
        as_number=asn,
        ipv6_address=IPv6Interface(six) if six else None,
        route_reflector_cluster_id=Address("244.0.0.1") if reflects else None,
    )
    return Node(
        metadata=Metadata(name, {"node": name}), spec=NodeSpec(bgp=bgp, pod_cidrs=tuple(map(ip_network, cidrs)))
    )


def pool(
    name: str,
    cidr: str,
    mode: EncapsulationMode = EncapsulationMode.NEVER,
    vxlan: EncapsulationMode = EncapsulationMode.NEVER,
) -> IPPool:
    return IPPool(metadata=Metadata(name), spec=IPPoolSpec(cidr=ip_network(cidr), ipip_mode=mode, vxlan_mode=vxlan))


def peer(name: str, address: str, node_name: str | None = None) -> BGPPeer:
    spec = BGPPeerSpec(peer_ip=PeerAddress(ip_address(address)), as_number=65000, node=node_name)
    return BGPPeer(metadata=Metadata(name), spec=spec)


def said(name: str, **fields: Any) -> BGPPeer:
    """A BGPPeer in the words of a manifest."""
    return BGPPeer(metadata=Metadata(name), spec=msgspec.convert(fields, BGPPeerSpec, dec_hook=decode_hook))


def default(**fields: Any) -> BGPConfiguration:
    spec = msgspec.convert(fields, BGPConfigurationSpec, dec_hook=decode_hook)
    return BGPConfiguration(metadata=Metadata("default"), spec=spec)


def rule(**fields: Any) -> BGPFilter:
    """A filter with one rule on what comes in, in the words of a manifest; IPv6 if its cidr is."""
    name = "importV6" if ":" in str(fields.get("cidr")) else "importV4"
    spec = msgspec.convert({name: [{"action": "Accept", **fields}]}, BGPFilterSpec, dec_hook=decode_hook)
    return BGPFilter(metadata=Metadata("f"), spec=spec)


def sent(**fields: Any) -> BGPFilter:
    """The same on what goes out."""
    spec = rule(**fields).spec
    return BGPFilter(metadata=Metadata("f"), spec=BGPFilterSpec(export_v4=spec.import_v4, export_v6=spec.import_v6))


POOL = pool("pods", "10.244.0.0/16")
A1 = node("a1", "10.1.1.11/24", "10.244.0.0/24")
A2 = node("a2", "10.1.1.12/24", "10.244.1.0/24")


def test_a_sound_cluster_has_no_problem():
    b1 = node("b1", "10.1.2.11/24", "10.244.2.0/24", "10.244.3.0/24")
    peers = [peer("tor-a1", "10.1.1.1", "a1"), peer("tor-a2", "10.1.1.1", "a2"), peer("everywhere", "10.9.9.9")]
    assert validate([POOL, A1, A2, b1, default(), *peers]) == ()


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


SECRET = {"secretKeyRef": {"name": "bgp", "key": "tor"}}
TOR = {"peerIP": "10.1.1.1", "asNumber": 65000}
SIX = {"peerIP": "2001:db8::1", "asNumber": 65000}
A1_SIX = node("a1", "10.1.1.11/24", six="2001:db8::11/64")
AS_TRANS = "23456 stands for AS numbers of four octets (RFC 6793) and is nobody's"


@pytest.mark.parametrize(
    ("resources", "where", "what"),
    [
        ([node("a1", "10.1.1.1/24", six="fe80::1/64")], "Node a1: spec.bgp.ipv6Address", "is no address of a machine"),
        ([A1_SIX, node("a2", "10.1.1.12/24", six="2001:db8::11/64")], "Node a2: spec.bgp.ipv6Address", "also Node a1"),
        ([node("a1", "10.1.1.1/24", asn=23456)], "Node a1: spec.bgp.asNumber", AS_TRANS),
        (
            [A1, node("r", "10.1.1.9/24", reflects=True), POOL],
            "Node r: spec.bgp.routeReflectorClusterID",
            "a route reflector is outside the mesh, and no BGPPeer makes a session",
        ),
        ([pool("six", "ff00::/16")], "IPPool six: spec.cidr", "overlaps ff00::/8, which no pod can use"),
        ([pool("six", "fd00::/48", EncapsulationMode.ALWAYS)], "IPPool six: spec.ipipMode", "IPIP carries IPv4 only"),
        (
            [pool("six", "fd00::/48", vxlan=EncapsulationMode.ALWAYS)],
            "IPPool six: spec.vxlanMode",
            "VXLAN carries IPv4 only in this version, and fd00::/48 is IPv6",
        ),
        (
            [pool("two", "10.244.0.0/16", EncapsulationMode.ALWAYS, EncapsulationMode.CROSS_SUBNET)],
            "IPPool two: spec.vxlanMode",
            "CrossSubnet, and spec.ipipMode is Always: a pool has one encapsulation",
        ),
        (
            [pool("six", "2001:db8::/32"), A1_SIX],
            "IPPool six: spec.cidr",
            "overlaps the subnet 2001:db8::/64 of Node a1",
        ),
        (
            [pool("six", "fd00::/48"), pool("in", "fd00::/64")],
            "IPPool in: spec.cidr",
            "overlaps IPPool six's fd00::/48",
        ),
        ([POOL, node("a9", "10.1.1.9/24", "fd00::/64")], "Node a9: spec.podCIDRs[0]", "fd00::/64 lies in no pool"),
        # BGPConfiguration
        ([default(asNumber=23456)], "BGPConfiguration default: spec.asNumber", AS_TRANS),
        (
            [default(nodeToNodeMeshEnabled=False, nodeMeshPassword=SECRET)],
            "BGPConfiguration default: spec.nodeMeshPassword",
            "there is no mesh that it could be for",
        ),
        (
            [default(nodeMeshMaxRestartTime="2h")],
            "BGPConfiguration default: spec.nodeMeshMaxRestartTime",
            "7200s is out of range",
        ),
        ([default(nodeMeshBFD={})], "BGPConfiguration default: spec.nodeMeshBFD", "has no effect while"),
        (
            [default(prefixAdvertisements=[{"cidr": "10.0.0.0/8", "communities": ["1:2", "gold"]}])],
            "BGPConfiguration default: spec.prefixAdvertisements[0].communities[1]",
            "there is no community named 'gold'",
        ),
        (
            [default(prefixAdvertisements=[{"cidr": "10.0.0.0/8", "communities": ["70000:2"]}])],
            "BGPConfiguration default: spec.prefixAdvertisements[0].communities[0]",
            "70000 is out of range",
        ),
        (
            [default(communities=[{"name": "gold", "value": "1:2"}, {"name": "gold", "value": "1:3"}])],
            "BGPConfiguration default: spec.communities[1].name",
            "gold is there twice",
        ),
        (
            [POOL, default(serviceClusterIPs=[{"cidr": "10.244.0.0/24"}])],
            "BGPConfiguration default: spec.serviceClusterIPs[0].cidr",
            "overlaps IPPool pods's 10.244.0.0/16",
        ),
        (
            [default(ignoredInterfaces=["eth0", "a/b"])],
            "BGPConfiguration default: spec.ignoredInterfaces[1]",
            "'a/b' is no name of an interface",
        ),
        # whose the peerings of a BGPPeer are, and with whom
        (
            [A1, POOL, said("p", **TOR, node="a1", nodeSelector="all()")],
            "BGPPeer p: spec.nodeSelector",
            "node is there",
        ),
        ([said("p", **TOR, peerSelector="all()")], "BGPPeer p: spec.peerSelector", "peerIP is there too: 10.1.1.1"),
        ([said("p", peerSelector="all()", asNumber=1)], "BGPPeer p: spec.asNumber", "a selected node has its own AS"),
        ([said("p", asNumber=1)], "BGPPeer p: spec.peerIP", "is missing, and so is peerSelector"),
        ([said("p", peerIP="10.1.1.1")], "BGPPeer p: spec.asNumber", "is missing beside peerIP 10.1.1.1"),
        ([said("p", peerIP="10.1.1.1", asNumber=23456)], "BGPPeer p: spec.asNumber", AS_TRANS),
        ([said("p", **TOR, localASNumber=23456)], "BGPPeer p: spec.localASNumber", AS_TRANS),
        ([said("p", peerIP="fe80::1", asNumber=1)], "BGPPeer p: spec.peerIP", "fe80::1 is link-local"),
        (
            [A1, POOL, said("p", peerIP="10.1.1.11", asNumber=64512, node="a1")],
            "BGPPeer p: spec.peerIP",
            "10.1.1.11 is Node a1's own address, and no other node has this peering",
        ),
        ([A1, A1_SIX, POOL, said("p", **SIX), A2], "BGPPeer p: spec.peerIP", "Node a2 has no spec.bgp.ipv6Address"),
        # how the sessions of a BGPPeer are
        (
            [said("p", **TOR, reachableBy="2001:db8::9")],
            "BGPPeer p: spec.reachableBy",
            "is of another family than peerIP",
        ),
        ([said("p", **TOR, reachableBy="10.1.1.1")], "BGPPeer p: spec.reachableBy", "is the peer itself"),
        (
            [said("p", peerSelector="all()", reachableBy="10.1.1.1")],
            "BGPPeer p: spec.reachableBy",
            "there is no peerIP",
        ),
        ([said("p", **TOR, extendedNextHop=True)], "BGPPeer p: spec.extendedNextHop", "over IPv4 has no use for"),
        ([said("p", **TOR, maxRestartTime="4096s")], "BGPPeer p: spec.maxRestartTime", "4096s is out of range"),
        ([said("p", **TOR, holdTime="2s")], "BGPPeer p: spec.holdTime", "2s is no hold time"),
        ([said("p", **TOR, holdTime="1500ms")], "BGPPeer p: spec.holdTime", "1500ms is no whole number of seconds"),
        ([said("p", **TOR, keepaliveTime="0s")], "BGPPeer p: spec.keepaliveTime", "0s is out of range"),
        (
            [said("p", **TOR, holdTime="3s", keepaliveTime="2s")],
            "BGPPeer p: spec.keepaliveTime",
            "2s is more than a third of holdTime 3s",
        ),
        (
            [said("p", **TOR, nextHopMode="Self", keepOriginalNextHop=True)],
            "BGPPeer p: spec.keepOriginalNextHop",
            "nextHopMode is there too: Self",
        ),
        (
            [said("p", **TOR, maxPrefixes=10, warningPrefixes=11)],
            "BGPPeer p: spec.warningPrefixes",
            "11 is more than maxPrefixes 10",
        ),
        (
            [said("p", **TOR, addressFamilies=["IPv4", "IPv4"])],
            "BGPPeer p: spec.addressFamilies[1]",
            "IPv4 is there twice",
        ),
        ([said("p", **TOR, bfd={})], "BGPPeer p: spec.bfd", "has no effect while failureDetectionMode is None"),
        (
            [said("p", **TOR, failureDetectionMode="BFD", bfd={"interval": "10ms"})],
            "BGPPeer p: spec.bfd.interval",
            "10ms is out of range",
        ),
        ([said("p", **TOR, filters=["gone"])], "BGPPeer p: spec.filters[0]", "there is no BGPFilter gone"),
        ([rule(), said("p", **TOR, filters=["f", "f"])], "BGPPeer p: spec.filters[1]", "f is there twice"),
        # BGPPeers that overlap
        (
            [A1, A2, POOL, said("p", **TOR, nodeSelector="has(node)"), said("q", **TOR, nodeSelector="node == 'a2'")],
            "BGPPeer q: spec.peerIP",
            "BGPPeer p already makes a session with 10.1.1.1 on the same node, a2",
        ),
        (
            [
                *(A1, A2, POOL),
                said("p", nodeSelector="all()", peerSelector="node == 'a1'"),
                said("q", nodeSelector="node == 'a2'", peerSelector="all()", holdTime="9s"),
            ],
            "BGPPeer q: spec.peerSelector",
            "BGPPeer p already makes a session with 10.1.1.12 on the same node, a1",
        ),
        (
            [
                *(A1, A2, POOL),
                said("p", node="a1", peerSelector="node == 'a2'", localASNumber=65200),
                said("q", node="a2", peerSelector="node == 'a1'"),
            ],
            "BGPPeer p: spec.localASNumber",
            "Node a1 speaks as AS 65200 to Node a2, which expects AS 64512 because of BGPPeer q",
        ),
        # BGPFilter
        ([rule(cidr="10.0.0.0/8")], "BGPFilter f: spec.importV4[0].matchOperator", "is missing beside cidr 10.0.0.0/8"),
        (
            [rule(matchOperator="In")],
            "BGPFilter f: spec.importV4[0].matchOperator",
            "compares with cidr, which is missing",
        ),
        (
            [rule(prefixLength={"min": 8})],
            "BGPFilter f: spec.importV4[0].prefixLength",
            "narrows cidr, which is missing",
        ),
        (
            [rule(cidr="10.0.0.0/8", matchOperator="In", prefixLength={"min": 24, "max": 16})],
            "BGPFilter f: spec.importV4[0].prefixLength",
            "no length is from 24 to 16",
        ),
        (
            [rule(cidr="10.0.0.0/8", matchOperator="In", prefixLength={"max": 7})],
            "BGPFilter f: spec.importV4[0].prefixLength",
            "no length is from 8 to 7",
        ),
        (
            [rule(cidr="fd00::/48", matchOperator="NotIn", prefixLength={"min": 40})],
            "BGPFilter f: spec.importV6[0].prefixLength.min",
            "no prefix inside fd00::/48 is as short as /40",
        ),
        (
            [rule(cidr="10.0.0.0/8", matchOperator="Equal", prefixLength={"min": 9})],
            "BGPFilter f: spec.importV4[0].prefixLength.min",
            "Equal compares with 10.0.0.0/8 alone",
        ),
        ([rule(interface="an interface")], "BGPFilter f: spec.importV4[0].interface", "is no name of an interface"),
        ([rule(interface="x" * 16)], "BGPFilter f: spec.importV4[0].interface", "is longer than an interface's name"),
        ([rule(asPathPrefix=[1, 23456])], "BGPFilter f: spec.importV4[0].asPathPrefix[1]", AS_TRANS),
        (
            [rule(action="Reject", operations=[{"setPriority": {"value": 1}}])],
            "BGPFilter f: spec.importV4[0].operations",
            "change a route that is rejected",
        ),
        ([rule(operations=[{}])], "BGPFilter f: spec.importV4[0].operations[0]", "one change, found none"),
        ([sent(interface="eth0")], "BGPFilter f: spec.exportV4[0].interface", "not known of a route that is sent"),
        (
            [sent(operations=[{"setPriority": {"value": 1}}])],
            "BGPFilter f: spec.exportV4[0].operations[0].setPriority",
            "this node's own, and is not sent",
        ),
        (
            [rule(operations=[{"setPriority": {"value": 1}, "addCommunity": {"value": "1:2"}}])],
            "BGPFilter f: spec.importV4[0].operations[0]",
            "one change, found addCommunity and setPriority",
        ),
        (
            [rule(operations=[{"prependASPath": {"prefix": [23456]}}])],
            "BGPFilter f: spec.importV4[0].operations[0].prependASPath.prefix[0]",
            AS_TRANS,
        ),
    ],
)
def test_what_would_not_work_names_object_field_and_what_is_wrong(resources, where, what):
    [problem] = [problem for problem in validate(resources) if str(problem).startswith(f"{where}: ")]
    assert what in problem.message
    assert problem.hint


REFLECTORS = [
    node("r1", "10.1.1.1/24", reflects=True),
    node("r2", "10.1.1.2/24", reflects=True),
    node("c1", "10.1.1.3/24"),
    said("clients", nodeSelector="node == 'c1'", peerSelector="node in {'r1', 'r2'}"),
    said("reflectors", nodeSelector="node in {'r1', 'r2'}", peerSelector="node in {'r1', 'r2'}"),
]


@pytest.mark.parametrize(
    "resources",
    [
        [
            node("a1", "10.1.1.11/24", "10.244.0.0/24", "fd00::/64", six="2001:db8::11/64"),
            POOL,
            pool("six", "fd00::/48"),
        ],
        REFLECTORS,
        [*REFLECTORS, said("all", peerSelector="node == 'r1'")],  # overlaps with the others, and comes to the same
        [node("r1", "10.1.1.1/24", reflects=True)],  # alone so far
        [A1, A2, POOL, said("rr", peerIP="10.1.1.11", asNumber=64512, node="a2")],
        # each end states its own, as one who wants two different ends does
        [
            *(A1, A2, POOL),
            said("here", nodeSelector="node == 'a1'", peerSelector="node == 'a2'", filters=["f"]),
            said("there", nodeSelector="node == 'a2'", peerSelector="node == 'a1'"),
            rule(cidr="10.0.0.0/8", matchOperator="Equal", prefixLength={"max": 8}),
        ],
        [
            default(
                prefixAdvertisements=[{"cidr": "fd00::/48", "communities": ["g", "1:2:3"]}],
                communities=[{"name": "g", "value": "1:2"}],
            )
        ],
        [said("p", **SIX, extendedNextHop=True, holdTime="0s", keepaliveTime="30s")],
    ],
)
def test_what_works_has_no_problem(resources):
    assert validate(resources) == ()


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
    assert Cluster.of([default(asNumber=2), odd]).bgp.as_number == 2

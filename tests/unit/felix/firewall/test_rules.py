"""What the rules are, for a cluster and the pods of a node."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Interface, ip_address, ip_network

from msgspec.structs import replace
from tests.unit.felix.words import NODES, node, pool

from routed.model.address import Family
from routed.model.cluster import Cluster
from routed.model.endpoint import Endpoint
from routed.model.resources import EncapsulationMode, IPPool, IPPoolSpec, Metadata, Node
from routed_felix.firewall.rules import Rules, rules_of

A1, B1 = (node(name, *NODES[name]) for name in ("a1", "b1"))


def nat(name: str, cidr: str, *, outgoing: bool = True, disabled: bool = False) -> IPPool:
    spec = IPPoolSpec(cidr=ip_network(cidr), nat_outgoing=outgoing, disabled=disabled)
    return IPPool(metadata=Metadata(name=name), spec=spec)


def dual(made: Node, address: str) -> Node:
    bgp = replace(made.spec.bgp, ipv6_address=IPv6Interface(address))
    return replace(made, spec=replace(made.spec, bgp=bgp))


def rules(*resources: Node | IPPool, pods: tuple[Endpoint, ...] = ()) -> Rules:
    return rules_of(Cluster.of(resources), pods, 4789)


def test_whoever_is_a_node_of_the_cluster_may_send_us_tunnelled_packets_with_either_of_its_addresses():
    assert rules(A1, dual(B1, "2001:db8::21/64")).members == {
        IPv4Address("10.1.1.11"), IPv4Address("10.2.2.21"), IPv6Address("2001:db8::21"),
    }  # fmt: skip


def test_a_pod_may_send_with_each_of_its_addresses_and_from_its_own_interface():
    pods = tuple(Endpoint("c1", "eth0", ip_address(each), "rtd1") for each in ("192.168.11.5", "fd00::5"))
    found = rules(A1, pods=pods)
    assert found.pods == {("rtd1", IPv4Address("192.168.11.5")), ("rtd1", IPv6Address("fd00::5"))}
    assert found.pod_interfaces == {"rtd1"}


def test_pools_of_both_families_count_and_only_those_with_nat_outgoing_are_masqueraded():
    found = rules(pool("plain", "10.0.0.0/16", "Always"), nat("four", "10.1.0.0/16"), nat("six", "fd00::/64"))
    assert found.pools == {ip_network("10.0.0.0/15"), ip_network("fd00::/64")}
    assert found.nat_pools == {ip_network("10.1.0.0/16"), ip_network("fd00::/64")}


def test_pods_that_keep_an_address_of_a_disabled_pool_keep_its_masquerade():
    assert rules(nat("old", "10.1.0.0/16", disabled=True)).nat_pools == {ip_network("10.1.0.0/16")}


def test_ranges_that_overlap_or_touch_become_one_interval():
    found = rules(nat("whole", "10.1.0.0/16"), nat("part", "10.1.2.0/24"), nat("next", "10.0.0.0/16"))
    assert found.nat_pools == {ip_network("10.0.0.0/15")}


def test_a_family_has_its_own_part_of_the_rules():
    found = rules(A1, dual(B1, "2001:db8::21/64"), nat("four", "10.1.0.0/16"), nat("six", "fd00::/64"))
    assert found.of(Family.IPV6) == Rules(
        members=frozenset({IPv6Address("2001:db8::21")}),
        pools=frozenset({ip_network("fd00::/64")}),
        nat_pools=frozenset({ip_network("fd00::/64")}),
    )


def test_vxlan_is_guarded_while_a_pool_uses_it():
    wrapped = IPPoolSpec(cidr=ip_network("10.9.0.0/16"), vxlan_mode=EncapsulationMode.CROSS_SUBNET)
    assert rules(A1, nat("plain", "192.168.0.0/16")).vxlan_port == 0
    assert rules(A1, IPPool(metadata=Metadata(name="wrapped"), spec=wrapped)).vxlan_port == 4789

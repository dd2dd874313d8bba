"""Questions to the cluster, in both families."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

import pytest
from tests.unit.bgp.clusters import cluster, node, peer, pool, settings

from routed.model.address import Family
from routed.model.bgp import CIDRBlock, NamedCommunity, PrefixAdvertisement
from routed.model.fields import Community
from routed.model.selector import Selector

DUAL = cluster(
    node("a1", "10.244.1.0/26", "fd00:244:1::/64", ipv6=True, rack="a"),
    node("b1", "10.244.2.0/26", rack="b"),
    pool(),
    pool("fd00:244::/32"),
)


def test_the_plain_names_are_ipv4_and_the_others_say_so() -> None:
    assert DUAL.members == {IPv4Address("10.1.1.11"): "a1", IPv4Address("10.2.2.11"): "b1"}
    assert DUAL.members6 == {IPv6Address("2001:db8:1::11"): "a1"}
    assert DUAL.any_members == {**DUAL.members, **DUAL.members6}
    assert DUAL.blocks == {IPv4Network("10.244.1.0/26"): "a1", IPv4Network("10.244.2.0/26"): "b1"}
    assert DUAL.blocks6 == {IPv6Network("fd00:244:1::/64"): "a1"}
    assert DUAL.own_blocks("a1") == (IPv4Network("10.244.1.0/26"),)
    assert DUAL.own_blocks6("a1") == (IPv6Network("fd00:244:1::/64"),)
    assert DUAL.any_own_blocks("a1") == (*DUAL.own_blocks("a1"), *DUAL.own_blocks6("a1"))
    assert DUAL.any_addresses("a1") == (IPv4Interface("10.1.1.11/24"), IPv6Interface("2001:db8:1::11/64"))
    assert DUAL.any_addresses("b1") == (IPv4Interface("10.2.2.11/24"),)
    assert [*DUAL.ipv4_pools] == [*DUAL.pools_of(Family.IPV4)] == [IPv4Network("10.244.0.0/16")]
    assert [*DUAL.ipv6_pools] == [*DUAL.pools_of(Family.IPV6)] == [IPv6Network("fd00:244::/32")]


def test_a_node_that_is_not_there_has_no_blocks() -> None:
    assert DUAL.own_blocks("z") == DUAL.own_blocks6("z") == DUAL.any_own_blocks("z") == ()


@pytest.mark.parametrize(
    ("prefix", "owner", "in_pool"),
    [
        (IPv4Network("10.244.1.7/32"), "a1", True),
        (IPv4Network("10.244.0.0/16"), None, True),
        (IPv4Network("10.9.0.0/16"), None, False),
        (IPv6Network("fd00:244:1::7/128"), "a1", True),
        (IPv6Network("fd00:244:2::/64"), None, True),
        (IPv6Network("::/0"), None, False),
    ],
)
def test_owner_and_pool_of_a_prefix(prefix: IPv4Network | IPv6Network, owner: str | None, in_pool: bool) -> None:
    assert DUAL.owner(prefix) == owner
    assert (DUAL.pool(prefix) is not None) is in_pool


def test_nodes_are_selected_by_their_labels() -> None:
    assert DUAL.select(Selector("rack == 'a'")) == {"a1"}
    assert DUAL.select(Selector("rack == 'a'")) is DUAL.select(Selector("rack == 'a'"))
    assert DUAL.select(Selector("has(absent)")) == frozenset()


def test_the_scope_of_a_bgppeer() -> None:
    assert DUAL.scope(peer("p", "10.1.1.1", 1)) == {"a1", "b1"}
    assert DUAL.scope(peer("p", "10.1.1.1", 1, "b1")) == {"b1"}
    assert DUAL.scope(peer("p", "10.1.1.1", 1, "gone")) == frozenset()
    assert DUAL.scope(peer("p", "10.1.1.1", 1, node_selector=Selector("rack == 'a'"))) == {"a1"}


def test_communities_are_those_of_every_range_that_contains_the_prefix() -> None:
    of = cluster(
        settings(
            communities=(NamedCommunity("gold", Community(64512, 1)),),
            prefix_advertisements=(
                PrefixAdvertisement(IPv4Network("10.0.0.0/8"), ("gold", "64512:2:3")),
                PrefixAdvertisement(IPv4Network("10.244.0.0/16"), ("64512:4", "gold", "unknown")),
                PrefixAdvertisement(IPv6Network("::/0"), ("64512:6",)),
            ),
        )
    )
    assert list(map(str, of.advertised_communities(IPv4Network("10.244.1.0/26")))) == [
        "64512:1",
        "64512:2:3",
        "64512:4",
    ]
    assert list(map(str, of.advertised_communities(IPv6Network("fd00::/64")))) == ["64512:6"]
    assert of.advertised_communities(IPv4Network("11.0.0.0/8")) == ()


def test_service_ranges_are_read_together() -> None:
    one, other = CIDRBlock(IPv4Network("10.96.0.0/12")), CIDRBlock(IPv6Network("fd00:96::/112"))
    of = cluster(settings(service_cluster_ips=(one, other), service_external_ips=(one,)))
    assert of.bgp.service_cidrs == (one.cidr, other.cidr)

"""Paths from the store while BGP is switched off, and the way from the one to the other."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network

import pytest
from tests.unit.bgp.clusters import cluster, node, peer, pool, settings

from routed.agent.path_source import PathSource, is_switched_off, stored_paths
from routed.model.address import Family
from routed.model.cluster import Cluster
from routed.model.nlri import Nlri, from_prefix
from routed_bgp.loc_rib import Ranked

NODES = (node("a1", "10.244.1.0/26"), node("a2", "10.244.2.0/26"), node("b1", "10.244.3.0/26"), pool())
OFF = cluster(*NODES, settings(mesh=False))
ON = cluster(*NODES, settings())
A2, B1 = (from_prefix(IPv4Network(block)) for block in ("10.244.2.0/26", "10.244.3.0/26"))


DUAL = cluster(
    node("a1", "10.244.1.0/26", "fd00:1::/122", ipv6=True),
    node("a2", "10.244.2.0/26", "fd00:2::/122", ipv6=True),
    node("b1", "10.244.3.0/26", "fd00:3::/122"),
    pool(),
    settings(mesh=False),
)
PEERS_ONLY = cluster(*NODES, settings(mesh=False), peer("t", "10.1.1.1", 65101))


@pytest.mark.parametrize(
    ("of", "off"),
    [(OFF, True), (ON, False), (cluster(*NODES), False), (PEERS_ONLY, False)],
    ids=["no mesh, no peers", "mesh", "default", "peers"],
)
def test_bgp_is_switched_off_where_nobody_has_a_session(of: Cluster, off: bool) -> None:
    assert is_switched_off(of) is off


def test_the_store_tells_what_the_mesh_would_and_nothing_of_our_own() -> None:
    found = stored_paths(OFF, "a1", Family.IPV4)
    assert set(found) == {A2, B1}
    (path,) = found[B1]
    assert path.next_hop == path.peer == OFF.address("b1").ip
    assert (path.member, path.local_pref, path.ebgp) == (True, 90, False)


def source(rib: dict[Nlri, Ranked], of: Cluster = OFF, now: float = 0) -> PathSource:
    made = PathSource("a1", {Family.IPV4: rib, Family.IPV6: {}}, 30)
    made.adopt(of, now)
    return made


def test_while_bgp_is_on_its_table_is_all_there_is() -> None:
    rib: dict[Nlri, Ranked] = {}
    made = source(rib, ON)
    assert made.best(Family.IPV4) is rib
    assert made.settle(0, synced=False) is False
    assert made.next_deadline is None


def test_switched_off_the_stores_paths_are_there_at_once() -> None:
    made = source({})
    assert made.settle(0, synced=True) is True
    assert set(made.best(Family.IPV4)) == {A2, B1}
    assert made.is_stored(B1, Family.IPV4)
    assert made.settle(1, synced=True) is False


def test_switched_on_the_stores_paths_stay_until_bgp_has_delivered() -> None:
    rib: dict[Nlri, Ranked] = {}
    made = source(rib)
    made.settle(0, synced=True)
    made.adopt(ON, 10)
    assert made.settle(10, synced=False) is False
    rib[A2] = stored_paths(OFF, "a1", Family.IPV4)[A2]
    stored = [made.is_stored(each, Family.IPV4) for each in (A2, B1)]
    assert (set(made.best(Family.IPV4)), stored) == ({A2, B1}, [False, True])
    assert made.next_deadline == 40
    assert made.settle(11, synced=True) is True
    assert made.best(Family.IPV4) is rib


def test_a_member_that_never_delivers_is_waited_for_no_longer_than_that() -> None:
    made = source({})
    made.adopt(ON, 10)
    made.adopt(ON, 20)  # another change of the cluster does not prolong it
    made.settle(39, synced=False)
    assert made.best(Family.IPV4)
    assert made.settle(40, synced=False) is True
    assert not made.best(Family.IPV4)


def test_a_node_that_joins_while_bgp_is_off_is_a_change() -> None:
    made = source({}, cluster(*NODES[:2], pool(), settings(mesh=False)))
    made.settle(0, synced=True)
    made.adopt(OFF, 1)
    assert made.settle(1, synced=True) is True
    assert set(made.best(Family.IPV4)) == {A2, B1}


def test_addresses_are_of_the_cluster() -> None:
    assert stored_paths(OFF, "a1", Family.IPV4)[A2][0].next_hop == IPv4Address("10.1.1.12")


def test_ipv6_blocks_are_reached_by_the_ipv6_address_of_their_node() -> None:
    from_store = stored_paths(DUAL, "a1", Family.IPV6)
    assert [path.next_hop for (path,) in from_store.values()] == list(DUAL.members6)[1:]
    assert set(from_store) == {from_prefix(IPv6Network("fd00:2::/122"))}

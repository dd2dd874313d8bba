"""What the firewall does to packets, on a real kernel."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Network

import pytest
from tests.kernel.felix.firewall.site import (
    ANYTHING,
    MEMBER,
    MEMBER6,
    NAT,
    NODE,
    NODE6,
    OTHER_POD,
    OTHER_POD6,
    POD,
    POD6,
    POD_LINK,
    PORT,
    REMOTE_POD,
    REMOTE_POD6,
    ROUTER,
    ROUTER6,
    RULES,
    STRANGER,
    STRANGER6,
    Site,
)

from routed_felix.firewall.backend import Backend
from routed_felix.firewall.firewall import Choice, Firewall
from routed_felix.firewall.iptables import Iptables
from routed_felix.firewall.nft import Nft
from routed_felix.firewall.rules import Rules

FOUR, SIX = socket.AF_INET, socket.AF_INET6
GUARDED = replace(RULES, vxlan_port=PORT)
BACKENDS = [Nft, partial(Iptables, "nft"), partial(Iptables, "legacy")]


@pytest.fixture(params=BACKENDS, ids=lambda made: made(None).name)
def firewall(site: Site, request: pytest.FixtureRequest) -> Iterator[Firewall]:
    backend: Backend = request.param(site.node)
    with Firewall(lambda: Choice([backend]), site.node) as made:
        yield made


# ---- the guard


@pytest.mark.parametrize(
    ("family", "stranger", "member", "node"),
    [(FOUR, STRANGER, MEMBER, NODE), (SIX, STRANGER6, MEMBER6, NODE6)],
    ids=["ipv4", "ipv6"],
)
def test_protocol_4_is_taken_from_a_member_and_not_from_a_stranger(site, firewall, family, stranger, member, node):
    firewall.bring(RULES)
    with site.received(site.node, 4, family) as node_end:
        site.send(site.router, stranger, node, 4)
        site.send(site.router, member, node, 4)
        assert node_end.source() == member


def test_without_the_guard_the_stranger_would_be_heard(site):
    with site.received(site.node, 4) as node_end:
        site.send(site.router, STRANGER, NODE, 4)
        assert node_end.source() == STRANGER


def test_a_node_that_leaves_the_cluster_is_a_stranger_from_then_on(site, firewall):
    firewall.bring(RULES)
    firewall.bring(Rules(RULES.members - {min(RULES.members, key=lambda each: str(each) != MEMBER)}, RULES.pods))
    with site.received(site.node, 4) as node_end:
        site.send(site.router, MEMBER, NODE, 4)
        site.send(site.node, NODE, NODE, 4)
        assert node_end.source() == NODE


def test_other_protocols_are_taken_from_anybody(site, firewall):
    firewall.bring(RULES)
    with site.received(site.node) as node_end:
        site.send(site.router, STRANGER, NODE)
        assert node_end.source() == STRANGER


def test_vxlan_is_taken_from_a_member_and_not_from_a_stranger(site, firewall):
    firewall.bring(GUARDED)
    with site.datagrams(site.node) as node_end:
        site.say(site.router, ROUTER, NODE)
        site.say(site.router, MEMBER, NODE)
        assert node_end.source() == MEMBER


def test_where_no_pool_is_vxlan_its_port_is_anybodys(site, firewall):
    firewall.bring(RULES)
    with site.datagrams(site.node) as node_end:
        site.say(site.router, ROUTER, NODE)
        assert node_end.source() == ROUTER


def test_a_second_look_at_a_guard_of_two_tunnels_finds_it_right(site, firewall):
    assert firewall.bring(GUARDED)
    assert not firewall.bring(GUARDED)


# ---- what a pod may send


def test_a_pod_sends_no_vxlan_to_a_member_and_other_datagrams_to_anybody_else(site, firewall):
    firewall.bring(GUARDED)
    with site.datagrams(site.router) as router_end:
        site.say(site.pod, POD, MEMBER)
        site.say(site.pod, POD, ROUTER)
        assert router_end.source() == POD
        router_end._socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            router_end.source()


@pytest.mark.parametrize(
    ("family", "forged", "own", "to"),
    [
        (FOUR, OTHER_POD, POD, ROUTER),
        (FOUR, MEMBER, POD, ROUTER),
        (FOUR, OTHER_POD, POD, NODE),
        (SIX, OTHER_POD6, POD6, ROUTER6),
        (SIX, MEMBER6, POD6, ROUTER6),
        (SIX, OTHER_POD6, POD6, NODE6),
    ],
)
def test_a_pod_sends_with_its_own_address_and_no_other(site, firewall, family, forged, own, to):
    firewall.bring(RULES)
    with site.received(site.node if to in (NODE, NODE6) else site.router, ANYTHING, family) as end:
        site.send(site.pod, forged, to)
        site.send(site.pod, own, to)
        assert end.source() == own


@pytest.mark.parametrize(("family", "forged", "to"), [(FOUR, OTHER_POD, ROUTER), (SIX, OTHER_POD6, ROUTER6)])
def test_without_the_rules_the_forged_packet_would_pass(site, family, forged, to):
    with site.received(site.router, ANYTHING, family) as router_end:
        site.send(site.pod, forged, to)
        assert router_end.source() == forged


@pytest.mark.parametrize(
    ("family", "pod", "to"), [(FOUR, POD, ROUTER), (FOUR, POD, NODE), (SIX, POD6, ROUTER6), (SIX, POD6, NODE6)]
)
def test_a_pod_sends_no_protocol_4_even_with_its_own_address(site, firewall, family, pod, to):
    firewall.bring(Rules(RULES.members | {each.address for each in RULES.pods}, RULES.pods))  # not the guard's doing
    at = site.node if to in (NODE, NODE6) else site.router
    with site.received(at, 4, family) as tunnel, site.received(at, ANYTHING, family) as anything:
        site.send(site.pod, pod, to, 4)
        site.send(site.pod, pod, to)
        assert anything.source() == pod
        tunnel._socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            tunnel.source()


def test_interfaces_that_are_no_pods_may_send_with_any_source(site, firewall):
    firewall.bring(Rules(RULES.members))
    with site.received(site.router) as router_end:
        site.send(site.pod, OTHER_POD, ROUTER)
        assert router_end.source() == OTHER_POD


def test_a_pod_finds_its_neighbours_again_by_ipv6(site, firewall):
    firewall.bring(RULES)
    site.inside_pod("-6", "neighbour", "flush", "dev", "eth0")
    site.world.ip("-6", "neighbour", "flush", "dev", POD_LINK)
    site.run("ping", "-6", "-n", "-c", "1", "-W", "5", "-I", POD6, ROUTER6, at=site.pod)


# ---- natOutgoing


@pytest.mark.parametrize(("family", "pod", "outside", "node"), [(FOUR, POD, ROUTER, NODE), (SIX, POD6, ROUTER6, NODE6)])
def test_what_leaves_the_pools_has_the_nodes_address(site, firewall, family, pod, outside, node):
    firewall.bring(NAT)
    with site.datagrams(site.router, family) as router_end:
        site.say(site.pod, pod, outside)
        assert router_end.source() == node


@pytest.mark.parametrize(("family", "pod", "remote"), [(FOUR, POD, REMOTE_POD), (SIX, POD6, REMOTE_POD6)])
def test_what_stays_in_the_pools_keeps_its_source(site, firewall, family, pod, remote):
    firewall.bring(NAT)
    with site.datagrams(site.router, family) as router_end:
        site.say(site.pod, pod, remote)
        assert router_end.source() == pod


def test_another_pool_counts_as_inside_even_without_nat_outgoing(site, firewall):
    near, far = IPv4Network("10.244.1.0/24"), IPv4Network("10.244.2.0/24")
    firewall.bring(Rules(RULES.members, RULES.pods, frozenset({near, far}), frozenset({near})))
    with site.datagrams(site.router) as router_end:
        site.say(site.pod, POD, REMOTE_POD)
        assert router_end.source() == POD


def test_a_source_in_no_pool_is_not_masqueraded(site, firewall):
    firewall.bring(NAT)
    site.world.ip("address", "add", "10.9.9.9/32", "dev", "lo")
    site.world.beyond("ip", "route", "add", "10.9.9.9", "via", NODE)
    with site.datagrams(site.router) as router_end:
        site.say(site.node, "10.9.9.9", ROUTER)
        assert router_end.source() == "10.9.9.9"


def test_without_nat_outgoing_nothing_is_masqueraded(site, firewall):
    firewall.bring(RULES)
    with site.datagrams(site.router) as router_end:
        site.say(site.pod, POD, ROUTER)
        assert router_end.source() == POD

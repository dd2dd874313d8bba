"""Which sessions follow from the resources, and with which policy."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from tests.unit.bgp.clusters import RACKS, between, bgp_filter, cluster, node, peer, pool, secret, settings

from routed.errors import EnvironmentFault, OperatorError
from routed.model.address import Family
from routed.model.bgp import (
    AddPath,
    AddressFamily,
    BFDTimers,
    FailureDetectionMode,
    NextHopMode,
    ReversePeering,
    SecretKeySelector,
    SourceAddress,
)
from routed.model.cluster import Cluster
from routed.model.fields import Duration
from routed_bgp.filters import Facts
from routed_bgp.peering import BfdSettings, PeerPolicy
from routed_bgp.sessions import Session, peerings

NO_MESH = settings(mesh=False)
DUAL = tuple(node(name, ipv6=True) for name in ("a1", "a2", "b1"))


def sessions(of: Cluster, name: str = "a1") -> tuple[Session, ...]:
    found = peerings(of, name)
    assert found.faults == ()
    return found.sessions


def one(of: Cluster, name: str = "a1") -> tuple[Session, PeerPolicy]:
    found = peerings(of, name, secrets=lambda where: f"{where.name}:{where.key}")
    assert found.faults == ()
    [(session, policy)] = found
    assert session.peer == policy.peer
    return session, policy


def names(of: Cluster, name: str) -> list[str]:
    return [session.name for session in sessions(of, name)]


# ---- the mesh


def test_the_mesh_has_one_session_with_every_other_node() -> None:
    found = sessions(cluster(*RACKS), "a2")
    assert [(session.name, str(session.peer), session.member) for session in found] == [
        ("mesh/a1", "10.1.1.11", "a1"),
        ("mesh/b1", "10.2.2.11", "b1"),
    ]
    assert {(str(s.local), str(s.router_id), s.local_as, s.peer_as, s.ebgp) for s in found} == {
        ("10.1.1.12", "10.1.1.12", 64512, 64512, False)
    }


@pytest.mark.parametrize("racks", [RACKS, DUAL], ids=["ipv4", "dual"])
def test_in_the_mesh_exactly_one_of_two_nodes_connects(racks) -> None:
    of = cluster(*racks)
    for first, second in (("a1", "a2"), ("a1", "b1"), ("a2", "b1")):
        here = {s.peer.version: s for s in sessions(of, first) if s.member == second}
        there = {s.peer.version: s for s in sessions(of, second) if s.member == first}
        assert here.keys() == there.keys()
        for version, session in here.items():
            assert not session.passive
            assert there[version].passive
            assert (session.peer, session.local) == (there[version].local, there[version].peer)


def test_the_mesh_has_an_ipv6_session_where_both_ends_have_an_address() -> None:
    of = cluster(node("a1", ipv6=True), node("a2"), node("b1", ipv6=True))
    assert [(s.name, s.families, str(s.router_id)) for s in sessions(of)] == [
        ("mesh/a2", (Family.IPV4,), "10.1.1.11"),
        ("mesh/b1", (Family.IPV4,), "10.1.1.11"),
        ("mesh/b1/IPv6", (Family.IPV6,), "10.1.1.11"),
    ]
    assert names(of, "a2") == ["mesh/a1", "mesh/b1"]


def test_nodes_of_different_as_mesh_by_ebgp() -> None:
    session, _ = one(cluster(node("a1", asn=64601), node("b1", asn=64602)))
    assert (session.local_as, session.peer_as, session.ebgp) == (64601, 64602, True)


def test_no_mesh_when_it_is_disabled() -> None:
    assert sessions(cluster(*RACKS, NO_MESH)) == ()


def test_members_connect_to_the_configured_port() -> None:
    assert {session.port for session in sessions(cluster(*RACKS, settings(port=1790)))} == {1790}


def test_the_mesh_has_its_password_restart_time_and_bfd() -> None:
    default = settings(
        node_mesh_password=secret("mesh", "md5"),
        node_mesh_max_restart_time=Duration(seconds=30),
        node_mesh_notification_restart=True,
        node_mesh_failure_detection_mode=FailureDetectionMode.BFD,
        node_mesh_bfd=BFDTimers(Duration(milliseconds=100), 5),
    )
    session, policy = one(cluster(node("a1"), node("b1"), default))
    assert (session.password, session.restart_time, session.notification_restart) == ("mesh:md5", 30, True)
    assert policy.bfd == BfdSettings(100, 5)


def test_an_unknown_node_wants_nothing() -> None:
    assert sessions(cluster(*RACKS), "elsewhere") == ()


@pytest.mark.parametrize(("hold", "restart", "word"), [(2, 120, "hold"), (65536, 120, "hold"), (90, 4096, "restart")])
def test_times_out_of_range_are_the_operators_error(hold: int, restart: int, word: str) -> None:
    with pytest.raises(OperatorError, match=f"bgp_{word}_seconds"):
        peerings(cluster(*RACKS), "a1", hold_time=hold, restart_time=restart)


# ---- routers


def test_a_bgppeer_is_for_its_node_for_those_selected_or_for_all() -> None:
    racks = cluster(
        node("a1", rack="a"),
        node("b1", rack="b"),
        NO_MESH,
        peer("tor-a", "10.1.1.1", 65101, "a1"),
        peer("tor-b", "10.2.2.1", 65102, node_selector=between("", "rack == 'b'", "").spec.node_selector),
        peer("rr", "10.9.9.9", 64512),
    )
    assert names(racks, "a1") == ["peer/tor-a", "peer/rr"]
    assert names(racks, "b1") == ["peer/tor-b", "peer/rr"]


def test_towards_a_router_we_connect_and_listen() -> None:
    session, _ = one(cluster(*RACKS, settings(mesh=False, port=1790), peer("tor", "10.1.1.1", 65101)), "a2")
    assert (session.passive, session.port, session.listen_port, session.member) == (False, 179, 1790, None)


def test_what_a_bgppeer_says_is_what_its_session_is() -> None:
    said = peer(
        "tor",
        "10.1.1.1:1179",
        65101,
        local_as_number=65200,
        source_address=SourceAddress.NONE,
        password=secret("tor", "md5"),
        max_restart_time=Duration(seconds=60),
        keepalive_time=Duration(seconds=1),
        hold_time=Duration(seconds=3),
        notification_restart=True,
        ttl_security=1,
        add_path=AddPath.RECEIVE,
        address_families=(AddressFamily.IPV6, AddressFamily.IPV4),
    )
    session, _ = one(cluster(node("a1"), said))
    assert session == Session(
        name="peer/tor",
        peer=IPv4Address("10.1.1.1"),
        peer_as=65101,
        local=IPv4Address("10.1.1.11"),
        local_as=65200,
        router_id=IPv4Address("10.1.1.11"),
        port=1179,
        hold_time=3,
        keepalive_time=1,
        restart_time=60,
        notification_restart=True,
        families=(Family.IPV4, Family.IPV6),
        password="tor:md5",
        ttl_security=1,
        add_path=True,
        bind=False,
    )


def test_a_session_never_shows_its_password() -> None:
    session, _ = one(cluster(node("a1"), peer("tor", "10.1.1.1", 65101, password=secret("x", "hidden"))))
    assert session.password == "x:hidden"
    assert "hidden" not in repr(session) + str(session)


def test_an_ipv6_router_is_peered_with_from_the_nodes_ipv6_address() -> None:
    session, _ = one(cluster(node("a1", ipv6=True), peer("tor", "2001:db8:1::1", 65101)))
    assert (session.local, session.families) == (IPv6Address("2001:db8:1::11"), (Family.IPV6,))


def test_extended_next_hop_over_ipv6_offers_both_families() -> None:
    session, _ = one(cluster(node("a1", ipv6=True), peer("tor", "2001:db8:1::1", 65101, extended_next_hop=True)))
    assert (session.extended_next_hop, session.families) == (True, (Family.IPV4, Family.IPV6))


def test_policy_of_a_router() -> None:
    said = peer(
        "tor",
        "10.1.1.1",
        65101,
        num_allowed_local_as_numbers=2,
        max_prefixes=1000,
        next_hop_mode=NextHopMode.SELF,
        reachable_by=IPv4Address("10.1.1.254"),
        filters=("no-default",),
    )
    deny = bgp_filter("no-default", importV4=[{"action": "Reject", "cidr": "0.0.0.0/0", "matchOperator": "Equal"}])
    _, policy = one(cluster(node("a1"), said, deny))
    assert (policy.allowed_local_as, policy.max_prefixes, policy.warning_prefixes) == (2, 1000, 750)
    assert (policy.next_hop_mode, str(policy.reachable_by)) == (NextHopMode.SELF, "10.1.1.254")
    assert (policy.cluster_id, policy.client, policy.bfd) == (None, False, None)
    assert policy.export_rules == {}
    verdict = policy.import_rules[Family.IPV4].evaluate(b"\0", Facts())
    assert verdict is not None
    assert not verdict.accept


@pytest.mark.parametrize(("asn", "mode"), [(65101, NextHopMode.KEEP), (64512, NextHopMode.AUTO)])
def test_keep_original_next_hop_is_for_ebgp(asn: int, mode: NextHopMode) -> None:
    _, policy = one(cluster(node("a1"), peer("tor", "10.1.1.1", asn, keep_original_next_hop=True)))
    assert policy.next_hop_mode is mode


@pytest.mark.parametrize(
    ("mode", "address", "watched"),
    [
        ("None", "10.1.1.1", False),
        ("BFDIfDirectlyConnected", "10.1.1.1", True),
        ("BFDIfDirectlyConnected", "10.9.9.9", False),
        ("BFD", "10.9.9.9", True),
    ],
)
def test_bfd_watches_the_peers_that_ask_for_it(mode: str, address: str, watched: bool) -> None:
    of = cluster(node("a1"), peer("tor", address, 65101, failure_detection_mode=FailureDetectionMode(mode)))
    assert (one(of)[1].bfd == BfdSettings()) is watched


# ---- nodes by BGPPeer, and reflectors


def test_a_node_does_not_peer_with_itself() -> None:
    racks = cluster(*RACKS, NO_MESH, peer("rr", "10.1.1.11", 64512, reverse_peering=ReversePeering.MANUAL))
    assert sessions(racks, "a1") == ()
    assert [session.member for session in sessions(racks, "a2")] == ["a1"]


def test_a_node_that_is_peered_with_by_address_peers_back() -> None:
    racks = cluster(*RACKS, settings(mesh=False, port=1790), peer("rr", "10.1.1.11", 64512, "b1"))
    [here], [there] = sessions(racks, "b1"), sessions(racks, "a1")
    assert (here.name, here.port, here.passive) == ("peer/rr", 1790, True)
    assert (there.name, there.port, there.passive) == ("peer/rr/b1", 1790, False)
    assert sessions(racks, "a2") == ()


@pytest.mark.parametrize("address", ["10.1.1.11:9999", "10.1.1.12"])
def test_no_node_peers_back_whose_port_or_as_is_another(address: str) -> None:
    racks = cluster(*RACKS, NO_MESH, peer("rr", address, 64512 if "9999" in address else 65000, "b1"))
    assert sessions(racks, "a1") == sessions(racks, "a2") == ()


REFLECTED = (
    node("a1", reflects="244.0.0.1", role="reflector"),
    node("a2", reflects="244.0.0.1", role="reflector"),
    node("b1"),
    node("b2"),
    between("clients", "!has(role)", "role == 'reflector'"),
    between("reflectors", "has(role)", "has(role)"),
)


def test_reflectors_leave_the_mesh_and_their_clients_peer_with_both() -> None:
    of = cluster(*REFLECTED)
    assert names(of, "b1") == ["peer/clients/a1", "peer/clients/a2", "mesh/b2"]
    assert names(of, "a1") == ["peer/reflectors/a2", "peer/clients/b1", "peer/clients/b2"]


def test_clients_of_a_reflector_are_the_peers_without_its_cluster_id() -> None:
    policies = {session.member: policy for session, policy in peerings(cluster(*REFLECTED), "a1")}
    assert {member: policy.client for member, policy in policies.items()} == {"a2": False, "b1": True, "b2": True}
    assert {policy.cluster_id for policy in policies.values()} == {IPv4Address("244.0.0.1")}
    assert [policy.client for _, policy in peerings(cluster(*REFLECTED), "b1")] == [False, False, False]


def test_members_of_another_as_are_clients_of_every_reflector_and_routers_of_none() -> None:
    foreign = node("b1", asn=64602, reflects="244.0.0.1", role="reflector"), node("b2", asn=64602)
    of = cluster(*REFLECTED[:2], *foreign, *REFLECTED[4:], peer("tor", "10.1.1.1", 65101, "a1"))
    policies = {session.name: policy.client for session, policy in peerings(of, "a1")}
    assert policies == {
        "peer/tor": False,
        "peer/reflectors/a2": False,
        "peer/reflectors/b1": True,
        "peer/clients/b2": True,
    }


def test_every_session_between_nodes_is_wanted_by_both_the_same_way() -> None:
    of = cluster(*REFLECTED)
    for name in of.nodes:
        for session in sessions(of, name):
            assert session.member is not None
            [back] = [other for other in sessions(of, session.member) if other.peer == session.local]
            assert (back.local, back.local_as, back.peer_as) == (session.peer, session.peer_as, session.local_as)
            assert (back.listen_port, back.passive) == (session.port, not session.passive)


def test_the_move_from_mesh_to_reflectors_ends_no_session_before_the_mesh_is_off() -> None:
    reflectors, clients, peers = REFLECTED[:2], REFLECTED[2:4], REFLECTED[4:]
    plain = (node("a1", role="reflector"), node("a2", role="reflector"))
    steps = [
        cluster(*plain, *clients),
        cluster(*plain, *clients, *peers),
        cluster(*reflectors, *clients, *peers),
        cluster(*reflectors, *clients, *peers, NO_MESH),
    ]
    identities = [{name: {s.identity for s in sessions(of, name)} for name in of.nodes} for of in steps]
    assert identities[0] == identities[1] == identities[2]
    assert [len(identities[3][name]) for name in ("a1", "a2", "b1", "b2")] == [3, 3, 2, 2]


def test_manual_reverse_peering_makes_no_session_at_the_other_end() -> None:
    of = cluster(
        node("a1"),
        node("b1", rr="1"),
        NO_MESH,
        between("x", "!has(rr)", "has(rr)", reverse_peering=ReversePeering.MANUAL),
    )
    assert (names(of, "a1"), names(of, "b1")) == (["peer/x/b1"], [])


def test_a_local_as_is_the_peer_as_at_the_other_end() -> None:
    of = cluster(node("a1"), node("b1", rr="1"), NO_MESH, between("x", "!has(rr)", "has(rr)", local_as_number=65200))
    [here], [there] = sessions(of, "a1"), sessions(of, "b1")
    assert (here.local_as, here.peer_as) == (65200, 64512)
    assert (there.local_as, there.peer_as) == (64512, 65200)


def test_selected_nodes_peer_in_each_family_of_both() -> None:
    of = cluster(*DUAL, NO_MESH, between("all", "all()", "all()"))
    assert names(of, "b1") == ["peer/all/a1", "peer/all/a2", "peer/all/a1/IPv6", "peer/all/a2/IPv6"]


# ---- one address, one session


def test_one_session_per_address_the_most_specific_wins() -> None:
    racks = cluster(
        *RACKS,
        peer("all", "10.1.1.12", 65001),
        peer("z-mine", "10.1.1.12", 65002, "a1"),
        peer("other", "10.1.1.12", 1, "b1"),
    )
    [session] = [session for session in sessions(racks) if str(session.peer) == "10.1.1.12"]
    assert (session.name, session.peer_as, session.member) == ("peer/z-mine", 65002, "a2")


# ---- what cannot be


def lost(where: SecretKeySelector) -> str:
    raise EnvironmentFault(f"/etc/routed/secrets/{where.name}/{where.key}: Permission denied", hint="chmod it")


def test_a_password_that_cannot_be_read_costs_its_own_session_only() -> None:
    said = peer("tor", "10.1.1.1", 65101, password=secret("tor", "md5"))
    found = peerings(cluster(*RACKS, said), "a1", secrets=lost)
    assert [session.name for session in found.sessions] == ["mesh/a2", "mesh/b1"]
    [fault] = found.faults
    assert (fault.name, str(fault.peer)) == ("peer/tor", "10.1.1.1")
    assert isinstance(fault.error, EnvironmentFault)
    assert fault.error.message == (
        "BGPPeer tor: spec.password.secretKeyRef: /etc/routed/secrets/tor/md5: Permission denied"
    )


@pytest.mark.parametrize("password", ["", "x" * 81, "\N{SNOWMAN}" * 27])
def test_a_password_that_tcp_cannot_take_is_refused_and_not_shown(password: str) -> None:
    said = peer("tor", "10.1.1.1", 65101, password=secret("tor", "md5"))
    [fault] = peerings(cluster(node("a1"), said), "a1", secrets=lambda _: password).faults
    assert "expected 1 to 80" in fault.error.message
    assert not password or password not in str(fault.error)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (peer("tor", "10.1.1.1", 65101, filters=("gone",)), "BGPPeer tor: spec.filters[0]: there is no BGPFilter gone"),
        (
            peer("tor", "10.1.1.1", 65101, keepalive_time=Duration(seconds=31)),
            "BGPPeer tor: spec.keepaliveTime: 31s is more than a third of the hold time, 90s",
        ),
        (peer("tor", "2001:db8::1", 65101), "BGPPeer tor: spec: 2001:db8::1 is an IPv6 address, but Node a1 has none"),
    ],
)
def test_a_peer_that_cannot_be_is_a_fault_that_names_the_field(said, message: str) -> None:
    found = peerings(cluster(node("a1"), node("a2"), said), "a1")
    assert [session.name for session in found.sessions] == ["mesh/a2"]
    assert [fault.error.message for fault in found.faults] == [message]


def test_a_pool_makes_no_session() -> None:
    assert sessions(cluster(node("a1"), pool())) == ()

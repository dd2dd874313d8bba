"""Which sessions and advertisements follow from the resources."""

from __future__ import annotations

import pytest
from tests.unit.bgp.clusters import RACKS, cluster, node, peer, pool, settings

from routed.errors import OperatorError
from routed.model.address import Address, Prefix
from routed_bgp.sessions import Advertisement, wanted_advertisements, wanted_sessions


def test_the_mesh_has_one_session_with_every_other_node() -> None:
    found = wanted_sessions(cluster(*RACKS), "a2")
    assert [(session.name, str(session.peer), session.member) for session in found] == [
        ("mesh/a1", "10.1.1.11", "a1"),
        ("mesh/b1", "10.2.2.11", "b1"),
    ]
    assert {(str(s.local), str(s.router_id), s.local_as, s.peer_as, s.ebgp) for s in found} == {
        ("10.1.1.12", "10.1.1.12", 64512, 64512, False)
    }


def test_in_the_mesh_exactly_one_of_two_nodes_connects() -> None:
    racks = cluster(*RACKS)
    for one, other in (("a1", "a2"), ("a1", "b1"), ("a2", "b1")):
        here = {session.member: session for session in wanted_sessions(racks, one)}[other]
        there = {session.member: session for session in wanted_sessions(racks, other)}[one]
        assert not here.passive
        assert there.passive


def test_nodes_of_different_as_mesh_by_ebgp() -> None:
    racks = cluster(node("a1", asn=64601), node("b1", asn=64602))
    (session,) = wanted_sessions(racks, "a1")
    assert (session.local_as, session.peer_as, session.ebgp) == (64601, 64602, True)


def test_no_mesh_when_it_is_disabled() -> None:
    assert wanted_sessions(cluster(*RACKS, settings(mesh=False)), "a1") == ()


def test_a_bgppeer_is_for_its_node_or_for_all() -> None:
    racks = cluster(*RACKS, settings(mesh=False), peer("tor-a", "10.1.1.1", 65101, "a1"), peer("rr", "10.9.9.9", 64512))
    assert [session.name for session in wanted_sessions(racks, "a1")] == ["peer/tor-a", "peer/rr"]
    assert [session.name for session in wanted_sessions(racks, "b1")] == ["peer/rr"]


def test_towards_a_router_we_connect_and_listen() -> None:
    racks = cluster(*RACKS, settings(mesh=False, port=1790), peer("tor", "10.1.1.1", 65101))
    (session,) = wanted_sessions(racks, "a2")
    assert (session.passive, session.port, session.listen_port, session.member) == (False, 179, 1790, None)


def test_members_connect_to_the_configured_port() -> None:
    assert {session.port for session in wanted_sessions(cluster(*RACKS, settings(port=1790)), "a1")} == {1790}


def test_a_node_does_not_peer_with_itself() -> None:
    racks = cluster(*RACKS, settings(mesh=False), peer("rr", "10.1.1.11", 64512))
    assert wanted_sessions(racks, "a1") == ()
    assert [session.member for session in wanted_sessions(racks, "a2")] == ["a1"]


def test_one_session_per_address_the_most_specific_wins() -> None:
    racks = cluster(
        *RACKS,
        peer("all", "10.1.1.12", 65001),
        peer("z-mine", "10.1.1.12", 65002, "a1"),
        peer("other", "10.1.1.12", 1, "b1"),
    )
    (session,) = [session for session in wanted_sessions(racks, "a1") if str(session.peer) == "10.1.1.12"]
    assert (session.name, session.peer_as, session.member) == ("peer/z-mine", 65002, "a2")


def test_an_unknown_node_wants_nothing() -> None:
    assert wanted_sessions(cluster(*RACKS), "elsewhere") == ()
    assert wanted_advertisements(cluster(*RACKS), "elsewhere") == ()


@pytest.mark.parametrize(("hold", "restart", "word"), [(2, 120, "hold"), (65536, 120, "hold"), (90, 4096, "restart")])
def test_times_out_of_range_are_the_operators_error(hold: int, restart: int, word: str) -> None:
    with pytest.raises(OperatorError, match=f"bgp_{word}_seconds"):
        wanted_sessions(cluster(*RACKS), "a1", hold_time=hold, restart_time=restart)


def test_a_node_advertises_its_own_blocks_through_itself() -> None:
    assert wanted_advertisements(cluster(*RACKS), "a1") == (
        Advertisement(Prefix("10.244.1.0/26"), Address("10.1.1.11")),
    )


def test_a_disabled_pools_blocks_are_advertised_for_the_pods_that_have_an_address_of_it() -> None:
    (found,) = wanted_advertisements(cluster(node("a1", "10.244.1.0/26"), pool(disabled=True)), "a1")
    assert found.prefix == Prefix("10.244.1.0/26")


@pytest.mark.parametrize("of", [pool(unexported=True), pool("10.9.0.0/16")], ids=["unexported", "elsewhere"])
def test_a_block_outside_an_exported_pool_is_not_advertised(of: object) -> None:
    assert wanted_advertisements(cluster(node("a1", "10.244.1.0/26"), of), "a1") == ()  # type: ignore[arg-type]

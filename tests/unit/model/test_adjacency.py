"""Who peers with whom: laws over any cluster. What single fields do is in tests/unit/bgp/test_sessions.py."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.bgp.clusters import NAMES, between, cluster, node, peer, settings

from routed.model.adjacency import adjacencies
from routed.model.cluster import Cluster
from routed_bgp.sessions import Session, peerings

LABELS = st.dictionaries(st.sampled_from(["x", "y"]), st.sampled_from(["1", "2"]), max_size=2)
NODES = st.fixed_dictionaries(
    {},
    optional={
        name: st.builds(
            lambda labels, ipv6, reflects, asn, name=name: node(name, ipv6=ipv6, reflects=reflects, asn=asn, **labels),
            LABELS,
            st.booleans(),
            st.sampled_from([None, "244.0.0.1", "244.0.0.2"]),
            st.sampled_from([None, 64601]),
        )
        for name in NAMES
    },
)
SELECTORS = st.sampled_from(["all()", "has(x)", "x == '1'", "y in {'1', '2'}", "!has(y)", "x == '2' || has(y)"])
PEERS = st.lists(st.tuples(SELECTORS, SELECTORS), max_size=3).map(
    lambda pairs: [between(f"p{index}", *pair) for index, pair in enumerate(pairs)]
)
ROUTERS = st.lists(
    st.sampled_from(["10.1.1.1", "2001:db8:1::1", "10.1.1.11", "10.2.2.11"]), unique=True, max_size=3
).map(lambda addresses: [peer(f"r{index}", address, 64512) for index, address in enumerate(addresses)])
CLUSTERS = st.builds(
    lambda nodes, peers, routers, mesh: cluster(*nodes.values(), *peers, *routers, settings(mesh=mesh)),
    NODES,
    PEERS,
    ROUTERS,
    st.booleans(),
)


def every_session(of: Cluster) -> dict[tuple[str, str], Session]:
    return {(name, str(session.peer)): session for name in of.nodes for session in peerings(of, name).sessions}


@given(CLUSTERS)
def test_a_session_between_nodes_is_wanted_by_both_and_one_of_them_connects(of: Cluster) -> None:
    sessions = every_session(of)
    for session in sessions.values():
        if session.member is None or session.peer_as != of.as_number(session.member):  # a peerIP with a wrong AS
            continue
        back = sessions[session.member, str(session.local)]
        assert (back.local, back.peer, back.member is not None) == (session.peer, session.local, True)
        assert (back.local_as, back.families) == (session.peer_as, session.families)
        assert back.passive is not session.passive


@given(CLUSTERS)
def test_no_node_peers_with_itself_and_no_address_twice(of: Cluster) -> None:
    for name in of.nodes:
        found = peerings(of, name)
        own = {address.ip for address in of.any_addresses(name)}
        addresses = [*(session.peer for session in found.sessions), *(fault.peer for fault in found.faults)]
        assert len(addresses) == len(set(addresses))
        assert not own & set(addresses)


@given(CLUSTERS)
def test_a_reflector_has_only_the_sessions_of_bgppeers(of: Cluster) -> None:
    for name in of.nodes:
        if of.cluster_id(name) is not None:
            stated = {each.address for each in adjacencies(of, name)}
            assert {session.peer for session in peerings(of, name).sessions} <= stated


@given(CLUSTERS)
def test_the_order_of_the_resources_does_not_matter(of: Cluster) -> None:
    def turned(mapping):  # type: ignore[no-untyped-def]
        return dict(reversed([*mapping.items()]))

    other = Cluster(turned(of.nodes), turned(of.pools), turned(of.peers), of.bgp, turned(of.filters))
    assert every_session(of) == every_session(other)

"""The Adj-RIB-Out: what is sent when, and to whom."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.bgp import wire
from tests.unit.bgp.groups import BOTH_FAMILIES, CLIENTS, MEMBERS, NON_CLIENTS, OURS, ROUTERS, learned, rules
from tests.unit.bgp.hearing import Hearer, Room

from routed.model.address import Address, Family
from routed.model.path import Path
from routed_bgp.adj_rib_out import AdjRibOut, Sending
from routed_bgp.export import Drain, Group, Kind, Own
from routed_bgp.loc_rib import LocRib

ONE, TWO, THREE = Address("10.2.2.11"), Address("10.2.2.12"), Address("10.1.1.1")
P, Q, P6 = wire.key("10.244.1.0/26"), wire.key("10.244.1.64/26"), wire.key("fd00::/64")
A, B = wire.key("10.244.3.0/26"), wire.key("10.244.4.0/26")


def block(nlri: bytes, family: Family = Family.IPV4) -> Own:
    return Own(nlri, family, Kind.BLOCK)


class World:
    """An Adj-RIB-Out with its Loc-RIBs, and the peers at the other ends."""

    def __init__(self, *own: Own) -> None:
        self.loc_ribs = {family: LocRib() for family in Family}
        self.out = AdjRibOut({family: loc_rib.best for family, loc_rib in self.loc_ribs.items()})
        self.room = Room()
        assert self.out.originate(own) == []

    def up(self, peer: Address, group: Group) -> Hearer:
        self.room[peer] = Hearer.of(group)
        sendings = self.out.up(peer, group)
        assert all(sending.peers == (peer,) for sending in sendings)
        self.room.hear(sendings)
        return self.room[peer]

    def learn(self, nlri: bytes, path: Path) -> list[Sending]:
        loc_rib = self.loc_ribs[Family.IPV4]
        loc_rib.put([nlri], path)
        return self._changed(loc_rib)

    def forget(self, nlri: bytes, peer: Address) -> list[Sending]:
        loc_rib = self.loc_ribs[Family.IPV4]
        loc_rib.drop([nlri], peer)
        return self._changed(loc_rib)

    def _changed(self, loc_rib: LocRib) -> list[Sending]:
        changed, loc_rib.changed = loc_rib.changed, []
        sendings = self.out.changed({Family.IPV4: changed})
        self.room.hear(sendings)
        return sendings


def prefixes(hearer: Hearer) -> set[bytes]:
    return {nlri for _, nlri in hearer.table}


def test_rfc4724_4_1_a_session_begins_with_the_table_and_end_of_rib() -> None:
    peer = World(block(P), block(Q)).up(ONE, MEMBERS)
    assert peer.heard == ["announce", "End-of-RIB"]
    assert prefixes(peer) == {P, Q}
    assert peer.ended == {Family.IPV4}


def test_rfc4724_2_every_family_ends_also_an_empty_one() -> None:
    peer = World().up(ONE, replace(MEMBERS, next_hops=BOTH_FAMILIES))
    assert peer.heard == ["End-of-RIB", "End-of-RIB"]
    assert peer.ended == set(Family)


def test_the_table_of_a_group_is_encoded_once() -> None:
    world = World(block(P))
    (first,), (second,) = world.out.up(ONE, MEMBERS), world.out.up(TWO, MEMBERS)
    assert first.messages == second.messages
    assert world.out.told(ONE) is world.out.told(TWO)
    assert (world.out.count(ONE), world.out.count(THREE)) == (1, 0)


def test_a_change_is_sent_once_to_all_of_a_group() -> None:
    world = World(block(P))
    for peer, group in ((ONE, MEMBERS), (TWO, MEMBERS), (THREE, ROUTERS)):
        world.up(peer, group)
    sendings = world.out.originate([block(Q)])
    assert {frozenset(sending.peers) for sending in sendings} == {frozenset({ONE, TWO}), frozenset({THREE})}
    world.room.hear(sendings)
    assert all(prefixes(peer) == {Q} for peer in world.room.values())
    assert world.room[ONE].heard == ["announce", "End-of-RIB", "withdraw", "announce"]


def test_what_stays_the_same_is_not_sent_again() -> None:
    world = World(block(P))
    world.up(ONE, MEMBERS)
    assert world.out.originate([block(P)]) == []
    assert world.out.originate([replace(block(P), everywhere=False)]) == []  # members were told before
    assert world.out.originate([replace(block(P), communities=(1,))]) != []


def test_a_peer_that_comes_later_is_told_what_is_then() -> None:
    world = World(block(P))
    world.up(ONE, MEMBERS)
    world.room.hear(world.out.originate([block(Q)]))
    assert prefixes(world.up(TWO, MEMBERS)) == {Q}


def test_a_peer_that_is_down_is_told_nothing_and_all_of_it_when_it_is_back() -> None:
    world = World(block(P))
    world.up(ONE, MEMBERS)
    world.out.down(ONE)
    assert world.out.originate([block(P), block(Q)]) == []
    assert world.out.told(ONE) == {}
    assert prefixes(world.up(ONE, MEMBERS)) == {P, Q}
    assert prefixes(world.up(ONE, MEMBERS)) == {P, Q}  # a session may begin before the end of the old one is known


def test_a_session_that_begins_anew_in_another_group_is_told_nothing_by_the_old_one() -> None:
    world = World(block(P))
    world.up(TWO, MEMBERS)
    world.up(ONE, MEMBERS)
    world.up(ONE, replace(MEMBERS, drain=Drain.LOWERED))
    assert [sending.peers for sending in world.out.originate([])] in ([(TWO,), (ONE,)], [(ONE,), (TWO,)])


# ---- reflectors


def test_only_reflectors_pass_on_what_they_learn() -> None:
    world = World(block(P))
    world.up(ONE, MEMBERS)
    assert world.learn(A, learned("10.2.2.12")) == []
    assert prefixes(world.up(TWO, CLIENTS)) == {P, A}
    assert [sending.peers for sending in world.learn(B, learned("10.2.2.12"))] == [(TWO,)]
    world.forget(A, TWO)
    assert prefixes(world.room[TWO]) == {P, B}
    assert prefixes(world.room[ONE]) == {P}


def test_rfc4456_6_clients_and_non_clients_are_told_of_a_change_as_it_concerns_them() -> None:
    world = World()
    client, other = world.up(ONE, CLIENTS), world.up(TWO, NON_CLIENTS)
    world.learn(A, learned("10.2.2.12"))
    assert (prefixes(client), prefixes(other)) == ({A}, set())
    world.learn(A, learned("10.2.2.13", client=True))
    assert (client.table[Family.IPV4, A].next_hop, prefixes(other)) == (Address("10.2.2.12"), {A})
    assert world.learn(A, learned("10.2.2.14")) == []  # not better: nobody is told anything


def test_a_prefix_of_ours_is_told_as_ours_whoever_else_has_it() -> None:
    world = World(block(A))
    client = world.up(ONE, CLIENTS)
    assert world.learn(A, learned("10.2.2.12")) == []
    assert client.table[Family.IPV4, A].next_hop == OURS
    world.room.hear(world.out.originate([]))
    assert client.table[Family.IPV4, A].next_hop == Address("10.2.2.12")


def test_rfc4724_4_1_a_reflector_ends_its_rib_when_it_has_learned_all() -> None:
    world = World(block(P))
    client, router = world.up(ONE, CLIENTS), world.up(THREE, ROUTERS)
    assert (client.heard, router.heard) == (["announce"], ["announce", "End-of-RIB"])
    world.learn(A, learned("10.2.2.12"))
    world.room.hear(world.out.release())
    assert client.heard == ["announce", "announce", "End-of-RIB"]
    assert world.out.release() == []
    assert world.up(TWO, CLIENTS).heard[-1] == "End-of-RIB"


def test_a_session_that_went_before_the_release_is_not_ended() -> None:
    world = World()
    world.up(ONE, CLIENTS)
    world.out.down(ONE)
    assert world.out.release() == []


def test_peers_that_are_reflected_to_no_more_are_not_kept_waiting() -> None:
    world = World(block(P))
    client = world.up(ONE, CLIENTS)
    world.room.hear(world.out.regroup({ONE: MEMBERS}))
    assert client.heard == ["announce", "End-of-RIB"]
    assert world.out.release() == []


# ---- other groups


def test_another_group_is_told_the_difference() -> None:
    world = World(block(P), block(Q))
    hidden = rules({"action": "Reject", "cidr": "10.244.1.0/26", "matchOperator": "Equal"})
    peers = [world.up(peer, MEMBERS) for peer in (ONE, TWO)]
    sendings = world.out.regroup(dict.fromkeys((ONE, TWO), replace(MEMBERS, rules=hidden)))
    assert [set(sending.peers) for sending in sendings] == [{ONE, TWO}]
    world.room.hear(sendings)
    assert all(peer.heard[2:] == ["withdraw"] and prefixes(peer) == {Q} for peer in peers)
    assert world.out.regroup(dict.fromkeys((ONE, TWO), replace(MEMBERS, rules=hidden))) == []


def test_a_group_that_is_told_the_same_is_told_nothing() -> None:
    world = World(block(P))
    world.up(ONE, MEMBERS)
    assert world.out.regroup({ONE: replace(MEMBERS, rules=rules({"action": "Accept"})), THREE: ROUTERS}) == []


def test_a_family_that_we_have_no_address_of_any_more_is_withdrawn() -> None:
    world = World(block(P), block(P6, Family.IPV6))
    peer = world.up(ONE, replace(MEMBERS, next_hops=BOTH_FAMILIES))
    assert prefixes(peer) == {P, P6}
    world.room.hear(world.out.regroup({ONE: MEMBERS}))
    assert prefixes(peer) == {P}
    world.room.hear(world.out.regroup({ONE: replace(MEMBERS, next_hops=BOTH_FAMILIES)}))
    assert prefixes(peer) == {P, P6}


def test_rfc8326_draining_lowers_and_then_withdraws() -> None:
    world = World(block(P), block(Q))
    peer = world.up(ONE, MEMBERS)
    world.room.hear(world.out.regroup({ONE: replace(MEMBERS, drain=Drain.LOWERED)}))
    assert {each.local_pref for each in peer.table.values()} == {0}
    world.room.hear(world.out.regroup({ONE: replace(MEMBERS, drain=Drain.WITHDRAWN)}))
    assert peer.table == {}
    world.room.hear(world.out.regroup({ONE: MEMBERS}))
    assert {each.local_pref for each in peer.table.values()} == {100}


# ---- route refresh


def test_rfc2918_4_the_table_is_sent_again() -> None:
    world = World(block(P), block(P6, Family.IPV6))
    peer = world.up(ONE, replace(MEMBERS, next_hops=BOTH_FAMILIES))
    peer.heard.clear()
    world.room.hear(world.out.refresh(ONE, Family.IPV6, enhanced=False))
    assert peer.heard == ["announce"]
    assert [sending.peers for sending in world.out.refresh(ONE, Family.IPV4, enhanced=False)] == [(ONE,)]


def test_rfc7313_4_an_enhanced_refresh_is_marked_at_both_ends() -> None:
    world = World(block(P))
    peer = world.up(ONE, MEMBERS)
    peer.heard.clear()
    world.room.hear(world.out.refresh(ONE, Family.IPV4, enhanced=True))
    assert peer.heard == ["BoRR", "announce", "EoRR"]


def test_rfc7313_4_no_mark_before_end_of_rib() -> None:
    world = World(block(P))
    peer = world.up(ONE, CLIENTS)
    world.room.hear(world.out.refresh(ONE, Family.IPV4, enhanced=True))
    assert peer.heard == ["announce", "announce"]


def test_a_refresh_of_nothing_is_nothing() -> None:
    world = World()
    assert world.out.refresh(ONE, Family.IPV4, enhanced=True) == []
    world.up(ONE, MEMBERS)
    assert world.out.refresh(ONE, Family.IPV6, enhanced=True) == []

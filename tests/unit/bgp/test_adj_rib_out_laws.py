"""Export groups equal per-peer computation: what a peer has heard is what would be computed for it alone.

"Heard" is decoded with the codec from the bytes it was sent since its session is up, after any sequence of sessions
that begin and end, changes of what we originate and of what we learn, and changes of policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from tests.unit.bgp import wire
from tests.unit.bgp.groups import BOTH_FAMILIES, CLIENTS, MEMBERS, NON_CLIENTS, ROUTERS, learned, rules
from tests.unit.bgp.hearing import Hearer, Room, Table

from routed.model.address import Address, Family
from routed.model.path import Path, Segment
from routed_bgp.adj_rib_out import AdjRibOut
from routed_bgp.export import Drain, Exports, Group, Kind, Own
from routed_bgp.loc_rib import LocRib
from routed_bgp.nlri import Nlri

ROUTES = [(Family.IPV4, wire.key(f"10.244.{index}.0/26")) for index in range(4)] + [
    (Family.IPV6, wire.key(f"fd00:0:0:{index}::/64")) for index in range(2)
]
HIDDEN = rules(
    {"action": "Reject", "cidr": "10.244.1.0/24", "matchOperator": "In"},
    {"action": "Accept", "source": "RemotePeers", "operations": [{"addCommunity": {"value": "9:9"}}]},
)
INSIDE = [
    MEMBERS,
    replace(MEMBERS, next_hops=BOTH_FAMILIES),
    CLIENTS,
    replace(CLIENTS, next_hops=BOTH_FAMILIES),
    replace(CLIENTS, rules=HIDDEN),
    NON_CLIENTS,
    replace(CLIENTS, drain=Drain.LOWERED),
    replace(MEMBERS, drain=Drain.WITHDRAWN),
]
OUTSIDE = [
    ROUTERS,
    replace(ROUTERS, next_hops=BOTH_FAMILIES),
    replace(ROUTERS, rules=HIDDEN),
    replace(ROUTERS, drain=Drain.LOWERED),
    replace(ROUTERS, local_as=4_200_000_000),
]
# what a peer's group may be while it is the same session
GROUPS: dict[Address, list[Group]] = {
    Address("10.2.2.11"): INSIDE,
    Address("10.2.2.12"): INSIDE,
    Address("10.2.2.13"): [replace(group, asn4=False) for group in INSIDE],
    Address("10.1.1.1"): OUTSIDE,
    Address("10.1.2.1"): [replace(group, asn4=False) for group in OUTSIDE],
}
PEERS = sorted(GROUPS)


@dataclass(frozen=True)
class Up:
    peer: Address
    group: Group


@dataclass(frozen=True)
class Down:
    peer: Address


@dataclass(frozen=True)
class Regroup:
    groups: tuple[tuple[Address, Group], ...]


@dataclass(frozen=True)
class Originate:
    own: tuple[Own, ...]


@dataclass(frozen=True)
class Learn:
    route: tuple[Family, Nlri]
    path: Path


@dataclass(frozen=True)
class Forget:
    route: tuple[Family, Nlri]
    peer: Address


@dataclass(frozen=True)
class Settle:
    """Look at what changed in the Loc-RIBs."""


Step = Up | Down | Regroup | Originate | Learn | Forget | Settle


def group(peer: Address) -> st.SearchStrategy[Group]:
    return st.sampled_from(GROUPS[peer])


def path(family: Family) -> st.SearchStrategy[Path]:
    hops = ["10.2.2.11", "10.2.2.12"] if family is Family.IPV4 else ["2001:db8::1", "2001:db8::2"]
    return st.builds(
        lambda hop, client, med, member: structs.replace(
            learned(hop, client=client), med=med, member=member, as_path=(Segment(True, (65001, 70000)),)
        ),
        st.sampled_from(hops),
        st.booleans(),
        st.sampled_from([None, 1]),
        st.booleans(),
    )


own = st.builds(
    lambda route, kind, everywhere, communities: Own(route[1], route[0], kind, everywhere, communities),
    st.sampled_from(ROUTES),
    st.sampled_from(Kind),
    st.booleans(),
    st.sampled_from([(), (7,)]),
)
originate = st.lists(own, unique_by=lambda one: one.nlri, max_size=5).map(lambda those: Originate(tuple(those)))
regroup = st.tuples(*(st.tuples(st.just(peer), group(peer)) for peer in PEERS)).map(Regroup)
up = st.sampled_from(PEERS).flatmap(lambda peer: st.builds(Up, st.just(peer), group(peer)))
steps = st.one_of(
    up,
    up,  # often: also of a peer whose last session's end is not known yet
    st.sampled_from(PEERS).map(Down),
    regroup,
    originate,
    st.sampled_from(ROUTES).flatmap(lambda route: st.builds(Learn, st.just(route), path(route[0]))),
    st.sampled_from(ROUTES).flatmap(
        lambda route: path(route[0]).map(lambda one: Forget(route, one.peer))  # type: ignore[arg-type]
    ),
    st.just(Settle()),
)


class World:
    """An Adj-RIB-Out, the groups of the peers that are up, and what each has heard."""

    def __init__(self) -> None:
        self.loc_ribs = {family: LocRib() for family in Family}
        self.out = AdjRibOut({family: loc_rib.best for family, loc_rib in self.loc_ribs.items()})
        self.room = Room()
        self.groups: dict[Address, Group] = {}
        self.own: tuple[Own, ...] = ()

    def take(self, step: Step) -> None:
        match step:
            case Up(peer, group):
                self.groups[peer], self.room[peer] = group, Hearer.of(group)
                self.room.hear(self.out.up(peer, group))
            case Down(peer):
                self.out.down(peer)
                self.groups.pop(peer, None)
                self.room.pop(peer, None)
            case Regroup(groups):
                self.groups.update({peer: group for peer, group in groups if peer in self.groups})
                self.room.hear(self.out.regroup(dict(groups)))
            case Originate(own):
                self.own = own
                self.room.hear(self.out.originate(own))
            case Learn((family, nlri), path):
                self.loc_ribs[family].put([nlri], path)
            case Forget((family, nlri), peer):
                self.loc_ribs[family].drop([nlri], peer)
            case Settle():
                self.settle()

    def settle(self) -> None:
        changes = {family: loc_rib.changed for family, loc_rib in self.loc_ribs.items() if loc_rib.changed}
        for family in changes:
            self.loc_ribs[family].changed = []
        self.room.hear(self.out.changed(changes))

    def alone(self, group: Group) -> Table:
        """What a peer of `group` is to know."""
        exports, table = Exports(group), Table()
        ours = {(each.family, each.nlri): each for each in self.own}
        for family, nlri in ROUTES:
            each = ours.get((family, nlri))
            ranked = self.loc_ribs[family].best.get(nlri, ())
            made = exports.own(each) if each is not None else exports.learned(nlri, family, ranked)
            if made is not None:
                table[family, nlri] = made
        return table

    def heard(self) -> Mapping[Address, Table]:
        return {peer: self.room[peer].table for peer in self.groups}

    def told(self) -> Mapping[Address, Table]:
        return {
            peer: {
                (family, nlri): each for family, routes in self.out.told(peer).items() for nlri, each in routes.items()
            }
            for peer in self.groups
        }


@settings(deadline=None)  # shared cores: wall time says nothing
@given(st.lists(steps, max_size=40))
def test_what_a_peer_has_heard_is_what_is_computed_for_it_alone(happened: list[Step]) -> None:
    world = World()
    for step in happened:
        world.take(step)
        if isinstance(step, Settle):
            assert world.heard() == world.told() == {peer: world.alone(group) for peer, group in world.groups.items()}
    world.settle()
    assert world.heard() == world.told() == {peer: world.alone(group) for peer, group in world.groups.items()}
    world.room.hear(world.out.release())
    assert all(hearer.ended for hearer in world.room.values())


@settings(deadline=None)  # shared cores: wall time says nothing
@given(st.lists(steps, max_size=20), st.sampled_from(Family), st.booleans())
def test_rfc2918_a_refresh_tells_the_whole_table_again(happened: list[Step], family: Family, enhanced: bool) -> None:
    world = World()
    for step in [*happened, Settle()]:
        world.take(step)
    for peer, group in world.groups.items():
        known = {route: made for route, made in world.room[peer].table.items() if route[0] is family}
        anew = world.room[peer] = Hearer.of(group)
        world.room.hear(world.out.refresh(peer, family, enhanced=enhanced))
        assert anew.table == known

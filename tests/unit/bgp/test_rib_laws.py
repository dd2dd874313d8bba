"""Laws of the RIBs, whatever happens in whatever order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.bgp.clusters import RACKS, bgp_filter, cluster, node, peer, pool
from tests.unit.bgp.ribs import (
    MEMBER,
    RESTART,
    TOR,
    a_rib,
    after,
    announce,
    changes,
    down,
    end_of_rib,
    graceful,
    up,
    withdraw,
)

from routed.model.address import Address, AnyAddress, Family
from routed.model.path import Path
from routed_bgp.nlri import Nlri, to_prefix
from routed_bgp.rib import Rib
from routed_bgp.sessions import peerings
from routed_bgp.speaker import Ending, SessionEvent

SECOND = Address("10.1.2.1")
PEERS = (TOR, SECOND, MEMBER)
CANDIDATES = [f"10.244.{index}.0/26" for index in range(5)] + ["10.244.1.9/32", "192.0.2.0/24"]
PLAIN = cluster(*RACKS, pool(), peer("tor", str(TOR), 65101), peer("two", str(SECOND), 65102))
OTHER = cluster(
    *RACKS[1:],
    node("a1"),
    pool("10.244.0.0/22"),
    bgp_filter(
        "f",
        importV4=[
            {"action": "Accept", "cidr": "192.0.2.0/24", "matchOperator": "In"},
            {"action": "Reject", "cidr": "10.244.3.0/26", "matchOperator": "Equal"},
            {"action": "Accept", "asPathPrefix": [65101, 7], "operations": [{"setPriority": {"value": 7}}]},
        ],
    ),
    peer("tor", str(TOR), 65101, filters=("f",)),
    peer("two", str(SECOND), 65102),
)
CLUSTERS = {"plain": PLAIN, "other": OTHER}


@dataclass(frozen=True)
class Said:
    """What a peer says of a prefix: an AS path and a MED, or, with no path, that it has none."""

    peer: Address
    prefix: str
    path: tuple[int, ...] | None
    med: int | None = None

    @property
    def event(self) -> SessionEvent:
        if self.path is None:
            return withdraw(self.prefix, peer=self.peer)
        return announce(self.prefix, peer=self.peer, path=self.path, med=self.med)


as_paths = st.lists(st.sampled_from([65101, 65102, 7, 64512]), max_size=3).map(tuple)
said = st.builds(
    Said, st.sampled_from(PEERS), st.sampled_from(CANDIDATES), st.none() | as_paths, st.sampled_from([None, 1, 2])
)
tables = st.lists(
    st.builds(Said, st.sampled_from(PEERS), st.sampled_from(CANDIDATES), as_paths, st.sampled_from([None, 1, 2])),
    unique_by=lambda one: (one.peer, one.prefix),
)


def established() -> Rib:
    return after(*(up(address, graceful()) for address in PEERS), rib=a_rib(PLAIN))


def contents(rib: Rib) -> dict[str, tuple[Path, ...]]:
    return {str(to_prefix(nlri, Family.IPV4)): found for nlri, found in rib.best().items()}


def adopt(rib: Rib, name: str) -> None:
    rib.set_policy(CLUSTERS[name], "a1")
    rib.set_peerings(peerings(CLUSTERS[name], "a1"), 2)


def consistent(rib: Rib) -> None:
    """What was received is either in the Loc-RIB or rejected, and nothing else is in the Loc-RIB."""
    expected: set[tuple[AnyAddress, Nlri]] = set()
    for one in rib.status():
        found = rib.tables(one.peer)
        assert found is not None
        table = found.tables[Family.IPV4]
        assert table.rejected.keys() <= table.received.keys()
        assert table.stale <= table.received.keys()
        expected |= {(one.peer, nlri) for nlri in table.received.keys() - table.rejected.keys()}
    assert {(path.peer, nlri) for nlri, found in rib.best().items() for path in found} == expected


@settings(deadline=None)  # shared cores: wall time says nothing
@given(tables, st.lists(said), st.randoms())
def test_any_order_of_the_same_final_updates_gives_the_same_loc_rib(
    final: list[Said], before: list[Said], random: Random
) -> None:
    plain = after(*(one.event for one in final), rib=established())
    shuffled = after(*(one.event for one in before), rib=established())  # does not matter, once each has its last word
    words = {(one.peer, one.prefix): one for one in final}
    last = [words.get((p, prefix), Said(p, prefix, None)) for p in PEERS for prefix in CANDIDATES]
    random.shuffle(last)
    after(*(one.event for one in last), rib=shuffled)
    assert contents(plain) == contents(shuffled)
    consistent(shuffled)


@settings(deadline=None)  # shared cores: wall time says nothing
@given(tables, st.lists(said, unique_by=lambda one: (one.peer, one.prefix)))
def test_withdraw_undoes_announce(before: list[Said], news: list[Said]) -> None:
    rib = after(*(one.event for one in before), rib=established())
    old, had = contents(rib), {(one.peer, one.prefix) for one in before}
    fresh = [one for one in news if (one.peer, one.prefix) not in had]
    after(*(one.event for one in fresh), rib=rib)
    after(*(withdraw(one.prefix, peer=one.peer) for one in fresh), rib=rib)
    assert contents(rib) == old


@settings(deadline=None)  # shared cores: wall time says nothing
@given(st.lists(said))
def test_changes_are_reported_exactly(happened: list[Said]) -> None:
    rib = established()
    for one in happened:
        before = contents(rib)
        after(one.event, rib=rib)
        now = contents(rib)
        assert changes(rib) == {
            prefix for prefix in before.keys() | now.keys() if before.get(prefix) != now.get(prefix)
        }


@settings(deadline=None)  # shared cores: wall time says nothing
@given(st.lists(said), st.lists(said))
def test_updates_that_come_together_are_worth_what_they_are_one_by_one(first: list[Said], second: list[Said]) -> None:
    happened = [*first, *second]
    single = after(*(one.event for one in happened), rib=established())
    bulk = established()
    for address in PEERS:
        pieces = [one.event.messages for one in happened if one.peer == address]  # type: ignore[union-attr]
        after(replace(announce("10.244.0.0/26", peer=address), messages=b"".join(pieces)), rib=bulk)
    assert contents(single) == contents(bulk)


@settings(deadline=None)  # shared cores: wall time says nothing
@given(tables)
def test_losing_every_session_leaves_an_empty_loc_rib(final: list[Said]) -> None:
    rib = after(*(one.event for one in final), rib=established())
    after(*(down(Ending.CLOSED, address) for address in PEERS), rib=rib, now=3)
    rib.expire(3 + RESTART)
    assert contents(rib) == {}
    assert rib.next_deadline is None
    assert all(one.received == one.accepted == one.stale == 0 for one in rib.status())


@settings(deadline=None)  # shared cores: wall time says nothing
@given(tables)
def test_a_restart_that_sends_the_same_table_changes_nothing(final: list[Said]) -> None:
    rib = after(*(one.event for one in final), rib=established())
    before = contents(rib)
    after(*(down(Ending.CLOSED, address) for address in PEERS), rib=rib)
    after(*(up(address, graceful()) for address in PEERS), rib=rib)
    after(*(one.event for one in final), *map(end_of_rib, PEERS), rib=rib)
    assert contents(rib) == before


steps = st.lists(
    st.one_of(
        said.map(lambda one: one.event),
        st.sampled_from(PEERS).map(lambda address: down(Ending.CLOSED, address)),
        st.sampled_from(PEERS).map(lambda address: up(address, graceful())),
        st.sampled_from(PEERS).map(end_of_rib),
        st.sampled_from(sorted(CLUSTERS)),
        st.frozensets(st.sampled_from(PEERS)),
    ),
    max_size=30,
)


@settings(deadline=None)  # shared cores: wall time says nothing
@given(steps)
def test_import_again_after_a_change_of_policy_equals_import_from_scratch(
    happened: list[SessionEvent | str | frozenset[Address]],
) -> None:
    rib, scratch = established(), established()
    last, gone = "plain", frozenset[Address]()
    for step in happened:
        match step:
            case str():
                last = step
                adopt(rib, step)
            case frozenset():
                gone = step
                rib.set_unreachable(step)
            case _:
                after(step, rib=rib)
        consistent(rib)
    adopt(scratch, last)
    # stale paths whose next hop was away meanwhile are gone for good: so the tables, not the events, are what is sent
    scratch.set_unreachable(gone)
    for one in rib.status():
        tables, others = rib.tables(one.peer), scratch.tables(one.peer)
        assert tables is not None
        assert others is not None
        table = tables.tables[Family.IPV4]
        for stale in (True, False):
            for nlri, attributes in table.received.items():
                if (nlri in table.stale) is stale:
                    others.announce(Family.IPV4, [nlri], attributes)
            if stale:
                others.make_stale(others.tables[Family.IPV4])
        assert others.tables[Family.IPV4].rejected == table.rejected
    assert contents(rib) == contents(scratch)

"""The decision process; each test is named after its step in `routed_bgp.decision` and in RFC 4271 9.1.2.2."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from routed.model.address import Address
from routed.model.path import Origin, Path, Segment
from routed_bgp.decision import STEPS, Step, judged, multipath, ranked


def sequence(*numbers: int) -> tuple[Segment, ...]:
    return (Segment(True, numbers),) if numbers else ()


def a_set(*numbers: int) -> tuple[Segment, ...]:
    return (Segment(False, numbers),)


BASE = Path(
    next_hop=Address("10.1.1.1"),
    peer=Address("10.1.1.1"),
    peer_as=65101,
    peer_router_id=Address("10.0.0.1"),
    ebgp=True,
    as_path=sequence(65101),
    origin=Origin.IGP,
    local_pref=100,
)
# for each step a path that is worse than BASE by it, and in all that later steps look at the winner is worse
WORSE: list[tuple[str, dict[str, Any]]] = [
    ("0a", {"unreachable": True}),
    ("0b", {"stale": True, "yields": True}),
    ("0c", {"priority": 1025}),
    ("1", {"local_pref": 90}),
    ("2", {"as_path": sequence(65101, 65000)}),
    ("3", {"origin": Origin.EGP}),
    ("4", {"med": 1}),
    ("5", {"ebgp": False}),
    ("7", {"peer_router_id": Address("10.0.0.2")}),
    ("8", {"cluster_list": (Address("10.0.0.9"),)}),
    ("9", {"peer": Address("10.1.1.2")}),
    ("10", {"path_id": 1}),
]
NAMES = {
    "0a": "next hop resolves, 9.1.2",
    "0b": "fresh before stale",
    "0c": "priority",
    "1": "LOCAL_PREF, 9.1.1",
    "2": "AS path length, a",
    "3": "ORIGIN, b",
    "4": "MED, c",
    "5": "eBGP, d",
    "7": "BGP identifier, f",
    "8": "CLUSTER_LIST, RFC 4456 9",
    "9": "peer address, g",
    "10": "path identifier, RFC 7911",
}


def worse_in_all_after(index: int) -> dict[str, Any]:
    return {name: value for _, more in WORSE[index + 1 :] for name, value in more.items()}


def lost_at(winner: Path, loser: Path) -> str:
    """The number of the step at which `loser` loses, in whatever order the two arrived."""
    assert ranked([loser, winner]) == ranked([winner, loser]) == (winner, loser)
    first, second = judged([loser, winner])
    assert (first.path, first.lost_at, second.path) == (winner, None, loser)
    assert second.lost_at is not None
    return second.lost_at.number


@pytest.mark.parametrize("index", range(len(WORSE)), ids=[f"step_{number}_{NAMES[number]}" for number, _ in WORSE])
def test_step(index: int) -> None:
    number, worse = WORSE[index]
    winner, loser = replace(BASE, **worse_in_all_after(index)), replace(BASE, **worse)
    assert lost_at(winner, loser) == number


def test_the_steps_are_those_of_the_tests() -> None:
    assert [step.number for step in STEPS] == [number for number, _ in WORSE]


def test_step_0a_a_path_that_leads_nowhere_loses_even_to_a_stale_one() -> None:
    assert lost_at(replace(BASE, yields=True), replace(BASE, unreachable=True)) == "0a"


def test_step_0b_a_stale_path_of_the_fabric_loses_to_the_mesh() -> None:
    mesh = replace(BASE, local_pref=90, ebgp=False, peer=Address("10.2.2.11"))
    assert lost_at(mesh, replace(BASE, yields=True)) == "0b"
    assert lost_at(BASE, mesh) == "1"


def test_step_1_a_shorter_as_path_over_the_mesh_never_beats_the_fabric() -> None:
    mesh = replace(BASE, local_pref=90, as_path=(), ebgp=False)
    assert lost_at(replace(BASE, as_path=sequence(65101, 65000, 65102)), mesh) == "1"


def test_step_2_a_set_counts_as_one() -> None:
    aggregated = replace(BASE, as_path=(*sequence(65101), *a_set(1, 2, 3)), peer_router_id=Address(1))
    assert lost_at(aggregated, replace(BASE, as_path=sequence(65101, 2))) == "7"
    assert lost_at(aggregated, replace(BASE, as_path=sequence(65101, 2, 3))) == "2"


def test_step_4_c_med_counts_only_within_one_neighbouring_as() -> None:
    assert lost_at(replace(BASE, as_path=sequence(65102), med=50, peer_router_id=Address(1)), BASE) == "7"


def test_step_4_c_no_med_counts_as_zero() -> None:
    assert lost_at(BASE, replace(BASE, med=1, peer_router_id=Address(1))) == "4"
    assert lost_at(replace(BASE, med=0, peer_router_id=Address(1)), BASE) == "7"


def test_step_4_c_paths_of_our_own_as_are_one_neighbour() -> None:
    ours = replace(BASE, as_path=(), ebgp=False)
    assert lost_at(ours, replace(ours, med=1, peer_router_id=Address(1))) == "4"


def test_step_4_c_may_rank_last_what_would_win_without_its_rival() -> None:
    low = replace(BASE, med=1, peer_router_id=Address(9), peer=Address(1))
    high = replace(BASE, med=2, peer_router_id=Address(1), peer=Address(2))
    other = replace(BASE, as_path=sequence(65102), med=9, peer_router_id=Address(5), peer=Address(3))
    assert ranked([high, low, other]) == (other, low, high)
    assert [each.lost_at and each.lost_at.number for each in judged([high, low, other])] == [None, "7", "4"]


def test_step_7_f_a_reflected_path_counts_by_its_originator() -> None:
    reflected = replace(BASE, originator_id=Address("10.0.0.0"), peer_router_id=Address("10.0.0.9"))
    assert lost_at(reflected, BASE) == "7"


def test_step_8_rfc4456_9_the_shorter_cluster_list_wins() -> None:
    far = replace(BASE, originator_id=Address(1), cluster_list=(Address(7), Address(8)), peer=Address(1))
    near = replace(BASE, originator_id=Address(1), cluster_list=(Address(9),), peer=Address(2))
    assert lost_at(near, far) == "8"


def test_step_9_g_ipv4_addresses_come_before_ipv6() -> None:
    assert lost_at(BASE, replace(BASE, peer=IPv6Address("::1"))) == "9"


def test_step_10_rfc7911_paths_of_one_peer_are_told_apart() -> None:
    assert ranked([replace(BASE, path_id=3), replace(BASE, path_id=1), replace(BASE, path_id=2)]) == tuple(
        replace(BASE, path_id=number) for number in (1, 2, 3)
    )


def test_a_step_says_what_the_winner_has() -> None:
    _, loser = judged([BASE, replace(BASE, local_pref=90)])
    assert str(loser.lost_at) == "step 1: highest LOCAL_PREF"


def test_nothing_is_best_of_nothing() -> None:
    assert ranked([]) == ()
    assert judged([]) == ()
    assert multipath(()) == ()


@st.composite
def paths(draw: st.DrawFn) -> Path:
    return replace(
        BASE,
        unreachable=draw(st.booleans()),
        yields=draw(st.booleans()),
        local_pref=draw(st.sampled_from([90, 100])),
        as_path=draw(st.sampled_from([(), *map(sequence, (65101, 65102)), sequence(65102, 1), a_set(65101, 1)])),
        origin=draw(st.sampled_from(Origin)),
        med=draw(st.sampled_from([None, 0, 1, 2])),
        ebgp=draw(st.booleans()),
        peer_router_id=Address(draw(st.integers(1, 2))),
        cluster_list=draw(st.sampled_from([(), (Address(1),)])),
        peer=Address(draw(st.integers(1, 50))),
    )


candidates = st.lists(paths(), min_size=1, max_size=8, unique_by=lambda path: path.peer)


@settings(deadline=None)  # shared cores: wall time says nothing
@given(candidates, st.randoms())
def test_the_choice_does_not_depend_on_the_order_of_arrival(found: list[Path], random: Random) -> None:
    chosen = ranked(found)
    random.shuffle(found)
    assert ranked(found) == chosen
    assert sorted(chosen, key=lambda path: path.peer) == sorted(found, key=lambda path: path.peer)


@settings(deadline=None)  # shared cores: wall time says nothing
@given(candidates)
def test_the_ranking_is_that_of_the_steps_one_by_one(found: list[Path]) -> None:
    others = list(found)
    for place in ranked(found):
        remaining = others
        for step in STEPS:
            remaining = step.keep(remaining)
        assert remaining[0] is place
        others = [path for path in others if path is not place]
    assert not others


@given(candidates)
def test_every_path_but_the_best_lost_at_a_step(found: list[Path]) -> None:
    best, *others = judged(found)
    assert best.lost_at is None
    assert all(isinstance(other.lost_at, Step) for other in others)


def by_neighbour(found: Sequence[Path]) -> Path:
    """Deterministic MED as routers describe it: the best of each neighbouring AS, and of those the best without MED."""

    def best_of(those: Sequence[Path], steps: Sequence[Step]) -> Path:
        for step in steps:
            those = step.keep(those)
        return those[0]

    groups: dict[int, list[Path]] = {}
    for path in found:
        ordered = bool(path.as_path) and path.as_path[0].ordered
        groups.setdefault(path.as_path[0].numbers[0] if ordered else 0, []).append(path)
    without_med = [step for step in STEPS if step.number != "4"]
    return best_of([best_of(group, STEPS) for group in groups.values()], without_med)


@settings(deadline=None)  # shared cores: wall time says nothing
@given(candidates)
def test_step_4_c_together_is_what_routers_call_deterministic_med(found: list[Path]) -> None:
    assert ranked(found)[0] == by_neighbour(found)

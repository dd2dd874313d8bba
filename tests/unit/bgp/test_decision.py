"""The decision process; each test is named after its step in `routed_bgp.decision` and in RFC 4271 9.1.2.2."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routed.model.address import Address, Prefix
from routed.model.path import Origin, Path
from routed_bgp.decision import ranked

# in every respect the worst that the next step could choose
BASE = Path(
    prefix=Prefix("10.244.1.0/26"),
    next_hop=Address("10.1.1.1"),
    peer=Address("10.1.1.1"),
    peer_as=65101,
    peer_router_id=Address("10.0.0.1"),
    ebgp=True,
    as_path=(65101,),
    as_path_length=1,
    origin=Origin.IGP,
    local_pref=100,
)
WORSE_LATER = [
    ("local_pref", 50),
    ("as_path_length", 9),
    ("origin", Origin.INCOMPLETE),
    ("med", 99),
    ("ebgp", False),
    ("peer_router_id", Address("10.255.0.1")),
    ("peer", Address("10.255.0.2")),
]
STEPS = [
    ("step_0_fresh_before_stale", {"stale": True}, 0),
    ("step_1_local_pref_9_1_1", {"local_pref": 90}, 1),
    ("step_2_as_path_length_a", {"as_path_length": 2}, 2),
    ("step_3_origin_b", {"origin": Origin.EGP}, 3),
    ("step_4_med_c", {"med": 1}, 4),
    ("step_5_ebgp_d", {"ebgp": False}, 5),
    ("step_7_router_id_f", {"peer_router_id": Address("10.0.0.2")}, 6),
    ("step_8_peer_address_g", {"peer": Address("10.1.1.2")}, 7),
]


@pytest.mark.parametrize(("worse", "later"), [step[1:] for step in STEPS], ids=[step[0] for step in STEPS])
def test_step(worse: dict[str, object], later: int) -> None:
    loser = replace(BASE, **worse)  # type: ignore[arg-type]
    winner = replace(BASE, **dict(WORSE_LATER[later:]))  # type: ignore[arg-type]
    assert ranked([loser, winner]) == (winner, loser)
    assert ranked([winner, loser]) == (winner, loser)


def test_step_4_med_c_counts_only_within_one_neighbouring_as() -> None:
    other = replace(BASE, as_path=(65102,), med=50, peer_router_id=Address("10.0.0.0"))
    assert ranked([BASE, other]) == (other, BASE)


def test_step_4_med_c_none_counts_as_zero() -> None:
    high = replace(BASE, med=1, peer_router_id=Address("10.0.0.0"))
    assert ranked([high, BASE]) == (BASE, high)
    zero = replace(BASE, med=0, peer_router_id=Address("10.0.0.0"))
    assert ranked([zero, BASE]) == (zero, BASE)


def test_a_stale_path_of_the_fabric_loses_to_the_mesh() -> None:
    mesh = replace(BASE, local_pref=90, ebgp=False, peer=Address("10.2.2.11"))
    stale = replace(BASE, stale=True)
    assert ranked([stale, mesh]) == (mesh, stale)
    assert ranked([BASE, mesh]) == (BASE, mesh)


def test_step_4_med_c_may_rank_last_what_would_win_without_its_rival() -> None:
    low = replace(BASE, med=1, peer_router_id=Address("10.0.0.9"), peer=Address(1))
    high = replace(BASE, med=2, peer_router_id=Address("10.0.0.1"), peer=Address(2))
    other = replace(BASE, as_path=(65102,), med=9, peer_router_id=Address("10.0.0.5"), peer=Address(3))
    assert ranked([high, low, other]) == (other, low, high)


def test_nothing_is_best_of_nothing() -> None:
    assert ranked([]) == ()


@st.composite
def paths(draw: st.DrawFn) -> Path:
    as_path = draw(st.sampled_from([(), (65101,), (65102,)]))
    return replace(
        BASE,
        stale=draw(st.booleans()),
        local_pref=draw(st.sampled_from([90, 100])),
        as_path=as_path,
        as_path_length=draw(st.integers(1, 2)),
        origin=draw(st.sampled_from(Origin)),
        med=draw(st.sampled_from([None, 0, 1, 2])),
        ebgp=draw(st.booleans()),
        peer_router_id=draw(st.sampled_from([Address(1), Address(2)])),
        peer=Address(draw(st.integers(1, 50))),
    )


@settings(deadline=None)  # shared cores: wall time says nothing
@given(st.lists(paths(), min_size=1, max_size=8, unique_by=lambda path: path.peer), st.randoms())
def test_the_choice_does_not_depend_on_the_order_of_arrival(found: list[Path], random: Random) -> None:
    chosen = ranked(found)
    random.shuffle(found)
    assert ranked(found) == chosen
    assert sorted(chosen, key=lambda path: path.peer) == sorted(found, key=lambda path: path.peer)

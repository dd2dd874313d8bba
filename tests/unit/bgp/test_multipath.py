"""Which paths share the traffic: equal up to the tie-break of `routed_bgp.decision`."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from tests.unit.bgp.test_decision import BASE, sequence

from routed.model.address import Address
from routed.model.path import Origin, Path
from routed_bgp.decision import multipath, ranked

SECOND = replace(
    BASE,
    next_hop=Address("10.1.2.1"),
    peer=Address("10.1.2.1"),
    peer_as=65102,
    peer_router_id=Address("10.0.0.2"),
    as_path=sequence(65102),
)


def sharing(*paths: Path, ebgp: int = 1, ibgp: int = 1) -> list[str]:
    return [str(path.next_hop) for path in multipath(ranked(paths), ebgp=ebgp, ibgp=ibgp)]


def test_one_path_alone_by_default() -> None:
    assert sharing(SECOND, BASE) == ["10.1.1.1"]


def test_two_tors_of_two_ases_share() -> None:
    assert sharing(SECOND, BASE, ebgp=2) == ["10.1.1.1", "10.1.2.1"]


@pytest.mark.parametrize(
    "worse",
    [
        {"unreachable": True},
        {"yields": True},
        {"priority": 1025},
        {"local_pref": 90},
        {"as_path": sequence(65102, 65000)},
        {"origin": Origin.EGP},
        {"ebgp": False},
    ],
    ids=lambda worse: next(iter(worse)),
)
def test_a_path_that_loses_before_the_tie_break_does_not_share(worse: dict[str, Any]) -> None:
    assert sharing(BASE, replace(SECOND, **worse), ebgp=8, ibgp=8) == ["10.1.1.1"]


@pytest.mark.parametrize(
    "other",
    [{"peer_router_id": Address(1)}, {"cluster_list": (Address(1),)}, {"peer": Address(1)}, {"path_id": 5}, {"med": 7}],
    ids=lambda other: next(iter(other)),
)
def test_the_tie_break_and_the_med_of_another_as_do_not_matter(other: dict[str, Any]) -> None:
    assert set(sharing(BASE, replace(SECOND, **other), ebgp=8)) == {"10.1.1.1", "10.1.2.1"}


def test_step_4_c_what_a_rival_of_its_own_as_removes_does_not_share() -> None:
    rival = replace(SECOND, med=5, next_hop=Address("10.1.3.1"), peer=Address("10.1.3.1"))
    assert sharing(BASE, SECOND, rival, ebgp=8) == ["10.1.1.1", "10.1.2.1"]


def test_the_width_is_that_of_the_best_paths_kind() -> None:
    third = replace(SECOND, next_hop=Address("10.1.3.1"), peer=Address("10.1.3.1"))
    inside = [replace(path, ebgp=False) for path in (BASE, SECOND, third)]
    assert sharing(BASE, SECOND, third, ebgp=2, ibgp=3) == ["10.1.1.1", "10.1.2.1"]
    assert sharing(*inside, ebgp=1, ibgp=3) == ["10.1.1.1", "10.1.2.1", "10.1.3.1"]
    assert sharing(*inside, ebgp=3, ibgp=0) == ["10.1.1.1"]


def test_one_path_per_next_hop() -> None:
    again = replace(SECOND, next_hop=BASE.next_hop)
    third = replace(SECOND, next_hop=Address("10.1.3.1"), peer=Address("10.1.3.1"))
    assert sharing(BASE, again, third, ebgp=2) == ["10.1.1.1", "10.1.3.1"]

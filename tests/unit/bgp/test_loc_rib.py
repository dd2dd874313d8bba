"""The Loc-RIB against a naive one: a dictionary of lists, ranked when it is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.unit.bgp import wire
from tests.unit.bgp.test_decision import BASE

from routed.model.address import Address, AnyAddress
from routed.model.path import Path
from routed_bgp.decision import ranked
from routed_bgp.loc_rib import LocRib
from routed_bgp.nlri import Nlri

NLRIS = [wire.key(f"10.244.{index}.0/26") for index in range(4)]
PEERS = [Address(1), Address(2), Address(3)]
PATHS = [
    replace(BASE, peer=peer, path_id=path_id, med=med) for peer in PEERS for path_id in (0, 1) for med in (None, 1)
]


@dataclass
class Naive:
    """What `LocRib` is to be."""

    paths: dict[Nlri, dict[tuple[AnyAddress, int], Path]] = field(
        default_factory=dict[Nlri, dict[tuple[AnyAddress, int], Path]]
    )

    def put(self, nlris: list[Nlri], path: Path) -> None:
        for nlri in nlris:
            self.paths.setdefault(nlri, {})[path.peer, path.path_id] = path

    def drop(self, nlris: list[Nlri], peer: AnyAddress, path_id: int = 0) -> None:
        for nlri in nlris:
            self.paths.get(nlri, {}).pop((peer, path_id), None)

    def revise(self, nlris: list[Nlri], change: Callable[[Path], Path | None]) -> None:
        for nlri in nlris:
            changed = {key: change(path) for key, path in self.paths.get(nlri, {}).items()}
            self.paths[nlri] = {key: path for key, path in changed.items() if path is not None}

    @property
    def best(self) -> dict[Nlri, tuple[Path, ...]]:
        return {nlri: ranked(list(paths.values())) for nlri, paths in self.paths.items() if paths}


def aged(path: Path) -> Path:
    return path if path.stale or path.peer == PEERS[0] else replace(path, stale=True)


def without_med(path: Path) -> Path | None:
    return path if path.med is None else None


Step = Callable[[LocRib | Naive], None]


def put(nlris: list[Nlri], path: Path) -> Step:
    return lambda rib: rib.put(nlris, path)


def drop(nlris: list[Nlri], peer: Address, path_id: int) -> Step:
    return lambda rib: rib.drop(nlris, peer, path_id)


def revise(nlris: list[Nlri], change: Callable[[Path], Path | None]) -> Step:
    return lambda rib: rib.revise(nlris, change)


some = st.lists(st.sampled_from(NLRIS), min_size=1, unique=True)
steps = st.one_of(
    st.builds(put, some, st.sampled_from(PATHS) | st.sampled_from(PATHS).map(replace)),  # the object, or its equal
    st.builds(drop, some, st.sampled_from(PEERS), st.sampled_from([0, 1])),
    st.builds(revise, some, st.sampled_from([aged, without_med])),
)


@settings(deadline=None)  # shared cores: wall time says nothing
@given(st.lists(steps))
def test_put_drop_and_revise_agree_with_a_naive_model(happened: list[Step]) -> None:
    rib, naive = LocRib(), Naive()
    for step in happened:
        before = naive.best
        step(rib)
        step(naive)
        assert rib.best == naive.best
        changed, rib.changed = rib.changed, []
        assert set(changed) == {nlri for nlri in NLRIS if before.get(nlri) != naive.best.get(nlri)}


def test_equal_sets_of_paths_are_one_object_whatever_the_order() -> None:
    first, second = PATHS[0], PATHS[4]
    rib = LocRib()
    for nlri, order in zip(NLRIS, [(first, second), (second, first)], strict=False):
        for path in order:
            rib.put([nlri], path)
    assert rib.best[NLRIS[0]] is rib.best[NLRIS[1]]


def test_a_path_that_is_equal_to_what_is_there_changes_nothing() -> None:
    rib = LocRib()
    rib.put(NLRIS, BASE)
    rib.changed.clear()
    rib.put(NLRIS, replace(BASE))
    assert rib.changed == []

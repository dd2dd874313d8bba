"""The algebra of differences."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from routed.reconcile import Delta, diff

tables = st.dictionaries(st.integers(0, 8), st.integers(0, 3))


def carried_out(actual: dict[int, int], delta: Delta[int, int]) -> dict[int, int]:
    kept = {key: value for key, value in actual.items() if key not in delta.delete}
    return {**kept, **delta.create, **delta.replace}


@given(tables, tables)
def test_carrying_out_the_difference_gives_the_desired(actual: dict[int, int], desired: dict[int, int]) -> None:
    assert carried_out(actual, diff(actual, desired)) == desired


@given(tables)
def test_no_difference_is_false_and_empty(table: dict[int, int]) -> None:
    delta = diff(table, dict(table))
    assert not delta
    assert len(delta) == 0


@given(tables, tables)
def test_a_key_is_created_replaced_or_deleted_but_only_one_of_them(
    actual: dict[int, int], desired: dict[int, int]
) -> None:
    delta = diff(actual, desired)
    touched = [*delta.create, *delta.replace, *delta.delete]
    assert len(touched) == len(set(touched)) == len(delta)
    assert set(delta.create).isdisjoint(actual)
    assert set(delta.delete) | set(delta.replace) <= set(actual)


@given(tables, tables)
def test_what_is_right_already_is_not_touched(actual: dict[int, int], desired: dict[int, int]) -> None:
    delta = diff(actual, desired)
    right = {key for key in actual if desired.get(key) == actual[key]}
    assert right.isdisjoint({*delta.create, *delta.replace, *delta.delete})


@given(tables, tables)
def test_the_difference_backwards_undoes_it(actual: dict[int, int], desired: dict[int, int]) -> None:
    assert carried_out(carried_out(actual, diff(actual, desired)), diff(desired, actual)) == actual


@given(tables, tables)
def test_additions_then_deletions_are_the_whole(actual: dict[int, int], desired: dict[int, int]) -> None:
    delta = diff(actual, desired)
    assert carried_out(carried_out(actual, delta.additions()), delta.deletions()) == desired
    assert not delta.additions().delete
    assert not delta.deletions().create

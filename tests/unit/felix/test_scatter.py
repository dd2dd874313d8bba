"""The order in which new prefixes go into the kernel's trie."""

from hypothesis import given
from hypothesis import strategies as st

from routed_felix.scatter import scattered


@given(st.integers(0, 20_000))
def test_each_item_comes_once(count: int) -> None:
    assert sorted(scattered(range(count))) == list(range(count))


def test_a_few_stay_in_their_order() -> None:
    assert scattered(range(2000)) == list(range(2000))


@given(st.integers(4096, 50_000))
def test_a_part_of_the_order_is_spread_over_the_whole(count: int) -> None:
    """The widest gap of what is in already halves as what is in doubles."""
    order = scattered(range(count))
    for part in (count // 4, count // 2):
        there = sorted(order[:part])
        gaps = [after - before for before, after in zip([-1, *there], [*there, count], strict=True)]
        assert max(gaps) <= 4 * count / part

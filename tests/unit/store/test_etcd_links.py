"""What of the way to etcd can be told without one."""

from __future__ import annotations

import pytest

from routed.store.etcd import version_of
from routed.store.etcd_links import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, pause
from routed.store.etcd_wire import prefix_end


@pytest.mark.parametrize("rounds", [1, 2, 3, 10, 10_000])
def test_pauses_double_up_to_the_longest_and_are_never_the_same_for_all(rounds):
    whole = min(FIRST_PAUSE_SECONDS * 2 ** min(rounds - 1, 20), LONGEST_PAUSE_SECONDS)
    seen = {pause(rounds) for _ in range(50)}
    assert all(whole / 2 <= seconds <= whole for seconds in seen)
    assert len(seen) > 1


@pytest.mark.parametrize(
    ("prefix", "end"), [(b"/a", b"/b"), (b"/a\xff", b"/b"), (b"a\xff\xff", b"b"), (b"", b"\0"), (b"\xff", b"\0")]
)
def test_a_range_ends_before_the_first_key_that_does_not_start_with_the_prefix(prefix, end):
    assert prefix_end(prefix) == end


def test_versions_compare_as_numbers():
    assert version_of("3.10.1") > version_of("3.4.23") > (3, 4) > version_of("3.3.99")
    assert version_of("3.6.0-rc.1") == (3, 6)

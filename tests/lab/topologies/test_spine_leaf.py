"""Route reflectors on two nodes above a fabric that knows nothing of pods."""

from __future__ import annotations

from collections.abc import Callable

from tests.lab.topologies.conftest import Lab


def test_what_both_reflectors_say_is_direct_in_the_rack_and_encapsulated_across(up: Callable[..., Lab]):
    found = up("spine-leaf-rr").check()

    assert (found["reachable"], found["direct"], found["encapsulated"], found["wrong"]) == (56, 24, 32, 0)

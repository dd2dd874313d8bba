"""When what is held for an interface that is gone is a leak."""

from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from routed.ipam.leaks import Held, Suspicion, leaks, look

ONE: Held = frozenset({(ip_address("10.1.0.1"), 5), (ip_address("fd00::1"), 5)})
LATER: Held = frozenset({(ip_address("10.1.0.1"), 50), (ip_address("fd00::1"), 5)})


def test_one_look_proves_nothing():
    assert leaks(look((), {"h": ONE}, 100), 100, grace=10) == ()


def test_what_is_missing_in_two_looks_a_grace_time_apart_is_a_leak_with_all_it_holds():
    suspected = look(look((), {"h": ONE}, 100), {"h": ONE}, 110)
    assert leaks(suspected, 110, grace=10) == (Suspicion("h", ONE, 100),)
    assert [str(each) for each in suspected[0].addresses] == ["10.1.0.1", "fd00::1"]


def test_an_interface_that_was_there_in_between_begins_anew():
    suspected = look(look(look((), {"h": ONE}, 100), {}, 105), {"h": ONE}, 110)
    assert leaks(suspected, 110, grace=10) == ()


def test_one_address_that_was_given_anew_keeps_all_of_the_handle():
    suspected = look(look((), {"h": ONE}, 100), {"h": LATER}, 110)
    assert leaks(suspected, 110, grace=10) == ()
    assert leaks(look(suspected, {"h": LATER}, 120), 120, grace=10) == (Suspicion("h", LATER, 110),)


MISSING = st.dictionaries(st.sampled_from("abc"), st.sampled_from([ONE, LATER]))


@given(st.lists(st.tuples(st.integers(0, 9), MISSING), max_size=12), st.integers(1, 20))
def test_whatever_comes_and_goes_a_leak_was_missing_unchanged_in_every_look_of_the_grace_time(looks, grace):
    suspected: tuple[Suspicion, ...] = ()
    history: list[tuple[int, dict[str, Held]]] = []
    now = 0
    for passed, missing in looks:
        now += passed
        history.append((now, missing))
        suspected = look(suspected, missing, now)
        found = {each.handle for each in leaks(suspected, now, grace)}
        for handle, held in missing.items():
            unbroken = now
            for at, seen in reversed(history):
                if seen.get(handle) != held:
                    break
                unbroken = at
            assert (handle in found) == (now - unbroken >= grace)

"""A peer that flaps does not fill the log, and is not hushed up either."""

from __future__ import annotations

from ipaddress import ip_address

from routed.agent.flapping import MOST_ENDS, WINDOW_SECONDS, Flapping

PEER, OTHER = ip_address("10.1.1.1"), ip_address("2001:db8::1")


def test_few_ends_are_told_one_by_one():
    flapping = Flapping()

    assert [flapping.ended(PEER, number) for number in range(MOST_ENDS - 1)] == [""] * (MOST_ENDS - 1)
    assert flapping.established(PEER)


def test_the_last_line_of_many_says_that_there_will_be_fewer():
    flapping = Flapping()
    said = [flapping.ended(PEER, number / 60) for number in range(100)]

    assert "it flaps" in (said[MOST_ENDS - 1] or "")
    assert said[MOST_ENDS:] == [None] * (100 - MOST_ENDS)
    assert not flapping.established(PEER)


def test_what_was_not_told_is_counted_in_the_next_line():
    flapping = Flapping()
    for number in range(100):
        flapping.ended(PEER, number / 60)

    assert f"{100 - MOST_ENDS} more times" in (flapping.ended(PEER, WINDOW_SECONDS + 2) or "")
    assert flapping.established(PEER)


def test_a_peer_that_flaps_says_nothing_about_another():
    flapping = Flapping()
    for number in range(100):
        flapping.ended(PEER, number / 60)

    assert flapping.ended(OTHER, 2) == ""
    assert flapping.established(OTHER)


def test_a_peer_that_is_wanted_no_more_is_forgotten():
    flapping = Flapping()
    for number in range(100):
        flapping.ended(PEER, number / 60)
    flapping.forget({PEER, OTHER})

    assert flapping.ended(PEER, 2) == ""

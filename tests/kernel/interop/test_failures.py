"""A router that crashes, restarts, is shut or goes silent: what stays, what goes, and why (design, section 5).

What happens to one happens to all routers of a test at once, since most of it is waiting.
"""

from __future__ import annotations

import pytest
from tests.kernel.interop.ours import Ours
from tests.kernel.interop.scenarios import BLOCKS, OF_MEMBER, End, Fabric, keys
from tests.waiting import until

SECONDS = 40.0


def about(scenario: str, *roles: str) -> pytest.MarkDecorator:
    wanted = tuple(keys(scenario, roles=roles or ("tor", "reflector")))
    return pytest.mark.parametrize("ends", [wanted], ids=[scenario], indirect=True)


def prefix_of(end: End) -> str:
    return end.route.prefix if end.tor else OF_MEMBER


def settled(ours: Ours, ends: list[End]) -> None:
    """Both sides have what the other announces, and nothing of it is stale."""

    def there(end: End) -> bool:
        accepted, prefix = ours.accepted(end.address), prefix_of(end)
        return prefix in accepted and not accepted[prefix].stale and BLOCKS[0] in end.router.routes(end.us)

    for end in ends:
        until(lambda end=end: there(end), SECONDS, lambda end=end: why(ours, end))


def why(ours: Ours, end: End) -> str:
    return f"{end.key}: ours {ours.session(end.address)}, theirs {end.router.state(end.us)}\n{ours.tail()}"


@about("restart")
def test_rfc4724_paths_of_a_crashed_router_are_stale_until_it_is_back(ours: Ours, ends: list[End]) -> None:
    settled(ours, ends)
    for end in ends:
        end.router.kill()
    try:
        for end in ends:
            prefix = prefix_of(end)
            until(lambda end=end, prefix=prefix: ours.accepted(end.address)[prefix].stale, SECONDS, ours.tail)
            assert not ours.established(end.address), end.key
            if end.tor:  # no fresh path: the stale one serves
                assert ours.best()[prefix].stale, end.key
                assert ours.kernel()[prefix] == end.place.address, end.key
    finally:
        for end in ends:
            end.router.start(end.setup, restarting=True)
    settled(ours, ends)


@about("no-restart", "tor")
def test_paths_of_a_crashed_router_without_graceful_restart_are_gone(ours: Ours, ends: list[End]) -> None:
    settled(ours, ends)
    prefixes = {end.route.prefix for end in ends}
    for end in ends:
        end.router.kill()
    try:
        until(lambda: not prefixes & ours.best().keys(), SECONDS, ours.tail)
        until(lambda: not prefixes & ours.kernel().keys(), SECONDS, ours.tail)
    finally:
        for end in ends:
            end.router.start(end.setup)
    settled(ours, ends)


@about("restart", "tor")
def test_paths_of_a_router_that_shuts_the_session_are_gone_although_it_could_restart(
    ours: Ours, ends: list[End]
) -> None:
    settled(ours, ends)
    prefixes = {end.route.prefix for end in ends}
    try:
        for end in ends:
            end.router.shut(end.us)
            until(lambda end=end: "shutdown" in (ours.session(end.address)["last_error"] or ""), SECONDS, ours.tail)
        until(lambda: not prefixes & ours.best().keys(), SECONDS, ours.tail)
    finally:
        for end in ends:
            end.router.kill()
            end.router.start(end.setup)
    settled(ours, ends)


def watched(ours: Ours, ends: list[End]) -> None:
    """The sessions are up, and BFD with them."""
    settled(ours, ends)
    for end in ends:
        until(lambda end=end: ours.session(end.address)["bfd"]["up"], SECONDS, lambda end=end: why(ours, end))


@about("bfd")
def test_rfc5880_a_router_that_goes_silent_is_down_by_bfd_long_before_its_hold_time(
    ours: Ours, ends: list[End]
) -> None:
    watched(ours, ends)
    for end in ends:
        end.router.freeze()
    try:
        for end in ends:  # the hold time is 90 s
            until(lambda end=end: not ours.established(end.address), SECONDS, lambda end=end: why(ours, end))
            assert "BFD" in ours.session(end.address)["last_error"], end.key
            assert prefix_of(end) not in ours.accepted(end.address), end.key
    finally:
        for end in ends:
            end.router.thaw()
    watched(ours, ends)


@about("bfd")
def test_rfc5880_both_ends_see_a_cut_between_them(ours: Ours, ends: list[End], fabric: Fabric) -> None:
    watched(ours, ends)
    for end in ends:
        fabric.subnet.cut(end.number)
    try:
        for end in ends:
            until(lambda end=end: not ours.established(end.address), SECONDS, lambda end=end: why(ours, end))
            until(lambda end=end: not end.router.established(end.us), SECONDS, lambda end=end: why(ours, end))
    finally:
        for end in ends:
            fabric.subnet.cut(end.number, up=True)
    watched(ours, ends)

"""Our own end goes away and comes back: graceful restart as real routers see it (RFC 4724), and the node's kernel."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from tests.kernel.interop.ours import Ours
from tests.kernel.interop.scenarios import BLOCKS, OF_MEMBER, End, keys
from tests.waiting import until

SECONDS = 60.0

everyone = pytest.mark.parametrize("ends", [tuple(keys("restart"))], ids=["everyone"], indirect=True)


def settled(ours: Ours, ends: list[End]) -> None:
    def there(end: End) -> bool:
        printed = end.router.routes(end.us)
        prefix = end.route.prefix if end.tor else OF_MEMBER
        return (
            prefix in ours.accepted(end.address)
            and set(BLOCKS) <= printed.keys()
            and not any(each.stale for each in printed.values())
        )

    for end in ends:
        until(lambda end=end: there(end), SECONDS, lambda end=end: f"{end.key}: {ours.session(end.address)}")


def kept(ends: list[End], condition: Callable[[End], bool]) -> None:
    """Our blocks are in what every router prints, each time it is asked, until the condition holds for all."""

    def still() -> bool:
        for end in ends:
            missing = set(BLOCKS) - end.router.routes(end.us).keys()
            assert not missing, f"{end.key} lost {missing}"
        return all(condition(end) for end in ends)

    until(still, SECONDS, lambda: {str(end.key): end.router.routes(end.us) for end in ends if not condition(end)})


def stale(end: End) -> bool:
    return all(each.stale for each in end.router.routes(end.us).values())


def fresh(end: End) -> bool:
    return end.router.established(end.us) and not any(each.stale for each in end.router.routes(end.us).values())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
@everyone
def test_rfc4724_routers_keep_our_routes_while_the_agent_is_away(
    ours: Ours, ends: list[End], number: signal.Signals
) -> None:
    settled(ours, ends)
    kernel = ours.kernel()
    ours.end(number)
    try:
        kept(ends, stale)
        assert ours.kernel() == kernel
    finally:
        ours.start()
    kept(ends, fresh)
    settled(ours, ends)
    assert ours.kernel() == kernel


@everyone
def test_routers_keep_our_routes_and_we_theirs_while_the_speaker_is_killed(ours: Ours, ends: list[End]) -> None:
    settled(ours, ends)
    best, kernel = ours.best().keys(), ours.kernel()
    killed = ours.kill_speaker()
    until(lambda: any("exabgp" in each for pid, each in ours.children().items() if pid != killed), SECONDS, ours.tail)
    assert ours.best().keys() == best
    assert ours.kernel() == kernel
    kept(ends, lambda end: ours.established(end.address) and fresh(end))
    settled(ours, ends)
    assert ours.kernel() == kernel

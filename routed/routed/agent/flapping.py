"""Which ends of sessions are worth a line in the log: a peer that flaps is told of, then only now and then. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from routed.model.address import AnyAddress

WINDOW_SECONDS: Final = 60.0
MOST_ENDS: Final = 5
"""Ends of one peer's sessions in `WINDOW_SECONDS` that are told of one by one; the rest are counted."""


@dataclass(slots=True)
class _Peer:
    told: deque[float] = field(default_factory=deque[float])  # when lines were written
    untold: int = 0
    quiet: bool = False


class Flapping:
    """What to say when a session comes or goes; times are monotonic seconds."""

    def __init__(self) -> None:
        self._peers: dict[AnyAddress, _Peer] = {}

    def ended(self, peer: AnyAddress, now: float) -> str | None:
        """What is to be added to the line about an end; None where there is to be no line."""
        found = self._peers.setdefault(peer, _Peer())
        while found.told and found.told[0] <= now - WINDOW_SECONDS:
            found.told.popleft()
        if len(found.told) >= MOST_ENDS:
            found.untold += 1
            found.quiet = True
            return None
        found.told.append(now)
        more, found.untold = found.untold, 0
        found.quiet = len(found.told) == MOST_ENDS
        said = f"; it ended {more} more times since the last line" if more else ""
        flaps = f"; it flaps: at most {MOST_ENDS} lines of it in {WINDOW_SECONDS:.0f} s from here on"
        return said + flaps if found.quiet else said

    def established(self, peer: AnyAddress) -> bool:
        """Whether that the session is up is worth a line."""
        return peer not in self._peers or not self._peers[peer].quiet

    def forget(self, peers: set[AnyAddress]) -> None:
        """Peers that are wanted no more."""
        for peer in peers & self._peers.keys():
            del self._peers[peer]

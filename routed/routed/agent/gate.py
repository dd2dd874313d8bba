"""When an agent that starts may write to the kernel: RFC 4724 section 4.1, selection is deferred while restarting."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from routed_bgp.peer_status import PeerStatus

_log = logging.getLogger("routed.agent")


class Gate:
    """Closed until every peer has sent its table, or until `wait_seconds` after the sessions were known.

    A kernel that holds no routes of ours (`holds_routes` False) has nothing that an incomplete view could take away:
    there the kernel may be written at once, and only being in sync is waited for. Once in sync, always in sync: what a
    peer keeps from then on is the RIB's to judge.
    """

    def __init__(self, wait_seconds: float, *, holds_routes: bool) -> None:
        self.in_sync = False
        self._wait_seconds = wait_seconds
        self._holds_routes = holds_routes
        self._until: float | None = None

    @property
    def may_write(self) -> bool:
        """Whether the kernel may be written."""
        return self.in_sync or not self._holds_routes

    @property
    def next_deadline(self) -> float | None:
        """When the wait is over, whatever came; None while there is none."""
        return None if self.in_sync else self._until

    def begin(self, now: float) -> None:
        """The sessions are known: from now on their tables are waited for."""
        if self._until is None:
            self._until = now + self._wait_seconds

    def reset(self) -> None:
        """The node left the cluster, and its sessions with it; its routes are kept until it is in sync again."""
        self.in_sync, self._holds_routes, self._until = False, True, None

    def watch(self, now: float, *, synced: bool, peers: Callable[[], Sequence[PeerStatus]]) -> None:
        """Open if it is time. `synced`: every session has delivered its table. `peers` is asked if that fails."""
        if self.in_sync or self._until is None:
            return
        if synced:
            self.in_sync = True
            _log.info("in sync with the store and with every peer")
        elif now >= self._until:
            self.in_sync = True
            _log.warning("going on without End-of-RIB from %s: waited %g s", missing(peers()), self._wait_seconds)


def missing(peers: Sequence[PeerStatus]) -> str:
    """Those of `peers` that are not in sync, in words."""
    return ", ".join(str(peer.peer) for peer in peers if not peer.synced) or "the speaker"

"""What the agent believes of its BFD sessions, from what the BFD process reports and from its deaths.

The process's death says nothing about a path, so it changes nothing here. The next process goes on with the sessions
that were up. If a peer noticed the gap, it says Down; for `GRACE_SECONDS` that is taken for what it is, our doing. Only
a session that is not up again by then has failed. A peer that is silent in that time is a failure as ever.

Pure: time (monotonic seconds) is an argument.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from routed.model.address import AnyAddress
from routed_bgp.bfd.messages import BfdSession
from routed_bgp.bfd.packet import Diagnostic, State
from routed_bgp.bfd.snapshot import Snapshot

GRACE_SECONDS = 5.0  # a handshake takes two of the slow packets, a lost one a second more


@dataclass(frozen=True, slots=True, kw_only=True)
class BfdChange:
    """A session came up, or is up no longer.

    `failed`: the path is broken, act at once; down without it means that BFD was switched off at one end. `diagnostic`
    in words. `control_independent`: the C bit of the peer's packets (see the package for what it decides).
    """

    peer: AnyAddress
    up: bool
    failed: bool = False
    diagnostic: str = ""
    state: State
    remote_state: State
    control_independent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BfdStatus:
    """One session for an operator to see; `snapshot` is None until the process has told of it.

    `since` (monotonic seconds) is when it last came up or ceased to be. `watched` is false while no process runs.
    """

    session: BfdSession
    up: bool
    snapshot: Snapshot | None
    since: float
    watched: bool


@dataclass(slots=True)
class _Entry:
    session: BfdSession
    since: float
    up: bool = False
    failures: int = 0
    snapshot: Snapshot | None = None
    grace: float | None = None


class Ledger:
    """See the module."""

    def __init__(self) -> None:
        self._entries: dict[AnyAddress, _Entry] = {}
        self._running = False

    def want(self, sessions: Collection[BfdSession], now: float) -> list[BfdChange]:
        """Know exactly `sessions`. One that becomes another, towards the same peer, is down without having failed."""
        entries: dict[AnyAddress, _Entry] = {}
        changes: list[BfdChange] = []
        for session in sessions:
            before = self._entries.get(session.peer)
            if before is not None and before.session.identity == session.identity:
                before.session = session
                entries[session.peer] = before
                continue
            if before is not None and before.up:
                changes.append(
                    BfdChange(
                        peer=session.peer,
                        up=False,
                        diagnostic=Diagnostic.ADMINISTRATIVELY_DOWN.words,
                        state=State.DOWN,
                        remote_state=State.DOWN,
                    )
                )
            entries[session.peer] = _Entry(session, now)
        self._entries = entries
        return changes

    def resumable(self) -> dict[AnyAddress, Snapshot]:
        """With what a new process goes on: the sessions that are up."""
        return {
            peer: entry.snapshot
            for peer, entry in self._entries.items()
            if entry.snapshot is not None and entry.snapshot.state is State.UP
        }

    def started(self, now: float) -> None:
        """A process was started."""
        self._running = True
        resumable = self.resumable()
        for peer, entry in self._entries.items():
            entry.grace = now + GRACE_SECONDS if entry.up else None
            entry.failures = resumable[peer].failures if peer in resumable else 0

    def died(self) -> None:
        """The process is gone. Who was up is believed to be."""
        self._running = False
        for entry in self._entries.values():
            entry.grace = None

    def report(self, peer: AnyAddress, snapshot: Snapshot, now: float) -> list[BfdChange]:
        """Take what the process says."""
        entry = self._entries.get(peer)
        if entry is None:  # no longer wanted, the process does not know yet
            return []
        missed = snapshot.failures - entry.failures
        entry.snapshot, entry.failures = snapshot, snapshot.failures
        up = snapshot.state is State.UP
        if entry.grace is not None and _our_doing(snapshot):
            return []
        if up == entry.up:
            if not up or missed <= 0:
                return []
            # it failed and came back between two reports
            return [self._change(entry, up=False, failed=True, now=now), self._change(entry, up=True, now=now)]
        failed = not up and (missed > 0 or entry.grace is not None) and snapshot.remote_state is not State.ADMIN_DOWN
        return [self._change(entry, up=up, failed=failed, now=now)]

    @property
    def next_deadline(self) -> float | None:
        """When `expire` has something to do."""
        return min((entry.grace for entry in self._entries.values() if entry.grace is not None), default=None)

    def expire(self, now: float) -> list[BfdChange]:
        """End the grace of those whose time has come."""
        changes: list[BfdChange] = []
        for entry in self._entries.values():
            if entry.grace is not None and entry.grace <= now:
                entry.grace = None
                if entry.snapshot is None or entry.snapshot.state is not State.UP:
                    changes.append(self._change(entry, up=False, failed=True, now=now))
        return changes

    def status(self) -> tuple[BfdStatus, ...]:
        """All sessions, sorted by address."""
        return tuple(
            BfdStatus(
                session=entry.session, up=entry.up, snapshot=entry.snapshot, since=entry.since, watched=self._running
            )
            for _, entry in sorted(self._entries.items(), key=lambda item: (item[0].version, int(item[0])))
        )

    def _change(self, entry: _Entry, *, up: bool, failed: bool = False, now: float) -> BfdChange:
        entry.up, entry.since = up, now
        if not up:
            entry.grace = None
        snapshot = entry.snapshot
        return BfdChange(
            peer=entry.session.peer,
            up=up,
            failed=failed,
            diagnostic="" if snapshot is None or up else snapshot.diagnostic.words,
            state=State.DOWN if snapshot is None else snapshot.state,
            remote_state=State.DOWN if snapshot is None else snapshot.remote_state,
            control_independent=snapshot is not None and snapshot.control_independent,
        )


def _our_doing(snapshot: Snapshot) -> bool:
    """Whether this, soon after a restart of the process, may be because of the restart."""
    if snapshot.state is State.UP:
        return True  # and whatever happened before, happened in the grace
    return (
        snapshot.diagnostic is not Diagnostic.DETECTION_TIME_EXPIRED and snapshot.remote_state is not State.ADMIN_DOWN
    )

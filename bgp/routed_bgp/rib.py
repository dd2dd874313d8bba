"""The routing information bases of one node: an Adj-RIB-In per peer, and the Loc-RIB (RFC 4271 section 3.2).

    speaker events -> Adj-RIB-In (as received) -> import policy -> paths by prefix -> decision -> Loc-RIB `best`

What the policy accepts is kept apart from what was received, so that a new pool or member takes effect without asking
the peers again. Times are monotonic seconds, always an argument.

Graceful restart, as the helper of a peer that restarts (RFC 4724 section 4.2): its paths stay, marked stale, for its
restart time; it must come back with the F bit; what it does not send again until End-of-RIB goes. Three refinements:
when our own speaker was away (`Ending.LOCAL`) the peer never stopped forwarding, so the F bit is not asked for; the
wait for End-of-RIB is bounded; and a stale path loses to any fresh one (decision step 0).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType

from routed.errors import PeerError
from routed.model.address import Address, Prefix
from routed.model.cluster import Cluster
from routed.model.path import Path
from routed_bgp import decision, update
from routed_bgp.open import Open
from routed_bgp.policy import ImportPolicy, Rejection, Source
from routed_bgp.sessions import Session
from routed_bgp.speaker import Ending, SessionDown, SessionEvent, SessionUp, UpdateReceived
from routed_bgp.update import Attributes

QUIET_SECONDS = 1.0  # a peer without graceful restart sends no End-of-RIB: its first second counts as its table


class State(StrEnum):
    """A session, as an operator sees it."""

    DOWN = "down"
    RESTARTING = "restarting"  # down, its paths kept as stale
    ESTABLISHED = "established"


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One session for `routed node status`. `since` in monotonic seconds; counts are of prefixes."""

    name: str
    peer: Address
    peer_as: int
    member: str | None
    state: State
    since: float
    synced: bool
    received: int
    accepted: int
    stale: int
    rejected: Mapping[Rejection, int]
    last_error: str


@dataclass(slots=True)
class _Peer:
    """A wanted session with its Adj-RIB-In."""

    session: Session
    since: float
    open: Open | None = None  # of the running session, or of the last one while its paths are stale
    up: bool = False
    received: dict[Prefix, Attributes] = field(default_factory=dict[Prefix, Attributes])
    accepted: dict[Prefix, Path] = field(default_factory=dict[Prefix, Path])
    rejected: dict[Prefix, Rejection] = field(default_factory=dict[Prefix, Rejection])
    stale: set[Prefix] = field(default_factory=set[Prefix])
    stale_until: float | None = None
    ours: bool = False  # the last ending was ours: the peer keeps forwarding
    synced: bool = False
    sync_at: float | None = None
    last_error: str = ""  # of the connection; over when it is up
    last_fault: str = ""  # of an UPDATE

    @property
    def state(self) -> State:
        if self.up:
            return State.ESTABLISHED
        return State.RESTARTING if self.stale else State.DOWN


class Rib:
    """See the module. Every method that can change the Loc-RIB returns the prefixes whose paths changed."""

    def __init__(self) -> None:
        self._policy: ImportPolicy | None = None
        self._peers: dict[Address, _Peer] = {}
        self._paths: dict[Prefix, dict[Address, Path]] = {}
        self._best: dict[Prefix, tuple[Path, ...]] = {}
        self._faulty: set[Address] = set()

    @property
    def best(self) -> Mapping[Prefix, tuple[Path, ...]]:
        """The Loc-RIB: for each reachable prefix all its paths, best first; a live, read-only view."""
        return MappingProxyType(self._best)

    @property
    def faulty(self) -> frozenset[Address]:
        """Peers that sent an UPDATE of the session-reset class (RFC 7606): to be reset by the speaker."""
        return frozenset(self._faulty)

    @property
    def next_deadline(self) -> float | None:
        """When `expire` has something to do next."""
        times = [time for peer in self._peers.values() for time in (peer.stale_until, peer.sync_at) if time is not None]
        return min(times, default=None)

    def set_policy(self, cluster: Cluster, node: str) -> frozenset[Prefix]:
        """Import by this cluster from now on, and again what was received before.

        A cluster that does not know `node` has nothing to import by: all paths go.
        """
        policy = ImportPolicy.of(cluster, node) if node in cluster.nodes else None
        if policy == self._policy:
            return frozenset()
        self._policy = policy
        for peer in self._peers.values():
            for prefix in peer.received:
                self._import(peer, prefix)
        return self._decide({prefix for peer in self._peers.values() for prefix in peer.received})

    def set_sessions(self, sessions: Iterable[Session], now: float) -> frozenset[Prefix]:
        """Want exactly these sessions. What a peer that goes, or becomes another, has sent is flushed at once."""
        wanted = {session.peer: session for session in sessions}
        touched: set[Prefix] = set()
        for address, peer in list(self._peers.items()):
            session = wanted.get(address)
            if session is None or session.identity != peer.session.identity:
                touched |= self._flush(peer, list(peer.received))
                del self._peers[address]
                self._faulty.discard(address)
            else:
                peer.session = session
        for address, session in wanted.items():
            self._peers.setdefault(address, _Peer(session, now))
        return self._decide(touched)

    def handle(self, event: SessionEvent, now: float) -> frozenset[Prefix]:
        """Take in what the speaker tells. Events of peers that are not wanted (any more) change nothing."""
        peer = self._peers.get(event.peer)
        if peer is None:
            return frozenset()
        match event:
            case SessionUp():
                touched = self._up(peer, event.open, now)
            case SessionDown():
                touched = self._down(peer, event, now)
            case UpdateReceived():
                touched = self._update(peer, event.body)
        return self._decide(touched)

    def expire(self, now: float) -> frozenset[Prefix]:
        """Do what time alone does: flush stale paths that were kept long enough, count quiet peers as in sync."""
        touched: set[Prefix] = set()
        for peer in self._peers.values():
            if peer.stale_until is not None and peer.stale_until <= now:
                touched |= self._flush_stale(peer)
            if peer.sync_at is not None and peer.sync_at <= now:
                peer.sync_at, peer.synced = None, True
        return self._decide(touched)

    def synced(self, now: float) -> bool:
        """Whether every wanted session is up and has delivered its table.

        That is End-of-RIB, or `QUIET_SECONDS` for a peer that does not know it. RFC 4724 section 4.1 excuses peers
        that restart as well; we wait for them, since nodes send End-of-RIB without waiting for anyone. The caller
        bounds the wait.
        """
        return all(
            peer.up and (peer.synced or (peer.sync_at is not None and peer.sync_at <= now))
            for peer in self._peers.values()
        )

    def status(self) -> tuple[PeerStatus, ...]:
        """All wanted sessions, by peer address."""
        return tuple(
            PeerStatus(
                name=peer.session.name,
                peer=address,
                peer_as=peer.session.peer_as,
                member=peer.session.member,
                state=peer.state,
                since=peer.since,
                synced=peer.up and peer.synced,
                received=len(peer.received),
                accepted=len(peer.accepted),
                stale=len(peer.stale),
                rejected=Counter(peer.rejected.values()),
                last_error=peer.last_error or peer.last_fault,
            )
            for address, peer in sorted(self._peers.items())
        )

    def _up(self, peer: _Peer, opened: Open, now: float) -> set[Prefix]:
        touched = self._end(peer, Ending.LOCAL, now) if peer.up else set[Prefix]()
        graceful = opened.graceful_restart
        peer.open, peer.up, peer.since, peer.last_error = opened, True, now, ""
        peer.synced, peer.sync_at = False, None if graceful else now + QUIET_SECONDS
        if not peer.ours and not (graceful and graceful.kept_ipv4):  # RFC 4724 section 4.2
            touched |= self._flush_stale(peer)
        elif peer.stale:
            peer.stale_until = now + (peer.session.restart_time if graceful else QUIET_SECONDS)
        peer.ours = False
        return touched

    def _down(self, peer: _Peer, event: SessionDown, now: float) -> set[Prefix]:
        # what we did is no error, and an attempt that fails does not explain why the session ended
        if event.ending is Ending.NOTIFICATION or (event.ending is Ending.CLOSED and (peer.up or not peer.last_error)):
            peer.last_error = event.reason
        self._faulty.discard(event.peer)
        return self._end(peer, event.ending, now) if peer.up else set()

    def _end(self, peer: _Peer, ending: Ending, now: float) -> set[Prefix]:
        """The session is over: keep its paths as stale, or flush them."""
        peer.up, peer.synced, peer.sync_at, peer.since = False, False, None, now
        peer.ours = ending is Ending.LOCAL
        graceful = peer.open.graceful_restart if peer.open else None
        if peer.ours:
            keep = peer.session.restart_time
        elif ending is Ending.CLOSED and graceful and graceful.keeps_ipv4:
            keep = graceful.restart_time
            # RFC 4724 section 4.2: a second restart in a row does not prolong what is stale from the first
        else:
            keep = 0
        touched = set[Prefix]() if peer.ours else self._flush(peer, list(peer.stale))
        if not keep:
            return touched | self._flush(peer, list(peer.received))
        peer.stale.update(peer.received)
        peer.stale_until = now + keep if peer.stale else None
        for prefix in peer.stale:
            self._import(peer, prefix)
        return touched | peer.stale

    def _update(self, peer: _Peer, body: bytes) -> set[Prefix]:
        if not peer.up or peer.open is None:
            return set()
        address = peer.session.peer
        if address in self._faulty:
            return set()  # until the speaker has reset the session, nothing of it can be trusted
        try:
            # ExaBGP always offers four-octet AS numbers, so the peer decides whether they are used
            news = update.decode(body, asn4=peer.open.asn4, ebgp=peer.session.ebgp)
        except PeerError as error:
            self._faulty.add(address)
            peer.last_fault = str(error)
            return self._flush(peer, list(peer.received))
        if news.faults:
            peer.last_fault = "UPDATE repaired (RFC 7606): " + "; ".join(news.faults)
        touched = self._flush(peer, news.withdrawn)
        if news.attributes:
            for prefix in news.announced:
                peer.received[prefix] = news.attributes
                peer.stale.discard(prefix)
                self._import(peer, prefix)
            touched.update(news.announced)
        if news.end_of_rib:
            peer.synced, peer.sync_at = True, None
            touched |= self._flush_stale(peer)
        return touched

    def _import(self, peer: _Peer, prefix: Prefix) -> None:
        """Run import policy on what `peer` sent for `prefix`."""
        address = peer.session.peer
        peer.accepted.pop(prefix, None)
        peer.rejected.pop(prefix, None)
        self._paths.get(prefix, {}).pop(address, None)
        if self._policy is None or peer.open is None:
            return
        session = peer.session
        source = Source(address, session.peer_as, peer.open.router_id, session.ebgp)
        verdict = self._policy.apply(prefix, peer.received[prefix], source)
        if isinstance(verdict, Rejection):
            peer.rejected[prefix] = verdict
            return
        path = replace(verdict, stale=True) if prefix in peer.stale else verdict
        peer.accepted[prefix] = path
        self._paths.setdefault(prefix, {})[address] = path

    def _flush_stale(self, peer: _Peer) -> set[Prefix]:
        return self._flush(peer, list(peer.stale))

    def _flush(self, peer: _Peer, prefixes: Iterable[Prefix]) -> set[Prefix]:
        """Forget what `peer` sent for `prefixes`."""
        touched: set[Prefix] = set()
        for prefix in prefixes:
            if peer.received.pop(prefix, None) is None:
                continue
            peer.stale.discard(prefix)
            peer.rejected.pop(prefix, None)
            if peer.accepted.pop(prefix, None):
                del self._paths[prefix][peer.session.peer]
                touched.add(prefix)
        if not peer.stale:
            peer.stale_until = None
        return touched

    def _decide(self, prefixes: Iterable[Prefix]) -> frozenset[Prefix]:
        """Choose again for `prefixes`; return those whose choice is another than before."""
        changed: set[Prefix] = set()
        for prefix in prefixes:
            paths = self._paths.get(prefix)
            chosen = decision.ranked(list(paths.values())) if paths else ()
            if chosen == self._best.get(prefix, ()):
                continue
            changed.add(prefix)
            if chosen:
                self._best[prefix] = chosen
            else:
                self._best.pop(prefix, None)
                self._paths.pop(prefix, None)
        return frozenset(changed)

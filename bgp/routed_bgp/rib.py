"""The routing information bases of one node: an Adj-RIB-In per peer, and a Loc-RIB per family (RFC 4271 section 3.2).

    speaker events -> Adj-RIB-In (as received) -> import policy -> Loc-RIB: all paths of a prefix, ranked

Times are monotonic seconds, always an argument. What changes the tables returns nothing: `take_changes` tells which
prefixes have other paths than when it was asked last.

Graceful restart, as the helper of a peer that restarts (RFC 4724 section 4.2): its paths stay, marked stale, for its
restart time; it must come back with the F bit; what it does not send again until End-of-RIB goes. Our refinements: when
our own speaker was away (`Ending.LOCAL`) the peer never stopped forwarding, so the F bit is not asked for; the wait for
End-of-RIB is bounded; a stale path loses to any fresh one (decision step 0b); and with the N bit on both sides (RFC
8538) paths outlive a NOTIFICATION too, unless it says that the peer means it (`_FINAL`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from routed.model.address import AnyAddress, Family
from routed.model.cluster import Cluster
from routed_bgp.adj_rib_in import AdjRibIn
from routed_bgp.dialect import agreed
from routed_bgp.loc_rib import LocRib, Ranked
from routed_bgp.nlri import Nlri
from routed_bgp.notification import OUT_OF_RESOURCES, SessionReset
from routed_bgp.open import Open
from routed_bgp.peer_status import PeerStatus, Reset, State
from routed_bgp.peering import PeerPolicy
from routed_bgp.policy import ImportPolicy, Preferences, Source
from routed_bgp.sessions import Session
from routed_bgp.speaker import (
    Ending,
    Refresh,
    RefreshReceived,
    SessionDown,
    SessionEvent,
    SessionUp,
    UpdatesReceived,
)
from routed_bgp.update import HEADER, Decoder, Update, message_end

QUIET_SECONDS = 1.0  # a peer without graceful restart sends no End-of-RIB: its first second counts as its table
SUSPEND_SECONDS = 60.0  # how long a peer that exceeded its prefix limit is not talked to
_MOST_WEIGHT = 1 << 19  # of one peer's attributes, some 600 MB; the whole Internet has 200,000 sets of them
_WEIGH_AFTER = 256 << 20  # octets that a decoder's blocks may have taken since its attributes were weighed
_UPDATE = 2
_CEASE, _PREFIX_LIMIT, _PREFIX_LIMIT_EXCEEDED = 6, 1, "prefix limit exceeded"
_FINAL = {(6, 2), (6, 3), (6, 9), (6, 10)}  # shutdown, de-configured, hard reset, BFD down: RFC 8538 section 3.1, ours


@dataclass(slots=True)
class _Peer:
    """A wanted session with its Adj-RIB-In."""

    tables: AdjRibIn
    since: float
    open: Open | None = None  # of the running session, or of the last one while its paths are stale
    decoder: Decoder | None = None  # while the session is up
    stale_until: float | None = None
    ours: bool = False  # the last ending was ours: the peer keeps forwarding
    unended: set[Family] = field(default_factory=set[Family])  # End-of-RIB not received yet
    sync_at: float | None = None
    suspended_until: float | None = None
    weigh_at: int = 0  # so much learnt by the decoder, its attributes are weighed
    failed: bool = False  # flushed, and the speaker has not closed the session yet: what comes is not to be trusted
    last_error: str = ""  # of the connection; over when it is up
    last_fault: str = ""  # of an UPDATE

    @property
    def session(self) -> Session:
        return self.tables.source.session

    @property
    def policy(self) -> PeerPolicy:
        return self.tables.source.policy

    @property
    def up(self) -> bool:
        return self.decoder is not None

    @property
    def synced(self) -> bool:
        return self.up and not self.unended

    @property
    def restarts(self) -> bool:
        """Whether the running session is the first since the peer started (R bit)."""
        graceful = self.open.graceful_restart if self.open else None
        return graceful is not None and graceful.restarting

    @property
    def state(self) -> State:
        if self.suspended_until is not None:
            return State.SUSPENDED
        if self.up:
            return State.ESTABLISHED
        return State.RESTARTING if self.tables.stale else State.DOWN


class Rib:
    """See the module."""

    def __init__(self, preferences: Preferences = Preferences()) -> None:
        self._preferences = preferences
        self._policy: ImportPolicy | None = None
        self._unreachable: frozenset[AnyAddress] = frozenset()
        self._devices: Mapping[AnyAddress, str] = {}
        self._assigned: dict[Family, frozenset[Nlri]] = dict.fromkeys(Family, frozenset())
        self._peers: dict[AnyAddress, _Peer] = {}
        self._loc_ribs = {family: LocRib() for family in Family}
        self._resets: dict[AnyAddress, Reset] = {}
        self._suspended: frozenset[AnyAddress] = frozenset()

    # ---- what is known

    def best(self, family: Family = Family.IPV4) -> Mapping[Nlri, Ranked]:
        """The Loc-RIB: for each prefix all its paths, best first; a live, read-only view."""
        return MappingProxyType(self._loc_ribs[family].best)

    def take_changes(self) -> Mapping[Family, Collection[Nlri]]:
        """The prefixes whose paths are others than at the last call, by family; empty when there are none.

        A prefix that changed twice may be there twice.
        """
        changes: dict[Family, Collection[Nlri]] = {}
        for family, loc_rib in self._loc_ribs.items():
            if loc_rib.changed:
                changes[family], loc_rib.changed = loc_rib.changed, []
        return changes

    def take_resets(self) -> Mapping[AnyAddress, Reset]:
        """The sessions to be closed by the speaker since the last call: malformed UPDATEs (RFC 7606), prefix limits."""
        resets, self._resets = self._resets, {}
        return resets

    @property
    def suspended(self) -> frozenset[AnyAddress]:
        """Peers that exceeded their prefix limit, and are not to be talked to for a while."""
        return self._suspended  # asked for after each event, so it is not to cost by the number of peers

    @property
    def next_deadline(self) -> float | None:
        """When `expire` has something to do next."""
        times = (
            time
            for peer in self._peers.values()
            for time in (peer.stale_until, peer.sync_at, peer.suspended_until)
            if time is not None
        )
        return min(times, default=None)

    @property
    def next_hops(self) -> frozenset[AnyAddress]:
        """Where the paths that are let in lead: what `set_unreachable` wants an answer for."""
        return frozenset(hop for peer in self._peers.values() for hop in peer.tables.next_hops())

    def synced(self, now: float, excused: Collection[AnyAddress] = ()) -> bool:
        """Whether every wanted session is up and has delivered its table.

        That is End-of-RIB, or `QUIET_SECONDS` for a peer that does not know it. RFC 4724 section 4.1 excuses peers
        that restart as well (R bit); here that goes for those in `excused`, who may wait for us. Other nodes send
        End-of-RIB without waiting for anyone, and it is waited for. The caller bounds the wait.
        """
        return all(
            peer.up
            and (
                not peer.unended
                or (peer.sync_at is not None and peer.sync_at <= now)
                or (address in excused and peer.restarts)
            )
            for address, peer in self._peers.items()
            if peer.suspended_until is None
        )

    def tables(self, peer: AnyAddress) -> AdjRibIn | None:
        """The Adj-RIB-In of a wanted session."""
        found = self._peers.get(peer)
        return found.tables if found else None

    def status(self) -> tuple[PeerStatus, ...]:
        """All wanted sessions, by peer address, IPv4 first."""
        return tuple(
            PeerStatus(
                session=peer.session,
                policy=peer.policy,
                open=peer.open if peer.up else None,
                state=peer.state,
                since=peer.since,
                synced=peer.synced,
                received=peer.tables.received,
                accepted=peer.tables.received - peer.tables.rejected,
                stale=peer.tables.stale,
                rejected=Counter(why for table in peer.tables.tables.values() for why in table.rejected.values()),
                last_error=peer.last_error or peer.last_fault,
            )
            for _, peer in sorted(self._peers.items(), key=lambda item: (item[0].version, int(item[0])))
        )

    # ---- what changes

    def set_policy(self, cluster: Cluster, node: str) -> None:
        """Import by this cluster from now on, and again what was received before.

        A cluster that does not know `node` has nothing to import by: all paths go.
        """
        policy = ImportPolicy.of(cluster, node, self._preferences) if node in cluster.nodes else None
        if policy == self._policy:
            return
        self._policy = policy
        for peer in self._peers.values():
            peer.tables.policy = policy
            peer.tables.imports_changed()

    def set_peerings(self, peerings: Iterable[tuple[Session, PeerPolicy]], now: float) -> None:
        """Want exactly these sessions. What a peer that goes, or becomes another, has sent is flushed at once."""
        wanted = {session.peer: (session, policy) for session, policy in peerings}
        for address, peer in list(self._peers.items()):
            found = wanted.get(address)
            if found is None or found[0].identity != peer.session.identity:
                peer.tables.flush_all()
                self._suspend(peer, None)
                del self._peers[address]
                self._resets.pop(address, None)
                continue
            session, policy = found
            before = peer.tables.source
            peer.tables.source = Source(session, policy, before.router_id)
            if before.policy != policy:
                peer.tables.imports_changed()
            if before.policy.max_prefixes != policy.max_prefixes:
                self._suspend(peer, None)
                if peer.up and not peer.failed:
                    self._hold_to_limit(peer, now)
        for address, (session, policy) in wanted.items():
            if address not in self._peers:
                tables = AdjRibIn(Source(session, policy, session.router_id), self._loc_ribs)
                tables.policy, tables.unreachable = self._policy, self._unreachable
                tables.devices, tables.assigned = self._devices, self._assigned
                self._peers[address] = _Peer(tables, now)

    def set_unreachable(self, next_hops: frozenset[AnyAddress]) -> None:
        """Exactly these next hops do not resolve (RFC 4271 section 9.1.2); stale paths through them go at once."""
        changed, self._unreachable = next_hops ^ self._unreachable, next_hops
        if not changed:
            return
        for peer in self._peers.values():
            peer.tables.unreachable = next_hops
            if changed.isdisjoint(peer.tables.next_hops()):
                continue
            for table in peer.tables.tables.values():
                lost = [key for key in table.stale if table.received[key].next_hop in next_hops]
                peer.tables.flush(table, lost)
            peer.tables.imports_changed()

    def set_devices(self, devices: Mapping[AnyAddress, str]) -> None:
        """These interfaces lead to the next hops; BGPFilters may ask for them."""
        before, self._devices = self._devices, devices
        if before == devices:
            return
        for peer in self._peers.values():
            peer.tables.devices = devices
            if peer.policy.import_rules and any(before.get(hop) != devices.get(hop) for hop in peer.tables.next_hops()):
                peer.tables.imports_changed()

    def set_assigned(self, addresses: frozenset[Nlri], family: Family = Family.IPV4) -> None:
        """Exactly these are the addresses of this node's pods in `family`: nobody else has them."""
        changed, self._assigned[family] = addresses ^ self._assigned[family], addresses
        if not changed:
            return
        for peer in self._peers.values():
            peer.tables.import_again(family, changed)

    def fail(self, address: AnyAddress, reset: Reset) -> None:
        """The peer is gone, which the session does not know yet: BFD or the interface is down. Its paths go at once."""
        peer = self._peers.get(address)
        if peer is None or peer.failed:
            return
        peer.tables.flush_all()
        peer.stale_until = None
        peer.last_error = peer.last_fault = reset.reason
        if peer.up:
            peer.failed = True
            self._resets[address] = reset

    def handle(self, event: SessionEvent, now: float) -> None:
        """Take in what the speaker tells; events of peers that are not wanted are passed over."""
        peer = self._peers.get(event.peer)
        if peer is None:
            return
        match event:
            case SessionUp():
                self._up(peer, event.open, event.offered, now)
            case SessionDown():
                self._down(peer, event, now)
            case UpdatesReceived():
                self._updates(peer, event.messages, now)
            case RefreshReceived():
                if peer.up and not peer.failed:
                    self._refresh(peer, event)

    def expire(self, now: float) -> None:
        """Do what time alone does: flush stale paths that were kept long enough, count quiet peers as in sync."""
        for peer in self._peers.values():
            if peer.stale_until is not None and peer.stale_until <= now:
                peer.tables.flush_stale()
                peer.stale_until = None
            if peer.sync_at is not None and peer.sync_at <= now:
                peer.sync_at = None
                peer.unended.clear()
            if peer.suspended_until is not None and peer.suspended_until <= now:
                self._suspend(peer, None)
                peer.since = now

    # ---- sessions

    def _up(self, peer: _Peer, opened: Open, offered: Session | None, now: float) -> None:
        if peer.up:  # RFC 4724 section 4.2: a new connection says that the old one ended without our noticing
            self._end(peer, SessionDown(peer.session.peer, Ending.CLOSED, "replaced by a new connection"), now)
        dialect = agreed(offered or peer.session, opened)
        source = peer.tables.source
        if source.router_id != opened.router_id:
            peer.tables.source = Source(source.session, source.policy, opened.router_id)
            peer.tables.imports_changed()
        peer.tables.expect(dialect.add_path)
        graceful = opened.graceful_restart
        peer.open, peer.decoder, peer.since = opened, Decoder(dialect), now
        peer.last_error, peer.failed, peer.weigh_at = "", False, _WEIGH_AFTER
        self._resets.pop(peer.session.peer, None)  # it was for the connection before
        peer.unended, peer.sync_at = set(dialect.families), None if graceful else now + QUIET_SECONDS
        for family, table in peer.tables.tables.items():
            if not peer.ours and not (graceful and graceful.kept(family)):  # RFC 4724 section 4.2
                peer.tables.flush(table, list(table.stale))
        peer.stale_until = None
        if peer.tables.stale:
            peer.stale_until = now + (peer.session.restart_time if graceful else QUIET_SECONDS)

    def _down(self, peer: _Peer, event: SessionDown, now: float) -> None:
        # what we did is no error, and an attempt that fails does not explain why the session ended
        known = peer.failed and peer.up  # it was us: the code of the NOTIFICATION says less than what we know
        if event.ending is Ending.NOTIFICATION or (event.ending is Ending.CLOSED and (peer.up or not peer.last_error)):
            peer.last_error = f"{event.reason}: {peer.last_fault}" if known else event.reason
        self._resets.pop(event.peer, None)
        if peer.up:
            self._end(peer, event, now)

    def _end(self, peer: _Peer, event: SessionDown, now: float) -> None:
        """The session is over: keep its paths as stale, or flush them."""
        peer.decoder, peer.failed, peer.since = None, False, now
        peer.unended, peer.sync_at = set(), None
        peer.ours = event.ending is Ending.LOCAL
        until: float | None = None
        for table in peer.tables.tables.values():
            keep = _kept_seconds(peer, event, table.family)
            if not peer.ours:  # RFC 4724 section 4.2: a second restart does not prolong what is stale from the first
                peer.tables.flush(table, list(table.stale))
            if not keep:
                peer.tables.flush(table, list(table.received))
            elif table.received:
                peer.tables.make_stale(table)
                until = now + keep
        peer.stale_until = until

    # ---- messages

    def _updates(self, peer: _Peer, data: bytes, now: float) -> None:
        decoder = peer.decoder
        if decoder is None or peer.failed:
            return
        # successive announcements with the same attributes are one: it is what a table consists of when it arrives
        keys: list[bytes] = []
        family, attributes, decode = Family.IPV4, None, decoder.decode
        at = again_at = 0
        try:
            while at < len(data):
                start, at = at, message_end(data, at)
                if data[start + 18] != _UPDATE:
                    continue
                learnt = decoder.learnt
                update = decode(data[start + HEADER : at])
                same = update.attributes is attributes and update.family is family
                plain = not (update.withdrawn or update.faults or update.also)
                if same and plain and keys:
                    keys += update.announced
                    continue
                if keys and attributes is not None:
                    peer.tables.announce(family, keys, attributes)
                family, attributes, keys = update.family, update.attributes, []
                if attributes is None or not plain:
                    self._update(peer, update)
                    continue
                keys = update.announced
                if decoder.learnt == learnt or at < again_at:
                    continue
                run = decoder.following(data, start, at, update)
                if run is None:
                    continue
                again_at = run.end
                if run.nlris:  # or it consists of as many attributes as prefixes
                    peer.tables.announce(family, keys, attributes)
                    peer.tables.announce_run(attributes, run)
                    attributes, keys, at = None, [], run.end
            if keys and attributes is not None:
                peer.tables.announce(family, keys, attributes)
            _weigh(peer, decoder)
        except SessionReset as error:  # what came before it goes as well
            self._fail(peer, Reset(error.code, error.subcode, str(error)))
            if (error.code, error.subcode) == OUT_OF_RESOURCES:  # the same would come again at once
                self._suspend(peer, now + SUSPEND_SECONDS)
            return
        self._hold_to_limit(peer, now)

    def _hold_to_limit(self, peer: _Peer, now: float) -> None:
        """Fail and suspend a peer that has sent more than it may (RFC 4486)."""
        limit = peer.policy.max_prefixes
        received = peer.tables.received - peer.tables.stale  # after a restart it may have others than before
        if limit is not None and received > limit:
            self._fail(peer, Reset(_CEASE, _PREFIX_LIMIT, f"{_PREFIX_LIMIT_EXCEEDED}: {received} of {limit}"))
            self._suspend(peer, now + SUSPEND_SECONDS)

    def _update(self, peer: _Peer, update: Update) -> None:
        if update.faults:
            peer.last_fault = "UPDATE repaired (RFC 7606): " + "; ".join(update.faults)
        if update.withdrawn:
            peer.tables.withdraw(update.family, update.withdrawn)
        if update.attributes is not None and update.announced:
            peer.tables.announce(update.family, update.announced, update.attributes)
        if update.end_of_rib is not None:
            self._end_of_rib(peer, update.end_of_rib)
        if update.also is not None:
            self._update(peer, update.also)

    def _end_of_rib(self, peer: _Peer, family: Family) -> None:
        peer.unended.discard(family)
        if not peer.unended:
            peer.sync_at = None
        table = peer.tables.tables[family]
        peer.tables.flush(table, list(table.stale))
        if not peer.tables.stale:
            peer.stale_until = None

    def _refresh(self, peer: _Peer, event: RefreshReceived) -> None:
        if event.kind is Refresh.BEGIN:
            # RFC 7313 section 4: no refresh before End-of-RIB, of a peer that sends one
            if peer.open is None or peer.open.graceful_restart is None or event.family not in peer.unended:
                peer.tables.begin_refresh(event.family)
        elif event.kind is Refresh.END:
            peer.tables.end_refresh(event.family)

    def _suspend(self, peer: _Peer, until: float | None) -> None:
        peer.suspended_until = until
        self._suspended -= {peer.session.peer}
        if until is not None:
            self._suspended |= {peer.session.peer}

    def _fail(self, peer: _Peer, reset: Reset) -> None:
        peer.failed, peer.last_fault = True, reset.reason
        self._resets[peer.session.peer] = reset
        peer.tables.flush_all()


def _weigh(peer: _Peer, decoder: Decoder) -> None:
    """Raise SessionReset where what the peer has sent takes too much memory; looked at when it can be so."""
    if decoder.learnt > peer.weigh_at:
        peer.weigh_at = decoder.learnt + _WEIGH_AFTER
        if peer.tables.weight() > _MOST_WEIGHT:
            raise SessionReset("attributes that take too much memory", *OUT_OF_RESOURCES)


def _kept_seconds(peer: _Peer, event: SessionDown, family: Family) -> float:
    """How long the paths of a session that ended are kept as stale; 0: not at all."""
    graceful = peer.open.graceful_restart if peer.open else None
    match event.ending:
        case Ending.LOCAL:
            return peer.session.restart_time
        case Ending.NOTIFICATION:
            agreed_on = peer.session.notification_restart and graceful is not None and graceful.notification
            if not agreed_on or (event.code, event.subcode) in _FINAL:
                return 0
        case Ending.CLOSED:
            pass
    return graceful.restart_time if graceful is not None and graceful.keeps(family) else 0

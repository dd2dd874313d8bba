"""BGP of one node: the speaker's events go into the RIBs, and what the RIBs say goes out to the speaker.

    speaker -> Adj-RIB-In -> Loc-RIB -> `take_changes` -> the route programmer
                                  \\-> Adj-RIB-Out -> speaker
    cluster -> sessions and policy            interfaces, BFD -> what fails at once

Nothing here waits but for the speaker; every change of an input is taken in without an `await` in between.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from routed.agent.flapping import Flapping
from routed.agent.neighbourhood import Neighbourhood
from routed.config import AgentConfig
from routed.model.address import Address, AnyAddress, Family
from routed.model.bgp import LogSeverity, SecretKeySelector
from routed.model.cluster import Cluster
from routed.secret_files import SecretFiles
from routed_bgp.adj_rib_out import AdjRibOut, Sending
from routed_bgp.bfd.ledger import BfdChange
from routed_bgp.bfd.messages import BfdSession
from routed_bgp.dialect import agreed
from routed_bgp.export import Drain, Group, group_of, own_prefixes
from routed_bgp.nlri import Nlri
from routed_bgp.open import Open
from routed_bgp.peer_status import Reset
from routed_bgp.peering import PeerPolicy
from routed_bgp.policy import Preferences
from routed_bgp.rib import Rib
from routed_bgp.sessions import PeerFault, Session, peerings, reflects
from routed_bgp.speaker import Refresh, RefreshReceived, SessionDown, SessionEvent, SessionUp, Speaker

_log = logging.getLogger("routed.bgp")  # `logSeverityScreen` holds for what is said here

_MOST_CHANGED = 1 << 20  # prefixes that changed, before those that did twice are counted once
REFRESH_SECONDS = 1.0  # between two times that a peer's table is sent again because it asks
_SEVERITIES = {
    LogSeverity.DEBUG: logging.DEBUG,
    LogSeverity.INFO: logging.INFO,
    LogSeverity.WARNING: logging.WARNING,
    LogSeverity.ERROR: logging.ERROR,
    LogSeverity.FATAL: logging.CRITICAL,
}
_BFD_DOWN = (6, 10)  # RFC 9384
_OTHER_CHANGE = (6, 6)  # RFC 4486: what comes nearest to a link that is down


class Watcher(Protocol):
    """What has neighbours watched by BFD."""

    async def set(self, wanted: Collection[BfdSession], /) -> None:
        """Watch exactly these, from now on."""
        ...


class PasswordSource(Protocol):
    """Where passwords are; see `SecretFiles`."""

    def forget(self) -> None:
        """Nothing of what was read before counts for `changed`."""
        ...

    def changed(self) -> bool:
        """Whether one that was asked for is another by now, or has come."""
        ...

    def __call__(self, wanted: SecretKeySelector) -> str:
        """The password. Raises a RoutedError where there is none."""
        ...


class Routing:
    """See the module. `settle` is to be called after anything that can change the tables; `handle` does so itself."""

    def __init__(
        self,
        config: AgentConfig,
        speaker: Speaker,
        bfd: Watcher,
        now: Callable[[], float],
        secrets: PasswordSource | None = None,
    ) -> None:
        """Passwords are the files in the configuration's `secrets_dir`, unless there are other `secrets`."""
        preferences = Preferences(
            config.bgp_member_local_pref, config.bgp_fabric_local_pref, config.bgp_stale_paths_yield
        )
        self.rib = Rib(preferences)
        self.out = AdjRibOut({family: self.rib.best(family) for family in Family})
        self._config = config
        self._speaker = speaker
        self._bfd = bfd
        self._now = now
        self._secrets: PasswordSource = SecretFiles(config.secrets_dir) if secrets is None else secrets
        self._cluster = Cluster()
        self._peerings: dict[AnyAddress, tuple[Session, PeerPolicy]] = {}
        self._opens: dict[AnyAddress, Open] = {}  # of the sessions that are up
        self._offered: dict[AnyAddress, Session] = {}  # likewise: as they were when they came up
        self._faults: tuple[PeerFault, ...] = ()
        self._adjacent: frozenset[AnyAddress] | None = None  # None until the interfaces are known
        self._unresolved: frozenset[AnyAddress] = frozenset()
        self._suspended: frozenset[AnyAddress] = frozenset()
        self._changed: dict[Family, list[Nlri]] = {family: [] for family in Family}  # some perhaps more than once
        self._most_changed = _MOST_CHANGED
        self._changed_at = now()
        self._flapping = Flapping()
        self._drain = Drain.NO
        self._borrowed: frozenset[Nlri] = frozenset()
        self._hurry = False
        self._refreshed: dict[tuple[AnyAddress, Family], float] = {}  # when the table was sent again last
        self._asked: set[tuple[AnyAddress, Family]] = set()  # too early for another time

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The sessions that the cluster asks for."""
        return tuple(session for session, _ in self._peerings.values())

    @property
    def gateways(self) -> Mapping[Address, Address]:
        """The gateway of each IPv4 peer that is to be reached by one (BGPPeer `reachableBy`)."""
        return {
            peer: policy.reachable_by
            for peer, (_, policy) in self._peerings.items()
            if isinstance(peer, Address) and isinstance(policy.reachable_by, Address)
        }

    @property
    def drained(self) -> Drain:
        """How far this node is on its way out of service."""
        return self._drain

    @property
    def changed_at(self) -> float:
        """When the Loc-RIB changed last, in monotonic seconds."""
        return self._changed_at

    @property
    def faults(self) -> tuple[PeerFault, ...]:
        """The sessions that the cluster asks for and that cannot be, with the reason."""
        return self._faults

    @property
    def opens(self) -> Mapping[AnyAddress, Open]:
        """What the peers said whose sessions are up."""
        return self._opens

    @property
    def pending(self) -> bool:
        """Whether `take_changes` has something to tell, or `next_deadline` may be earlier than before."""
        return self._hurry or any(self._changed.values())

    @property
    def waiting(self) -> int:
        """How many prefixes `take_changes` has to tell of, or more."""
        return sum(map(len, self._changed.values()))

    @property
    def next_deadline(self) -> float | None:
        """When `expire` has something to do next."""
        times = [self.rib.next_deadline, *(self._refreshed[asked] + REFRESH_SECONDS for asked in self._asked)]
        return min((time for time in times if time is not None), default=None)

    def take_changes(self, family: Family) -> set[Nlri]:
        """The prefixes of `family` whose paths are others than when this was asked last."""
        changed, self._changed[family] = self._changed[family], []
        return set(changed)

    # ---- inputs

    async def adopt(self, cluster: Cluster) -> bool:
        """Have the sessions that this node has in `cluster`; False when it has none.

        Raises OperatorError, with nothing changed, where the cluster's sessions make no sense.
        """
        config, now = self._config, self._now()
        self._secrets.forget()
        wanted = peerings(
            cluster,
            config.node,
            hold_time=config.bgp_hold_seconds,
            restart_time=config.bgp_restart_seconds,
            secrets=self._secrets,
        )
        for fault in wanted.faults:
            if fault not in self._faults:
                _log.error("%s (%s): no session: %s", fault.name, fault.peer, fault.error)
        self._faults = wanted.faults
        logging.getLogger("routed.bgp").setLevel(_SEVERITIES[cluster.bgp.log_severity_screen])
        before, self._cluster = self._peerings, cluster
        self._flapping.forget(set(self._peerings) - {session.peer for session, _ in wanted})
        self._peerings = {session.peer: (session, policy) for session, policy in wanted}
        self.rib.set_policy(cluster, config.node)
        self.rib.set_peerings(wanted, now)
        for peer, (session, _) in before.items():
            found = self._peerings.get(peer)
            if found is None or found[0].identity != session.identity:
                self._forget(peer)
        self._send(self.out.originate(own_prefixes(cluster, config.node, sorted(self._borrowed))))
        self._send(self.out.regroup(self._groups()))
        await self._watch()
        await self._want()
        await self.settle()
        return bool(self._peerings)

    async def read_secrets(self) -> bool:
        """Have the sessions with the passwords that are there now; False when those are as they were."""
        if not self._secrets.changed():
            return False
        _log.info("passwords have changed: reading them again")
        await self.adopt(self._cluster)
        return True

    async def handle(self, event: SessionEvent) -> None:
        """Take in what the speaker tells."""
        if event.peer in self._peerings:
            match event:
                case SessionUp(peer, opened, offered):
                    self._hurry = True
                    session = self._peerings[peer][0]
                    self._opens[peer], self._offered[peer] = opened, offered or session
                    self.rib.handle(event, self._now())
                    level = logging.INFO if self._flapping.established(peer) else logging.DEBUG
                    _log.log(level, "%s (%s): session established", session.name, peer)
                    self._send(self.out.up(peer, self._group(peer)))
                case SessionDown(peer, _, reason):
                    if self._opens.get(peer):
                        self._hurry = True
                        told = self._flapping.ended(peer, self._now())
                        level = logging.DEBUG if told is None else logging.WARNING
                        name = self._peerings[peer][0].name
                        _log.log(level, "%s (%s): session ended: %s%s", name, peer, reason, told or "")
                    self._forget(peer)
                    self.rib.handle(event, self._now())
                case RefreshReceived(peer, family, Refresh.REQUEST):
                    self._refresh(peer, family, self._now())
                case _:
                    self.rib.handle(event, self._now())
        await self.settle()

    async def bfd_changed(self, change: BfdChange) -> None:
        """What BFD says of a peer: a path that is broken costs it its paths at once (RFC 5882 section 4.3)."""
        restarting = change.peer not in self._opens
        if change.failed and (not restarting or change.control_independent):
            self.rib.fail(change.peer, Reset(*_BFD_DOWN, f"BFD down: {change.diagnostic}"))
        elif change.up:
            await self._speaker.retry(change.peer)
        await self.settle()

    async def interfaces_changed(self, here: Neighbourhood) -> None:
        """Interfaces or the underlay's routes are others: next hops may be gone, neighbours unreachable.

        A peer on a link that is down is gone, whatever its session thinks: its paths go, and the session is closed. A
        peer behind routers is not judged; paths through a next hop that does not resolve lose to all that do.
        """
        hops = self.rib.next_hops
        self.rib.set_unreachable(frozenset(hop for hop in hops if not here.resolves(hop)))
        self.rib.set_devices({hop: device for hop in hops if (device := here.device(hop)) is not None})
        unresolved = frozenset(peer for peer in self._peerings if not here.resolves(peer))
        known = self._adjacent or frozenset()
        for peer in (known & unresolved) - self._unresolved:
            self.rib.fail(
                peer, Reset(*_OTHER_CHANGE, "no interface leads to it: it is down, or one of ignoredInterfaces")
            )
        again, self._unresolved = self._unresolved - unresolved, unresolved
        # who was on a link that is down now is a neighbour still
        near = frozenset(peer for peer in self._peerings if here.adjacent(peer)) | (known & unresolved)
        if near != self._adjacent:
            self._adjacent = near
            await self._watch()
        for peer in again:
            await self._speaker.retry(peer)
        await self.settle()

    async def expire(self, now: float) -> None:
        """Do what time alone does."""
        self.rib.expire(now)
        asked, self._asked = self._asked, set()
        for peer, family in asked:
            self._refresh(peer, family, now)
        self._hurry = False
        await self.settle()

    def whole(self, now: float) -> bool:
        """Whether a reflector has learned all that it has to pass on.

        A peer that reflects may be waiting for us to say so; where it starts as we do, that would be for ever. Of a
        router in our AS nobody knows whether it reflects.
        """
        waiting = {
            peer
            for peer, (session, _) in self._peerings.items()
            if (not session.ebgp if session.member is None else reflects(self._cluster, session.member))
        }
        return self.rib.synced(now, waiting)

    def release(self) -> None:
        """Everything was learned that a reflector has to pass on: peers may be told that their table is whole."""
        self._send(self.out.release())

    def assign(self, family: Family, addresses: frozenset[Nlri]) -> None:
        """Exactly these are the addresses of this node's pods in `family`: nobody else has them. `settle` follows."""
        self.rib.set_assigned(addresses, family)

    def borrow(self, addresses: frozenset[Nlri]) -> None:
        """Originate these addresses too, which are of other nodes' blocks."""
        if addresses != self._borrowed:
            self._borrowed = addresses
            self._send(self.out.originate(own_prefixes(self._cluster, self._config.node, sorted(addresses))))

    def drain(self, drain: Drain) -> None:
        """Tell peers that this node is going out of service, or is back (RFC 8326)."""
        if drain is not self._drain:
            self._drain = drain
            self._send(self.out.regroup(self._groups()))

    async def settle(self) -> None:
        """Pass on what changed in the tables, and close the sessions that have to be."""
        changes = self.rib.take_changes()
        if changes:
            self._changed_at = self._now()
            for family, nlris in changes.items():
                self._collect(family, nlris)
            self._send(self.out.changed(changes))
        for peer, reset in self.rib.take_resets().items():
            _log.warning("%s: session is closed: %s", peer, reset.reason)
            await self._speaker.reset(peer, reset.code, reset.subcode)
        if self.rib.suspended != self._suspended:
            self._hurry = True
            await self._want()

    def _collect(self, family: Family, nlris: Collection[Nlri]) -> None:
        changed = self._changed[family]
        changed += nlris
        if len(changed) > self._most_changed:  # while nobody asks, the same may change again and again
            self._changed[family] = list(set(changed))
            self._most_changed = max(_MOST_CHANGED, 2 * len(self._changed[family]))

    # ---- to the speaker

    async def _want(self) -> None:
        self._suspended = self.rib.suspended
        await self._speaker.set([session for session in self.sessions if session.peer not in self._suspended])

    def _send(self, sendings: list[Sending]) -> None:
        for sending in sendings:
            if sending.messages:
                self._speaker.send(sending.peers, sending.messages)

    def _refresh(self, peer: AnyAddress, family: Family, now: float) -> None:
        """Send the table again, but not so often that a peer which asks and asks leaves no time for others."""
        last = self._refreshed.get((peer, family))
        if last is not None and now < last + REFRESH_SECONDS:
            self._hurry = True
            self._asked.add((peer, family))
            return
        self._refreshed[peer, family] = now
        enhanced = peer in self._opens and self._opens[peer].enhanced_refresh
        self._send(self.out.refresh(peer, family, enhanced=enhanced))

    def _forget(self, peer: AnyAddress) -> None:
        self._opens.pop(peer, None)
        self._offered.pop(peer, None)
        self._asked -= {(peer, family) for family in Family}
        for family in Family:
            self._refreshed.pop((peer, family), None)
        self.out.down(peer)

    async def _watch(self) -> None:
        """Have BFD watch the peers that ask for it, once it is known which of them are neighbours on a link."""
        if self._adjacent is None:
            return
        await self._bfd.set(
            [
                BfdSession(
                    peer=session.peer,
                    local=session.local,
                    interval=policy.bfd.interval,
                    multiplier=policy.bfd.multiplier,
                    multihop=session.peer not in self._adjacent,
                )
                for session, policy in self._peerings.values()
                if policy.bfd is not None
            ]
        )

    def _groups(self) -> Mapping[AnyAddress, Group]:
        return {peer: self._group(peer) for peer in self._opens}

    def _group(self, peer: AnyAddress) -> Group:
        """What the peer is told, by what it has agreed to."""
        session, policy = self._peerings[peer]
        dialect = agreed(self._offered[peer], self._opens[peer])
        own = {Family.of(each): each.ip for each in self._cluster.any_addresses(self._config.node)}
        if dialect.extended_next_hop and session.local.version == 6:
            own[Family.IPV4] = session.local  # RFC 8950
        if session.local.version == 6:
            own[Family.IPV6] = session.local
        next_hops = {family: own[family] for family in dialect.families if family in own}
        return group_of(
            session,
            policy,
            asn4=dialect.asn4,
            next_hops=next_hops,
            extended_next_hop=dialect.extended_next_hop,
            drain=self._drain,
        )

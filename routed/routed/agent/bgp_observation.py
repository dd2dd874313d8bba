"""BGP of one node at one moment, for the views and metrics: what they need, and no more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from routed.model.address import AnyAddress, Family
from routed_bgp.adj_rib_in import AdjRibIn
from routed_bgp.adj_rib_out import Routes
from routed_bgp.bfd.ledger import BfdStatus
from routed_bgp.export import Drain
from routed_bgp.loc_rib import Ranked
from routed_bgp.nlri import Nlri
from routed_bgp.peer_status import PeerStatus
from routed_bgp.sessions import PeerFault
from routed_bgp.speaker import Ending, SessionDown, SessionEvent, SessionUp, UpdatesReceived

if TYPE_CHECKING:
    from routed.agent.routing import Routing


@dataclass(slots=True)
class Counts:
    """What happened with one peer since the agent began.

    `updates` counts deliveries of the speaker, one UPDATE or many each. `failed` counts attempts at a session.
    """

    established: int = 0
    ended: int = 0
    failed: int = 0
    updates: int = 0
    octets: int = 0
    up: bool = False


class Tally:
    """Counts by peer, from the speaker's events."""

    def __init__(self) -> None:
        self.counts: dict[AnyAddress, Counts] = {}

    def take(self, event: SessionEvent) -> None:
        """Count `event`, which is of a peer that is wanted."""
        counts = self.counts.get(event.peer)
        if counts is None:
            counts = self.counts[event.peer] = Counts()
        match event:
            case UpdatesReceived():
                counts.updates += 1
                counts.octets += len(event.messages)
            case SessionUp():
                counts.ended += counts.up  # the old one ended without our noticing
                counts.established += 1
                counts.up = True
            case SessionDown():
                counts.ended += counts.up
                counts.failed += not counts.up and event.ending is not Ending.LOCAL
                counts.up = False
            case _:
                pass


@dataclass(frozen=True, kw_only=True)
class BgpObservation:
    """`best`, `tables` and `told` are live: a view reads them at once, in the event loop.

    `now`, the peers' `since` and `changed_at` (when the Loc-RIB changed last) in monotonic seconds. `tables`: the
    Adj-RIB-In of a peer, None if it is not wanted. `told`: what it has been told. `widths`: how many paths of one
    prefix share traffic, if the best is eBGP and if it is iBGP. `note`: the speaker's, if it is slower than it should
    be.
    """

    now: float
    changed_at: float
    peers: tuple[PeerStatus, ...]
    best: Mapping[Family, Mapping[Nlri, Ranked]]
    tables: Callable[[AnyAddress], AdjRibIn | None]
    told: Callable[[AnyAddress], Routes]
    drain: Drain = Drain.NO
    faults: tuple[PeerFault, ...] = ()
    bfd: Mapping[AnyAddress, BfdStatus] = field(default_factory=dict[AnyAddress, BfdStatus])
    counts: Mapping[AnyAddress, Counts] = field(default_factory=dict[AnyAddress, Counts])
    widths: tuple[int, int] = (1, 1)
    note: str = ""

    @classmethod
    def of(
        cls,
        routing: Routing,
        tally: Tally,
        bfd: Iterable[BfdStatus],
        now: float,
        *,
        note: str = "",
        widths: tuple[int, int] = (1, 1),
    ) -> BgpObservation:
        """Of the agent's parts, as of `now`."""
        return cls(
            now=now,
            changed_at=routing.changed_at,
            peers=routing.rib.status(),
            best={family: routing.rib.best(family) for family in Family},
            tables=routing.rib.tables,
            told=routing.out.told,
            drain=routing.drained,
            faults=routing.faults,
            bfd={status.session.peer: status for status in bfd},
            counts=tally.counts,
            note=note,
            widths=widths,
        )

    def advertised(self, peer: AnyAddress) -> int:
        """How many prefixes `peer` has been told."""
        return sum(map(len, self.told(peer).values()))

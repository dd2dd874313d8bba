"""A session, as an operator sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from routed.model.address import AnyAddress
from routed_bgp.open import Open
from routed_bgp.peering import PeerPolicy
from routed_bgp.policy import Rejection
from routed_bgp.sessions import Session


class State(StrEnum):
    """A session, as an operator sees it."""

    DOWN = "down"
    RESTARTING = "restarting"  # down, its paths kept as stale
    SUSPENDED = "prefix limit"  # down, and not wanted for a while
    ESTABLISHED = "established"


@dataclass(frozen=True, slots=True)
class Reset:
    """A session that must be closed: by a NOTIFICATION of this code and subcode, because of `reason`."""

    code: int
    subcode: int
    reason: str


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One session for `routed bgp status`. `since` in monotonic seconds; counts are of paths."""

    session: Session
    policy: PeerPolicy
    open: Open | None
    state: State
    since: float
    synced: bool
    received: int
    accepted: int
    stale: int
    rejected: Mapping[Rejection, int]
    last_error: str

    @property
    def name(self) -> str:
        """The session's name: the mesh or BGPPeer that it comes from."""
        return self.session.name

    @property
    def peer(self) -> AnyAddress:
        """The session's key."""
        return self.session.peer

    @property
    def many_prefixes(self) -> bool:
        """Whether the peer is near its prefix limit."""
        warning = self.policy.warning_prefixes
        return warning is not None and self.received >= warning

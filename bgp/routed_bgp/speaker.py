"""The speaker: what keeps the sessions. The rest of the room knows it only through this module.

It takes all wanted sessions at once and finds the difference itself; it carries UPDATEs, both ways, as the bytes that
are on the wire; it tells what happened as events, in order. It has no RIB and decides nothing about routes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from routed.errors import EnvironmentFault
from routed.model.address import AnyAddress, Family
from routed_bgp.open import Open
from routed_bgp.sessions import Session


class Ending(Enum):
    """How a session ended, which decides what becomes of the peer's paths (RFC 4724 section 4.2, RFC 8538)."""

    CLOSED = auto()  # the connection was lost or closed without NOTIFICATION: the peer may be restarting
    NOTIFICATION = auto()  # one side sent a NOTIFICATION, hold timer expiry included
    LOCAL = auto()  # our speaker died, or reconnects on its own: the peer never stopped forwarding


@dataclass(frozen=True, slots=True)
class SessionUp:
    """The session is established; `open` is what the peer sent.

    `offered` is the session as it was when our OPEN was sent, where that may not be what is wanted by now: families and
    capabilities of a session are agreed once.
    """

    peer: AnyAddress
    open: Open
    offered: Session | None = None


@dataclass(frozen=True, slots=True)
class SessionDown:
    """The session ended, or an attempt at it failed; `reason` in words.

    With `Ending.NOTIFICATION`, `code` and `subcode` are those of the NOTIFICATION (RFC 4271 section 4.5); `reason` has
    the shutdown communication of RFC 9003, if there is one.
    """

    peer: AnyAddress
    ending: Ending
    reason: str
    code: int = 0
    subcode: int = 0


@dataclass(frozen=True, slots=True)
class UpdatesReceived:
    """One UPDATE or many of one peer, in order: whole messages, headers included, one behind the other."""

    peer: AnyAddress
    messages: bytes


class Refresh(Enum):
    """ROUTE-REFRESH subtypes, RFC 7313 section 3.2."""

    REQUEST = 0
    BEGIN = 1  # BoRR: the peer sends its whole table again
    END = 2  # EoRR: what it did not send again is gone


@dataclass(frozen=True, slots=True)
class RefreshReceived:
    """A ROUTE-REFRESH message of the peer, in order with its UPDATEs."""

    peer: AnyAddress
    family: Family
    kind: Refresh


@dataclass(frozen=True, slots=True)
class SpeakerStarted:
    """The speaker runs and listens. `note` says in words if it runs in a slower mode than it should, and why."""

    note: str = ""


@dataclass(frozen=True, slots=True)
class SpeakerFailed:
    """The speaker does not run, because of `fault`; it is tried again."""

    fault: EnvironmentFault


SessionEvent = SessionUp | SessionDown | UpdatesReceived | RefreshReceived
Event = SessionEvent | SpeakerStarted | SpeakerFailed


class Speaker(Protocol):
    """Keeps sessions with all peers that are wanted and carries their UPDATEs."""

    async def set(self, sessions: Sequence[Session]) -> None:
        """Want exactly these sessions, from now on. Those that stay the same stay up. Returns before it is done.

        A session that is no longer wanted ends with NOTIFICATION Cease, peer de-configured (RFC 4486), so that the
        peer drops our paths at once.
        """
        ...

    def send(self, peers: Collection[AnyAddress], messages: bytes) -> None:
        """Send whole UPDATE or ROUTE-REFRESH messages to each of `peers`, in the order of the calls.

        A peer whose session is not up is passed over: it gets its table after the next `SessionUp`. Never blocks.
        """
        ...

    async def reset(self, peer: AnyAddress, code: int = 6, subcode: int = 4) -> None:
        """Close the session with `peer` by a NOTIFICATION and open it again; default: Cease, administrative reset."""
        ...

    async def retry(self, peer: AnyAddress) -> None:
        """Try to connect to `peer` now instead of at the next interval; nothing if the session is up."""
        ...

    def events(self) -> AsyncIterator[Event]:
        """What happens, in order, until `close`. For one reader."""
        ...

    async def close(self) -> None:
        """End all sessions without NOTIFICATION, so that peers keep our paths for the restart time (RFC 4724)."""
        ...

"""The speaker: what keeps the sessions. The rest of the room knows it only through this module.

It takes everything wanted at once and finds the difference itself; it tells what happened as events, in order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from routed.errors import EnvironmentFault
from routed.model.address import Address
from routed_bgp.open import Open
from routed_bgp.sessions import Advertisement, Session


class Ending(Enum):
    """How a session ended, which decides what becomes of the peer's paths (RFC 4724 section 4.2)."""

    CLOSED = auto()  # the connection was lost or closed without NOTIFICATION: the peer may be restarting
    NOTIFICATION = auto()  # one side sent a NOTIFICATION, hold timer expiry included: paths go at once
    LOCAL = auto()  # our speaker died, or reconnects on its own: the peer never stopped forwarding


@dataclass(frozen=True, slots=True)
class SessionUp:
    """The session is established; `open` is what the peer sent."""

    peer: Address
    open: Open


@dataclass(frozen=True, slots=True)
class SessionDown:
    """The session ended, or an attempt at it failed; `reason` in words."""

    peer: Address
    ending: Ending
    reason: str


@dataclass(frozen=True, slots=True)
class UpdateReceived:
    """An UPDATE as it came, without its header."""

    peer: Address
    body: bytes


@dataclass(frozen=True, slots=True)
class SpeakerStarted:
    """The speaker runs and listens."""


@dataclass(frozen=True, slots=True)
class SpeakerFailed:
    """The speaker does not run, because of `fault`; it is tried again."""

    fault: EnvironmentFault


SessionEvent = SessionUp | SessionDown | UpdateReceived
Event = SessionEvent | SpeakerStarted | SpeakerFailed


class Speaker(Protocol):
    """Keeps sessions with all peers that are wanted and sends them what is advertised."""

    async def set(self, sessions: Sequence[Session], advertisements: Sequence[Advertisement]) -> None:
        """Want exactly these, from now on. Sessions that stay the same stay up. Returns before it is done."""
        ...

    async def reset(self, peer: Address) -> None:
        """Close the session with `peer` and open it again, because its UPDATEs cannot be understood."""
        ...

    def events(self) -> AsyncIterator[Event]:
        """What happens, in order, until `close`. For one reader."""
        ...

    async def close(self) -> None:
        """End all sessions without NOTIFICATION, so that peers keep our paths for the restart time (RFC 4724)."""
        ...

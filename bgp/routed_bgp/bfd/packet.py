"""The BFD control packet, RFC 5880 section 4.1, and what can be said against one before its session is known."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from routed.errors import PeerError

VERSION = 1
LENGTH = 24
_LENGTH_WITH_AUTHENTICATION = 26
_FORMAT = struct.Struct("!BBBBIIIII")
_POLL, _FINAL, _CONTROL_INDEPENDENT, _AUTHENTICATION, _DEMAND, _MULTIPOINT = 0x20, 0x10, 0x08, 0x04, 0x02, 0x01


class State(IntEnum):
    """Session states, RFC 5880 section 4.1."""

    ADMIN_DOWN = 0
    DOWN = 1
    INIT = 2
    UP = 3


class Diagnostic(IntEnum):
    """Why a session left the Up state last, RFC 5880 section 4.1; the values 9 to 31 are reserved."""

    NONE = 0
    DETECTION_TIME_EXPIRED = 1
    ECHO_FAILED = 2
    NEIGHBOR_SIGNALED_DOWN = 3
    FORWARDING_PLANE_RESET = 4
    PATH_DOWN = 5
    CONCATENATED_PATH_DOWN = 6
    ADMINISTRATIVELY_DOWN = 7
    REVERSE_CONCATENATED_PATH_DOWN = 8

    @property
    def words(self) -> str:
        """The diagnostic as the RFC writes it."""
        return _WORDS[self]


_WORDS = {
    Diagnostic.NONE: "no diagnostic",
    Diagnostic.DETECTION_TIME_EXPIRED: "control detection time expired",
    Diagnostic.ECHO_FAILED: "echo function failed",
    Diagnostic.NEIGHBOR_SIGNALED_DOWN: "neighbor signaled session down",
    Diagnostic.FORWARDING_PLANE_RESET: "forwarding plane reset",
    Diagnostic.PATH_DOWN: "path down",
    Diagnostic.CONCATENATED_PATH_DOWN: "concatenated path down",
    Diagnostic.ADMINISTRATIVELY_DOWN: "administratively down",
    Diagnostic.REVERSE_CONCATENATED_PATH_DOWN: "reverse concatenated path down",
}
_STATES = tuple(State)
_DIAGNOSTICS = tuple(Diagnostic(code) if code in _WORDS else Diagnostic.NONE for code in range(32))


class BadPacket(PeerError):  # noqa: N818  it is the packet that is named
    """What arrived is no control packet that RFC 5880 section 6.8.6 lets us take; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """A control packet. Intervals in microseconds, as on the wire; 0 for `required_min_rx`: send me nothing."""

    state: State
    my_discriminator: int
    your_discriminator: int
    desired_min_tx: int
    required_min_rx: int
    multiplier: int
    diagnostic: Diagnostic = Diagnostic.NONE
    required_min_echo_rx: int = 0
    poll: bool = False
    final: bool = False
    control_independent: bool = False
    demand: bool = False


def encode(packet: Packet) -> bytes:
    """The packet's 24 octets, without authentication."""
    flags = (
        packet.state << 6
        | (_POLL if packet.poll else 0)
        | (_FINAL if packet.final else 0)
        | (_CONTROL_INDEPENDENT if packet.control_independent else 0)
        | (_DEMAND if packet.demand else 0)
    )
    return _FORMAT.pack(
        VERSION << 5 | packet.diagnostic,
        flags,
        packet.multiplier,
        LENGTH,
        packet.my_discriminator,
        packet.your_discriminator,
        packet.desired_min_tx,
        packet.required_min_rx,
        packet.required_min_echo_rx,
    )


def decode(data: bytes) -> Packet:
    """The packet in `data`, an UDP payload, or BadPacket.

    RFC 5880 section 6.8.6, the steps in order as far as they need no session; a reserved diagnostic reads as none.
    """
    if len(data) < LENGTH:
        raise BadPacket(f"{len(data)} octets are too few for a control packet")
    header: tuple[int, ...] = _FORMAT.unpack_from(data)
    first, flags, multiplier, length, mine, yours, tx, rx, echo = header
    if first >> 5 != VERSION:
        raise BadPacket(f"version {first >> 5}, expected {VERSION}")
    if length < (_LENGTH_WITH_AUTHENTICATION if flags & _AUTHENTICATION else LENGTH):
        raise BadPacket(f"its length field says {length}, which is too short")
    if length > len(data):
        raise BadPacket(f"its length field says {length}, but {len(data)} octets came")
    if multiplier == 0:
        raise BadPacket("its detection multiplier is zero")
    if flags & _MULTIPOINT:
        raise BadPacket("its multipoint bit is set")
    if mine == 0:
        raise BadPacket("its own discriminator is zero")
    state = _STATES[flags >> 6]
    if yours == 0 and state not in (State.DOWN, State.ADMIN_DOWN):
        raise BadPacket(f"it names no session of ours and is not Down but {state.name}")
    if flags & _AUTHENTICATION:
        raise BadPacket("it is authenticated, and we have agreed on no authentication")
    return Packet(
        state=state,
        my_discriminator=mine,
        your_discriminator=yours,
        desired_min_tx=tx,
        required_min_rx=rx,
        multiplier=multiplier,
        diagnostic=_DIAGNOSTICS[first & 31],
        required_min_echo_rx=echo,
        poll=bool(flags & _POLL),
        final=bool(flags & _FINAL),
        control_independent=bool(flags & _CONTROL_INDEPENDENT),
        demand=bool(flags & _DEMAND),
    )

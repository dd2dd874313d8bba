"""What the agent and the BFD process say to each other: one JSON value a line, over a socket pair.

To the process: the whole wanted set, or the order to leave. From it: a session as it is now, and what keeps it from
listening. Both ends are of one version, so that values are short lists in a fixed order.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any

from routed.errors import OperatorError
from routed.model.address import AnyAddress
from routed_bgp.bfd.packet import Diagnostic, State
from routed_bgp.bfd.snapshot import Snapshot

SHORTEST, LONGEST = 100, 60_000  # milliseconds between packets


@dataclass(frozen=True, slots=True, kw_only=True)
class BfdSession:
    """A session as the agent wants it; `peer` is its key.

    `interval` is in milliseconds, wanted both ways; `multiplier` missed packets mean down. A single-hop session accepts
    only packets that no router has passed on, on `interface` if one is given; an IPv6 link-local peer needs one. Where
    the peer may be behind routers, as iBGP over loopbacks is, it must be `multihop`, at both ends.
    """

    peer: AnyAddress
    local: AnyAddress
    interface: str | None = None
    interval: int = 300
    multiplier: int = 3
    multihop: bool = False

    def __post_init__(self) -> None:
        """Raise OperatorError for what cannot be."""
        if not SHORTEST <= self.interval <= LONGEST:
            raise OperatorError(
                f"BFD with {self.peer}: an interval of {self.interval} ms, expected {SHORTEST} to {LONGEST}",
                hint="correct the interval in the peer's bfd settings",
            )
        if not 1 <= self.multiplier <= 255:
            raise OperatorError(
                f"BFD with {self.peer}: a multiplier of {self.multiplier}, expected 1 to 255",
                hint="correct the multiplier in the peer's bfd settings",
            )
        if self.peer.version != self.local.version:
            raise OperatorError(f"BFD with {self.peer}: its address and ours, {self.local}, are of different families")
        if isinstance(self.peer, IPv6Address) and self.peer.is_link_local and self.interface is None:
            raise OperatorError(
                f"BFD with {self.peer}: a link-local address is on some link, and none is named",
                hint="name the interface of the peer",
            )

    @property
    def identity(self) -> tuple[AnyAddress, AnyAddress, str | None, bool]:
        """What makes it this session and not another one; timers do not."""
        return self.peer, self.local, self.interface, self.multihop


@dataclass(frozen=True, slots=True)
class Want:
    """Exactly these sessions, from now on; those that are new to the process go on from `resume`, if they are in it."""

    sessions: tuple[BfdSession, ...]
    resume: Mapping[AnyAddress, Snapshot]


@dataclass(frozen=True, slots=True)
class Leave:
    """Tell all peers AdminDown, then end."""


@dataclass(frozen=True, slots=True)
class Report:
    """The session with `peer` changed to this."""

    peer: AnyAddress
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Deaf:
    """We cannot listen on `local` `port`, for the reason of `errno`; None: now we can, everywhere."""

    local: str | None = None
    port: int = 0
    errno: int = 0


@dataclass(frozen=True, slots=True)
class Refusals:
    """So many packets were refused since the last such message; why the last one was, and whose it was."""

    count: int
    source: str
    reason: str


def encode_want(sessions: Collection[BfdSession], resume: Mapping[AnyAddress, Snapshot]) -> bytes:
    """`Want` as a line."""
    return _line(
        [
            "want",
            [
                [
                    str(wanted.peer),
                    str(wanted.local),
                    wanted.interface,
                    wanted.interval,
                    wanted.multiplier,
                    wanted.multihop,
                    _flat(resume[wanted.peer]) if wanted.peer in resume else None,
                ]
                for wanted in sessions
            ],
        ]
    )


def encode_leave() -> bytes:
    """`Leave` as a line."""
    return _line(["leave"])


def decode_order(line: bytes) -> Want | Leave:
    """What the agent says; it is trusted to be ours."""
    kind, *rest = json.loads(line)
    if kind == "leave":
        return Leave()
    sessions: list[BfdSession] = []
    resume: dict[AnyAddress, Snapshot] = {}
    for peer, local, interface, interval, multiplier, multihop, snapshot in rest[0]:
        address = ip_address(peer)
        sessions.append(
            BfdSession(
                peer=address,
                local=ip_address(local),
                interface=interface,
                interval=interval,
                multiplier=multiplier,
                multihop=multihop,
            )
        )
        if snapshot is not None:
            resume[address] = _snapshot(snapshot)
    return Want(tuple(sessions), resume)


def encode_report(peer: AnyAddress, snapshot: Snapshot) -> bytes:
    """`Report` as a line."""
    return _line(["session", str(peer), _flat(snapshot)])


def encode_deaf(deaf: Deaf) -> bytes:
    """`Deaf` as a line."""
    return _line(["deaf", deaf.local, deaf.port, deaf.errno])


def encode_refusals(refusals: Refusals) -> bytes:
    """`Refusals` as a line."""
    return _line(["refused", refusals.count, refusals.source, refusals.reason])


def decode_message(line: bytes) -> Report | Deaf | Refusals:
    """What the process says; it is trusted to be ours."""
    kind, *rest = json.loads(line)
    if kind == "session":
        return Report(ip_address(rest[0]), _snapshot(rest[1]))
    return Deaf(*rest) if kind == "deaf" else Refusals(*rest)


def _line(value: list[Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _flat(snapshot: Snapshot) -> list[int]:
    return [int(getattr(snapshot, name)) for name in Snapshot.__slots__]


def _snapshot(flat: list[int]) -> Snapshot:
    values = dict(zip(Snapshot.__slots__, flat, strict=True))
    return Snapshot(
        discriminator=values["discriminator"],
        state=State(values["state"]),
        diagnostic=Diagnostic(values["diagnostic"]),
        remote_discriminator=values["remote_discriminator"],
        remote_state=State(values["remote_state"]),
        remote_diagnostic=Diagnostic(values["remote_diagnostic"]),
        remote_min_tx=values["remote_min_tx"],
        remote_min_rx=values["remote_min_rx"],
        remote_multiplier=values["remote_multiplier"],
        control_independent=bool(values["control_independent"]),
        transmit_interval=values["transmit_interval"],
        detection_time=values["detection_time"],
        failures=values["failures"],
    )

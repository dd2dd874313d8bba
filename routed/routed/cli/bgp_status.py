"""`routed bgp status`: the sessions, and what an operator has to look at."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping

import msgspec

from routed.cli import agent_client, output
from routed.cli.status import drained
from routed.config import AgentConfig

_DAY = 86400.0
_LATE_SECONDS = 60.0  # a peer that has not sent its table by then is worth a word


class PeerRestart(msgspec.Struct):
    """What the peer asks for. `families`: for which its paths are kept."""

    restart_seconds: int = 0
    families: dict[str, bool] = {}


class GracefulRestart(msgspec.Struct):
    """RFC 4724, from both sides."""

    peer: PeerRestart | None = None


class Bfd(msgspec.Struct):
    """RFC 5880; intervals in milliseconds."""

    up: bool = False
    watched: bool = True
    since_seconds: float = 0.0
    interval_ms: float | None = None
    diagnostic: str | None = None


class Session(msgspec.Struct, rename={"as_number": "as"}):
    """One session."""

    peer: str
    name: str = ""
    as_number: int = 0
    member: str | None = None
    local: str = ""
    local_as: int = 0
    state: str = "unknown"
    established: bool = False
    since_seconds: float = 0.0
    synced: bool = True
    received: int = 0
    accepted: int = 0
    rejected: dict[str, int] = {}
    advertised: int = 0
    stale: int = 0
    graceful_restart: GracefulRestart = msgspec.field(default_factory=GracefulRestart)
    bfd: Bfd | None = None
    prefix_limit: int | None = None
    near_limit: bool = False
    last_error: str | None = None


class Fault(msgspec.Struct):
    """A session that is configured and cannot be."""

    name: str
    peer: str
    error: str
    hint: str | None = None


class LocRib(msgspec.Struct):
    """How much is in it, by family."""

    prefixes: dict[str, int] = {}
    changed_seconds_ago: float = 0.0


class Status(msgspec.Struct):
    """The answer of /bgp/status. Fields of a later version are ignored, absent ones are empty."""

    sessions: list[Session]
    faults: list[Fault] = []
    loc_rib: LocRib = msgspec.field(default_factory=LocRib)
    drain: str = "no"
    note: str | None = None


def status(config: AgentConfig, *, as_json: bool) -> int:
    """Print it. Raises EnvironmentFault when no agent answers as one."""
    body = agent_client.fetch(config.health_port, "/bgp/status")
    answer = agent_client.read(body, Status, port=config.health_port)
    if as_json:
        sys.stdout.write(agent_client.formatted(body))
    else:
        print(render(answer, time.time()))
    return 0


_HEADER = ("PEER", "AS", "NODE", "STATE", "SINCE", "FOR", "RECEIVED", "ACCEPTED", "OUT", "GR", "BFD", "LAST ERROR")


def render(status: Status, now: float) -> str:
    """The status for a person; `now` is the wall clock's."""
    parts = [_summary(status)]
    if status.sessions:
        parts.append(output.table(_HEADER, [_row(session, now) for session in status.sessions]))
    attention = [line for session in status.sessions for line in _attention(session)]
    attention += [_line(fault.name, fault.peer, f"no session: {fault.error}", fault.hint) for fault in status.faults]
    if attention:
        parts.append("\n".join([output.colour("To look at:", "yellow"), *attention]))
    rejected = [_rejected(session) for session in status.sessions if session.rejected]
    if rejected:
        parts.append("\n".join(["Rejected (`routed bgp routes --peer PEER --received` shows which):", *rejected]))
    return "\n\n".join(parts)


def _summary(status: Status) -> str:
    up = sum(session.established for session in status.sessions)
    sessions = f"{up} of {len(status.sessions)} sessions established" if status.sessions else "no BGP sessions"
    if status.sessions:
        sessions = output.colour(sessions, "green" if up == len(status.sessions) else "red")
    counts = ", ".join(f"{count} {_FAMILIES.get(name, name)}" for name, count in status.loc_rib.prefixes.items())
    changed = output.duration(status.loc_rib.changed_seconds_ago)
    lines = [f"{sessions}; prefixes: {counts or 'none'}, last change {changed} ago"]
    if status.drain != "no":
        lines.append(output.colour(drained(status.drain), "yellow"))
    if status.note:
        lines.append(output.colour(status.note, "yellow"))
    return "\n".join(lines)


_FAMILIES: Mapping[str, str] = {"ipv4": "IPv4", "ipv6": "IPv6"}


def _row(session: Session, now: float) -> tuple[str, ...]:
    return (
        session.peer,
        str(session.as_number or ""),
        session.member or "",
        session.state,
        _clock(now - session.since_seconds, now),
        output.duration(session.since_seconds),
        str(session.received),
        str(session.accepted),
        str(session.advertised),
        _graceful_restart(session.graceful_restart.peer),
        _bfd(session.bfd),
        session.last_error or "",
    )


def _clock(then: float, now: float) -> str:
    """The local time of the day, or the date if it is more than a day ago."""
    return time.strftime("%H:%M:%S" if now - then < _DAY else "%Y-%m-%d", time.localtime(then))


def _graceful_restart(peer: PeerRestart | None) -> str:
    if peer is None:
        return ""
    return f"{peer.restart_seconds}s" if peer.families else "helper"


def _bfd(bfd: Bfd | None) -> str:
    if bfd is None:
        return ""
    if not bfd.watched:
        return "not watched"
    interval = "" if bfd.interval_ms is None or not bfd.up else f" {bfd.interval_ms:g}ms"
    return f"{'up' if bfd.up else 'down'}{interval}"


def _attention(session: Session) -> Iterator[str]:
    """What is wrong with a session, and what to do next."""
    since, error = output.duration(session.since_seconds), session.last_error

    def line(what: str, hint: str | None) -> str:
        return _line(session.name, session.peer, what, hint)

    if session.state == "prefix limit":
        yield line(
            f"closed {since} ago: {error or 'it sent too many prefixes'}",
            "it is tried again within a minute; stop the peer from sending so much, or raise its maxPrefixes",
        )
    elif not session.established:
        kept = f", {session.stale} of its paths are kept while it restarts" if session.stale else ""
        yield line(
            f"{session.state} for {since}{kept}: {error or 'no answer'}",
            f"expected: {session.peer} is reached, runs BGP, is AS {session.as_number} and knows us as "
            f"{session.local} AS {session.local_as}",
        )
    elif not session.synced and session.since_seconds >= _LATE_SECONDS:
        yield line(f"established for {since}, and its table is not complete", "it has not sent End-of-RIB")
    if session.near_limit and session.established:
        yield line(
            f"sends {session.received} prefixes, its limit is {session.prefix_limit}",
            "more than that closes the session: raise maxPrefixes of the BGPPeer if it is right",
        )
    if session.bfd is not None and session.bfd.watched and not session.bfd.up:
        down = output.duration(session.bfd.since_seconds)
        yield line(
            f"BFD is down for {down}: {session.bfd.diagnostic or 'no packet yet'}",
            "the path to the peer is broken, or the peer has no BFD for us",
        )


def _rejected(session: Session) -> str:
    """A router's default route and its other networks are here on most nodes, so this is no warning."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in session.rejected.items())
    return f"  {session.peer}: {reasons}"


def _line(name: str, peer: str, what: str, hint: str | None) -> str:
    said = f"  {name} ({peer}): {what}" if name else f"  {peer}: {what}"
    return f"{said}\n    {hint}" if hint else said

"""`routed node status`: what the running agent says about itself."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, cast

import msgspec

from routed.cli import agent_client, output
from routed.config import AgentConfig


class Session(msgspec.Struct, rename={"as_number": "as"}):
    """A BGP session. `member`: the peer is a node of ours."""

    peer: str
    as_number: int = 0
    member: str | bool | None = None
    state: str = "unknown"
    since_seconds: float | None = None
    received: int = 0
    accepted: int = 0
    stale: int = 0
    last_error: str | None = None


class Routes(msgspec.Struct):
    """How far the kernel is from what is wanted."""

    desired: int = 0
    programmed: int = 0
    failures: list[Any] = []


class Tunnel(msgspec.Struct):
    """The IPIP or the VXLAN device. `needed`: a pool may encapsulate. `available`: the kernel has the driver."""

    device: str = "tunl0"
    needed: bool = True
    available: bool = True
    address: str | None = None


class Status(msgspec.Struct):
    """The answer of /status. Fields of a later version are ignored, absent ones are empty."""

    node: str
    ready: bool = False
    reason: str | None = None  # why it is not ready
    synced: bool = False
    drain: str = "no"
    sessions: list[Session] = []
    routes: Routes = msgspec.field(default_factory=Routes)
    tunnel: Tunnel | None = None
    vxlan: Tunnel | None = None
    conflicts: list[Any] = []
    problems: list[Any] = []


def status(config: AgentConfig, *, as_json: bool) -> int:
    """Print it. Raises EnvironmentFault when no agent answers as one."""
    body = agent_client.fetch(config.health_port, "/status")
    answer = agent_client.read(body, Status, port=config.health_port)
    if as_json:
        sys.stdout.write(agent_client.formatted(body))
    else:
        print(render(answer))
    return 0


def render(status: Status) -> str:
    """The status for a person."""
    state = output.colour("ready", "green") if status.ready else output.colour("not ready", "red")
    synced = "in sync" if status.synced else "not in sync yet"
    parts = [
        f"{status.node}: {state}, {synced}, {status.routes.programmed} of {status.routes.desired} routes programmed"
    ]
    if status.reason:
        parts[0] += f"\nnot ready because {status.reason}"
    if status.drain != "no":
        parts[0] += "\n" + output.colour(drained(status.drain), "yellow")
    for tunnel, kind in ((status.tunnel, "ipip"), (status.vxlan, "vxlan")):
        if tunnel and tunnel.needed:
            parts[0] += f"\n{_tunnel(tunnel, kind)}"
    if status.sessions:
        rows = [_session(session) for session in status.sessions]
        parts.append(
            output.table(("PEER", "AS", "NODE", "STATE", "SINCE", "RECEIVED", "ACCEPTED", "STALE", "LAST ERROR"), rows)
        )
    else:
        parts.append("no BGP sessions")
    for title, items in (
        ("Routes that the kernel refused", status.routes.failures),
        ("Conflicts with what others put into the kernel", status.conflicts),
        ("Problems", status.problems),
    ):
        if items:
            parts.append("\n".join([output.colour(f"{title}:", "yellow"), *(f"  {_line(item)}" for item in items)]))
    return "\n\n".join(parts)


def drained(phase: str) -> str:
    """What it means that a node is in this phase of `routed node drain`."""
    if phase == "lowered":
        return (
            "drain: paths to this node are marked as going away; `routed node drain` goes on, `undrain` takes it back"
        )
    return "drained: nobody is told of this node's pods; `routed node undrain` puts it back into service"


def _tunnel(tunnel: Tunnel, kind: str) -> str:
    if not tunnel.available:
        missing = f"{tunnel.device}: the kernel has no {kind.upper()} driver: what needs the tunnel is not reached"
        return output.colour(missing, "red") + f" (modprobe {kind})"
    return f"{tunnel.device}: address {tunnel.address or 'none yet'}"


def _session(session: Session) -> Sequence[str]:
    member = session.member if isinstance(session.member, str) else "member" if session.member else ""
    return (
        session.peer,
        str(session.as_number or ""),
        member,
        session.state,
        "" if session.since_seconds is None else output.duration(session.since_seconds),
        str(session.received),
        str(session.accepted),
        str(session.stale),
        session.last_error or "",
    )


def _line(item: object) -> str:
    """An entry of a list: a sentence, whose further lines stay below it; another version may send objects."""
    if isinstance(item, dict):
        fields = cast("dict[str, object]", item)
        return ", ".join(f"{key} {value}" for key, value in fields.items())
    return str(item).replace("\n", "\n  ")

"""`routed node status`: what the running agent says about itself."""

from __future__ import annotations

import http.client
import sys
from collections.abc import Sequence
from typing import Any, cast

import msgspec

from routed.cli import output
from routed.config import AgentConfig
from routed.errors import EnvironmentFault

_PATIENCE = 7.0  # seconds; the agent's own is 5


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
    """The IPIP device. `needed`: a pool may encapsulate. `available`: the kernel has the driver."""

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
    sessions: list[Session] = []
    routes: Routes = msgspec.field(default_factory=Routes)
    tunnel: Tunnel | None = None
    conflicts: list[Any] = []
    problems: list[Any] = []


def status(config: AgentConfig, *, as_json: bool) -> int:
    """Print it. Raises EnvironmentFault when no agent answers as one."""
    body = _fetch(config.health_port)
    try:
        answer = msgspec.json.decode(body, type=Status)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EnvironmentFault(
            f"127.0.0.1:{config.health_port} (health_port) gave an answer that is no status of an agent: {error}",
            hint="another program has the port, or the agent is of another version",
        ) from error
    if as_json:
        sys.stdout.write(msgspec.json.format(body.strip(), indent=2).decode() + "\n")
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
    if status.tunnel and status.tunnel.needed:
        parts[0] += f"\n{_tunnel(status.tunnel)}"
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


def _tunnel(tunnel: Tunnel) -> str:
    if not tunnel.available:
        missing = f"{tunnel.device}: the kernel has no IPIP driver: what needs the tunnel is not reached"
        return output.colour(missing, "red") + " (modprobe ipip)"
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


def _fetch(port: int) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/status")
        answer = connection.getresponse()
        body = answer.read()
    except ConnectionRefusedError as error:
        raise EnvironmentFault(
            f"no agent answers on 127.0.0.1:{port} (health_port)",
            hint="start it with `systemctl start routed`, and see `journalctl -u routed` for why it stopped",
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise EnvironmentFault(
            f"the agent on 127.0.0.1:{port} (health_port) does not answer: {error or type(error).__name__}",
            hint="see `journalctl -u routed`; `systemctl restart routed` keeps routes and sessions' routes in place",
        ) from error
    finally:
        connection.close()
    if answer.status != 200 and not body.lstrip().startswith(b"{"):
        said = body.decode(errors="replace").strip()
        raise EnvironmentFault(
            f"the agent on 127.0.0.1:{port} (health_port) answers {answer.status}: {said}",
            hint="see `journalctl -u routed`",
        )
    return body

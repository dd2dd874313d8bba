"""`routed bgp routes`: paths, one a line, or in full where a prefix is asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from itertools import groupby

import msgspec

from routed.cli import agent_client, output
from routed.config import AgentConfig

_WELL_KNOWN: Mapping[str, str] = {
    "65535:0": "graceful-shutdown",  # RFC 8326
    "65535:65281": "no-export",  # RFC 1997
    "65535:65282": "no-advertise",
    "65535:65283": "no-export-subconfed",
}


class Route(msgspec.Struct):
    """A path to a prefix. Of an AS path, an AS_SET is a list within."""

    prefix: str
    next_hop: str
    peer: str
    as_path: list[int | list[int]] = []
    communities: list[str] = []
    large_communities: list[str] = []
    local_pref: int | None = None
    med: int | None = None
    origin: str = ""
    path_id: int = 0
    originator_id: str | None = None
    cluster_list: list[str] = []
    best: bool = False
    multipath: bool = False
    stale: bool = False
    unreachable: bool = False
    reason: str = ""
    rejected: str | None = None


class Routes(msgspec.Struct):
    """The answer of /bgp/routes. Fields of a later version are ignored, absent ones are empty."""

    routes: list[Route]
    table: str = "best"
    total: int = 0
    shown: int = 0


def routes(config: AgentConfig, parameters: Mapping[str, str], *, as_json: bool) -> int:
    """Print what `parameters` ask for.

    Raises EnvironmentFault when no agent answers as one, OperatorError for what it cannot understand.
    """
    body = agent_client.fetch(config.health_port, "/bgp/routes", parameters)
    answer = agent_client.read(body, Routes, port=config.health_port)
    if as_json:
        sys.stdout.write(agent_client.formatted(body))
    else:
        print(render(answer, where=parameters.get("prefix")))
    return 0


def render(answer: Routes, *, where: str | None = None) -> str:
    """The routes for a person; `where` is the prefix or address that was asked for."""
    if not answer.routes:
        return _nothing(answer, where)
    told = answer.table == "advertised"
    parts = [_in_full(answer.routes, told=told) if where else _lines(answer.routes, told=told)]
    if answer.total > answer.shown:
        more = f"{answer.shown} of {answer.total} routes shown: name a PREFIX or a --peer, or raise --limit"
        parts.append(output.colour(more, "yellow"))
    return "\n\n".join(parts)


def _nothing(answer: Routes, where: str | None) -> str:
    said = f"no route to {where}" if where else "no routes"
    if answer.table == "best":
        asked = f" {where}" if where else ""
        return f"{said} was let in: `routed bgp routes{asked} --received` shows what peers sent, and why it is rejected"
    return f"{said} in this table ({answer.table})"


def _lines(routes: Iterable[Route], *, told: bool) -> str:
    header = ("", "PREFIX", "NEXT HOP", "TO" if told else "PEER", "PREF", "AS PATH", "WHY")
    rows = [
        (
            _mark(route) or " ",
            route.prefix,
            route.next_hop,
            _peer(route),
            "" if route.local_pref is None else str(route.local_pref),
            _as_path(route),
            route.reason,
        )
        for route in routes
    ]
    return output.table(header, rows)


def _in_full(routes: Iterable[Route], *, told: bool) -> str:
    """All that each path has, under its prefix."""
    parts: list[str] = []
    for prefix, paths in groupby(routes, key=lambda route: route.prefix):
        parts.append(output.colour(prefix, "bold"))
        for path in paths:
            head = f"{_mark(path) or ' '} via {path.next_hop}, {'told' if told else 'from'} {_peer(path)}"
            if path.stale:
                head += ", stale"
            if path.unreachable:
                head += ", unreachable"
            parts.append(output.colour(head, "green") if path.best else head)
            parts += [f"    {name:<13} {value}" for name, value in _facts(path) if value]
    return "\n".join(parts)


def _facts(path: Route) -> Iterable[tuple[str, str]]:
    return (
        ("why", path.reason),
        ("as path", _as_path(path) or "empty"),
        ("origin", path.origin),
        ("local pref", "" if path.local_pref is None else str(path.local_pref)),
        ("med", "" if path.med is None else str(path.med)),
        ("communities", ", ".join(_community(each) for each in path.communities)),
        ("large", ", ".join(path.large_communities)),
        ("originator", path.originator_id or ""),
        ("cluster list", ", ".join(path.cluster_list)),
    )


def _mark(route: Route) -> str:
    if route.rejected is not None:
        return "x"
    if route.best:
        return ">"
    return "=" if route.multipath else ""


def _peer(route: Route) -> str:
    return f"{route.peer} #{route.path_id}" if route.path_id else route.peer


def _as_path(route: Route) -> str:
    return " ".join(
        "{" + ",".join(map(str, each)) + "}" if isinstance(each, list) else str(each) for each in route.as_path
    )


def _community(text: str) -> str:
    return f"{text} ({_WELL_KNOWN[text]})" if text in _WELL_KNOWN else text

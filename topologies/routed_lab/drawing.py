"""The option --svg: a lab that is up, drawn from what its runner tells and a check finds."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from routed.errors import OperatorError
from routed.model.adjacency import adjacencies
from routed_bgp.sessions import reflects
from routed_lab import picture, report, wire
from routed_lab.scenario.story import owners

if TYPE_CHECKING:
    from collections.abc import Sequence

    from routed_lab.client import Client
    from routed_lab.topology import Topology


class _Told(msgspec.Struct):
    neighbor: str
    state: str


class _Node(msgspec.Struct):
    sessions: list[_Told] = []


class Inspected(msgspec.Struct):
    """Of what `inspect` tells, what is drawn."""

    nodes: dict[str, _Node]


def draw(client: Client, topology: Topology, target: Path, rows: Sequence[wire.Row] | None = None) -> None:
    """Write the picture of a lab to `target`; without the `rows` of a check one is made. OperatorError if it cannot."""
    progress = report.Progress()
    try:
        told = client.call(wire.Inspect(id=client.new_id()), progress)
        if rows is None:
            rows = msgspec.convert(client.call(wire.Check(id=client.new_id()), progress), wire.Checked).rows
    finally:
        progress.done()
    found = sessions(topology, inspected(told))
    try:
        target.write_text(picture.draw(topology, rows, found), encoding="utf-8")
    except OSError as error:
        raise OperatorError(
            f"{target}: cannot write the picture: {error.strerror}", hint="name another file with --svg"
        ) from error


def inspected(told: wire.Json) -> Inspected:
    """Read what `inspect` tells."""
    return msgspec.convert(told, Inspected)


def sessions(topology: Topology, told: Inspected) -> list[picture.Session]:
    """The sessions that routers tell of, and those that the nodes' resources make between them, each once."""
    owner = owners(topology)
    found: dict[frozenset[str], picture.Session] = {}
    cluster = topology.cluster
    if cluster.bgp.node_to_node_mesh_enabled:
        meshed = [name for name in cluster.nodes if not reflects(cluster, name)]
        found = {frozenset(ends): picture.Session(*ends) for ends in combinations(meshed, 2)}
    for name in cluster.nodes:
        for peer in adjacencies(cluster, name):
            other = owner.get(peer.address) if isinstance(peer.address, IPv4Address) else None
            if other is not None and other != name:
                found[frozenset((name, other))] = picture.Session(name, other)
    for name, node in told.nodes.items():
        for session in node.sessions:
            neighbour = ip_address(session.neighbor)
            other = owner.get(neighbour) if isinstance(neighbour, IPv4Address) else None
            if other is not None:
                up = session.state == "Established"
                found[frozenset((name, other))] = picture.Session(name, other, up)
    return list(found.values())

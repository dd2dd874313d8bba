"""The lines of a recording: the first names the format, each other one has a time and one input. Pure.

    {"format": "routed-recording/1"}
    {"at": 17.25, "UpdatesReceived": {"peer": "10.1.1.1", "messages": "ffff..."}}

`at` is the agent's monotonic clock, in seconds. Passwords are never in a recording.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from routed.agent.recording import plain
from routed.errors import OperatorError
from routed.model.address import Address, AnyAddress, Family
from routed.model.cluster import Cluster
from routed.model.codec import builtins, decode_json
from routed.model.endpoint import Endpoint
from routed.model.interface import Interface
from routed.model.ipam import IPReservationSpec, affinity_name
from routed.model.nlri import Nlri
from routed.model.resources import (
    AnyResource,
    BGPConfiguration,
    BGPFilter,
    BlockAffinity,
    IPAMConfiguration,
    IPReservation,
)
from routed.model.schema import Metadata
from routed_bgp.bfd.ledger import BfdChange
from routed_bgp.export import Drain
from routed_bgp.speaker import RefreshReceived, SessionDown, SessionUp, UpdatesReceived
from routed_felix.state import Encapsulation, Settings, UnderlayRoute
from routed_felix.view import View

FORMAT = "routed-recording/1"


@dataclass(frozen=True, slots=True)
class Started:
    """The agent starts; `config` has what the core is configured by, under the names of the configuration."""

    config: Any
    settings: Settings


@dataclass(frozen=True, slots=True)
class Stored:
    """A cluster, as the store has it, under a number that other lines name; `resources` as manifests."""

    number: int
    resources: Any


@dataclass(frozen=True, slots=True)
class Adopted:
    """BGP works by a cluster from now on. The passwords `missing` (NAME/KEY) could not be read, all others could."""

    cluster: int
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Expired:
    """A round of work begins: time has gone on to the line's."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """Exactly these are the addresses of the node's pods in one family."""

    family: Family
    addresses: frozenset[Nlri]


@dataclass(frozen=True, slots=True)
class Borrowed:
    """Exactly these addresses of other nodes' blocks are originated here."""

    addresses: frozenset[Nlri]


@dataclass(frozen=True, slots=True)
class Drained:
    """How far the node is on its way out of service."""

    drain: Drain


@dataclass(frozen=True, slots=True)
class Viewed:
    """Calc is asked: what is another thing in `Surroundings` of this family than when it was asked last."""

    family: Family
    changed: Any


@dataclass(frozen=True, slots=True)
class Lost:
    """Calc is asked before the RIB is told: the sessions with these peers have ended."""

    peers: frozenset[AnyAddress]


@dataclass(frozen=True, slots=True)
class LookedAround:
    """BGP is told what its next hops and peers are to the node, by what calc has seen last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What calc sees besides the Loc-RIB; as in `View`, without defaults so that each field is in a line."""

    cluster: int
    peers: tuple[AnyAddress, ...]
    gateways: Mapping[Address, Address]
    endpoints: tuple[Endpoint, ...]
    interfaces: Mapping[str, Interface]
    underlay: tuple[UnderlayRoute, ...]
    tunnel_address: Address | None
    tunnel: bool
    vxlan: bool
    lost: frozenset[AnyAddress]
    kept: frozenset[Encapsulation]

    @classmethod
    def of(cls, view: View, cluster: int) -> Surroundings:
        """Those of `view`, whose cluster has that number."""
        return cls(
            cluster=cluster,
            peers=tuple(view.peers),
            gateways=view.gateways,
            endpoints=tuple(view.endpoints),
            interfaces=view.interfaces,
            underlay=tuple(view.underlay),
            tunnel_address=view.tunnel_address,
            tunnel=view.tunnel,
            vxlan=view.vxlan,
            lost=view.lost,
            kept=view.kept,
        )


Line = (
    Started | Stored | Adopted | Expired | Assigned | Borrowed | Drained | Viewed | Lost | LookedAround
    | SessionUp | SessionDown | UpdatesReceived | RefreshReceived | BfdChange
)  # fmt: skip
_KINDS: Mapping[str, type] = {kind.__name__: kind for kind in Line.__args__}


def encode(at: float, line: Line) -> str:
    """One line, without its end."""
    return json.dumps({"at": at, type(line).__name__: plain.encode(line)}, separators=(",", ":"))


def decode(lines: Iterable[str], name: str) -> Iterator[tuple[float, Line]]:
    """The lines of the file `name` with their times. Raises OperatorError for what is no recording.

    A last line without its end is passed over: the agent may have been killed while it wrote.
    """
    number = 0
    for number, text in enumerate(lines, 1):
        if number == 1:
            _check_format(text, name)
            continue
        try:
            yield _line(json.loads(text))
        except ValueError as error:
            if not text.endswith("\n"):
                return
            raise OperatorError(f"{name}: line {number}: {error}", hint=_HINT) from None
    if not number:
        raise OperatorError(f"{name}: is empty", hint=_HINT)


_HINT = "name a file that `routed agent --record FILE` wrote"


def _check_format(text: str, name: str) -> None:
    try:
        header: object = json.loads(text)
    except ValueError:
        header = None
    found = cast("dict[str, Any]", header).get("format") if isinstance(header, dict) else None
    if found != FORMAT:
        raise OperatorError(f"{name}: line 1: format {found!r}; expected {FORMAT!r}", hint=_HINT)


def _line(value: Any) -> tuple[float, Line]:
    if not isinstance(value, dict):
        raise ValueError("expected an object")  # noqa: TRY004  as all that cannot be read
    found = cast("dict[str, Any]", value)
    kinds = [key for key in found if key != "at"]
    if len(kinds) != 1 or kinds[0] not in _KINDS:
        raise ValueError(f"expected `at` and one input, found {', '.join(found) or 'nothing'}")
    return plain.decode(float, found.get("at")), plain.decode(_KINDS[kinds[0]], found[kinds[0]])


def resources_of(cluster: Cluster) -> list[dict[str, Any]]:
    """Resources of which `Cluster.of` makes an equal cluster."""
    found: list[AnyResource] = [*cluster.nodes.values(), *cluster.pools.values(), *cluster.peers.values()]
    found += cluster.namespaces.values()
    found.append(BGPConfiguration(metadata=Metadata("default"), spec=cluster.bgp))
    found.append(IPAMConfiguration(metadata=Metadata("default"), spec=cluster.ipam))
    found += (BGPFilter(metadata=Metadata(name), spec=spec) for name, spec in cluster.filters.items())
    if cluster.reserved:
        spec = IPReservationSpec(reserved_cidrs=cluster.reserved)
        found.append(IPReservation(metadata=Metadata("reserved"), spec=spec))
    found += (
        BlockAffinity(metadata=Metadata(affinity_name(cidr)), spec=spec) for cidr, spec in cluster.affinities.items()
    )
    return [builtins(resource) for resource in found]


def cluster_of(resources: Any) -> Cluster:
    """The cluster of which `resources_of` made `resources`. Raises EnvironmentFault for a resource of no use."""
    return Cluster.of(decode_json(json.dumps(each).encode(), key="of a recording") for each in resources)

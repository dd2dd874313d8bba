"""The values of a scenario: steps in their order, each an act on the lab or an expectation. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from routed_lab.topology import End, Pod, Topology

if TYPE_CHECKING:
    from routed.model.resources import EncapsulationMode

Pair = tuple[Pod, Pod]

EVERY_SECOND = 1000
"""Probes per second and pair unless the scenario says otherwise: a gap is known to the millisecond."""

PATIENCE = 30.0
"""Seconds in which an expectation has to come true unless it says otherwise."""


class Carried(StrEnum):
    """How packets of a pair are to travel between nodes."""

    DIRECT = "direct"
    IPIP = "ipip"
    VXLAN = "vxlan"
    TUNNEL = "tunnel"  # either of the two before, whichever the pool of this variant has

    def met_by(self, encapsulation: str) -> bool:
        """Whether what was seen on the wire, a value of `expect.Encapsulation`, is this."""
        return encapsulation in ("ipip", "vxlan") if self is Carried.TUNNEL else encapsulation == self.value


@dataclass(frozen=True, slots=True)
class Probes:
    """Echoes sent all the time: `rate` per second and pair, for `quiet` seconds before the first step."""

    pairs: tuple[Pair, ...]
    rate: int = EVERY_SECOND
    quiet: float = 2.0


@dataclass(frozen=True, slots=True)
class LinkState:
    """These ends of links are set down or up; the far ends lose and get their carrier.

    Only one end: with an interface that is set down the kernel drops the routes by it, those of `exec` too.
    """

    ends: tuple[End, ...]
    up: bool


@dataclass(frozen=True, slots=True)
class Impair:
    """Both directions of a link lose `loss` percent of the packets and delay the rest by `delay` ms; 0 and 0 heal."""

    link: End
    loss: float = 0.0
    delay: float = 0.0


class Life(StrEnum):
    """What is done to the daemon of a node or router."""

    KILL = "kill"  # SIGKILL
    START = "start"
    RESTART = "restart"  # SIGTERM, and start when it has ended


@dataclass(frozen=True, slots=True)
class Daemon:
    """The router's or agent's process of `node` is killed, started or restarted; kernel state stays."""

    node: str
    act: Life


@dataclass(frozen=True, slots=True)
class Join:
    """A node that was absent becomes a member: its Node resource, its agent, its pods."""

    node: str


@dataclass(frozen=True, slots=True)
class SessionState:
    """The BGP sessions between `node` and its top-of-rack router are taken down, or up again, by the router."""

    node: str
    up: bool


@dataclass(frozen=True, slots=True)
class Pool:
    """An IPPool's modes are written into the store."""

    name: str
    ipip: EncapsulationMode
    vxlan: EncapsulationMode


@dataclass(frozen=True, slots=True)
class Traffic:
    """What pings between `pairs` show, all of it within `within` seconds; what is None is not asked.

    No `pairs` are all that there are by then.
    `converged`: each pair is reachable and travels as topology, store and sessions imply by now.
    """

    pairs: tuple[Pair, ...]
    within: float
    converged: bool = False
    reachable: bool | None = None
    carried: Carried | None = None
    path: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Rib:
    """A router's own command line prints something that `pattern` (a regular expression) finds, or does not.

    Without words for it, its BGP table is what is looked at.
    """

    router: str
    command: tuple[str, ...]
    pattern: str
    found: bool
    within: float


@dataclass(frozen=True, slots=True)
class Lost:
    """Of each probed pair at most this many probes were lost since the last such expectation, or the beginning."""

    most: int


Act: TypeAlias = LinkState | Impair | Daemon | Join | SessionState | Pool
Expectation: TypeAlias = Traffic | Rib | Lost


@dataclass(frozen=True, slots=True)
class Step:
    """One step. It begins `after` seconds after the step before it has ended; `text` is what a person reads."""

    line: int
    after: float
    does: Act | Expectation
    text: str


@dataclass(frozen=True, slots=True)
class Scenario:
    """A whole scenario for one topology."""

    path: Path
    name: str
    probes: Probes
    steps: tuple[Step, ...]
    absent: tuple[str, ...] = ()  # nodes that are no members when it begins


def crossing(topology: Topology, part: frozenset[str]) -> tuple[End, ...]:
    """The links between the nodes `part` and all others: of each a router's end if it has one, else its first."""
    links = (link for link in topology.links if (link.left.node in part) != (link.right.node in part))
    routers = {router.name for router in topology.routers}
    return tuple(next((end for end in link.ends if end.node in routers), link.left) for link in links)


def other_end(topology: Topology) -> Mapping[End, End]:
    """The far end of each end of a link."""
    return {near: far for link in topology.links for near, far in ((link.left, link.right), (link.right, link.left))}

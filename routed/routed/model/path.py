"""A BGP path, as the decision process compares it and calc forwards by it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import msgspec

from routed.model.address import Address, AnyAddress


class Origin(IntEnum):
    """ORIGIN, RFC 4271 section 5.1.1; lower is preferred."""

    IGP = 0
    EGP = 1
    INCOMPLETE = 2


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of AS numbers: an AS_SEQUENCE, or, where `ordered` is False, an AS_SET."""

    ordered: bool
    numbers: tuple[int, ...]

    def __len__(self) -> int:
        """How much it counts in the AS path's length, RFC 4271 section 9.1.2.2 a."""
        return len(self.numbers) if self.ordered else 1


@dataclass(frozen=True, slots=True)
class Unknown:
    """An optional transitive attribute that means nothing to us: passed on as it came (RFC 4271 section 9)."""

    code: int
    value: bytes


class Path(msgspec.Struct, frozen=True, gc=False):
    """One path, after import policy. It names no prefix: all prefixes of a peer with the same attributes share it.

    `local_pref` is ours, set by who originated the path (design: 90 for a member's own address as next hop, 100 for
    a router of the fabric), never the peer's; that is `peer_local_pref`, which only a reflector passes on. `med` absent
    is None. `path_id` tells several paths of one peer apart (RFC 7911), 0 without. `priority` is what a BGPFilter set,
    lower is preferred. `stale`: kept through the peer's graceful restart (RFC 4724 section 4.2); if it `yields`, it
    loses to any fresh path. `unreachable`: the next hop does not resolve (RFC 4271 section 9.1.2), loses to any that
    does.

    A struct and no dataclass: a peer can send 100,000 different ones, and to make one takes 0.5 us instead of 5. It is
    not seen by the garbage collector, which would walk them all again and again; none can be part of a cycle.
    """

    next_hop: AnyAddress
    peer: AnyAddress
    peer_as: int
    peer_router_id: Address
    ebgp: bool
    as_path: tuple[Segment, ...]
    origin: Origin
    local_pref: int
    peer_local_pref: int | None = None
    priority: int = 1024
    med: int | None = None
    communities: tuple[int, ...] = ()
    large_communities: tuple[tuple[int, int, int], ...] = ()
    originator_id: Address | None = None
    cluster_list: tuple[Address, ...] = ()
    unknown: tuple[Unknown, ...] = ()
    path_id: int = 0
    member: bool = False  # originated by a member of the cluster
    client: bool = False  # learned from a client of ours, as a route reflector (RFC 4456), or a member of another AS
    stale: bool = False
    yields: bool = False
    unreachable: bool = False

    @property
    def as_numbers(self) -> tuple[int, ...]:
        """All numbers of the AS path, nearest first."""
        return tuple(number for segment in self.as_path for number in segment.numbers)

    @property
    def as_path_length(self) -> int:
        """RFC 4271 section 9.1.2.2 a: an AS_SET counts as one."""
        return sum(len(segment) for segment in self.as_path)


def prepended(path: tuple[Segment, ...], numbers: tuple[int, ...]) -> tuple[Segment, ...]:
    """`path` with AS numbers put in front, RFC 4271 section 5.1.2."""
    if not numbers:
        return path
    if path and path[0].ordered:
        return (Segment(True, (*numbers, *path[0].numbers)), *path[1:])
    return (Segment(True, numbers), *path)

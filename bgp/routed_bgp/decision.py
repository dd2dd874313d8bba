"""The decision process, RFC 4271 section 9.1.2.2, for paths to one prefix that import policy let in.

`STEPS` holds the steps in order; each keeps those of the remaining paths that are best by it:

    0a  next hop resolves      section 9.1.2: a path that leads nowhere loses to all that lead somewhere
    0b  fresh before stale     ours: a path of a restarting peer loses even to a mesh tunnel, because the tunnel works
                               (RFC 4724 section 4.2 would treat both alike, as with bgp_stale_paths_yield = false)
    0c  lowest priority        ours: what an operator's BGPFilter set (setPriority)
    1   highest LOCAL_PREF     section 9.1.1
    2   shortest AS path       a
    3   lowest ORIGIN          b
    4   lowest MED             c, only among paths from the same neighbouring AS; none counts as 0
    5   eBGP before iBGP       d
    6   lowest interior cost   e, no step here: a node resolves every next hop by its connected subnets or by one
                               default route, so all costs are equal
    7   lowest BGP identifier  f; of a reflected path the ORIGINATOR_ID, RFC 4456 section 9
    8   shortest CLUSTER_LIST  RFC 4456 section 9
    9   lowest peer address    g
    10  lowest path identifier of one peer's several paths, RFC 7911

Every step looks at all remaining paths at once, so the order in which they arrived does not matter, MED included. That
is what routers call deterministic MED: they find the best of each neighbouring AS by all steps, then the best of those
without step 4, and the result is the same.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from routed.model.path import Path

Keep = Callable[[Sequence[Path]], list[Path]]


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its number, what the winner of it has, and what it keeps of the remaining paths."""

    number: str
    winner: str
    keep: Keep

    def __str__(self) -> str:
        return f"step {self.number}: {self.winner}"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A path and the step at which it lost to the best; None for the best."""

    path: Path
    lost_at: Step | None


def ranked(paths: Sequence[Path]) -> tuple[Path, ...]:
    """All of `paths`: the best, then the best of the others, and so on.

    By sorting, since going through the steps for each place costs the square, and a peer with path identifiers may have
    thousands. What step 4 keeps are the first by MED of each neighbouring AS; of these the later steps choose.
    """
    if len(paths) == 1:
        return (paths[0],)
    found: list[Path] = []
    for _, equal in groupby(sorted(paths, key=_before_med), _before_med):
        rows: dict[int, list[Path]] = {}
        for path in sorted(equal, key=lambda path: (path.med or 0, *_after_med(path))):
            rows.setdefault(_neighbour(path), []).append(path)
        found += heapq.merge(*rows.values(), key=_after_med)
    return tuple(found)


def judged(paths: Sequence[Path]) -> tuple[Judgement, ...]:
    """`ranked`, with the step at which each path lost."""
    order = ranked(paths)
    return tuple(Judgement(path, _lost_at(order, path) if index else None) for index, path in enumerate(order))


def multipath(order: Sequence[Path], *, ebgp: int = 1, ibgp: int = 1) -> tuple[Path, ...]:
    """Those of the `ranked` paths that share the traffic: equal to the best up to the tie-break (steps 7 to 10).

    At most `ebgp` paths if the best is external, else `ibgp`, and only one per next hop. The AS paths need only be
    equally long: two top-of-rack routers have two AS numbers.
    """
    if not order:
        return ()
    best = order[0]
    width = ebgp if best.ebgp else ibgp
    chosen: dict[object, Path] = {}
    for path in _run(order, _BEFORE_TIE_BREAK):
        chosen.setdefault(path.next_hop, path)
    return tuple(chosen.values())[: max(width, 1)]


def _before_med(path: Path) -> tuple[int, ...]:
    """Steps 0a to 3."""
    first = path.unreachable, path.yields, path.priority
    return *first, -path.local_pref, path.as_path_length, path.origin


def _after_med(path: Path) -> tuple[int, ...]:
    """Steps 5 to 10."""
    return not path.ebgp, _identifier(path), len(path.cluster_list), _address(path), path.path_id


def _run(paths: Sequence[Path], steps: Sequence[Step]) -> Sequence[Path]:
    for step in steps:
        if len(paths) < 2:
            break
        paths = step.keep(paths)
    return paths


def _lost_at(order: Sequence[Path], loser: Path) -> Step | None:
    """The first step that removes `loser` when all are compared; if none does, the one at which the best beats it."""
    remaining: Sequence[Path] = order
    for step in STEPS:
        remaining = step.keep(remaining)
        if all(path is not loser for path in remaining):
            return step
    pair = (order[0], loser)
    return next((step for step in STEPS if len(step.keep(pair)) == 1), None)


def _lowest(key: Callable[[Path], int]) -> Keep:
    def keep(paths: Sequence[Path]) -> list[Path]:
        lowest = min(map(key, paths))
        return [path for path in paths if key(path) == lowest]

    return keep


def _lowest_med(paths: Sequence[Path]) -> list[Path]:
    """RFC 4271 section 9.1.2.2 c: drop a path if one from the same neighbouring AS has a lower MED."""
    lowest: dict[int, int] = {}
    for path in paths:
        neighbour, med = _neighbour(path), path.med or 0
        lowest[neighbour] = min(med, lowest.get(neighbour, med))
    return [path for path in paths if (path.med or 0) == lowest[_neighbour(path)]]


def _neighbour(path: Path) -> int:
    """The AS that the path entered ours from; 0 for a path that originates in our own."""
    first = path.as_path[0] if path.as_path else None
    return first.numbers[0] if first is not None and first.ordered else 0


def _identifier(path: Path) -> int:
    return int(path.peer_router_id if path.originator_id is None else path.originator_id)


def _address(path: Path) -> int:
    """Peer addresses in one order, IPv4 first."""
    return int(path.peer) | (path.peer.version == 6) << 128


_BEFORE_TIE_BREAK: tuple[Step, ...] = (
    Step("0a", "next hop resolves", _lowest(lambda path: path.unreachable)),
    Step("0b", "fresh, not stale", _lowest(lambda path: path.yields)),
    Step("0c", "lowest priority", _lowest(lambda path: path.priority)),
    Step("1", "highest LOCAL_PREF", _lowest(lambda path: -path.local_pref)),
    Step("2", "shortest AS path", _lowest(lambda path: path.as_path_length)),
    Step("3", "lowest ORIGIN", _lowest(lambda path: path.origin)),
    Step("4", "lowest MED of its neighbouring AS", _lowest_med),
    Step("5", "eBGP before iBGP", _lowest(lambda path: not path.ebgp)),
)
STEPS: tuple[Step, ...] = (
    *_BEFORE_TIE_BREAK,
    Step("7", "lowest BGP identifier", _lowest(_identifier)),
    Step("8", "shortest CLUSTER_LIST", _lowest(lambda path: len(path.cluster_list))),
    Step("9", "lowest peer address", _lowest(_address)),
    Step("10", "lowest path identifier", _lowest(lambda path: path.path_id)),
)

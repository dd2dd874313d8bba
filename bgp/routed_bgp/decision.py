"""The decision process, RFC 4271 section 9.1.2.2, for paths to one prefix that import policy let in.

Steps, in order; each keeps those of the remaining paths that are best by it:

    0  fresh before stale      ours: a path of a restarting peer loses even to a mesh tunnel, because the tunnel works
                               (RFC 4724 section 4.2 would treat both alike)
    1  highest LOCAL_PREF      section 9.1.1
    2  shortest AS path        a
    3  lowest ORIGIN           b
    4  lowest MED              c, only among paths from the same neighbouring AS; none counts as 0
    5  eBGP before iBGP        d
    6  lowest interior cost    e, no step here: a node resolves every next hop by its connected subnets or by one
                               default route, so all costs are equal
    7  lowest BGP identifier   f
    8  lowest peer address     g

Every step looks at all remaining paths at once, so the order in which they arrived does not matter, MED included.

Whether a next hop resolves is not asked here (section 9.1.2 would leave such a path out): interfaces change without a
word from any peer. So all paths are ranked, and calc takes the first that leads somewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from routed.model.path import Path

Step = Callable[[Sequence[Path]], list[Path]]


def ranked(paths: Sequence[Path]) -> tuple[Path, ...]:
    """All of `paths`, one per peer: the best, then the best of the others, and so on."""
    found: list[Path] = []
    others = list(paths)
    while others:
        remaining: Sequence[Path] = others
        for step in STEPS:
            if len(remaining) < 2:
                break
            remaining = step(remaining)
        found.append(remaining[0])
        others = [path for path in others if path is not remaining[0]]
    return tuple(found)


def _lowest(key: Callable[[Path], int]) -> Step:
    def step(paths: Sequence[Path]) -> list[Path]:
        lowest = min(map(key, paths))
        return [path for path in paths if key(path) == lowest]

    return step


def _lowest_med(paths: Sequence[Path]) -> list[Path]:
    """RFC 4271 section 9.1.2.2 c: drop a path if one from the same neighbouring AS has a lower MED."""
    lowest: dict[int, int] = {}
    for path in paths:
        neighbour, med = _neighbour(path), path.med or 0
        lowest[neighbour] = min(med, lowest.get(neighbour, med))
    return [path for path in paths if (path.med or 0) == lowest[_neighbour(path)]]


def _neighbour(path: Path) -> int:
    """The AS that the path entered ours from; 0 for a path that originates in our own."""
    return path.as_path[0] if path.as_path else 0


STEPS: tuple[Step, ...] = (
    _lowest(lambda path: path.stale),  # 0
    _lowest(lambda path: -path.local_pref),  # 1
    _lowest(lambda path: path.as_path_length),  # 2
    _lowest(lambda path: path.origin),  # 3
    _lowest_med,  # 4
    _lowest(lambda path: not path.ebgp),  # 5
    _lowest(lambda path: int(path.peer_router_id)),  # 7
    _lowest(lambda path: int(path.peer)),  # 8
)

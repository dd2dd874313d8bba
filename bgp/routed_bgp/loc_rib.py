"""The Loc-RIB of one family: for each prefix the paths that policy let in, best first (RFC 4271 section 3.2).

Made for tables in which many prefixes have few different sets of paths: equal sets are one shared tuple, ranked once,
and what is done to many prefixes is worked out once per tuple. 100,000 prefixes with one path cost some 10 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from routed.model.address import AnyAddress
from routed.model.path import Path
from routed_bgp import decision
from routed_bgp.nlri import Nlri
from routed_bgp.weight import weight

Ranked = tuple[Path, ...]
_MOST_SHARED = 1 << 16  # weight of the paths in the sets that are remembered; a hostile peer can make one per prefix

_MOST_ALONE = 1 << 10  # paths; of attributes that come again, most come soon


class LocRib:
    """See the module. `best` is to be read only; `changed` collects the prefixes whose paths are others than before.

    It is a list, in which one may be twice: to tell them apart takes as long as to import them, and few ask.
    """

    def __init__(self) -> None:
        self.best: dict[Nlri, Ranked] = {}
        self.changed: list[Nlri] = []
        self._shared: dict[tuple[int, ...], Ranked] = {}  # by the ids of the paths, which the value keeps alive
        self._single: dict[int, Ranked] = {}  # likewise, of one path
        self._weight = 0
        self._only: AnyAddress | None = None  # whose paths these all are, if they are one peer's

    def put(self, nlris: Collection[Nlri], path: Path, *, fresh: bool = False) -> None:
        """`path` is what its peer has for `nlris` now, in place of what it had under the same path identifier.

        `fresh`: it had none for any of them.
        """
        best, alone = self.best, self._alone(path)
        if path.peer is not self._only:
            self._only = None if best else path.peer
        if (fresh and self._only is not None) or best.keys().isdisjoint(nlris):
            best.update(dict.fromkeys(nlris, alone))
            self.changed += nlris
            return
        known: dict[int, tuple[Ranked, Ranked]] = {}  # new by the id of old, which it keeps alive
        for nlri in nlris:
            old = best.get(nlri)
            if old is None:
                best[nlri] = alone
                self.changed.append(nlri)
                continue
            found = known.get(id(old))
            if found is None:
                found = known[id(old)] = old, self._with(old, path)
            if found[1] is not old:
                best[nlri] = found[1]
                self.changed.append(nlri)

    def put_each(self, nlris: Sequence[Nlri], paths: Sequence[Path]) -> None:
        """`put` for each of `nlris` with a path of its own, which all its peer's are without path identifier."""
        self._only = None
        if self.best.keys().isdisjoint(nlris):
            self.best.update(zip(nlris, zip(paths, strict=True), strict=True))
            self.changed += nlris
            return
        for nlri, path in zip(nlris, paths, strict=True):
            self.put((nlri,), path)

    def drop(self, nlris: Iterable[Nlri], peer: AnyAddress, path_id: int = 0) -> None:
        """`peer` has no path for `nlris` any more."""
        self._each(nlris, lambda path: None if path.peer == peer and path.path_id == path_id else path)

    def revise(self, nlris: Iterable[Nlri], change: Callable[[Path], Path | None]) -> None:
        """Put `change(path)` in the place of every path of `nlris`; it returns the very path where nothing is new."""
        self._each(nlris, change)

    def _each(self, nlris: Iterable[Nlri], change: Callable[[Path], Path | None]) -> None:
        best = self.best
        known: dict[int, tuple[Ranked, Ranked]] = {}
        for nlri in nlris:
            old = best.get(nlri)
            if old is None:
                continue
            found = known.get(id(old))
            if found is None:
                found = known[id(old)] = old, self._changed(old, change)
            if found[1] is old:
                continue
            self.changed.append(nlri)
            if found[1]:
                best[nlri] = found[1]
            else:
                del best[nlri]

    def _with(self, old: Ranked, path: Path) -> Ranked:
        others = [other for other in old if other.path_id != path.path_id or other.peer != path.peer]
        new = self._ranked([*others, path])
        return old if new == old else new

    def _changed(self, old: Ranked, change: Callable[[Path], Path | None]) -> Ranked:
        paths = [revised for path in old if (revised := change(path)) is not None]
        if not paths:
            return ()
        new = self._ranked(paths)
        return old if new == old else new

    def _alone(self, path: Path) -> Ranked:
        """`_ranked` of one, which is most of them."""
        found = self._single.get(id(path))
        if found is None:
            if len(self._single) >= _MOST_ALONE:
                self._single.clear()
            found = self._single[id(path)] = (path,)
        return found

    def _ranked(self, paths: list[Path]) -> Ranked:
        if len(paths) == 1:
            return self._alone(paths[0])
        key = tuple(map(id, paths))
        found = self._shared.get(key)
        if found is None:
            if self._weight >= _MOST_SHARED:
                self._shared.clear()
                self._weight = 0
            self._weight += sum(map(weight, paths))
            found = decision.ranked(paths)
            # two orders of the same paths are one tuple, so that identity tells most sets apart
            found = self._shared.setdefault(tuple(map(id, found)), found)
            self._shared[key] = found
        return found

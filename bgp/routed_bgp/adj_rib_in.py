"""The Adj-RIB-In of one peer: what it sent, before policy, and what policy makes of it (RFC 4271 section 3.2).

What policy accepts is not kept here a second time: it is in the Loc-RIB, with the peer's name on it. What it rejects is
kept with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replace_field
from itertools import chain, repeat
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from routed.model.address import AnyAddress, Family
from routed.model.path import Path, prepended
from routed_bgp.attributes import Attributes
from routed_bgp.columns import Run
from routed_bgp.filters import Decided, Facts, Verdict
from routed_bgp.loc_rib import LocRib
from routed_bgp.nlri import Nlri
from routed_bgp.notification import OUT_OF_RESOURCES, SessionReset
from routed_bgp.policy import GRACEFUL_SHUTDOWN, ImportPolicy, Rejection, Source, Standing
from routed_bgp.weight import weight

S = TypeVar("S", bound=Struct)

_PATH_ID = 4  # octets before the prefix where a peer sends several paths, RFC 7911 section 3
MOST_PATHS = 64  # of one peer to one prefix: each that comes is ranked among all
_MOST_KNOWN = 1 << 16  # weight of attributes that are remembered; a hostile peer can make as many as it sends UPDATEs
_MOST_STANDINGS = 1 << 10

Key = bytes
"""A prefix in wire form, after its path identifier in a table with several paths per prefix."""


@dataclass(slots=True)
class Table:
    """What a peer sent in one family. `refreshed`: what of it since it began a refresh (RFC 7313), None without."""

    family: Family
    add_path: bool = False
    received: dict[Key, Attributes] = field(default_factory=dict[Key, Attributes])
    rejected: dict[Key, Rejection] = field(default_factory=dict[Key, Rejection])
    stale: set[Key] = field(default_factory=set[Key])
    refreshed: set[Key] | None = None
    paths: Counter[Nlri] = field(default_factory=Counter[Nlri])  # how many of one prefix; only with `add_path`

    def expect(self, keys: Iterable[Key]) -> None:
        """`keys` are to be received. Raises SessionReset where a prefix would have more paths than a peer may send."""
        for key in {*keys}.difference(self.received):
            nlri = self.nlri(key)
            self.paths[nlri] += 1
            if self.paths[nlri] > MOST_PATHS:
                raise SessionReset(f"more than {MOST_PATHS} paths to one prefix", *OUT_OF_RESOURCES)

    def forget(self, keys: Iterable[Key]) -> None:
        """`keys` are received no more."""
        if not self.received:  # some that were expected may never have come
            self.paths.clear()
        else:
            for nlri in map(self.nlri, keys):
                self.paths[nlri] -= 1
                if not self.paths[nlri]:
                    del self.paths[nlri]

    def by_path_id(self, keys: Collection[Key]) -> Iterator[tuple[int, Collection[Nlri]]]:
        """`keys` as prefixes, by path identifier."""
        if not self.add_path:
            yield 0, keys
            return
        found: dict[int, list[Nlri]] = {}
        for key in keys:
            found.setdefault(int.from_bytes(key[:_PATH_ID]), []).append(key[_PATH_ID:])
        yield from found.items()

    def nlri(self, key: Key) -> Nlri:
        """The prefix of `key`."""
        return key[_PATH_ID:] if self.add_path else key

    def key(self, nlri: Nlri, path_id: int) -> Key:
        """The key of a prefix."""
        return path_id.to_bytes(_PATH_ID) + nlri if self.add_path else nlri


class AdjRibIn:
    """The tables of one peer, and the way from them into the Loc-RIBs.

    `policy` is None while the node is not known to the cluster: nothing is let in. `unreachable` are next hops that do
    not resolve, `devices` the interfaces that lead to others, `assigned` the addresses of this node's pods. All are
    shared by the peers of a node; `imports_changed` says that they, or `source`, are others now.
    """

    def __init__(self, source: Source, loc_ribs: Mapping[Family, LocRib]) -> None:
        self.source = source
        self.policy: ImportPolicy | None = None
        self.unreachable: frozenset[AnyAddress] = frozenset()
        self.devices: Mapping[AnyAddress, str] = {}
        self.assigned: Mapping[Family, frozenset[Nlri]] = dict.fromkeys(Family, frozenset())
        self.tables: dict[Family, Table] = {family: Table(family) for family in Family}
        self._loc_ribs = loc_ribs
        # both by the ids of what the values keep alive
        self._verdicts: dict[tuple[int, int], tuple[Attributes, Path | Rejection]] = {}
        self._variants: dict[tuple[int, object], tuple[Path, Path]] = {}
        self._decided: dict[tuple[int, Family], tuple[Path, Decided]] = {}
        self._standings: dict[tuple[int, int, int, int], tuple[object, Standing | Rejection]] = {}
        self._certain: dict[Family, set[bytes]] = {family: set() for family in Family}  # see `Scope.lets_in`
        self._known = self._varied = 0  # what the verdicts and the variants weigh
        self._next_hops: set[AnyAddress] = set()

    @property
    def peer(self) -> AnyAddress:
        """Whose tables these are."""
        return self.source.session.peer

    @property
    def received(self) -> int:
        """How many paths the peer has sent, stale ones included."""
        return sum(len(table.received) for table in self.tables.values())

    @property
    def rejected(self) -> int:
        """How many of them policy rejects."""
        return sum(len(table.rejected) for table in self.tables.values())

    @property
    def stale(self) -> int:
        """How many of them are from before the peer's restart."""
        return sum(len(table.stale) for table in self.tables.values())

    def expect(self, add_path: Collection[Family]) -> None:
        """A session begins in which the peer sends path identifiers in the families `add_path`."""
        for family, table in self.tables.items():
            table.refreshed = None  # a refresh that was under way has ended with its session
            if table.add_path != (family in add_path):  # the keys of before mean nothing now
                self.flush(table, list(table.received))
                table.add_path = family in add_path
        if not self.received:
            self._forget()  # a new session has new objects for the same attributes

    def announce(self, family: Family, keys: Collection[Key], attributes: Attributes) -> None:
        """The peer has a path with `attributes` to `keys`. Raises SessionReset where it has too many to one prefix."""
        table = self.tables[family]
        if table.add_path:
            table.expect(keys)
        before = len(table.received)
        table.received.update(dict.fromkeys(keys, attributes))
        fresh = len(table.received) == before + len(keys) and not table.add_path
        if table.stale:
            table.stale.difference_update(keys)
        if table.refreshed is not None:
            table.refreshed.update(keys)
        self._admit(table, keys, attributes, stale=False, fresh=fresh)

    def announce_run(self, like: Attributes, run: Run) -> None:
        """The same for IPv4 prefixes that have the attributes `like` but for the communities, each its own."""
        table, nlris = self.tables[Family.IPV4], run.nlris
        attributes = varied(like, "communities", run.communities)
        table.received.update(zip(nlris, attributes, strict=True))
        if table.stale:
            table.stale.difference_update(nlris)
        if table.refreshed is not None:
            table.refreshed.update(nlris)
        verdict = self._verdict(like, 0)
        # the one community that policy itself reads
        leaving = GRACEFUL_SHUTDOWN in like.communities or GRACEFUL_SHUTDOWN in chain.from_iterable(run.communities)
        if isinstance(verdict, Path) and not leaving and self._lets_in(nlris, Family.IPV4):
            if table.rejected:
                for nlri in nlris:
                    table.rejected.pop(nlri, None)
            self._loc_ribs[Family.IPV4].put_each(nlris, varied(verdict, "communities", run.communities))
        else:
            for nlri, each in zip(nlris, attributes, strict=True):
                self._admit(table, (nlri,), each, stale=False)

    def withdraw(self, family: Family, keys: Iterable[Key]) -> None:
        """The peer has no path to `keys` any more."""
        self.flush(self.tables[family], keys)

    def flush(self, table: Table, keys: Iterable[Key]) -> None:
        """Forget what was sent for `keys`."""
        received, stale, rejected = table.received, table.stale, table.rejected
        gone = [key for key in keys if received.pop(key, None) is not None]
        if stale:
            stale.difference_update(gone)
        if table.refreshed:
            table.refreshed.difference_update(gone)
        if rejected:
            for key in gone:
                rejected.pop(key, None)
        if table.add_path:
            table.forget(gone)
        self._drop(table, gone)

    def flush_all(self) -> None:
        """Forget everything."""
        for table in self.tables.values():
            self.flush(table, list(table.received))

    def flush_stale(self) -> None:
        """Forget what is from before the peer's restart."""
        for table in self.tables.values():
            self.flush(table, list(table.stale))

    def make_stale(self, table: Table) -> None:
        """All that was sent is from before the peer's restart (RFC 4724 section 4.2)."""
        table.stale = set(table.received)
        table.refreshed = None
        peer = self.peer

        def aged(path: Path) -> Path:
            return self._aged(path) if path.peer == peer and not path.stale else path

        self._loc_ribs[table.family].revise({table.nlri(key) for key in table.received}, aged)

    def begin_refresh(self, family: Family) -> None:
        """RFC 7313 section 4: what is not sent again before the end of the refresh is gone."""
        self.tables[family].refreshed = set()  # not what remains: a peer can begin at any rate, with any table

    def end_refresh(self, family: Family) -> None:
        """The peer has sent its table again."""
        table = self.tables[family]
        if (refreshed := table.refreshed) is not None:
            self.flush(table, [key for key in table.received if key not in refreshed])
        table.refreshed = None

    def imports_changed(self) -> None:
        """Judge again all that was received: by another policy, or with other next hops unreachable."""
        before, self._verdicts, self._known = self._verdicts, {}, 0
        self._decided.clear()
        self._standings.clear()
        self._next_hops.clear()
        for certain in self._certain.values():
            certain.clear()
        for (_, path_id), (attributes, old) in before.items():
            self._verdict(attributes, path_id, old)
        for table in self.tables.values():
            groups: dict[tuple[int, bool], list[Key]] = {}
            for key, attributes in table.received.items():
                groups.setdefault((id(attributes), key in table.stale), []).append(key)
            for (_, stale), keys in groups.items():
                self._admit(table, keys, table.received[keys[0]], stale=stale)

    def import_again(self, family: Family, nlris: frozenset[Nlri]) -> None:
        """Judge again what was received for `nlris`."""
        table = self.tables[family]
        keys = [key for key in table.received if table.nlri(key) in nlris] if table.add_path else nlris
        for key in keys:
            if key in table.received:
                self._admit(table, (key,), table.received[key], stale=key in table.stale)

    def weight(self) -> int:
        """What the attributes weigh that the peer has sent, each set once however many prefixes have it."""
        known = {id(each): each for table in self.tables.values() for each in table.received.values()}
        return sum(map(weight, known.values()))

    def next_hops(self) -> frozenset[AnyAddress]:
        """The next hops of the paths that are let in, and of some that were before."""
        return frozenset(self._next_hops)

    def rejection(self, family: Family, key: Key) -> Rejection | None:
        """Why `key` was not let in, if so."""
        return self.tables[family].rejected.get(key)

    def _admit(
        self, table: Table, keys: Collection[Key], attributes: Attributes, *, stale: bool, fresh: bool = False
    ) -> None:
        """Bring what policy makes of `attributes` for `keys` into the Loc-RIB; `fresh`: none of them was known."""
        if len(keys) == 1 and not table.add_path and self._admit_one(table, keys, attributes, stale=stale):
            return
        for path_id, nlris in table.by_path_id(keys):
            for outcome, those in self._outcomes(self._verdict(attributes, path_id), nlris, table.family):
                if isinstance(outcome, Path):
                    self._accept(table, path_id, those, self._aged(outcome) if stale else outcome, fresh=fresh)
                else:
                    self._reject(table, path_id, those, outcome)

    def _admit_one(self, table: Table, keys: Collection[Key], attributes: Attributes, *, stale: bool) -> bool:
        """The short way for a prefix that has attributes of its own, 100,000 times over; False where it does not do."""
        if not self._lets_in(keys, table.family):
            return False
        verdict = self._verdict(attributes, 0)
        if not isinstance(verdict, Path):
            return False
        if table.rejected:
            for nlri in keys:
                table.rejected.pop(nlri, None)
        self._loc_ribs[table.family].put(keys, self._aged(verdict) if stale else verdict)
        return True

    def _lets_in(self, nlris: Collection[Nlri], family: Family) -> bool:
        """Whether all these are let in whatever their attributes; False where that takes a closer look."""
        certain = self._certain[family]
        heads = {nlri[:3] for nlri in nlris}
        if not heads <= certain:
            if self.policy is None or not all(map(self.policy.scopes[family].lets_in, heads - certain)):
                return False
            certain |= heads
        return family not in self.source.policy.import_rules and self.assigned[family].isdisjoint(nlris)

    def _verdict(self, attributes: Attributes, path_id: int, like: Path | Rejection | None = None) -> Path | Rejection:
        """What becomes of `attributes`, whatever the prefix. Equal to `like`, it is that very object."""
        found = self._verdicts.get((id(attributes), path_id))
        if found is not None:
            return found[1]
        verdict: Path | Rejection = Rejection.UNKNOWN_NODE
        if self.policy is not None:
            standing = self._standing(attributes, self.policy)
            if isinstance(standing, Rejection):
                verdict = standing
            else:
                verdict = self.policy.path(attributes, self.source, standing, path_id)
        if like is not None and verdict == like:
            verdict = like
        if self._known >= _MOST_KNOWN:
            self._forget()
        self._known += weight(attributes)
        self._verdicts[id(attributes), path_id] = attributes, verdict
        return verdict

    def _standing(self, attributes: Attributes, policy: ImportPolicy) -> Standing | Rejection:
        """What most attributes of a peer have in common; the decoder makes them one object each."""
        key = (
            id(attributes.as_path),
            id(attributes.next_hop),
            id(attributes.originator_id),
            id(attributes.cluster_list),
        )
        found = self._standings.get(key)
        if found is None:
            if len(self._standings) >= _MOST_STANDINGS:
                self._standings.clear()
            standing = policy.standing(attributes, self.source)
            if isinstance(standing, Standing):
                self._next_hops.add(attributes.next_hop)
                if attributes.next_hop in self.unreachable:
                    standing = replace_field(standing, unreachable=True)
            alive = attributes.as_path, attributes.next_hop, attributes.originator_id, attributes.cluster_list
            found = self._standings[key] = alive, standing
        return found[1]

    def _forget(self) -> None:
        """Remember no verdicts; next hops only of what there is."""
        self._verdicts.clear()
        self._variants.clear()
        self._decided.clear()
        self._standings.clear()
        self._known = self._varied = 0
        known = {id(each): each for table in self.tables.values() for each in table.received.values()}
        self._next_hops.intersection_update(each.next_hop for each in known.values())

    def _outcomes(
        self, verdict: Path | Rejection, nlris: Collection[Nlri], family: Family
    ) -> Iterable[tuple[Path | Rejection, Collection[Nlri]]]:
        """What becomes of `nlris`, whose attributes have `verdict`: the filters' word, else the safe defaults."""
        if isinstance(verdict, Rejection) or self.policy is None:
            return ((verdict, nlris),)
        decided, scope = self._decisions(verdict, family), self.policy.scopes[family]
        asked = nlris
        if not decided.rules:
            if decided.otherwise is not None:
                return ((self._said(verdict, decided.otherwise), nlris),)
            asked = scope.doubtful(nlris)
            if assigned := self.assigned[family]:  # some are in blocks of other nodes
                asked = {*asked, *assigned.intersection(nlris)}
        found: dict[int, tuple[Path | Rejection, list[Nlri]]] = {}
        if len(asked) < len(nlris):
            found[id(verdict)] = verdict, list(set(nlris).difference(asked)) if asked else list(nlris)
        for nlri in asked:
            said = decided.verdict(nlri)
            if said is None and nlri in self.assigned[family]:
                outcome: Path | Rejection = Rejection.ASSIGNED
            elif said is None:
                outcome = scope.refuse(nlri, member=verdict.member) or verdict
            else:
                outcome = self._said(verdict, said)
            found.setdefault(id(outcome), (outcome, []))[1].append(nlri)
        return found.values()

    def _said(self, path: Path, said: Verdict) -> Path | Rejection:
        """What a filter's verdict makes of `path`."""
        return self._variant(path, said, lambda path: revised(path, said)) if said.accept else Rejection.FILTER

    def _decisions(self, path: Path, family: Family) -> Decided:
        """What the filters say of prefixes with `path`."""
        found = self._decided.get((id(path), family))
        if found is None:
            rules = self.source.policy.import_rules.get(family)
            facts = Facts(
                path.communities,
                path.large_communities,
                path.as_numbers,
                interface=self.devices.get(path.next_hop),
                priority=path.priority,
            )
            found = self._decided[id(path), family] = path, rules.given(facts) if rules else Decided()
        return found[1]

    def _accept(self, table: Table, path_id: int, nlris: Collection[Nlri], path: Path, *, fresh: bool) -> None:
        if table.rejected:
            for nlri in nlris:
                table.rejected.pop(table.key(nlri, path_id), None)
        self._loc_ribs[table.family].put(nlris, path, fresh=fresh)

    def _reject(self, table: Table, path_id: int, nlris: Collection[Nlri], why: Rejection) -> None:
        for nlri in nlris:
            table.rejected[table.key(nlri, path_id)] = why
        self._loc_ribs[table.family].drop(nlris, self.peer, path_id)

    def _drop(self, table: Table, keys: Collection[Key]) -> None:
        for path_id, nlris in table.by_path_id(keys):
            self._loc_ribs[table.family].drop(nlris, self.peer, path_id)

    def _aged(self, path: Path) -> Path:
        yields = self.policy is None or self.policy.preferences.stale_yields
        return self._variant(path, "stale", lambda path: replace(path, stale=True, yields=yields))

    def _variant(self, path: Path, name: object, make: Callable[[Path], Path]) -> Path:
        """`make(path)`, the same object each time for the same `path` and `name`."""
        found = self._variants.get((id(path), name))
        if found is None:
            if self._varied >= _MOST_KNOWN:
                self._variants.clear()
                self._varied = 0
            self._varied += weight(path)
            found = self._variants[id(path), name] = path, make(path)
        return found[1]


def varied(like: S, name: str, values: Sequence[object]) -> list[S]:
    """`like` as often as there are `values`, with these in its field `name`; 0.3 us each, a tenth of `replace`."""
    columns = (values if field == name else repeat(getattr(like, field)) for field in like.__struct_fields__)
    return list(map(type(like), *columns))


def revised(path: Path, said: Verdict) -> Path:
    """`path` as a filter's verdict changes it."""
    return replace(
        path,
        communities=tuple(dict.fromkeys((*path.communities, *said.add_communities))),
        large_communities=tuple(dict.fromkeys((*path.large_communities, *said.add_large_communities))),
        as_path=prepended(path.as_path, said.prepend),
        priority=path.priority if said.priority is None else said.priority,
    )

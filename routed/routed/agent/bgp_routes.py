"""`/bgp/routes`: the routes of a table, with the reason why each won or lost, the shape that `routed bgp routes` reads.

It runs in the event loop, so it costs what it shows and not what there is: tables are walked in their own order and
only as far as the limit, a prefix is looked up, and what many prefixes share is explained once. A table with path
identifiers (RFC 7911) has to be searched for a prefix, because the key is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from typing import Any

from routed.agent.bgp_observation import BgpObservation
from routed.agent.bgp_query import Query, Table
from routed.agent.bgp_reason import Explained, explained
from routed.agent.bgp_view import family_name
from routed.model.address import AnyAddress, Family
from routed.model.path import Path, Segment
from routed_bgp import adj_rib_in
from routed_bgp.attributes import Attributes
from routed_bgp.loc_rib import Ranked
from routed_bgp.nlri import Nlri, from_prefix, to_prefix
from routed_bgp.policy import Rejection, host


def bgp_routes(seen: BgpObservation, parameters: Mapping[str, str]) -> Mapping[str, Any]:
    """The routes that `parameters` ask for. Raises OperatorError for what is no query (see `Query.of`)."""
    query = Query.of(parameters, [peer.peer for peer in seen.peers])
    found = _Finder(seen, query).find()
    shown = sorted(islice(found.routes, query.limit), key=_order)
    return {
        "table": str(query.table),
        "peer": str(query.peer) if query.peer is not None else None,
        "routes": [_json(route) for route in shown],
        "total": max(found.total(), len(shown)),
        "shown": len(shown),
    }


@dataclass(frozen=True, slots=True)
class _Route:
    """A line: a path to a prefix. `peer` sent it, or is told it."""

    family: Family
    nlri: Nlri
    attributes: Path | Attributes
    peer: AnyAddress
    reason: str
    path_id: int = 0
    best: bool = False
    multipath: bool = False
    stale: bool = False
    unreachable: bool = False
    rejected: Rejection | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """Routes, not walked yet, and how many there are."""

    routes: Iterator[_Route]
    total: Callable[[], int]


@dataclass(slots=True)
class _Finder:
    """Answers one query."""

    seen: BgpObservation
    query: Query
    _known: dict[int, tuple[Ranked, tuple[Explained, ...]]] = field(
        default_factory=dict[int, tuple[Ranked, tuple[Explained, ...]]]
    )
    _winners: dict[int, list[Explained]] = field(default_factory=dict[int, list[Explained]])

    def find(self) -> _Found:
        if self.query.where is not None:
            found = list(self._routes())  # a handful
            return _Found(iter(found), lambda: len(found))
        return _Found(self._routes(), self._total)

    def _routes(self) -> Iterator[_Route]:
        for family in self.query.families:
            if self.query.table is Table.BEST:
                yield from self._best(family)
            elif self.query.table is Table.ADVERTISED:
                for peer in self._peers():
                    yield from self._advertised(family, peer)
            else:
                for peer in self._peers():
                    tables = self.seen.tables(peer)
                    if tables is not None:
                        yield from self._sent(tables.tables[family], peer)

    def _total(self) -> int:
        """How many `_routes` yields."""
        seen, query = self.seen, self.query
        if query.table is Table.BEST:
            ranked = [seen.best[family].values() for family in query.families]
            if query.peer is None:
                return sum(sum(map(len, each)) for each in ranked)
            return sum(len(self._of_peer(paths)) for each in ranked for paths in each)
        if query.table is Table.ADVERTISED:
            return sum(len(seen.told(peer).get(family, {})) for peer in self._peers() for family in query.families)
        tables = [
            found.tables[family]
            for peer in self._peers()
            if (found := seen.tables(peer)) is not None
            for family in query.families
        ]
        received = sum(len(table.received) for table in tables)
        return received - (sum(len(table.rejected) for table in tables) if query.table is Table.ACCEPTED else 0)

    def _peers(self) -> Iterable[AnyAddress]:
        return [peer.peer for peer in self.seen.peers] if self.query.peer is None else [self.query.peer]

    # ---- the tables

    def _best(self, family: Family) -> Iterator[_Route]:
        best = self.seen.best[family]
        for nlri in self._nlris(best):
            ranked = best[nlri]
            for each in self._explained(ranked) if self.query.peer is None else self._of_peer(ranked):
                yield _of_path(family, nlri, each)

    def _of_peer(self, ranked: Ranked) -> list[Explained]:
        """The paths of the one peer that carry traffic."""
        found = self._winners.get(id(ranked))
        if found is None:
            found = self._winners[id(ranked)] = [
                each
                for each in self._explained(ranked)  # which keeps `ranked` alive, and so its id
                if each.path.peer == self.query.peer and (each.best or each.shares) and not each.path.unreachable
            ]
        return found

    def _advertised(self, family: Family, peer: AnyAddress) -> Iterator[_Route]:
        told = self.seen.told(peer).get(family, {})
        for nlri in self._nlris(told):
            attributes = told[nlri]
            origin = attributes.originator_id
            reason = "originated by this node" if origin is None else f"reflected, originated by {origin}"
            yield _Route(family, nlri, attributes, peer, reason)

    def _sent(self, table: adj_rib_in.Table, peer: AnyAddress) -> Iterator[_Route]:
        """What `peer` sent: as it sent it, or as it was let in."""
        accepted = self.query.table is Table.ACCEPTED
        for key in self._keys(table):
            nlri, path_id = table.nlri(key), self._path_id(table, key)
            rejected = table.rejected.get(key)
            inside = None if rejected is not None else self._inside(table.family, nlri, peer, path_id)
            if inside is not None and accepted:
                yield _of_path(table.family, nlri, inside)
            elif not accepted:
                attributes = table.received[key]
                stale = key in table.stale
                if inside is None:
                    why = rejected or Rejection.UNKNOWN_NODE  # which is of all paths, and so of no key
                    yield _Route(
                        table.family, nlri, attributes, peer, f"rejected: {why}", path_id, stale=stale, rejected=why
                    )
                else:
                    yield _Route(
                        table.family,
                        nlri,
                        attributes,
                        peer,
                        inside.reason,
                        path_id,
                        inside.best,
                        inside.shares,
                        stale,
                        inside.path.unreachable,
                    )

    def _inside(self, family: Family, nlri: Nlri, peer: AnyAddress, path_id: int) -> Explained | None:
        """The peer's path in the Loc-RIB."""
        paths = self._explained(self.seen.best[family].get(nlri, ()))
        return next((each for each in paths if each.path.peer == peer and each.path.path_id == path_id), None)

    def _explained(self, ranked: Ranked) -> tuple[Explained, ...]:
        if not ranked:
            return ()
        found = self._known.get(id(ranked))
        if found is None:
            found = self._known[id(ranked)] = ranked, explained(ranked, self.seen.widths)
        return found[1]

    # ---- which of them

    def _nlris(self, table: Mapping[Nlri, object]) -> Iterable[Nlri]:
        where = self.query.where
        if where is None:
            return table
        candidates = _covering(where) if isinstance(where, IPv4Address | IPv6Address) else (from_prefix(where),)
        return list(islice((nlri for nlri in candidates if nlri in table), 1))

    def _keys(self, table: adj_rib_in.Table) -> Iterable[adj_rib_in.Key]:
        if not table.add_path:
            return self._nlris(table.received)
        if self.query.where is None:
            return table.received
        by_nlri: dict[Nlri, list[adj_rib_in.Key]] = {}
        for key in table.received:
            by_nlri.setdefault(table.nlri(key), []).append(key)
        return [key for nlri in self._nlris(by_nlri) for key in by_nlri[nlri]]

    def _path_id(self, table: adj_rib_in.Table, key: adj_rib_in.Key) -> int:
        return next(iter(table.by_path_id((key,))))[0]


def _of_path(family: Family, nlri: Nlri, each: Explained) -> _Route:
    path = each.path
    return _Route(
        family,
        nlri,
        path,
        path.peer,
        each.reason,
        path.path_id,
        each.best,
        each.shares,
        path.stale,
        path.unreachable,
    )


def _covering(address: AnyAddress) -> Iterator[Nlri]:
    """The wire forms of all prefixes that hold `address`, the longest first."""
    whole = host(address)
    for length in range(address.max_prefixlen, -1, -1):
        size = (length + 7) // 8
        octets = bytearray(whole[1 : 1 + size])
        if length % 8:
            octets[-1] &= 0xFF << (8 - length % 8) & 0xFF
        yield bytes((length, *octets))


def _order(route: _Route) -> tuple[Family, bytes, int]:
    """By prefix; the paths of one stay in their order. Octets that are missing are zero, and zero is lowest."""
    return route.family, route.nlri[1:].ljust(route.family.bits // 8, b"\0"), route.nlri[0]


def _json(route: _Route) -> Mapping[str, Any]:
    attributes = route.attributes
    return {
        "prefix": str(to_prefix(route.nlri, route.family)),
        "family": family_name(route.family),
        "next_hop": str(attributes.next_hop),
        "as_path": _as_path(attributes.as_path),
        "communities": [f"{each >> 16}:{each & 0xFFFF}" for each in attributes.communities],
        "large_communities": [":".join(map(str, each)) for each in attributes.large_communities],
        "local_pref": attributes.local_pref,
        "med": attributes.med,
        "origin": attributes.origin.name.lower(),
        "peer": str(route.peer),
        "path_id": route.path_id,
        "originator_id": str(attributes.originator_id) if attributes.originator_id is not None else None,
        "cluster_list": [str(each) for each in attributes.cluster_list],
        "best": route.best,
        "multipath": route.multipath,
        "stale": route.stale,
        "unreachable": route.unreachable,
        "reason": route.reason,
        "rejected": str(route.rejected) if route.rejected is not None else None,
    }


def _as_path(segments: Iterable[Segment]) -> list[int | list[int]]:
    """The numbers, nearest first; an AS_SET is a list within."""
    found: list[int | list[int]] = []
    for segment in segments:
        if segment.ordered:
            found += segment.numbers
        else:
            found.append(list(segment.numbers))
    return found

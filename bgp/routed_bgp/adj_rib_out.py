"""The Adj-RIB-Out: what peers have been told, and the messages that make it what it should be (RFC 4271 section 3.2).

It is kept per group of peers that are told the same, not per peer: a change is worked out and encoded once, and the
same bytes go to every peer of the group. Pure: what is to be sent is returned, as (peers, messages).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from routed.model.address import AnyAddress, Family
from routed.model.path import Path
from routed_bgp import encode
from routed_bgp.attributes import Attributes
from routed_bgp.export import Exports, Group, Own
from routed_bgp.nlri import Nlri
from routed_bgp.speaker import Refresh

Routes = Mapping[Family, Mapping[Nlri, Attributes]]
LocRibs = Mapping[Family, Mapping[Nlri, Sequence[Path]]]


@dataclass(frozen=True, slots=True)
class Sending:
    """Whole messages, and whom they are for."""

    peers: tuple[AnyAddress, ...]
    messages: bytes


@dataclass(slots=True)
class _Group:
    """The peers of one group, all of which have been told `routes`."""

    exports: Exports
    routes: dict[Family, dict[Nlri, Attributes]]
    peers: set[AnyAddress] = field(default_factory=set[AnyAddress])
    whole: bytes | None = None  # all of `routes` as messages, while it is true


class AdjRibOut:
    """See the module. `loc_ribs` are live views; `changed` and the others say when to look again.

    A peer counts as told from `up` until `down`. End-of-RIB follows the first table of a session, at once or, where a
    reflector still learns what it has to pass on, when `release` is called (RFC 4724 section 4.1).
    """

    def __init__(self, loc_ribs: LocRibs) -> None:
        self._loc_ribs = loc_ribs
        self._own: dict[tuple[Family, Nlri], Own] = {}
        self._groups: dict[Group, _Group] = {}
        self._of: dict[AnyAddress, Group] = {}
        self._released = False
        self._unended: set[AnyAddress] = set()

    def originate(self, own: Iterable[Own]) -> list[Sending]:
        """We originate exactly these from now on."""
        before, self._own = self._own, {(each.family, each.nlri): each for each in own}
        touched = [key for key in before.keys() | self._own.keys() if before.get(key) != self._own.get(key)]
        return self._look_again(touched, self._groups.values()) if touched else []

    def changed(self, changes: Mapping[Family, Collection[Nlri]]) -> list[Sending]:
        """The Loc-RIBs have other paths than before for these."""
        reflecting = [found for group, found in self._groups.items() if group.cluster_id is not None]
        if not reflecting:
            return []  # only reflectors pass on what they learn
        changed = [(family, nlri) for family, nlris in changes.items() for nlri in dict.fromkeys(nlris)]
        return self._look_again(changed, reflecting)

    def up(self, peer: AnyAddress, group: Group) -> list[Sending]:
        """The session with `peer` is up: it is told everything."""
        self.down(peer)
        found = self._join(peer, group)
        if found.whole is None:
            found.whole = _encoded(found.exports.group, {}, found.routes)
        self._unended.add(peer)
        end = self._ends(peer) if self._may_end(group) else b""
        return _sending(peer, found.whole + end)

    def down(self, peer: AnyAddress) -> None:
        """The session with `peer` is over: it has to be told again."""
        self._leave(peer)
        self._unended.discard(peer)

    def regroup(self, groups: Mapping[AnyAddress, Group]) -> list[Sending]:
        """Sessions that are up belong to other groups: policy changed. Each peer is told the difference."""
        sent: dict[tuple[int, int], bytes] = {}
        peers: dict[tuple[int, int], list[AnyAddress]] = {}
        kept: list[_Group] = []  # so that no id is used twice
        for peer, group in groups.items():
            before = self._of.get(peer)
            if before is None or before == group:
                continue
            old = self._groups[before]
            kept.append(old)
            self._leave(peer)
            new = self._join(peer, group)
            pair = id(old), id(new)
            if pair not in sent:
                sent[pair] = _encoded(group, old.routes, new.routes)
            peers.setdefault(pair, []).append(peer)
        sendings = [Sending(tuple(peers[pair]), messages) for pair, messages in sent.items() if messages]
        # towards peers to which we reflect no more there is nothing to wait for
        free = [peer for peer in self._unended if peer in groups and self._may_end(self._of[peer])]
        return sendings + [Sending((peer,), self._ends(peer)) for peer in free]

    def refresh(self, peer: AnyAddress, family: Family, *, enhanced: bool) -> list[Sending]:
        """The peer asks for its table again (RFC 2918), marked at both ends if it knows how (RFC 7313).

        Not before its End-of-RIB: section 4 forbids the mark, and the table is not whole yet.
        """
        group = self._of.get(peer)
        if group is None or family not in group.families:
            return []
        table = _encoded(group, {}, {family: self._groups[group].routes[family]})
        if enhanced and peer not in self._unended:
            table = encode.refresh(family, Refresh.BEGIN) + table + encode.refresh(family, Refresh.END)
        return _sending(peer, table)

    def release(self) -> list[Sending]:
        """All that is to be passed on has been learned: peers may be told that their table is whole."""
        self._released = True
        return [Sending((peer,), self._ends(peer)) for peer in sorted(self._unended, key=str)]

    def told(self, peer: AnyAddress) -> Routes:
        """What `peer` has been told; empty while its session is down."""
        group = self._of.get(peer)
        return self._groups[group].routes if group is not None else {}

    def count(self, peer: AnyAddress) -> int:
        """How many prefixes `peer` has been told."""
        return sum(map(len, self.told(peer).values()))

    # ---- groups

    def _join(self, peer: AnyAddress, group: Group) -> _Group:
        found = self._groups.get(group)
        if found is None:
            exports = Exports(group)
            routes: dict[Family, dict[Nlri, Attributes]] = {family: {} for family in group.families}
            found = self._groups[group] = _Group(exports, routes)
            keys = set(self._own)
            if group.cluster_id is not None:
                keys |= {(family, nlri) for family in group.families for nlri in self._loc_ribs[family]}
            for family, nlri in keys:
                attributes = self._wanted(exports, family, nlri)
                if attributes is not None:
                    routes[family][nlri] = attributes
        found.peers.add(peer)
        self._of[peer] = group
        return found

    def _leave(self, peer: AnyAddress) -> None:
        group = self._of.pop(peer, None)
        if group is not None:
            self._groups[group].peers.discard(peer)
            if not self._groups[group].peers:
                del self._groups[group]

    def _look_again(self, keys: Collection[tuple[Family, Nlri]], groups: Iterable[_Group]) -> list[Sending]:
        sendings: list[Sending] = []
        for group in groups:
            old: dict[Family, dict[Nlri, Attributes]] = {family: {} for family in group.routes}
            new: dict[Family, dict[Nlri, Attributes]] = {family: {} for family in group.routes}
            for family, nlri in keys:
                routes = group.routes.get(family)
                if routes is None:
                    continue
                before, after = routes.get(nlri), self._wanted(group.exports, family, nlri)
                if before is after or before == after:
                    continue
                if before is not None:
                    old[family][nlri] = before
                if after is None:
                    del routes[nlri]
                else:
                    new[family][nlri] = routes[nlri] = after
            messages = _encoded(group.exports.group, old, new)
            if messages:
                group.whole = None
                sendings.append(Sending(tuple(group.peers), messages))
        return sendings

    def _wanted(self, exports: Exports, family: Family, nlri: Nlri) -> Attributes | None:
        own = self._own.get((family, nlri))
        if own is not None:
            return exports.own(own)
        return exports.learned(nlri, family, self._loc_ribs[family].get(nlri, ()))

    def _may_end(self, group: Group) -> bool:
        return self._released or group.cluster_id is None

    def _ends(self, peer: AnyAddress) -> bytes:
        self._unended.discard(peer)
        return b"".join(encode.end_of_rib(family) for family in self._of[peer].families)


def _sending(peer: AnyAddress, messages: bytes) -> list[Sending]:
    return [Sending((peer,), messages)] if messages else []


def _encoded(group: Group, old: Routes, new: Routes) -> bytes:
    """The messages that lead a peer of `group` from `old` to `new`."""
    parts: list[bytes] = []
    for family in Family:  # also those that `group` has no more
        before, after = old.get(family, {}), new.get(family, {})
        gone = [nlri for nlri in before if nlri not in after]
        if gone:
            parts += encode.withdraw(family, gone)
        alike: dict[int, list[Nlri]] = {}
        for nlri, attributes in after.items():
            if (known := before.get(nlri)) is not attributes and known != attributes:
                alike.setdefault(id(attributes), []).append(nlri)
        for nlris in alike.values():
            parts += encode.announce(after[nlris[0]], family, nlris, asn4=group.asn4, ebgp=group.ebgp)
    return b"".join(parts)

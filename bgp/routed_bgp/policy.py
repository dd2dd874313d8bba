"""Import policy: which paths of a peer may enter the Loc-RIB, and with which LOCAL_PREF (design section 5).

Two questions, asked apart because many prefixes share their attributes: `judge` says what becomes of a set of
attributes, whatever the prefix; `Scope` says which prefixes are let in. A BGPFilter of the peer is asked before
`Scope`, whose safe defaults hold where no rule matches; loops are no matter of taste.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from routed.model.address import Address, AnyAddress, AnyPrefix, Family
from routed.model.cluster import Cluster
from routed.model.path import Path
from routed_bgp.attributes import Attributes
from routed_bgp.nlri import Nlri
from routed_bgp.peering import PeerPolicy
from routed_bgp.sessions import Session

MEMBER_LOCAL_PREF = 90  # the default for a path whose next hop is another member: the mesh, perhaps through a tunnel
FABRIC_LOCAL_PREF = 100  # and for one through a router of the fabric; a shorter AS path over the mesh never beats it
GRACEFUL_SHUTDOWN = 0xFFFF0000  # RFC 8326 section 4: the path is about to go, any other is better
_DEFAULT_ROUTE = b"\0"


class Rejection(StrEnum):
    """Why a path was not accepted, in words for an operator."""

    UNKNOWN_NODE = "the cluster does not know this node"
    AS_LOOP = "our own AS is in the AS path"
    ORIGINATOR_LOOP = "we originated it (ORIGINATOR_ID)"
    CLUSTER_LOOP = "it went through our cluster (CLUSTER_LIST)"
    OWN_NEXT_HOP = "next hop is this node"
    FILTER = "rejected by a BGPFilter"
    DEFAULT = "default route"
    OUTSIDE_POOLS = "outside every pool"
    OWN_BLOCK = "overlaps a block of this node"
    ASSIGNED = "address of a pod of this node"


@dataclass(frozen=True, slots=True)
class Source:
    """Who sends: a peer with its session, its policy, and the identifier it gave in its OPEN."""

    session: Session
    policy: PeerPolicy
    router_id: Address


@dataclass(frozen=True, slots=True)
class Ranges:
    """Disjoint ranges of addresses, as numbers, in order."""

    first: tuple[int, ...] = ()
    last: tuple[int, ...] = ()

    @classmethod
    def of(cls, prefixes: Iterable[AnyPrefix]) -> Ranges:
        """The ranges of prefixes, of which those inside another say nothing new."""
        first: list[int] = []
        last: list[int] = []
        for start, end in sorted((int(p.network_address), -int(p.broadcast_address)) for p in prefixes):
            if not last or start > last[-1]:
                first.append(start)
                last.append(-end)
        return cls(tuple(first), tuple(last))

    def hold(self, first: int, last: int) -> bool:
        """Whether one of the ranges holds all of first to last."""
        index = bisect_right(self.first, first) - 1
        return index >= 0 and last <= self.last[index]

    def touch(self, first: int, last: int) -> bool:
        """Whether any range has an address in common with first to last."""
        index = bisect_right(self.first, last) - 1
        return index >= 0 and first <= self.last[index]


@dataclass(frozen=True, slots=True)
class Scope:
    """Which prefixes of one family are let in when no filter says otherwise.

    Those inside a pool; never a default route; never one that touches a block of this node, since nobody else can have
    it. The exception is an address (a full-length prefix) in such a block that a member announces: it borrowed it.
    """

    bits: int
    pools: Ranges = Ranges()
    blocks: Ranges = Ranges()

    def doubtful(self, nlris: Collection[Nlri]) -> Collection[Nlri]:
        """Those of `nlris` for which `refuse` is to be asked; the others are let in, as a look at few of them can tell.

        The order of wire forms is that of lengths first: if first and last are equally long, all are, and lie between.
        """
        low, high = min(nlris), max(nlris)
        length = low[0]
        if length != high[0] or not length:
            return nlris
        first, last = self._span(low)[0], self._span(high)[1]
        if not self.pools.hold(first, last):
            return nlris
        found: list[Nlri] = []
        for start, end in zip(self.blocks.first, self.blocks.last, strict=True):
            if start <= last and first <= end:
                lowest, highest = self._around(start, length), self._around(end, length)
                found += [nlri for nlri in nlris if lowest <= nlri <= highest]
        return found

    def lets_in(self, head: bytes) -> bool:
        """Whether all prefixes are let in whose wire form begins with `head`: a length and two octets."""
        if len(head) < 3 or head[0] < 16:
            return False
        first = (head[1] << 8 | head[2]) << (self.bits - 16)
        last = first | ((1 << (self.bits - 16)) - 1)
        return self.pools.hold(first, last) and not self.blocks.touch(first, last)

    def refuse(self, nlri: Nlri, *, member: bool) -> Rejection | None:
        """Why `nlri` is not let in, if so; `member`: a member of the cluster originates it."""
        if nlri == _DEFAULT_ROUTE:
            return Rejection.DEFAULT
        first, last = self._span(nlri)
        if not self.pools.hold(first, last):
            return Rejection.OUTSIDE_POOLS
        borrowed = member and nlri[0] == self.bits
        return Rejection.OWN_BLOCK if not borrowed and self.blocks.touch(first, last) else None

    def _around(self, address: int, length: int) -> Nlri:
        """The prefix of this length that holds `address`."""
        masked = address >> (self.bits - length) << (self.bits - length)
        return bytes((length,)) + masked.to_bytes(self.bits // 8)[: (length + 7) // 8]

    def _span(self, nlri: Nlri) -> tuple[int, int]:
        first = int.from_bytes(nlri[1:]) << (self.bits - 8 * (len(nlri) - 1))
        return first, first | ((1 << (self.bits - nlri[0])) - 1)


@dataclass(frozen=True, slots=True)
class Preferences:
    """The LOCAL_PREF of a path by who originated it: another member, or a router of the fabric.

    `stale_yields`: what is kept through a restart loses to any fresh path, where RFC 4724 section 4.2 keeps its rank.
    """

    member: int = MEMBER_LOCAL_PREF
    fabric: int = FABRIC_LOCAL_PREF
    stale_yields: bool = True


@dataclass(frozen=True, slots=True)
class Standing:
    """What a path is worth by where it comes from and where it leads."""

    member: bool
    local_pref: int
    unreachable: bool = False


@dataclass(frozen=True, slots=True)
class ImportPolicy:
    """What the import of one node depends on, whoever the peer is."""

    local_as: int
    router_id: Address
    own_addresses: frozenset[AnyAddress] = frozenset()
    members: frozenset[AnyAddress] = frozenset()
    preferences: Preferences = Preferences()
    scopes: Mapping[Family, Scope] = field(default_factory=lambda: {family: Scope(family.bits) for family in Family})

    @classmethod
    def of(cls, cluster: Cluster, node: str, preferences: Preferences = Preferences()) -> ImportPolicy:
        """The policy of `node`, which `cluster` must know (KeyError)."""
        own = frozenset(address.ip for address in cluster.any_addresses(node))
        return cls(
            local_as=cluster.as_number(node),
            router_id=cluster.address(node).ip,
            own_addresses=own,
            members=frozenset(cluster.any_members) - own,
            preferences=preferences,
            scopes={
                family: Scope(
                    family.bits,
                    Ranges.of(cluster.pools_of(family)),
                    Ranges.of(block for block in cluster.any_own_blocks(node) if Family.of(block) is family),
                )
                for family in Family
            },
        )

    def judge(self, attributes: Attributes, source: Source, path_id: int = 0) -> Path | Rejection:
        """The path that `attributes` describe, as it enters the decision process, or why it does not."""
        standing = self.standing(attributes, source)
        return standing if isinstance(standing, Rejection) else self.path(attributes, source, standing, path_id)

    def standing(self, attributes: Attributes, source: Source) -> Standing | Rejection:
        """What AS path, next hop, originator and clusters say, or why a path is not let in; the rest of the attributes
        has no say in it."""
        session, next_hop = source.session, attributes.next_hop
        numbers = [number for segment in attributes.as_path for number in segment.numbers]
        for number in {self.local_as, session.local_as}:
            if numbers.count(number) > source.policy.allowed_local_as:  # RFC 4271 section 9.1.2
                return Rejection.AS_LOOP
        if attributes.originator_id == self.router_id:  # RFC 4456 section 8
            return Rejection.ORIGINATOR_LOOP
        if source.policy.cluster_id is not None and source.policy.cluster_id in attributes.cluster_list:
            return Rejection.CLUSTER_LOOP
        if next_hop in self.own_addresses:  # RFC 4271 section 5.1.3
            return Rejection.OWN_NEXT_HOP
        member = next_hop in self.members
        return Standing(member, self.preferences.member if member else self.preferences.fabric)

    def path(self, attributes: Attributes, source: Source, standing: Standing, path_id: int = 0) -> Path:
        """The path that `attributes` of this `standing` describe."""
        session = source.session
        return Path(
            next_hop=attributes.next_hop,
            peer=session.peer,
            peer_as=session.peer_as,
            peer_router_id=source.router_id,
            ebgp=session.ebgp,
            as_path=attributes.as_path,
            origin=attributes.origin,
            peer_local_pref=attributes.local_pref,
            local_pref=0 if GRACEFUL_SHUTDOWN in attributes.communities else standing.local_pref,
            med=attributes.med,
            communities=attributes.communities,
            large_communities=attributes.large_communities,
            originator_id=attributes.originator_id,
            cluster_list=attributes.cluster_list,
            unknown=attributes.unknown,
            path_id=path_id,
            member=standing.member,
            client=source.policy.client,
            unreachable=standing.unreachable,
        )


def host(address: AnyAddress) -> Nlri:
    """The wire form of the prefix that is one address."""
    return bytes([address.max_prefixlen]) + address.packed

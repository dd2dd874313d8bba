"""Export policy: what a node originates, and what each kind of peer is told of it (design section 5).

A node exports only what it originates: its blocks, addresses that it borrowed from other nodes' blocks, and the
service ranges of the cluster. It never passes on what it learned. The one exception is a route reflector (RFC 4456),
which tells the members' paths to its clients, and its clients' to everyone in the AS. Where the members are in several
ASes, as with one AS per rack, those of the others count as clients: between ASes there is no other rule (RFC 4271
section 9.2), and the mesh that reflectors replace goes across as well.

Peers that are told the same form a group: `Group` holds all that the answer depends on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum, auto

from msgspec.structs import replace

from routed.model.address import Address, AnyAddress, AnyPrefix, Family
from routed.model.cluster import Cluster
from routed.model.path import Origin, Path, prepended
from routed.model.resources import EncapsulationMode
from routed_bgp.attributes import Attributes
from routed_bgp.filters import NORMAL_PRIORITY, Facts, Rules, Verdict
from routed_bgp.nlri import Nlri, from_prefix, to_prefix
from routed_bgp.peering import NextHopMode, PeerPolicy
from routed_bgp.policy import GRACEFUL_SHUTDOWN
from routed_bgp.sessions import Session
from routed_bgp.weight import weight

NO_ADVERTISE = 0xFFFFFF02  # RFC 1997
NO_EXPORT = frozenset({0xFFFFFF01, 0xFFFFFF03})  # out of a confederation, or an AS of one: for us both are the AS
_MOST_KNOWN = 1 << 16  # weight of attributes that are remembered; a hostile peer can make as many as it sends UPDATEs
LOCAL_PREF = 100  # what a path has that nobody prefers; every BGP speaker's default


class Kind(StrEnum):
    """What an originated prefix is."""

    BLOCK = "block"
    BORROWED = "borrowed address"
    SERVICE = "service range"


class Drain(Enum):
    """How far a node is on its way out of service: `routed node drain`."""

    NO = auto()
    LOWERED = auto()  # RFC 8326: its paths carry GRACEFUL_SHUTDOWN: others are preferred while it still forwards
    WITHDRAWN = auto()


@dataclass(frozen=True, slots=True)
class Own:
    """A prefix that this node originates. `everywhere`: members and routers are told, else members alone.

    `exported` False: nobody is told (IPPool `disableBGPExport`). A BGPFilter that accepts it is stronger than both.
    """

    nlri: Nlri
    family: Family
    kind: Kind
    everywhere: bool = True
    communities: tuple[int, ...] = ()
    large_communities: tuple[tuple[int, int, int], ...] = ()
    exported: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """All that decides what a peer is told, apart from the routes themselves. Equal for peers that are told the same.

    `next_hops` has our own address by family: only families with one can be told. `cluster_id` is set on a reflector
    (RFC 4456), towards members and peers in its AS; `client` says whether the peers are its clients.
    `extended_next_hop`: they take IPv6 next hops of IPv4 prefixes (RFC 8950), which only matters for what is reflected.
    """

    asn4: bool
    ebgp: bool
    local_as: int
    member: bool
    next_hops: tuple[tuple[Family, AnyAddress], ...]
    next_hop_mode: NextHopMode = NextHopMode.AUTO
    cluster_id: Address | None = None
    client: bool = False
    extended_next_hop: bool = False
    rules: tuple[tuple[Family, Rules], ...] = ()
    drain: Drain = Drain.NO

    @property
    def families(self) -> tuple[Family, ...]:
        """What can be told."""
        return tuple(family for family, _ in self.next_hops)


def group_of(
    session: Session,
    policy: PeerPolicy,
    *,
    asn4: bool,
    next_hops: Mapping[Family, AnyAddress],
    extended_next_hop: bool = False,
    drain: Drain = Drain.NO,
) -> Group:
    """The group of a peer whose session is up."""
    reflecting = policy.cluster_id is not None and (session.member is not None or not session.ebgp)
    return Group(
        asn4=asn4,
        ebgp=session.ebgp,
        local_as=session.local_as,
        member=session.member is not None,
        next_hops=tuple(sorted(next_hops.items())),
        next_hop_mode=policy.next_hop_mode,
        cluster_id=policy.cluster_id if reflecting else None,
        client=reflecting and policy.client,
        extended_next_hop=reflecting and extended_next_hop,
        rules=tuple(sorted(policy.export_rules.items())),
        drain=drain,
    )


def own_prefixes(cluster: Cluster, node: str, borrowed: Sequence[Nlri] = ()) -> tuple[Own, ...]:
    """What `node` originates, in order; nothing while the cluster does not know it.

    A disabled pool gives no new addresses; the pods that have one of it are still to be reached, as in Calico.
    `borrowed` are the IPv4 addresses of its pods in other nodes' blocks: members are told; routers only where no member
    could pass packets on (the mesh is off) or none may (the pool is Never).
    """
    if node not in cluster.nodes:
        return ()
    found: dict[tuple[Family, Nlri], Own] = {}

    def add(prefix: AnyPrefix, kind: Kind, *, everywhere: bool = True, exported: bool = True) -> None:
        family, nlri = Family.of(prefix), from_prefix(prefix)
        communities = cluster.advertised_communities(prefix)
        standard = tuple(each.standard for each in communities if each.standard is not None)
        large = tuple(each.large for each in communities if each.large is not None)
        found.setdefault((family, nlri), Own(nlri, family, kind, everywhere, standard, large, exported))

    for block in cluster.any_own_blocks(node):
        if pool := cluster.pool(block):
            add(block, Kind.BLOCK, exported=not pool.spec.disable_bgp_export)
    for nlri in borrowed:
        address = to_prefix(nlri, Family.IPV4)
        pool = cluster.pool(address)
        if pool is not None:
            everywhere = (
                pool.spec.encapsulation_mode is EncapsulationMode.NEVER or not cluster.bgp.node_to_node_mesh_enabled
            )
            add(address, Kind.BORROWED, everywhere=everywhere, exported=not pool.spec.disable_bgp_export)
    for prefix in cluster.bgp.service_cidrs:
        add(prefix, Kind.SERVICE)
    return tuple(found[key] for key in sorted(found))


class Exports:
    """What the peers of `group` are told of each prefix; equal attributes are one object."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self._next_hops = dict(group.next_hops)
        self._rules = dict(group.rules)
        self._made: dict[Attributes, Attributes] = {}
        self._made_weight = self._reflected_weight = 0
        self._reflected: dict[
            tuple[int, Family], tuple[Path, Attributes]
        ] = {}  # the id is of what the value keeps alive

    def own(self, own: Own) -> Attributes | None:
        """What is told of a prefix that we originate; None: nothing."""
        group = self.group
        usual = own.exported and (own.everywhere or group.member)  # what happens where no filter has a word
        if own.family not in self._next_hops or not (usual or own.family in self._rules):
            return None
        if group.drain is Drain.WITHDRAWN or (group.member and own.kind is Kind.SERVICE):
            return None  # members have the service ranges themselves
        lowered = group.drain is Drain.LOWERED
        made = Attributes(
            origin=Origin.IGP,
            as_path=(),
            next_hop=self._next_hops[own.family],
            local_pref=0 if lowered else LOCAL_PREF,
            communities=(*own.communities, GRACEFUL_SHUTDOWN) if lowered else own.communities,
            large_communities=own.large_communities,
        )
        return self._said(own.nlri, own.family, self._one(made), usual=usual)

    def learned(self, nlri: Nlri, family: Family, ranked: Sequence[Path]) -> Attributes | None:
        """What a reflector tells of a prefix that it learned: the best of the members' paths, RFC 4456 section 6."""
        if self.group.cluster_id is None or family not in self._next_hops or self.group.drain is Drain.WITHDRAWN:
            return None
        path = next((path for path in ranked if self._reflects(path, family)), None)
        if path is None:
            return None
        found = self._reflected.get((id(path), family))
        if found is None:
            if self._reflected_weight >= _MOST_KNOWN:
                self._reflected.clear()
                self._reflected_weight = 0
            self._reflected_weight += weight(path)
            found = self._reflected[id(path), family] = path, self._one(self._reflect(path, family))
        return self._said(nlri, family, found[1], learned=path)

    def _reflects(self, path: Path, family: Family) -> bool:
        """Whether `path` is one that the peers of this group are told."""
        # what is stale was told before and is kept by the peers; a path that leads nowhere helps nobody
        if not path.member or path.unreachable or NO_ADVERTISE in path.communities:
            return False
        if path.ebgp and not path.client:  # a router says it, if only of a neighbour's address
            return False
        if self.group.ebgp and not NO_EXPORT.isdisjoint(path.communities):
            return False
        if family is Family.IPV4 and path.next_hop.version == 6 and not self.group.extended_next_hop:
            return False  # RFC 8950 section 4
        return self.group.client or path.client

    def _reflect(self, path: Path, family: Family) -> Attributes:
        assert self.group.cluster_id is not None
        keep = self.group.next_hop_mode is not NextHopMode.SELF
        inside = not (path.ebgp or self.group.ebgp)  # what RFC 4456 section 8 adds is of one AS
        return Attributes(
            origin=path.origin,
            as_path=path.as_path,
            next_hop=path.next_hop if keep else self._next_hops[family],
            med=None if self.group.ebgp else path.med,  # RFC 4271 section 5.1.4
            local_pref=LOCAL_PREF if path.peer_local_pref is None else path.peer_local_pref,
            communities=path.communities,
            large_communities=path.large_communities,
            originator_id=(path.originator_id or path.peer_router_id) if inside else None,
            cluster_list=(self.group.cluster_id, *path.cluster_list) if inside else (),
            unknown=path.unknown,
        )

    def _said(
        self, nlri: Nlri, family: Family, attributes: Attributes, *, learned: Path | None = None, usual: bool = True
    ) -> Attributes | None:
        """After the filters, and with our AS in front towards another AS. `usual`: told where no rule matches."""
        rules = self._rules.get(family)
        if rules is not None:
            numbers = tuple(number for segment in attributes.as_path for number in segment.numbers)
            facts = Facts(
                attributes.communities,
                attributes.large_communities,
                numbers,
                remote=learned is not None,
                priority=NORMAL_PRIORITY if learned is None else learned.priority,
            )
            said = rules.evaluate(nlri, facts)
            if not (usual if said is None else said.accept):
                return None
            if said is not None:
                attributes = self._one(revised(attributes, said))
        if self.group.ebgp:
            as_path = prepended(attributes.as_path, (self.group.local_as,))
            attributes = self._one(replace(attributes, as_path=as_path, local_pref=None))
        return attributes

    def _one(self, attributes: Attributes) -> Attributes:
        """The one object for all that are equal to `attributes`."""
        known = self._made.get(attributes)
        if known is not None:
            return known
        if self._made_weight >= _MOST_KNOWN:
            self._made.clear()
            self._made_weight = 0
        self._made_weight += weight(attributes)
        self._made[attributes] = attributes
        return attributes


def revised(attributes: Attributes, said: Verdict) -> Attributes:
    """`attributes` as a filter's verdict changes them. A priority is a matter of the node that has it."""
    return replace(
        attributes,
        communities=tuple(dict.fromkeys((*attributes.communities, *said.add_communities))),
        large_communities=tuple(dict.fromkeys((*attributes.large_communities, *said.add_large_communities))),
        as_path=prepended(attributes.as_path, said.prepend),
    )

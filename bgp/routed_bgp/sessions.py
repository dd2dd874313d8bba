"""Which sessions a node wants, and the policy of each: Calico's mesh, BGPPeer and route reflectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from routed.errors import OperatorError, RoutedError
from routed.model.address import Address, AnyAddress, Family
from routed.model.adjacency import BGP_PORT, Adjacency, adjacencies
from routed.model.bgp import (
    MAX_PREFIXES,
    AddPath,
    AddressFamily,
    BFDTimers,
    BGPPassword,
    BGPPeerSpec,
    FailureDetectionMode,
    SecretKeySelector,
    SourceAddress,
)
from routed.model.bgp_filter import BGPFilterSpec
from routed.model.cluster import Cluster
from routed_bgp.filters import Direction, Rules
from routed_bgp.peering import BfdSettings, NextHopMode, PeerPolicy

MAX_HOLD_SECONDS = 65535
MAX_PASSWORD_OCTETS = 80  # TCP_MD5SIG_MAXKEYLEN, include/uapi/linux/tcp.h
MAX_RESTART_SECONDS = 4095  # 12 bits, RFC 4724 section 3
PASSIVE_SECONDS = 2.0  # a passive session that is down for so long is tried from our side too


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session as this node wants it; `peer` is its key everywhere.

    `member` is the node at the other end, None for a router that is no member. We listen on `local`:`listen_port` and
    connect to `peer`:`port`; a `passive` session lets the peer connect, and connects itself only after it has been down
    for `PASSIVE_SECONDS`. Times in seconds: `hold_time` and `keepalive_time` are what we propose (RFC 4271 section 4.2;
    a third of the hold time if None), `restart_time` how long we ask the peer to keep our paths (RFC 4724 section 3; 0
    disables). `families` are those that we offer. `password` is for TCP MD5 (RFC 2385). `ttl_security` is the number of
    hops the peer may be away (GTSM, RFC 5082), None without. `add_path`: receive several paths of a prefix (RFC 7911).
    `notification_restart` is the N bit of RFC 8538. `bind`: connect from `local`; False lets the kernel choose.
    """

    name: str
    peer: AnyAddress
    peer_as: int
    local: AnyAddress
    local_as: int
    router_id: Address
    member: str | None = None
    port: int = BGP_PORT
    listen_port: int = BGP_PORT
    passive: bool = False
    hold_time: int = 90
    keepalive_time: int | None = None
    restart_time: int = 120
    notification_restart: bool = False
    families: tuple[Family, ...] = (Family.IPV4,)
    password: str | None = field(default=None, repr=False)
    ttl_security: int | None = None
    add_path: bool = False
    extended_next_hop: bool = False
    bind: bool = True

    @property
    def ebgp(self) -> bool:
        """Whether the peer is in another AS."""
        return self.peer_as != self.local_as

    @property
    def identity(self) -> tuple[AnyAddress, AnyAddress, int, int, Address]:
        """What makes it this session and not another one; timers and ports do not."""
        return self.peer, self.local, self.local_as, self.peer_as, self.router_id


Secrets = Callable[[SecretKeySelector], str]
"""Where passwords come from; it raises a RoutedError that says why there is none."""


@dataclass(frozen=True, slots=True)
class PeerFault:
    """A session that cannot be wanted, and why; the others go on. `name` and `peer` as in its Session."""

    name: str
    peer: AnyAddress
    error: RoutedError


@dataclass(frozen=True, slots=True)
class Peerings:
    """What a node wants: `wanted` sessions with their policies, sorted by address, and what keeps others from being."""

    wanted: tuple[tuple[Session, PeerPolicy], ...] = ()
    faults: tuple[PeerFault, ...] = ()

    def __iter__(self) -> Iterator[tuple[Session, PeerPolicy]]:
        return iter(self.wanted)

    def __len__(self) -> int:
        return len(self.wanted)

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The sessions alone."""
        return tuple(session for session, _ in self.wanted)


def no_secrets(where: SecretKeySelector) -> str:
    """For a place without secrets."""
    raise OperatorError(f"there are no secrets here, wanted {where.name}/{where.key}")


def peerings(
    cluster: Cluster, node: str, *, hold_time: int = 90, restart_time: int = 120, secrets: Secrets = no_secrets
) -> Peerings:
    """The sessions of `node` and their policies; none while the cluster does not know the node.

    Between members the lower address connects and the higher listens, so that no two connections collide. With a
    router both sides try, because nobody knows how the router is set up. One address has one session: what BGPPeers
    make goes before the mesh, in the order of `adjacencies`. `hold_time` and `restart_time` are for the peers that
    state none. Raises OperatorError when one of the two is out of range.
    """
    _in_range("bgp_hold_seconds", hold_time, hold_time == 0 or 3 <= hold_time <= MAX_HOLD_SECONDS)
    _in_range("bgp_restart_seconds", restart_time, 0 <= restart_time <= MAX_RESTART_SECONDS)
    if node not in cluster.nodes:
        return Peerings()
    maker = _Maker(cluster, node, hold_time, restart_time, secrets)
    wanted: dict[AnyAddress, tuple[Session, PeerPolicy]] = {}
    faults: dict[AnyAddress, PeerFault] = {}
    ends: Iterable[Adjacency | _MeshPeer] = chain(adjacencies(cluster, node), _mesh(cluster, node))
    for each in ends:
        if each.address in wanted or each.address in faults:
            continue
        try:
            wanted[each.address] = maker.of_mesh(each) if isinstance(each, _MeshPeer) else maker.of_peer(each)
        except RoutedError as error:
            faults[each.address] = PeerFault(_name(each), each.address, error)
    return Peerings(
        tuple(wanted[address] for address in sorted(wanted, key=_order)),
        tuple(faults[address] for address in sorted(faults, key=_order)),
    )


def reflects(cluster: Cluster, node: str) -> bool:
    """Whether `node` is a route reflector: it is outside the mesh."""
    return cluster.cluster_id(node) is not None


@dataclass(frozen=True, slots=True)
class _MeshPeer:
    """Another node, by its address in one family."""

    address: AnyAddress
    member: str


def _mesh(cluster: Cluster, node: str) -> Iterator[_MeshPeer]:
    """The other nodes of the mesh, in each family of which both have an address."""
    if not cluster.bgp.node_to_node_mesh_enabled or reflects(cluster, node):
        return
    for other in cluster.nodes:
        if other != node and not reflects(cluster, other):
            for family in Family:
                here, there = cluster.any_address(node, family), cluster.any_address(other, family)
                if here is not None and there is not None:
                    yield _MeshPeer(there.ip, other)


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes the sessions of one node."""

    cluster: Cluster
    node: str
    hold_time: int
    restart_time: int
    secrets: Secrets

    def of_mesh(self, peer: _MeshPeer) -> tuple[Session, PeerPolicy]:
        bgp = self.cluster.bgp
        local = self._local(peer.address, "BGPConfiguration default")
        field_of = "BGPConfiguration default: spec"
        restart = bgp.node_mesh_max_restart_time
        session = Session(
            name=_name(peer),
            peer=peer.address,
            peer_as=self.cluster.as_number(peer.member),
            local=local,
            local_as=self.cluster.as_number(self.node),
            router_id=self.cluster.address(self.node).ip,
            member=peer.member,
            port=bgp.listen_port,
            listen_port=bgp.listen_port,
            passive=_order(peer.address) < _order(local),
            hold_time=self.hold_time,
            restart_time=self.restart_time if restart is None else restart.seconds,
            notification_restart=bgp.node_mesh_notification_restart,
            families=(Family.of(peer.address),),
            password=self._password(bgp.node_mesh_password, f"{field_of}.nodeMeshPassword"),
        )
        bfd = self._bfd(bgp.node_mesh_failure_detection_mode, bgp.node_mesh_bfd, peer.address)
        return session, PeerPolicy(
            peer=peer.address, max_prefixes=MAX_PREFIXES, warning_prefixes=_warning(MAX_PREFIXES, None), bfd=bfd
        )

    def of_peer(self, adjacency: Adjacency) -> tuple[Session, PeerPolicy]:
        spec, where = adjacency.peer.spec, f"BGPPeer {adjacency.peer.name}: spec"
        local = self._local(adjacency.address, where)
        hold, restart, keepalive = self._times(spec, where)
        session = Session(
            name=_name(adjacency),
            peer=adjacency.address,
            peer_as=self._peer_as(adjacency, where),
            local=local,
            local_as=adjacency.local_as or self.cluster.as_number(self.node),
            router_id=self.cluster.address(self.node).ip,
            member=adjacency.member,
            port=adjacency.port,
            listen_port=self.cluster.bgp.listen_port,
            passive=adjacency.member is not None and _order(adjacency.address) < _order(local),
            hold_time=hold,
            keepalive_time=keepalive,
            restart_time=restart,
            notification_restart=spec.notification_restart,
            families=_families(spec, adjacency.address),
            password=self._password(spec.password, f"{where}.password"),
            ttl_security=spec.ttl_security,
            add_path=spec.add_path is AddPath.RECEIVE,
            extended_next_hop=spec.extended_next_hop,
            bind=spec.source_address is SourceAddress.USE_NODE_IP,
        )
        return session, self._policy(spec, where, session)

    def _policy(self, spec: BGPPeerSpec, where: str, session: Session) -> PeerPolicy:
        filters = [self._filter(name, f"{where}.filters[{index}]") for index, name in enumerate(spec.filters)]

        def rules(direction: Direction) -> dict[Family, Rules]:
            each = {family: Rules.of(filters, direction, family, ebgp=session.ebgp) for family in session.families}
            return {family: found for family, found in each.items() if found}

        mode = spec.next_hop_mode
        if mode is None:
            mode = NextHopMode.KEEP if spec.keep_original_next_hop and session.ebgp else NextHopMode.AUTO
        cluster_id = self.cluster.cluster_id(self.node)
        theirs = self.cluster.cluster_id(session.member) if session.member is not None else None
        client = session.member is not None if session.ebgp else theirs != cluster_id
        return PeerPolicy(
            peer=session.peer,
            import_rules=rules(Direction.IMPORT),
            export_rules=rules(Direction.EXPORT),
            next_hop_mode=mode,
            allowed_local_as=spec.num_allowed_local_as_numbers,
            cluster_id=cluster_id,
            client=cluster_id is not None and client,
            max_prefixes=spec.max_prefixes,
            warning_prefixes=_warning(spec.max_prefixes, spec.warning_prefixes),
            bfd=self._bfd(spec.failure_detection_mode, spec.bfd, session.peer),
            reachable_by=spec.reachable_by,
        )

    def _local(self, peer: AnyAddress, where: str) -> AnyAddress:
        family = Family.of(peer)
        own = self.cluster.any_address(self.node, family)
        if own is None:
            raise OperatorError(
                f"{where}: {peer} is an IPv6 address, but Node {self.node} has none",
                hint=f"set spec.bgp.ipv6Address of Node {self.node}, or let nodeSelector pass it over",
            )
        return own.ip

    def _peer_as(self, adjacency: Adjacency, where: str) -> int:
        if adjacency.peer_as is not None:
            return adjacency.peer_as
        if adjacency.member is None:
            raise OperatorError(f"{where}.asNumber: is missing", hint="state the AS of the router")
        return self.cluster.as_number(adjacency.member)

    def _times(self, spec: BGPPeerSpec, where: str) -> tuple[int, int, int | None]:
        hold = self.hold_time if spec.hold_time is None else spec.hold_time.seconds
        restart = self.restart_time if spec.max_restart_time is None else spec.max_restart_time.seconds
        keepalive = None if spec.keepalive_time is None else spec.keepalive_time.seconds
        if keepalive is not None and hold and keepalive * 3 > hold:
            raise OperatorError(
                f"{where}.keepaliveTime: {spec.keepalive_time} is more than a third of the hold time, {hold}s",
                hint="lower keepaliveTime, or raise holdTime",
            )
        return hold, restart, keepalive

    def _password(self, password: BGPPassword | None, where: str) -> str | None:
        if password is None:
            return None
        wanted = password.secret_key_ref
        try:
            found = self.secrets(wanted)
        except RoutedError as error:
            raise type(error)(f"{where}.secretKeyRef: {error.message}", hint=error.hint) from error
        octets = len(found.encode())
        if not 0 < octets <= MAX_PASSWORD_OCTETS:
            raise OperatorError(
                f"{where}.secretKeyRef: the password in {wanted.name}/{wanted.key} has {octets} octets, expected 1 to "
                f"{MAX_PASSWORD_OCTETS}",
                hint="TCP MD5 takes no other: set another password at both ends",
            )
        return found

    def _filter(self, name: str, where: str) -> BGPFilterSpec:
        if name not in self.cluster.filters:
            raise OperatorError(
                f"{where}: there is no BGPFilter {name}", hint="apply it, or take its name out: no session without it"
            )
        return self.cluster.filters[name]

    def _bfd(self, mode: FailureDetectionMode, timers: BFDTimers | None, peer: AnyAddress) -> BfdSettings | None:
        own = self.cluster.any_address(self.node, Family.of(peer))
        near = own is not None and peer in own.network
        if mode is FailureDetectionMode.NONE or (mode is FailureDetectionMode.BFD_IF_DIRECTLY_CONNECTED and not near):
            return None
        timers = timers or BFDTimers()
        return BfdSettings(timers.interval.milliseconds, timers.multiplier)


def _name(end: Adjacency | _MeshPeer) -> str:
    """Of a router: `peer/NAME`. Of a node also which, since one BGPPeer makes many: `peer/NAME/NODE`, `mesh/NODE`."""
    family = "" if end.address.version == 4 else "/IPv6"
    if isinstance(end, _MeshPeer):
        return f"mesh/{end.member}{family}"
    name = f"peer/{end.peer.name}"
    return name if end.peer.spec.peer_selector is None and not end.reverse else f"{name}/{end.member}{family}"


def _families(spec: BGPPeerSpec, peer: AnyAddress) -> tuple[Family, ...]:
    if spec.address_families:
        return tuple(
            sorted({Family.IPV4 if each is AddressFamily.IPV4 else Family.IPV6 for each in spec.address_families})
        )
    return tuple(Family) if spec.extended_next_hop and peer.version == 6 else (Family.of(peer),)


def _warning(most: int, stated: int | None) -> int:
    return stated if stated is not None else max(1, most * 3 // 4)


def _order(address: AnyAddress) -> tuple[int, int]:
    return address.version, int(address)


def _in_range(key: str, value: int, right: bool) -> None:
    if not right:
        expected = f"0 to {MAX_RESTART_SECONDS}" if "restart" in key else f"0 or 3 to {MAX_HOLD_SECONDS}"
        raise OperatorError(
            f"{key}: {value} is out of range, expected {expected} seconds",
            hint=f"set {key} in the agent's configuration",
        )

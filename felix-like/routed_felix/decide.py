"""The decision for a learned prefix. Pure; design section 5.

For a prefix in a pool, with the best path whose next hop N resolves:

    pool         N directly connected     N elsewhere
    CrossSubnet  direct via N             tunnel to the member that owns the block
    Always       tunnel to the owner      tunnel to the owner
    Never        direct via N             direct via the gateway through which N resolves

The mode is the pool's ipipMode or its vxlanMode, whichever is not Never: which of the two makes a difference to the
device only. A tunnel ends at a member's node address and nowhere else.

A decision depends on the prefix by its `Place` only: which pool it is in, and whose block. So prefixes in one place
with the same ranked next hops share one `Verdict`, and a hundred thousand of them need a few.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from routed.model.address import Address, AnyAddress, AnyPrefix, Family
from routed.model.path import Path
from routed.model.resources import EncapsulationMode, IPPool
from routed_felix.fabric import (
    encapsulation_of,
    may_encapsulate,
    node_address,
    own_addresses,
    resolver,
    tunnel_device,
)
from routed_felix.places import Places
from routed_felix.resolve import Resolution
from routed_felix.state import TUNNELS, Encapsulation, Group, Hop, ProblemKind, Reason, Route, Why
from routed_felix.view import View

_MEMORY = 1 << 14  # tuples of paths remembered by identity; what is forgotten is found again by its next hops


class Trouble(NamedTuple):
    """A problem that many prefixes share."""

    kind: ProblemKind
    subject: str
    cause: str
    hint: str


@dataclass(slots=True, eq=False)
class Place:
    """Where a prefix lies (`places`), and what was decided there."""

    own: bool = False
    pool: IPPool | None = None
    owner: str | None = None
    verdicts: dict[tuple[tuple[AnyAddress, AnyAddress], ...], Verdict] = field(
        default_factory=dict[tuple[tuple[AnyAddress, AnyAddress], ...], "Verdict"]
    )
    # the same by the identity of the paths; the tuple is kept, so that its identity stays its own
    by_identity: dict[int, tuple[tuple[Path, ...], Verdict]] = field(
        default_factory=dict[int, tuple[tuple[Path, ...], "Verdict"]]
    )


@dataclass(slots=True, eq=False)
class Verdict:
    """How prefixes of one place with the same ranked next hops are forwarded, and why.

    `hops` share the traffic. `route` is what to programme, None for nothing; it goes by `group`, which is the
    verdict's as long as prefixes share it. `asks`: the gateway that a pool that is Never relies on, where none of the
    paths is its own. `speakers` are the peers and next hops of the paths, `devices` lead to the next hops. `paths` are
    those of one such prefix. `count`: how many prefixes share it now.
    """

    place: Place
    encapsulation: Encapsulation
    because: Reason
    hops: tuple[Hop, ...] = ()
    route: Route | None = None
    trouble: Trouble | None = None
    asks: AnyAddress | None = None
    speakers: frozenset[AnyAddress] = frozenset()
    devices: frozenset[str] = frozenset()
    paths: tuple[Path, ...] = ()
    group: Group = field(default_factory=Group)
    count: int = 0

    def become(self, other: Verdict) -> None:
        """Take over what was decided anew for the same place and paths."""
        self.encapsulation, self.because, self.hops, self.route = (
            other.encapsulation,
            other.because,
            other.hops,
            other.route,
        )
        self.trouble, self.asks, self.devices = other.trouble, other.asks, other.devices

    def inherit(self, other: Verdict) -> None:
        """Go on with the group of `other`, whose route is equal and which nothing goes by any more."""
        self.group, self.route, other.group = other.group, other.route, Group()
        if other.route is not None:
            other.route = replace(other.route, group=other.group)

    @property
    def ours(self) -> bool:
        """Whether it is left to what this node has in its own block, and is no decision of its own."""
        return self.because.why is Why.OWN_BLOCK

    @property
    def ends(self) -> tuple[Address, ...]:
        """Where the tunnels of a programmed route end, where the outer source is the routing table's choice.

        A VXLAN device has its own.
        """
        if self.encapsulation is not Encapsulation.TUNNEL or self.route is None:
            return ()
        return tuple(hop.gateway for hop in self.hops if isinstance(hop.gateway, Address))


class Decider:
    """Decides where prefixes lie and how they are forwarded; remembers it; revises it when the surroundings change."""

    def __init__(self, view: View) -> None:
        self._family = view.family
        self._remembered = 0
        self.places = Places(view, Place)
        self._surround(view)

    @property
    def blocks(self) -> tuple[AnyPrefix, ...]:
        """The node's own blocks."""
        return self.places.blocks

    def _surround(self, view: View) -> None:
        self._cluster = view.cluster
        self.places.update(view)
        wrapping = self.places.pools.values() if self._family is Family.IPV4 else ()  # IPv6 travels as it is
        self.encapsulating = sorted((pool for pool in wrapping if may_encapsulate(pool)), key=_name)
        self._lost = view.lost
        self._settings = view.settings
        self._node = view.node
        self._tunnel, self._vxlan, self._kept = view.tunnel, view.vxlan, view.kept
        self._tunnel_address = view.tunnel_address
        self._underlay = tuple(view.underlay)
        self._interfaces = view.interfaces
        self._reach = reach(view)
        self._sharing = view.sharing
        self.resolver = resolver(view)
        self._others = resolver(view, Family.IPV6) if self._family is Family.IPV4 else None
        self.node_address = node_address(view)
        self.node_address_present = any(
            address.ip == self.node_address for each in view.interfaces.values() for address in each.addresses
        )
        self.own_addresses = own_addresses(view)
        self._devices = {way: tunnel_device(view, way) for way in TUNNELS}
        # a VXLAN device says itself which address its packets come from
        vxlan = view.vxlan and self.node_address is not None
        possible = {Encapsulation.TUNNEL: view.tunnel, Encapsulation.VXLAN: vxlan}
        needed = {encapsulation_of(pool) for pool in self.encapsulating} | view.kept
        self.wrapping = {way: self._devices[way] for way in TUNNELS if way in needed and possible[way]}
        """The devices that pools need, or that are kept, of those that can be had."""
        self.source = view.tunnel_address if self.wrapping else None

    def surroundings_fit(self, view: View) -> bool:
        """Whether it would decide by `view` as it did, where prefixes lie as they did."""
        fit = (
            (view.cluster is self._cluster or view.cluster == self._cluster)
            and (view.node, view.settings, view.tunnel, view.vxlan, view.kept, view.tunnel_address)
            == (self._node, self._settings, self._tunnel, self._vxlan, self._kept, self._tunnel_address)
            and view.sharing is self._sharing
            and view.lost == self._lost
            and tuple(view.underlay) == self._underlay
            and (view.interfaces is self._interfaces or reach(view) == self._reach)
        )
        if fit:
            self._cluster, self._interfaces = view.cluster, view.interfaces
        return fit

    def revise(self, view: View, verdicts: Iterable[Verdict]) -> tuple[set[Verdict], set[Verdict]]:
        """Decide by `view` from now on, and again what `verdicts` decided.

        Returns those whose route is another, and those of which only the hops are, so that all is done by the group.
        """
        self._surround(view)
        for place in self.places.every():
            place.by_identity.clear()
            place.verdicts = {key: verdict for key, verdict in place.verdicts.items() if verdict.count}
        self._remembered = 0
        moved, led, here = set[Verdict](), set[Verdict](), self.places.every()
        for verdict in verdicts:
            if verdict.place not in here:  # it has gone, and its prefixes are about to be looked at
                continue
            again, before = self._decide(verdict.place, verdict.paths), verdict.route
            if again.route == before:
                again.route = before
            elif again.route is not None:
                again.route = replace(again.route, group=verdict.group)
            if before is None or again.route is None or again.route.source != before.source:
                if again.route is not before:
                    moved.add(verdict)
            elif again.route is not before:
                led.add(verdict)
            verdict.become(again)
        return moved, led

    def verdict(self, place: Place, paths: tuple[Path, ...]) -> Verdict:
        """The decision for prefixes at `place` that have `paths`, best first."""
        known = place.by_identity.get(id(paths))
        if known is not None and known[0] is paths:
            return known[1]
        key = tuple([(path.next_hop, path.peer) for path in paths])
        if len(paths) > 1:
            key += tuple([(path.next_hop, path.peer) for path in self._sharing(paths)])
        verdict = place.verdicts.get(key)
        if verdict is None:
            verdict = place.verdicts[key] = self._decide(place, paths)
        if self._remembered > _MEMORY:
            for each in self.places.every():
                each.by_identity.clear()
                each.verdicts = {each_key: each_one for each_key, each_one in each.verdicts.items() if each_one.count}
            self._remembered = 0
            place.verdicts[key] = verdict
        self._remembered += 1
        place.by_identity[id(paths)] = paths, verdict
        return verdict

    # ---- the decision itself

    def _decide(self, place: Place, paths: tuple[Path, ...]) -> Verdict:
        next_hops = {path.next_hop for path in paths}
        verdict = self._forwarded(place, paths)
        verdict.paths = paths
        verdict.devices = frozenset(
            found.hop.device for hop in next_hops if hop not in self.own_addresses and (found := self._resolve(hop))
        )
        verdict.speakers = frozenset(next_hops | {path.peer for path in paths})
        if verdict.asks in verdict.speakers:
            verdict.asks = None
        if verdict.route is not None:
            verdict.route = replace(verdict.route, group=verdict.group)
        return verdict

    def _forwarded(self, place: Place, paths: Sequence[Path]) -> Verdict:
        if self._lost:
            paths = [path for path in paths if path.peer not in self._lost] or paths
        if place.own:  # only a member can have an address of ours: it borrowed it
            paths = [path for path in paths if path.member]
            if not paths:
                return Verdict(place, Encapsulation.UNREACHABLE, Reason(Why.OWN_BLOCK, "inside a block of this node"))
        if place.pool is None:
            hint = "create an IPPool that contains it, or stop announcing it to this node"
            trouble = Trouble(ProblemKind.NO_POOL, "Loc-RIB", "learned by BGP but in no pool, not programmed", hint)
            return Verdict(place, Encapsulation.UNREACHABLE, Reason(Why.NO_POOL, "in no pool"), trouble=trouble)
        skipped: list[Reason] = []
        for path in paths:
            found = self._forward(place, place.pool, path)
            if isinstance(found, Verdict):
                found.because = _after(skipped, found.because)
                return self._shared(found, path, paths)
            skipped.append(found)
        first = skipped[0]
        kind = ProblemKind.UNKNOWN_OWNER if first.why is Why.UNKNOWN_OWNER else ProblemKind.UNRESOLVABLE
        hint = (
            "give the owner's Node a podCIDRs entry that covers it"
            if kind is ProblemKind.UNKNOWN_OWNER
            else "check this node's interfaces and its routes to the fabric (ip route get)"
        )
        reason = Reason(first.why, "; ".join(dict.fromkeys(each.text for each in skipped)))
        trouble = Trouble(kind, str(paths[0].next_hop), first.text, hint)
        return Verdict(place, Encapsulation.UNREACHABLE, reason, trouble=trouble)

    def _shared(self, verdict: Verdict, best: Path, paths: Sequence[Path]) -> Verdict:
        """`verdict`, on `best` of `paths`, with the hops of those that share its traffic and lead as it does."""
        sharing = self._sharing(paths) if len(paths) > 1 else ()
        if best not in sharing or verdict.place.pool is None:
            return verdict
        hops, others = dict.fromkeys(verdict.hops), list[str]()
        for path in sharing:
            found = self._forward(verdict.place, verdict.place.pool, path) if path != best else None
            if isinstance(found, Verdict) and found.encapsulation is verdict.encapsulation:
                if not hops.keys() >= set(found.hops):
                    others.append(str(path.next_hop))
                hops.update(dict.fromkeys(found.hops))
        if others:
            # in one order, whichever of them is the best: the kernel tells routes apart by it
            verdict.hops = tuple(sorted(hops, key=_place_of))
            verdict.because = Reason(verdict.because.why, f"{verdict.because.text}; shared with {', '.join(others)}")
            if verdict.route is not None:
                verdict.route = replace(verdict.route, hops=verdict.hops)
        return verdict

    def _forward(self, place: Place, pool: IPPool, path: Path) -> Verdict | Reason:
        """Decide by `path`; or say why it is of no use (RFC 4271 section 9.1.2: resolvable)."""
        hop = path.next_hop
        mode = pool.spec.encapsulation_mode if self._family is Family.IPV4 else EncapsulationMode.NEVER
        if hop in self.own_addresses:
            return Reason(Why.UNRESOLVABLE, f"next hop {hop} is this node's own address")
        if self._family is Family.IPV6 and isinstance(hop, Address):
            return Reason(Why.UNRESOLVABLE, f"next hop {hop} is IPv4, which no IPv6 route can name")
        found = self._resolve(hop)
        if found is None:
            return Reason(Why.UNRESOLVABLE, f"next hop {hop} is on no interface that is up and behind no gateway")
        if mode is EncapsulationMode.ALWAYS or (mode is EncapsulationMode.CROSS_SUBNET and not found.adjacent):
            return self._through_tunnel(place, pool, hop, found)
        asks: AnyAddress | None = None
        if found.adjacent:
            if hop in self._cluster.any_members:
                reason = Reason(Why.SAME_SUBNET, f"same subnet by {found.hop.device} {found.subnet}")
            else:
                reason = Reason(Why.FABRIC, f"learned from router {path.peer}, next hop adjacent")
            via = Hop(found.hop.device, hop)
        elif not found.whole:
            text = f"next hop {hop} is behind a gateway on {found.hop.device} that no IPv4 route can name"
            return Reason(Why.UNRESOLVABLE, text)
        else:
            reason = Reason(Why.NEVER, f"next hop {hop} {_behind(found)} and pool {pool.name} is Never")
            via = found.hop if found.hop.gateway is not None else Hop(found.hop.device, hop)
            asks = via.gateway
        source = None if mode is EncapsulationMode.NEVER else self.source
        return Verdict(place, Encapsulation.DIRECT, reason, (via,), Route(hops=(via,), source=source), asks=asks)

    def _resolve(self, hop: AnyAddress) -> Resolution | None:
        """How a next hop is reached: for IPv4 prefixes perhaps an IPv6 one on a link of ours (RFC 8950)."""
        if Family.of(hop) is self._family:
            return self.resolver.resolve(hop)
        return self._others.resolve(hop) if self._others is not None else None

    def _through_tunnel(self, place: Place, pool: IPPool, hop: AnyAddress, found: Resolution) -> Verdict | Reason:
        trouble: Trouble | None = None
        if place.owner is not None:
            end = self._cluster.address(place.owner).ip
        elif isinstance(hop, Address) and hop in self._cluster.members:  # it says so itself, and it is one of us
            end = hop
            if not place.own:
                hint = "give the node that announces it a podCIDRs entry that covers it"
                cause = f"no node owns it, tunnelled to member {end} that announces it"
                trouble = Trouble(ProblemKind.UNKNOWN_OWNER, str(end), cause, hint)
        else:
            return Reason(Why.UNKNOWN_OWNER, f"no node owns it, and next hop {hop} is no member to tunnel to")
        if end in self.own_addresses:
            return Reason(Why.UNRESOLVABLE, f"the tunnel would end at this node's own address {end}")
        if self.resolver.resolve(end) is None:
            return Reason(Why.UNRESOLVABLE, f"tunnel end {end} is on no interface that is up and behind no gateway")
        if pool.spec.encapsulation_mode is EncapsulationMode.ALWAYS:
            reason = Reason(Why.ALWAYS, f"pool {pool.name} is Always, tunnel to {end}")
        else:
            reason = Reason(Why.OTHER_SUBNET, f"next hop {hop} {_behind(found)} and pool {pool.name} is CrossSubnet")
        way = encapsulation_of(pool)
        via = Hop(self._devices[way], end, onlink=True)
        route = Route(hops=(via,), source=self.source) if way in self.wrapping else None
        return Verdict(place, way, reason, (via,), route, trouble)

    def outer_source(self, end: Address) -> Route | None:
        """The host route to a tunnel's end where packets would leave with another source than the node address.

        None where a route of ours could not lead there: a wrong source is better than no member.
        """
        if not isinstance(self.node_address, Address) or not self.node_address_present:
            return None
        found = self.resolver.resolve(end)
        if found is None or not found.whole or found.source == self.node_address:
            return None
        return Route(hops=(found.hop,), source=self.node_address)


def _name(pool: IPPool) -> str:
    return pool.name


def _place_of(hop: Hop) -> tuple[str, int]:
    return hop.device, int(hop.gateway or 0)


def reach(view: View) -> Mapping[str, object]:
    """What resolving depends on: interfaces with addresses or under strangers' routes. Pods' are neither."""
    tunnels = view.settings.tunnel_devices
    named = {hop.device for route in view.underlay for hop in route.hops}
    return {
        name: (each.up and name not in tunnels, each.addresses)
        for name, each in view.interfaces.items()
        if each.addresses or name in named
    }


def _behind(found: Resolution) -> str:
    gateway = found.hop.gateway
    return f"behind {gateway}" if gateway is not None else f"reached by {found.hop.device}, in no subnet of ours,"


def _after(skipped: Sequence[Reason], reason: Reason) -> Reason:
    """`reason`, with why the better paths did not serve."""
    if not skipped:
        return reason
    causes = "; ".join(dict.fromkeys(better.text for better in skipped))
    return Reason(reason.why, f"{reason.text} (better path unusable: {causes})")

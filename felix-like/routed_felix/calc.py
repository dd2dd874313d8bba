"""The decision: from what is known to the kernel state that should be. A pure function, design section 5.

For a prefix in a pool, with the best path whose next hop N resolves:

    pool         N directly connected     N elsewhere
    CrossSubnet  direct via N             tunnel to the member that owns the block
    Always       tunnel to the owner      tunnel to the owner
    Never        direct via N             direct via the gateway through which N resolves

A tunnel ends at a member's node address and nowhere else. The node's own prefixes are a blackhole under one host route
per endpoint, and no path leads them elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from routed.model.address import Address, HostAddress, Prefix
from routed.model.path import Path
from routed.model.resources import EncapsulationMode, IPPool
from routed_felix.fabric import (
    fabric_interfaces,
    may_encapsulate,
    node_address,
    pod_mtu,
    resolver,
    underlay_mtu,
)
from routed_felix.prefixes import PrefixMap
from routed_felix.resolve import Resolution
from routed_felix.state import (
    TUNNEL_KIND,
    TUNNEL_MODULE,
    TUNNEL_OVERHEAD,
    Desired,
    Encapsulation,
    Forwarding,
    Hop,
    Link,
    Problem,
    ProblemKind,
    Reason,
    Route,
    RouteKey,
    RouteKind,
    Why,
)
from routed_felix.view import View

__all__ = ["View", "desired", "pod_mtu"]

_SHOWN = 3  # prefixes named in one problem; the rest are counted


def desired(view: View) -> Desired:
    """The kernel state that `view` asks for, with the decision and reason for every prefix of the Loc-RIB and node.

    Never raises on odd input: what cannot be carried out is UNREACHABLE or left out, and in `problems`.
    """
    return _Calculation(view).result()


class _Calculation:
    """One run of `desired`: the view, the indices over it, and the result as it grows."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.resolver = resolver(view)
        self.pools = PrefixMap({pool.spec.cidr: pool for pool in view.cluster.pools.values()})
        self.owners = PrefixMap(view.cluster.blocks)
        self.node_address = node_address(view)
        self.own_addresses = {address.ip for i in view.interfaces.values() for address in i.addresses}
        if self.node_address is not None:
            self.own_addresses.add(self.node_address)
        blocks = set(view.blocks)
        if view.node in view.cluster.nodes:
            blocks |= set(view.cluster.nodes[view.node].spec.pod_cidrs)
        self.blocks = sorted(blocks)
        self.own = PrefixMap(dict.fromkeys(blocks, True))
        self.encapsulating = sorted(
            (pool for pool in view.cluster.pools.values() if may_encapsulate(pool)), key=lambda pool: pool.name
        )
        self.source = view.tunnel_address if view.tunnel and self.encapsulating else None
        self.routes: dict[RouteKey, Route] = {}
        self.decisions: dict[Prefix, Forwarding] = {}
        self.problems: list[Problem] = []
        # one problem for all prefixes that share a cause: (kind, subject, cause, hint) -> prefixes
        self.shared: dict[tuple[ProblemKind, str, str, str], list[Prefix]] = {}

    def result(self) -> Desired:
        self._own_prefixes()
        for prefix, paths in self.view.best.items():
            if paths and next(self.own.covering(prefix), None) is None and prefix not in self.decisions:
                self._learned(prefix, paths)
        self._outer_sources()
        self._check_node()
        self._check_driver()
        self._report_shared()
        tunnelled = bool(self.view.tunnel and self.encapsulating)
        device = self.view.settings.tunnel_device
        mtu = underlay_mtu(self.view, self.resolver)
        links = {device: Link(TUNNEL_KIND, mtu - TUNNEL_OVERHEAD if mtu else None)} if tunnelled else {}
        addresses = {HostAddress((self.source, 32)): device} if self.source is not None else {}
        sysctls = {"net/ipv4/ip_forward": "1"}
        # the kernel uses max(conf.all, conf.IF): 2 on the interface wins over 0, 1 and 2 in `all`
        for name in sorted(fabric_interfaces(self.view, self.resolver)) + ([device] if tunnelled else []):
            sysctls[f"net/ipv4/conf/{name}/rp_filter"] = "2"
        return Desired(
            links=links,
            addresses=addresses,
            sysctls=sysctls,
            routes=dict(sorted(self.routes.items())),
            decisions=dict(sorted(self.decisions.items())),
            problems=tuple(sorted(self.problems)),
        )

    # ---- the node's own prefixes

    def _own_prefixes(self) -> None:
        for block in self.blocks:
            reason = Reason(Why.OWN_BLOCK, f"block of this node, addresses without endpoint: {block}")
            self._program(block, Encapsulation.BLACKHOLE, reason, None, Route(RouteKind.BLACKHOLE))
        for endpoint in sorted(self.view.endpoints, key=lambda e: (e.address, e.container_id, e.interface)):
            if endpoint.host_interface not in self.view.interfaces:
                continue
            prefix = Prefix((endpoint.address, 32))
            name = f"{endpoint.container_id}/{endpoint.interface}"
            taken = self.decisions.get(prefix)
            if taken is not None and taken.encapsulation is Encapsulation.LOCAL:
                message = f"{endpoint.address} is the address of {name} too; {taken.because}"
                hint = "remove one of the two pods"
                self.problems.append(Problem(ProblemKind.DUPLICATE_ENDPOINT, str(prefix), message, hint))
                continue
            hop = Hop(endpoint.host_interface)
            reason = Reason(Why.ENDPOINT, f"endpoint {name} on {endpoint.host_interface}")
            self._program(prefix, Encapsulation.LOCAL, reason, hop, Route(hop=hop))

    # ---- learned prefixes

    def _learned(self, prefix: Prefix, paths: Sequence[Path]) -> None:
        pool = next((pool for _, pool in self.pools.covering(prefix)), None)
        if pool is None:
            hint = "create an IPPool that contains it, or stop announcing it to this node"
            self._share(ProblemKind.NO_POOL, "Loc-RIB", "learned by BGP but in no pool, not programmed", hint, prefix)
            self._unreachable(prefix, Reason(Why.NO_POOL, "in no pool"))
            return
        skipped: list[Reason] = []
        for path in paths:
            refused = self._forward(prefix, pool, path, skipped, paths)
            if refused is None:
                return
            skipped.append(refused)
        first = skipped[0]
        kind = ProblemKind.UNKNOWN_OWNER if first.why is Why.UNKNOWN_OWNER else ProblemKind.UNRESOLVABLE
        hint = (
            "give the owner's Node a podCIDRs entry that covers it"
            if kind is ProblemKind.UNKNOWN_OWNER
            else "check this node's interfaces and its routes to the fabric (ip route get)"
        )
        self._share(kind, str(paths[0].next_hop), first.text, hint, prefix)
        self._unreachable(prefix, Reason(first.why, "; ".join(dict.fromkeys(reason.text for reason in skipped))))

    def _forward(
        self, prefix: Prefix, pool: IPPool, path: Path, skipped: Sequence[Reason], paths: Sequence[Path]
    ) -> Reason | None:
        """Decide for `prefix` by `path`; or return why this path is of no use (RFC 4271 section 9.1.2: resolvable)."""
        hop, mode = path.next_hop, pool.spec.ipip_mode
        if hop in self.own_addresses:
            return Reason(Why.UNRESOLVABLE, f"next hop {hop} is this node's own address")
        found = self.resolver.resolve(hop)
        if found is None:
            return Reason(Why.UNRESOLVABLE, f"next hop {hop} is on no interface that is up and behind no gateway")
        source = None if mode is EncapsulationMode.NEVER else self.source
        if mode is EncapsulationMode.ALWAYS or (mode is EncapsulationMode.CROSS_SUBNET and not found.adjacent):
            return self._tunnel(prefix, pool, path, found, skipped)
        if found.adjacent:
            if hop in self.view.cluster.members:
                reason = Reason(Why.SAME_SUBNET, f"same subnet by {found.hop.device} {found.subnet}")
            else:
                reason = Reason(Why.FABRIC, f"learned from router {path.peer}, next hop adjacent")
            via = Hop(found.hop.device, hop)
        elif not found.whole:
            return Reason(
                Why.UNRESOLVABLE,
                f"next hop {hop} is behind a gateway on {found.hop.device} that no IPv4 route can name",
            )
        else:
            reason = Reason(Why.NEVER, f"next hop {hop} {_behind(found)} and pool {pool.name} is Never")
            via = found.hop if found.hop.gateway is not None else Hop(found.hop.device, hop)
            reason = self._check_gateway(prefix, via, reason, paths)
        self._program(prefix, Encapsulation.DIRECT, _after(skipped, reason), via, Route(hop=via, source=source))
        return None

    def _tunnel(
        self, prefix: Prefix, pool: IPPool, path: Path, found: Resolution, skipped: Sequence[Reason]
    ) -> Reason | None:
        owner = next((name for _, name in self.owners.covering(prefix)), None)
        if owner is not None:
            end = self.view.cluster.address(owner).ip
        elif path.next_hop in self.view.cluster.members:  # it says so itself, and it is one of us
            end = path.next_hop
            hint = "give the node that announces it a podCIDRs entry that covers it"
            cause = f"no node owns it, tunnelled to member {end} that announces it"
            self._share(ProblemKind.UNKNOWN_OWNER, str(end), cause, hint, prefix)
        else:
            return Reason(Why.UNKNOWN_OWNER, f"no node owns it, and next hop {path.next_hop} is no member to tunnel to")
        if end in self.own_addresses:
            return Reason(Why.UNRESOLVABLE, f"the tunnel would end at this node's own address {end}")
        if self.resolver.resolve(end) is None:
            return Reason(Why.UNRESOLVABLE, f"tunnel end {end} is on no interface that is up and behind no gateway")
        if pool.spec.ipip_mode is EncapsulationMode.ALWAYS:
            reason = Reason(Why.ALWAYS, f"pool {pool.name} is Always, tunnel to {end}")
        else:
            text = f"next hop {path.next_hop} {_behind(found)} and pool {pool.name} is CrossSubnet"
            reason = Reason(Why.OTHER_SUBNET, text)
        via = Hop(self.view.settings.tunnel_device, end)
        route = Route(hop=via, source=self.source, onlink=True) if self.view.tunnel else None
        self._program(prefix, Encapsulation.TUNNEL, _after(skipped, reason), via, route)
        return None

    def _check_gateway(self, prefix: Prefix, via: Hop, reason: Reason, paths: Sequence[Path]) -> Reason:
        """Never: does the gateway we hand the packets to announce the prefix, or one that covers it, to us?"""
        gateway = via.gateway
        candidates: list[Path] = list(paths)
        for length in range(prefix.prefixlen):
            candidates += self.view.best.get(prefix.supernet(new_prefix=length), ())
        if any(gateway in (path.peer, path.next_hop) for path in candidates):
            return reason
        cause = f"no path from gateway {gateway} covers it"
        hint = "let the fabric learn the pool's routes, or set the pool's ipipMode to CrossSubnet"
        self._share(ProblemKind.GATEWAY_UNINFORMED, str(gateway), cause, hint, prefix)
        return Reason(reason.why, f"{reason.text}; {cause}")

    def _outer_sources(self) -> None:
        """Tunnel packets leave with the node address: a host route where the underlay would choose another source.

        None where a route of ours could not lead there: a wrong source is better than no member.
        """
        if self.node_address is None or not self._address_present(self.node_address):
            return
        ends = {
            decision.hop.gateway
            for decision in self.decisions.values()
            if decision.encapsulation is Encapsulation.TUNNEL and decision.key and decision.hop
        }
        for end in ends:
            found = self.resolver.resolve(end) if end is not None else None
            if end is not None and found is not None and found.whole and found.source != self.node_address:
                key = RouteKey(Prefix((end, 32)), self.view.settings.metric)
                self.routes.setdefault(key, Route(hop=found.hop, source=self.node_address))

    # ---- results and problems

    def _program(
        self, prefix: Prefix, encapsulation: Encapsulation, reason: Reason, hop: Hop | None, route: Route | None
    ) -> None:
        key = RouteKey(prefix, self.view.settings.metric) if route is not None else None
        if key is not None and route is not None:
            self.routes[key] = route
        self.decisions[prefix] = Forwarding(prefix, encapsulation, reason, hop, key)

    def _unreachable(self, prefix: Prefix, reason: Reason) -> None:
        self.decisions[prefix] = Forwarding(prefix, Encapsulation.UNREACHABLE, reason)

    def _share(self, kind: ProblemKind, subject: str, cause: str, hint: str, prefix: Prefix) -> None:
        self.shared.setdefault((kind, subject, cause, hint), []).append(prefix)

    def _report_shared(self) -> None:
        for (kind, subject, cause, hint), prefixes in self.shared.items():
            self.problems.append(Problem(kind, subject, f"{_some(prefixes)}: {cause}", hint))

    def _address_present(self, address: Address) -> bool:
        return any(address == a.ip for i in self.view.interfaces.values() for a in i.addresses)

    def _check_node(self) -> None:
        name = self.view.node
        if self.node_address is None:
            hint = f"apply a Node named {name}, or set `node` in the agent's configuration to an existing one"
            self.problems.append(Problem(ProblemKind.NODE_UNKNOWN, name, f"no Node {name} in the store", hint))
            return
        stated = self.view.cluster.address(name)
        if stated.network.prefixlen == 32:
            message = f"Node {name}: spec.bgp.ipv4Address {stated} is a /32, so no node is in its subnet"
            hint = "state the length of the subnet, as on the interface, unless the address is a loopback's"
            self.problems.append(Problem(ProblemKind.NODE_ADDRESS_HOST_LENGTH, str(stated), message, hint))
        if not self._address_present(self.node_address):
            message = f"Node {name}: spec.bgp.ipv4Address {stated} is on no interface of this machine"
            hint = "correct the Node, or add the address to an interface (ip address add)"
            self.problems.append(Problem(ProblemKind.NODE_ADDRESS_ABSENT, str(stated), message, hint))

    def _check_driver(self) -> None:
        if self.view.tunnel or not self.encapsulating:
            return
        device = self.view.settings.tunnel_device
        present = self.view.interfaces.get(device)
        if present is not None and present.kind != TUNNEL_KIND:
            message = f"interface {device} is of kind {present.kind or 'hardware'}, expected {TUNNEL_KIND}"
            hint = f"rename that interface, then load the driver: modprobe {TUNNEL_MODULE}"
            self.problems.append(Problem(ProblemKind.TUNNEL_DEVICE_TAKEN, device, message, hint))
            return
        waiting = {
            pool.name: [
                prefix
                for prefix, decision in self.decisions.items()
                if decision.encapsulation is Encapsulation.TUNNEL and prefix.subnet_of(pool.spec.cidr)
            ]
            for pool in self.encapsulating
        }
        for pool in self.encapsulating:
            cost = f"{_some(waiting[pool.name])}: not programmed" if waiting[pool.name] else "nothing needs it yet"
            message = f"pool {pool.name} is {pool.spec.ipip_mode} but this kernel has no IPIP driver; {cost}"
            hint = f"modprobe {TUNNEL_MODULE}, or set ipipMode: Never on pool {pool.name}"
            self.problems.append(Problem(ProblemKind.MISSING_DRIVER, pool.name, message, hint))


def _behind(found: Resolution) -> str:
    gateway = found.hop.gateway
    return f"behind {gateway}" if gateway is not None else f"reached by {found.hop.device}, in no subnet of ours,"


def _after(skipped: Sequence[Reason], reason: Reason) -> Reason:
    """`reason`, with why the better paths did not serve."""
    if not skipped:
        return reason
    causes = "; ".join(dict.fromkeys(better.text for better in skipped))
    return Reason(reason.why, f"{reason.text} (better path unusable: {causes})")


def _some(prefixes: Iterable[Prefix]) -> str:
    ordered = sorted(prefixes)
    names = ", ".join(str(prefix) for prefix in ordered[:_SHOWN])
    return names if len(ordered) <= _SHOWN else f"{names} and {len(ordered) - _SHOWN} more"

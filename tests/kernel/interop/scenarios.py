"""The scenarios: what a router at the other end is told, what we are told, and the fabric they all stand in.

All routers of all scenarios run at once, each in its own namespace on one subnet, and our node has a session with each:
so that a module waits once for its sessions, and not once for each test.

    n1  10.99.0.1  our agent, AS 64512, blocks 10.244.{1,3,4}.0/24 and fd44:0:0:1::/64
    n2, n3         other members, played by BIRD; behind the reflectors
    .4, .5         servers in AS 65504 and 65505, played by BIRD; behind the top-of-rack routers
    .10 and up     the routers, a scenario each
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.kernel.interop.bird import Bird
from tests.kernel.interop.frr import Frr
from tests.kernel.interop.gobgp import Gobgp
from tests.kernel.interop.ours import Ours, Resource
from tests.kernel.interop.routers import Neighbor, Place, Route, Router, Setup, Subnet

KINDS: dict[str, type[Router]] = {kind.kind: kind for kind in (Bird, Frr, Gobgp)}
ROLES = ("tor", "reflector")
AS, WIDE_AS = 64512, 4200000512  # ours, and the one of four octets that we have towards some
OURS, OURS_6 = "10.99.0.1", "fd99::1"
# three, because FRR counts prefixes one behind: it takes two where one is allowed
BLOCKS, BLOCK_6 = ("10.244.1.0/24", "10.244.3.0/24", "10.244.4.0/24"), "fd44:0:0:1::/64"
OF_MEMBER, OF_MEMBER_6, TWICE = "10.244.2.0/24", "fd44:0:0:2::/64", "10.244.250.0/24"
TAG = f"{AS}:100"  # on all that we originate
OUTSIDE = ("0.0.0.0/0", "192.168.77.0/24", "10.244.1.128/25")  # default, outside every pool, inside a block of ours
PASSWORD = "correct-horse"


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """`theirs`: options of the router's Neighbor. `ours`: fields of our BGPPeer. `version`: of the transport."""

    name: str
    theirs: dict[str, Any] = field(default_factory=dict)
    ours: dict[str, Any] = field(default_factory=dict)
    version: int = 4
    families: tuple[int, ...] = (4,)
    kinds: tuple[str, ...] = ("bird", "frr", "gobgp")
    comes_up: bool = True


SCENARIOS = {
    each.name: each
    for each in (
        Scenario(name="plain"),
        Scenario(name="md5", theirs={"password": PASSWORD}),
        Scenario(name="ttl", theirs={"ttl_security": True}, ours={"ttlSecurity": 1}),
        Scenario(name="wide-as", ours={"localASNumber": WIDE_AS}),
        Scenario(name="ipv6", version=6, families=(6,)),
        Scenario(name="ipv6-over-ipv4", families=(4, 6), ours={"addressFamilies": ["IPv4", "IPv6"]}),
        Scenario(
            name="extended-next-hop", version=6, families=(4, 6), theirs={"extended_next_hop": True},
            ours={"extendedNextHop": True},
        ),
        Scenario(name="add-path", theirs={"add_path": True}, ours={"addPath": "Receive"}),
        Scenario(name="wrong-as", comes_up=False),
        Scenario(name="not-our-as", comes_up=False),
        Scenario(name="wrong-password", theirs={"password": PASSWORD}, comes_up=False),
        Scenario(name="flood", ours={"maxPrefixes": 10}),
        Scenario(name="limit", theirs={"max_prefixes": 1}, comes_up=False),
        Scenario(name="restart", theirs={"restart_time": 60}, ours={"maxRestartTime": "60s"}),
        Scenario(name="no-restart", ours={"maxRestartTime": "0s"}),
        Scenario(
            name="bfd", theirs={"bfd": True}, kinds=("bird", "frr"),  # GoBGP has none
            ours={"failureDetectionMode": "BFDIfDirectlyConnected", "bfd": {"interval": "100ms", "multiplier": 3}},
        ),
    )
}  # fmt: skip


@dataclass(frozen=True, order=True)
class Key:
    """One router of the fabric."""

    kind: str
    role: str
    scenario: str

    def __str__(self) -> str:
        return f"{self.kind}-{self.role}-{self.scenario}"


def keys(*scenarios: str, roles: Sequence[str] = ROLES) -> list[Key]:
    """The routers that play `scenarios`, for parametrisation."""
    return [
        Key(kind, role, name) for name in scenarios for role in roles for kind in SCENARIOS[name].kinds
    ]  # fmt: skip


@dataclass
class End:
    """A router of the fabric together with what is known about it."""

    key: Key
    number: int
    router: Router
    place: Place

    @property
    def scenario(self) -> Scenario:
        return SCENARIOS[self.key.scenario]

    @property
    def tor(self) -> bool:
        return self.key.role == "tor"

    @property
    def asn(self) -> int:
        wide = self.key.scenario == "wide-as"
        if self.tor:
            return 4200000000 + self.number if wide else 65000 + self.number
        return WIDE_AS if wide else AS

    @property
    def our_as(self) -> int:
        return WIDE_AS if self.key.scenario == "wide-as" else AS

    @property
    def address(self) -> str:
        """What our session with it is called by."""
        return self.place.local(self.scenario.version)

    @property
    def us(self) -> str:
        """What its session with us is called by."""
        return OURS if self.scenario.version == 4 else OURS_6

    @property
    def route(self) -> Route:
        """What a top-of-rack router announces: a prefix of its own inside the pool."""
        if 4 not in self.scenario.families:
            return self.route_6
        return Route(prefix=f"10.244.{self.number}.0/24", communities=(f"65000:{self.number}",), med=self.number)

    @property
    def route_6(self) -> Route:
        return Route(prefix=f"fd44:0:0:{self.number:x}::/64", communities=(f"65000:{self.number}",))

    @property
    def setup(self) -> Setup:
        scenario = self.scenario
        remote_as = self.our_as + (self.key.scenario == "not-our-as")
        us = Neighbor(
            address=self.us, remote_as=remote_as, families=scenario.families, client=remote_as == self.asn,
            **scenario.theirs,
        )  # fmt: skip
        routes: list[Route] = []
        if self.tor:
            routes += [self.route] + [self.route_6] * (scenario.families == (4, 6))
            routes += [Route(prefix=prefix) for prefix in OUTSIDE] if self.key.scenario == "plain" else []
        return Setup(asn=self.asn, neighbors=(us, *self._behind), routes=tuple(routes))

    @property
    def feeders(self) -> tuple[int, ...]:
        """The numbers of those behind it."""
        if self.tor:
            return (4, 5) if self.key.scenario == "add-path" else ()
        return (2, 3) if self.key.scenario == "add-path" else (2,)

    @property
    def _behind(self) -> tuple[Neighbor, ...]:
        version = self.scenario.version
        options: dict[str, Any] = {"extended_next_hop": True} if "extended_next_hop" in self.scenario.theirs else {}
        return tuple(
            Neighbor(
                address=f"10.99.0.{number}" if version == 4 else f"fd99::{number:x}",
                remote_as=65500 + number if self.tor else self.our_as,
                families=self.scenario.families,
                client=not self.tor,
                **options,
            )
            for number in self.feeders
        )

    @property
    def peer(self) -> Resource:
        """Our BGPPeer, without its password."""
        asn = self.asn + (self.key.scenario == "wrong-as")
        spec = {"node": "n1", "peerIP": self.address, "asNumber": asn, **self.scenario.ours}
        return {"kind": "BGPPeer", "metadata": {"name": str(self.key)}, "spec": spec}


class Fabric:
    """The routers that `keys` names and those behind them, started all at once."""

    def __init__(self, directory: Path, wanted: Sequence[Key]) -> None:
        self.subnet = Subnet(directory)
        self.place = self.subnet.place(1, "n1")
        self.ends: dict[Key, End] = {}
        self.feeders: dict[int, Router] = {}
        with ThreadPoolExecutor(4) as pool:  # it is mostly waiting for processes
            found = pool.map(lambda pair: self._end(pair[0], pair[1]), enumerate(sorted(set(wanted)), 10))
            self.ends = {end.key: end for end in found}
            needed = sorted({number for end in self.ends.values() for number in end.feeders})
            self.feeders = {number: Bird(self.subnet.place(number, f"f{number}")) for number in needed}
            starting = [pool.submit(end.router.start, end.setup) for end in self.ends.values()]
            starting += [pool.submit(self._feed, number, router) for number, router in self.feeders.items()]
            for each in starting:
                each.result()

    def _end(self, number: int, key: Key) -> End:
        place = self.subnet.place(number, key.kind)
        return End(key, number, KINDS[key.kind](place), place)

    def _feed(self, number: int, router: Router) -> None:
        """A member, or a server behind a top-of-rack router: it has a session with each router that it is behind."""
        member = number < 4
        asn = AS if member else 65500 + number
        neighbors: list[Neighbor] = []
        for end in self.ends.values():
            if number not in end.feeders:
                continue
            theirs = end.setup.neighbors[1 + end.feeders.index(number)]
            neighbors.append(
                Neighbor(
                    address=end.address,
                    remote_as=end.asn,
                    local_as=theirs.remote_as,
                    families=theirs.families,
                    extended_next_hop=theirs.extended_next_hop,
                )
            )
        routes = [Route(prefix=TWICE, communities=(f"65000:{number}",))]
        if number == 2:
            routes += [Route(prefix=OF_MEMBER, communities=(f"{AS}:2",)), Route(prefix=OF_MEMBER_6)]
        router.start(Setup(asn=asn, neighbors=tuple(neighbors), routes=tuple(routes)))

    def ours(self, mode: str) -> Ours:
        """Our agent, not started, in a store that has the whole cluster."""
        ours = Ours(self.place, mode=mode, bgp_sync_seconds=5)
        password = ours.secret("tor", "password", PASSWORD)
        wrong = ours.secret("tor", "wrong", PASSWORD[::-1])
        peers = []
        for end in self.ends.values():
            peer = end.peer
            if end.key.scenario in ("md5", "wrong-password"):
                peer["spec"]["password"] = wrong if end.key.scenario == "wrong-password" else password
            peers.append(peer)
        ours.apply(*cluster(), *peers)
        return ours

    def close(self) -> None:
        for router in [*(end.router for end in self.ends.values()), *self.feeders.values()]:
            router.close()
        self.subnet.close()


def cluster() -> list[Resource]:
    """Three members without a mesh, and a pool of each family."""

    def node(number: int, *blocks: str) -> Resource:
        bgp = {"ipv4Address": f"10.99.0.{number}/24", "ipv6Address": f"fd99::{number:x}/64"}
        return {
            "kind": "Node", "metadata": {"name": f"n{number}"}, "spec": {"bgp": bgp, "podCIDRs": list(blocks)},
        }  # fmt: skip

    tagged = [{"cidr": cidr, "communities": ["ours"]} for cidr in ("10.244.0.0/16", "fd44::/48")]
    return [
        {"kind": "BGPConfiguration", "metadata": {"name": "default"},
         "spec": {"asNumber": AS, "nodeToNodeMeshEnabled": False,
                  "communities": [{"name": "ours", "value": TAG}], "prefixAdvertisements": tagged}},
        {"kind": "IPPool", "metadata": {"name": "pods"}, "spec": {"cidr": "10.244.0.0/16"}},
        {"kind": "IPPool", "metadata": {"name": "pods6"}, "spec": {"cidr": "fd44::/48"}},
        node(1, *BLOCKS, BLOCK_6), node(2, OF_MEMBER, OF_MEMBER_6), node(3),
    ]  # fmt: skip


def with_password(setup: Setup, address: str, password: str) -> Setup:
    """`setup` with another password for one neighbor."""
    changed = (replace(each, password=password) if each.address == address else each for each in setup.neighbors)
    return replace(setup, neighbors=tuple(changed))

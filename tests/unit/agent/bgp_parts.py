"""A node's BGP in a few words: real RIBs, fed through the wire's forms."""

from __future__ import annotations

from typing import Any

from tests.unit.bgp.clusters import RACKS, cluster, peer, pool

from routed.agent.bgp_observation import BgpObservation, Tally
from routed.model.address import Address, AnyAddress, AnyPrefix, Family, Prefix
from routed.model.path import Origin, Segment
from routed_bgp import encode
from routed_bgp.adj_rib_out import AdjRibOut
from routed_bgp.attributes import Attributes
from routed_bgp.dialect import agreed
from routed_bgp.export import group_of, own_prefixes
from routed_bgp.nlri import from_prefix
from routed_bgp.open import GracefulRestart, Open
from routed_bgp.rib import Rib
from routed_bgp.sessions import peerings
from routed_bgp.speaker import Ending, SessionDown, SessionUp, UpdatesReceived

TOR, TOR2, MEMBER = Address("10.1.1.1"), Address("10.1.1.2"), Address("10.2.2.11")
P, Q, R = "10.244.3.0/26", "10.244.2.0/26", "10.244.2.64/26"
CLUSTER = cluster(
    RACKS[0], RACKS[2], pool(), peer("tor-a", str(TOR), 65101, on="a1"), peer("tor-b", str(TOR2), 65102, on="a1")
)
ASES: dict[AnyAddress, int] = {TOR: 65101, TOR2: 65102, MEMBER: 64512}
START = 1000.0


class Node:
    """Node a1 with two routers and the mesh to b1. `now` is its clock."""

    def __init__(self) -> None:
        self.now = START
        self.rib = Rib()
        self.out = AdjRibOut({family: self.rib.best(family) for family in Family})
        self.tally = Tally()
        self.rib.set_policy(CLUSTER, "a1")
        self.peerings = {session.peer: (session, policy) for session, policy in peerings(CLUSTER, "a1")}
        self.rib.set_peerings(self.peerings.values(), self.now)
        self.out.originate(own_prefixes(CLUSTER, "a1"))

    def up(self, address: AnyAddress = TOR, **more: Any) -> None:
        graceful = GracefulRestart(False, 60, ((Family.IPV4, True),))
        opened = Open(ASES[address], 30, address, True, graceful, **more)  # type: ignore[arg-type]
        event = SessionUp(address, opened)
        self.tally.take(event)
        self.rib.handle(event, self.now)
        session, policy = self.peerings[address]
        own = {Family.IPV4: session.local}
        self.out.up(address, group_of(session, policy, asn4=agreed(session, opened).asn4, next_hops=own))

    def down(self, address: AnyAddress = TOR, ending: Ending = Ending.CLOSED, reason: str = "the reason") -> None:
        event = SessionDown(address, ending, reason)
        self.tally.take(event)
        self.rib.handle(event, self.now)
        self.out.down(address)

    def announce(self, *prefixes: str, peer: AnyAddress = TOR, path: tuple[int, ...] = (), **more: Any) -> None:
        numbers = path or ((ASES[peer],) if ASES[peer] != 64512 else ())
        segments = (Segment(True, numbers),) if numbers else ()
        attributes = Attributes(
            **{"origin": Origin.IGP, "as_path": segments, "next_hop": peer, "local_pref": 100} | more
        )
        wanted: list[AnyPrefix] = [Prefix(prefix) for prefix in prefixes]
        external = self.peerings[peer][0].ebgp
        data = encode.announce(attributes, Family.IPV4, list(map(from_prefix, wanted)), asn4=True, ebgp=external)
        event = UpdatesReceived(peer, b"".join(data))
        self.tally.take(event)
        self.rib.handle(event, self.now)

    def seen(self, **more: Any) -> BgpObservation:
        fields: dict[str, Any] = {
            "now": self.now,
            "changed_at": START,
            "peers": self.rib.status(),
            "best": {family: self.rib.best(family) for family in Family},
            "tables": self.rib.tables,
            "told": self.out.told,
            "counts": self.tally.counts,
        }
        return BgpObservation(**fields | more)

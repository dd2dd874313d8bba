"""The RIBs of node a1 in a few words: what its peers say, and what is best then."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

from tests.unit.bgp import wire
from tests.unit.bgp.clusters import RACKS, cluster, peer, pool

from routed.model.address import Address, AnyAddress, Family
from routed.model.cluster import Cluster
from routed.model.path import Origin, Path, Segment
from routed_bgp import encode
from routed_bgp.attributes import Attributes
from routed_bgp.nlri import to_prefix
from routed_bgp.open import GracefulRestart, Open
from routed_bgp.peer_status import PeerStatus
from routed_bgp.policy import Preferences
from routed_bgp.rib import Rib
from routed_bgp.sessions import peerings
from routed_bgp.speaker import Ending, Refresh, RefreshReceived, SessionDown, SessionEvent, SessionUp, UpdatesReceived

TOR, MEMBER = Address("10.1.1.1"), Address("10.2.2.11")  # a router of AS 65101, and node b1 over the mesh
P, Q = "10.244.3.0/26", "10.244.2.0/26"
BOTH = cluster(*RACKS[:1], RACKS[2], pool(), peer("tor", "10.1.1.1", 65101))
RESTART = 60


def graceful(
    *, kept: bool = True, families: tuple[Family, ...] = (Family.IPV4,), time: int = RESTART, n_bit: bool = False
) -> GracefulRestart:
    return GracefulRestart(False, time, tuple((family, kept) for family in families), n_bit)


def up(address: AnyAddress = TOR, gr: GracefulRestart | None = None, **more: Any) -> SessionUp:
    """The session is up; of all that an OPEN can say, IPv4 and four-octet AS numbers if not told otherwise."""
    router_id = address if isinstance(address, Address) else Address("10.255.0.6")
    asn = 64512 if address == MEMBER else 65101
    return SessionUp(address, replace(Open(asn, 90, router_id, True, gr), **more))


def down(ending: Ending = Ending.CLOSED, peer: AnyAddress = TOR, code: int = 0, subcode: int = 0) -> SessionDown:
    return SessionDown(peer, ending, "the reason", code, subcode)


def attributes(via: str, *path: int, **more: Any) -> Attributes:
    return Attributes(Origin.IGP, (Segment(True, path),) if path else (), ip_address(via), **more)


def announce(
    *prefixes: str,
    via: str | None = None,
    peer: AnyAddress = TOR,
    path: tuple[int, ...] = (65101,),
    path_id: int | None = None,
    **more: Any,
) -> UpdatesReceived:
    """UPDATEs of `peer`, itself the next hop if not told otherwise."""
    said = attributes(via or str(peer), *path, **more)
    family = Family.of(ip_network(prefixes[0]))
    keys = [wire.key(prefix, path_id) for prefix in prefixes]
    return UpdatesReceived(
        peer, b"".join(encode.announce(said, family, keys, asn4=True, ebgp=peer not in (MEMBER, REFLECTOR)))
    )


def withdraw(*prefixes: str, peer: AnyAddress = TOR, path_id: int | None = None) -> UpdatesReceived:
    family = Family.of(ip_network(prefixes[0]))
    keys = [wire.key(prefix, path_id) for prefix in prefixes]
    return UpdatesReceived(peer, b"".join(encode.withdraw(family, keys)))


def end_of_rib(peer: AnyAddress = TOR, family: Family = Family.IPV4) -> UpdatesReceived:
    return UpdatesReceived(peer, encode.end_of_rib(family))


def message(body: bytes, peer: AnyAddress = TOR) -> UpdatesReceived:
    """An UPDATE with this body, however bad."""
    return UpdatesReceived(peer, b"\xff" * 16 + (19 + len(body)).to_bytes(2) + b"\2" + body)


def refresh(kind: Refresh, peer: AnyAddress = TOR, family: Family = Family.IPV4) -> RefreshReceived:
    return RefreshReceived(peer, family, kind)


REFLECTOR = Address("10.9.9.9")  # an iBGP peer that is no member


def a_rib(of: Cluster = BOTH, preferences: Preferences = Preferences(), **session: Any) -> Rib:
    """The RIB of a1; `session` changes all its sessions."""
    rib = Rib(preferences)
    rib.set_policy(of, "a1")
    rib.set_peerings([(replace(one, **session), policy) for one, policy in peerings(of, "a1")], 0)
    return rib


def after(*events: SessionEvent, rib: Rib | None = None, now: float = 1) -> Rib:
    """`rib`, or a new one, after `events`."""
    rib = rib or a_rib()
    for event in events:
        rib.handle(event, now)
    return rib


def best(rib: Rib, family: Family = Family.IPV4) -> dict[str, str]:
    """The next hop of the best path by prefix, and what is to be said of it."""
    return {str(to_prefix(nlri, family)): _words(paths[0]) for nlri, paths in rib.best(family).items()}


def paths(rib: Rib, prefix: str) -> tuple[Path, ...]:
    return rib.best(Family.of(ip_network(prefix))).get(wire.key(prefix), ())


def changes(rib: Rib) -> set[str]:
    """The prefixes that changed since this was asked last."""
    return {str(to_prefix(nlri, family)) for family, nlris in rib.take_changes().items() for nlri in nlris}


def status(rib: Rib, address: AnyAddress = TOR) -> PeerStatus:
    return next(one for one in rib.status() if one.peer == address)


def _words(path: Path) -> str:
    stale, nowhere = " stale" if path.stale else "", " unreachable" if path.unreachable else ""
    return f"{path.next_hop}{stale}{nowhere}"

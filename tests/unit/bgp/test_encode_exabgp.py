"""What we write, read by ExaBGP's own decoder: a second opinion on the wire format, independent of ours."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Any

import exabgp.reactor.loop  # noqa: F401  first: its modules import one another in a circle otherwise
import pytest
from exabgp.bgp.message.direction import Direction
from exabgp.bgp.message.open.capability.negotiated import Negotiated
from exabgp.bgp.message.update import Update
from exabgp.logger import log
from exabgp.protocol.family import AFI, SAFI
from msgspec.structs import replace
from tests.unit.bgp.wire import key

from routed.model.address import Address, Family
from routed.model.path import Origin, Segment, Unknown
from routed_bgp.attributes import Attributes
from routed_bgp.encode import announce, end_of_rib, withdraw

FULL = Attributes(
    origin=Origin.EGP,
    as_path=(Segment(True, (65001, 70000)), Segment(False, (1, 2))),
    next_hop=Address("10.0.0.2"),
    med=5,
    local_pref=100,
    communities=(65001 << 16 | 1,),
    large_communities=((1, 2, 3),),
    originator_id=Address("1.1.1.1"),
    cluster_list=(Address("2.2.2.2"), Address("3.3.3.3")),
    unknown=(Unknown(7, (70000).to_bytes(4) + bytes([1, 2, 3, 4])), Unknown(99, b"x")),
    atomic_aggregate=True,
)
WORDS = (
    "origin egp as-path ( 65001 70000 ) [ 1 2 ] med 5 local-preference 100 atomic-aggregate community 65001:1 "
    "originator-id 1.1.1.1 cluster-list [ 2.2.2.2 3.3.3.3 ] aggregator ( 70000:1.2.3.4 ) large-community 1:2:3 "
    "attribute [ 0x63 0xE0 0x78 ]"
)
P, P6, HOP6 = "10.244.1.0/26", "2001:db8:1::/64", "2001:db8::2"
FORMS = pytest.mark.parametrize(
    ("family", "hop", "prefix"),
    [(Family.IPV4, "10.0.0.2", P), (Family.IPV4, HOP6, P), (Family.IPV6, HOP6, P6)],
    ids=["IPv4", "IPv4 over IPv6", "IPv6"],
)


def read(message: bytes, monkeypatch: pytest.MonkeyPatch, *, asn4: bool = True) -> Any:
    monkeypatch.setattr(log, "debug", lambda *_: None)  # as it is not set up to log
    negotiated = Negotiated({"capability": {"aigp": False}})
    negotiated.asn4 = asn4
    negotiated.families = [(AFI.ipv4, SAFI.unicast), (AFI.ipv6, SAFI.unicast)]
    negotiated.nexthop = [(AFI.ipv4, SAFI.unicast, AFI.ipv6)]
    return Update.unpack_message(message[19:], Direction.IN, negotiated)


@FORMS
@pytest.mark.parametrize("asn4", [True, False], ids=["four octets", "two octets"])
def test_exabgp_reads_what_we_announce(
    family: Family, hop: str, prefix: str, asn4: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = replace(FULL, next_hop=IPv6Address(hop)) if ":" in hop else FULL
    (message,) = announce(sent, family, [key(prefix)], asn4=asn4, ebgp=False)
    update = read(message, monkeypatch, asn4=asn4)
    assert [str(one) for one in update.nlris] == [f"{prefix} next-hop {hop}"]
    assert sorted(str(update.attributes).split()) == sorted(WORDS.split())


@FORMS
def test_exabgp_reads_what_we_withdraw(family: Family, hop: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (message,) = withdraw(family, [key(prefix)])
    assert [(str(one), str(one.action)) for one in read(message, monkeypatch).nlris] == [(prefix, "withdraw")]


@pytest.mark.parametrize(("family", "afi"), [(Family.IPV4, AFI.ipv4), (Family.IPV6, AFI.ipv6)], ids=["IPv4", "IPv6"])
def test_exabgp_reads_our_end_of_rib(family: Family, afi: AFI, monkeypatch: pytest.MonkeyPatch) -> None:
    (mark,) = read(end_of_rib(family), monkeypatch).nlris
    assert (mark.afi, mark.safi) == (afi, SAFI.unicast)

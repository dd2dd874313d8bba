"""Messages as ExaBGP's commands, and what ExaBGP makes of them."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from routed.model.address import Address, Family
from routed.model.path import Origin, Segment, Unknown
from routed_bgp import encode
from routed_bgp.attributes import Attributes
from routed_bgp.dialect import Dialect
from routed_bgp.exabgp.commands import selector, translate
from routed_bgp.nlri import from_prefix
from routed_bgp.speaker import Refresh
from routed_bgp.update import Decoder

PATH = (Segment(ordered=True, numbers=(64512, 4200000000)),)
PLAIN = Attributes(Origin.IGP, PATH, Address("10.0.0.1"), local_pref=100)
RICH = Attributes(
    Origin.INCOMPLETE,
    (*PATH, Segment(ordered=False, numbers=(1, 2))),
    ip_address("2001:db8::1"),
    med=5,
    local_pref=90,
    communities=(64512 << 16 | 7,),
    large_communities=((1, 2, 3),),
    originator_id=Address("10.0.0.9"),
    cluster_list=(Address("1.1.1.1"), Address("2.2.2.2")),
    unknown=(Unknown(99, b"\xab"),),
    atomic_aggregate=True,
)


def nlris(*prefixes: str) -> list[bytes]:
    return [from_prefix(ip_network(text)) for text in prefixes]


def commands(*sent: bytes, ebgp: bool = False) -> list[str]:
    dialect = Dialect(ebgp=ebgp, families=frozenset(Family), extended_next_hop=True)
    return list(translate(b"".join(sent), Decoder(dialect)))


def announce(attributes: Attributes, family: Family, *prefixes: str, ebgp: bool = False) -> bytes:
    return b"".join(encode.announce(attributes, family, nlris(*prefixes), asn4=True, ebgp=ebgp))


def test_neighbours_of_one_attribute_set_share_a_command() -> None:
    first = announce(PLAIN, Family.IPV4, "10.244.0.0/26")
    second = announce(PLAIN, Family.IPV4, "10.244.1.0/26", "10.244.2.0/26")
    (command,) = commands(first, second)
    assert command == (
        "announce attributes origin igp next-hop 10.0.0.1 as-path [ 64512 4200000000 ] local-preference 100"
        " nlri 10.244.0.0/26 10.244.1.0/26 10.244.2.0/26"
    )


def test_everything_that_an_update_can_say() -> None:
    (command,) = commands(announce(RICH, Family.IPV6, "fd00::/64"))
    assert command == (
        "announce attributes origin incomplete next-hop 2001:db8::1 as-path [ 64512 4200000000 ] ( 1 2 ) med 5"
        " local-preference 90 community [ 64512:7 ] large-community [ 1:2:3 ] originator-id 10.0.0.9"
        " cluster-list [ 1.1.1.1 2.2.2.2 ] atomic-aggregate attribute [ 0x63 0xc0 0xab ] nlri fd00::/64"
    )


def test_the_order_of_messages_is_kept() -> None:
    sent = (
        announce(PLAIN, Family.IPV4, "10.244.0.0/26"),
        *encode.withdraw(Family.IPV4, nlris("10.244.0.0/26")),
        announce(PLAIN, Family.IPV4, "10.244.0.0/26"),
        encode.end_of_rib(Family.IPV4),
        encode.refresh(Family.IPV6, Refresh.REQUEST),
    )
    words = [" ".join(command.split()[:2]) for command in commands(*sent)]
    assert words == [
        "announce attributes",
        "withdraw attributes",
        "announce attributes",
        "announce eor",
        "announce route-refresh",
    ]


def test_a_refresh_stands_behind_what_was_sent_before() -> None:
    sent = announce(PLAIN, Family.IPV4, "10.244.0.0/26"), encode.refresh(Family.IPV4, Refresh.REQUEST)
    assert [command.split()[1] for command in commands(*sent)] == ["attributes", "route-refresh"]


@pytest.mark.parametrize("kind", [Refresh.BEGIN, Refresh.END])
def test_rfc7313_exabgp_sends_its_own_marks(kind: Refresh) -> None:
    assert commands(encode.refresh(Family.IPV4, kind)) == []


def test_long_rows_are_cut() -> None:
    many = [f"10.{n // 256}.{n % 256}.0/24" for n in range(1200)]
    rows = [command.split(" nlri ")[1].split() for command in commands(announce(PLAIN, Family.IPV4, *many))]
    assert [len(row) for row in rows] == [500, 500, 200]
    assert [prefix for row in rows for prefix in row] == many


def test_one_command_for_several_peers() -> None:
    assert selector([Address("10.0.0.1"), ip_address("fd00::1")]) == "neighbor 10.0.0.1 , neighbor fd00::1"

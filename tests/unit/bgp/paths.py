"""Strategies: attributes that a speaker could send, and prefixes of a family."""

from __future__ import annotations

from ipaddress import IPv6Address

from hypothesis import strategies as st

from routed.model.address import Address, Family
from routed.model.path import Origin, Segment, Unknown
from routed_bgp.attributes import Attributes
from routed_bgp.nlri import Nlri

U32 = st.integers(0, 2**32 - 1)
AS_NUMBERS = st.one_of(st.integers(1, 65535), st.integers(1, 2**32 - 1))
SEGMENTS = st.builds(Segment, st.booleans(), st.lists(AS_NUMBERS, min_size=1, max_size=5).map(tuple))
IPV4_HOPS = st.integers(0x01000000, 0x7EFFFFFF).map(Address)
IPV6_HOPS = st.integers(1, 2**120).map(lambda number: IPv6Address((0x20 << 120) + number))
IDENTIFIERS = U32.map(Address)
AGGREGATORS = st.tuples(AS_NUMBERS, U32).map(lambda one: Unknown(7, one[0].to_bytes(4) + one[1].to_bytes(4)))
STRANGERS = st.builds(Unknown, st.integers(40, 254), st.binary(max_size=300))
EXTENDED = st.builds(Unknown, st.just(16), st.binary(min_size=8, max_size=8))


@st.composite
def attributes(draw: st.DrawFn, *, ipv6: bool) -> Attributes:
    unknown = draw(st.lists(st.one_of(STRANGERS, AGGREGATORS, EXTENDED), max_size=3, unique_by=lambda one: one.code))
    large = draw(st.lists(st.tuples(U32, U32, U32), max_size=3, unique=True))
    return Attributes(
        origin=draw(st.sampled_from(Origin)),
        as_path=tuple(draw(st.lists(SEGMENTS, max_size=3))),
        next_hop=draw(IPV6_HOPS if ipv6 else IPV4_HOPS),
        med=draw(st.none() | U32),
        local_pref=draw(st.none() | U32),
        communities=tuple(draw(st.lists(U32, max_size=80))),
        large_communities=tuple(large),
        originator_id=draw(st.none() | IDENTIFIERS),
        cluster_list=tuple(draw(st.lists(IDENTIFIERS, max_size=3))),
        unknown=tuple(sorted(unknown, key=lambda one: one.code)),
        atomic_aggregate=draw(st.booleans()),
    )


@st.composite
def nlris(draw: st.DrawFn, family: Family) -> Nlri:
    length = draw(st.integers(0, family.bits))
    number = draw(st.integers(0, 2**length - 1)) << (-length % 8)
    return bytes([length]) + number.to_bytes((length + 7) // 8)

"""The frames between agent and launcher."""

from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from routed_bgp.exabgp.frames import Frame, Kind, Splitter, pack, pack_address, split_address

frames = st.tuples(
    st.sampled_from(Kind), st.lists(st.integers(0, 2**32 - 1), max_size=5).map(tuple), st.binary(max_size=40)
)


@given(st.lists(frames, max_size=6), st.lists(st.integers(1, 30), min_size=1))
def test_any_cut_of_the_stream_gives_the_same_frames(sent: list[Frame], sizes: list[int]) -> None:
    stream = b"".join(pack(kind, payload, tags) for kind, tags, payload in sent)
    splitter, found, at = Splitter(), list[Frame](), 0
    while at < len(stream):
        size = sizes[len(found) % len(sizes)]
        found += splitter.feed(stream[at : at + size])
        at += size
    assert found == sent


@given(st.ip_addresses(), st.binary(max_size=9))
def test_an_address_and_what_follows_it(address: object, rest: bytes) -> None:
    packed = pack_address(ip_address(str(address)))
    assert split_address(packed + rest) == (address, rest)

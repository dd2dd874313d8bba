"""The capture as a pcapng file."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from routed_lab.scenario.pcapng import Packet, write

PACKETS = st.lists(
    st.builds(
        Packet,
        time=st.integers(0, 2**63),
        node=st.sampled_from(["tor-a", "n"]),
        interface=st.sampled_from(["eth1", "e2"]),
        data=st.binary(max_size=40),
    ),
    max_size=20,
)


def read(file: bytes) -> list[Packet]:
    """A reader of its own: blocks by their length, which stands at both ends."""
    names: list[str] = []
    packets: list[Packet] = []
    at = 0
    while at < len(file):
        kind, size = struct.unpack_from("<II", file, at)
        assert file[at + size - 4 : at + size] == struct.pack("<I", size)
        assert size % 4 == 0
        body = file[at + 8 : at + size - 4]
        if kind == 1:
            assert struct.unpack_from("<H", body) == (101,)
            option, length = struct.unpack_from("<HH", body, 8)
            assert option == 2
            names.append(body[12 : 12 + length].decode())
        elif kind == 6:
            number, high, low, length, _ = struct.unpack_from("<IIIII", body)
            node, _, interface = names[number].partition(":")
            packets.append(Packet(high << 32 | low, node, interface, body[20 : 20 + length]))
        at += size
    return packets


@given(PACKETS)
def test_each_packet_is_found_again_with_its_time_and_place(packets: list[Packet]):
    assert read(b"".join(write(packets))) == packets

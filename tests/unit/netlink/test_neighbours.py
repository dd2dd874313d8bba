"""Neighbours and forwarding databases in the kernel's bytes, and the filter of their events."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from routed.netlink.constants import Msg
from routed.netlink.filter import event_filter
from routed.netlink.message import NDMSG, attr, pack
from routed.netlink.neighbours import NeighbourEntry, fdb_entry, neighbour

MEMBER = IPv4Address("10.2.2.21")
MAC = "02:72:0a:02:02:15"
OURS, OTHERS = 4711, 4712


@pytest.mark.parametrize("entry", [neighbour(7, MEMBER, MAC), fdb_entry(7, MAC, MEMBER), fdb_entry(7, MAC, None)])
def test_what_was_packed_is_read_as_it_was(entry: NeighbourEntry) -> None:
    assert NeighbourEntry.unpack(entry.pack()) == entry


def test_what_is_not_represented_makes_another_entry() -> None:
    port = attr(6, (4790).to_bytes(2))  # NDA_PORT
    assert NeighbourEntry.unpack(fdb_entry(7, MAC, MEMBER).pack() + port) != fdb_entry(7, MAC, MEMBER)
    not_permanent = NDMSG.pack(2, 7, 0x04, 0, 0) + neighbour(7, MEMBER, MAC).pack()[NDMSG.size :]
    assert NeighbourEntry.unpack(not_permanent) != neighbour(7, MEMBER, MAC)


def passes(program: bytes, message: bytes) -> bool:
    """What the kernel's interpreter of classic BPF does, as far as the program goes."""
    accumulator = at = 0
    while True:
        code, yes, no, value = (int.from_bytes(program[8 * at + a : 8 * at + b], "little") for a, b in FIELDS)
        at += 1
        match code:
            case 0x20:
                accumulator = int.from_bytes(message[value : value + 4])
            case 0x28:
                accumulator = int.from_bytes(message[value : value + 2])
            case 0x15:
                at += yes if accumulator == value else no
            case _:
                assert code == 0x06
                return bool(value)


FIELDS = ((0, 2), (2, 3), (3, 4), (4, 8))


def event(kind: Msg, sender: int, index: int = 0) -> bytes:
    message = bytearray(pack(kind, 0, 1, NDMSG.pack(2, index, 0, 0, 0)))
    message[12:16] = sender.to_bytes(4, "little")
    return bytes(message)


@pytest.mark.parametrize(
    ("kind", "sender", "index", "told"),
    [
        (Msg.NEWROUTE, OTHERS, 0, True),
        (Msg.NEWROUTE, OURS, 0, False),
        (Msg.NEWROUTE, 0, 0, True),
        (Msg.NEWLINK, OURS, 0, True),
        (Msg.DELLINK, OURS, 0, True),
        (Msg.NEWNEIGH, OTHERS, 7, True),
        (Msg.DELNEIGH, 0, 7, True),
        (Msg.DELNEIGH, OURS, 7, False),
        (Msg.NEWNEIGH, OTHERS, 8, False),
        (Msg.DELNEIGH, OTHERS, 8, False),
    ],
)
def test_events_of_ours_and_of_other_devices_neighbours_are_left_out(
    kind: Msg, sender: int, index: int, told: bool
) -> None:
    assert passes(event_filter(not_from=OURS, neighbours_of=7), event(kind, sender, index)) is told


def test_without_a_port_nobody_is_left_out() -> None:
    assert passes(event_filter(not_from=0, neighbours_of=0), event(Msg.NEWROUTE, 0))

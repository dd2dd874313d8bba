"""Which packets a listening socket is given at all: classic BPF programs that the kernel runs. Pure.

A thousand probes a second pass seven nodes twice: Python must not see them one by one. Offsets count from the IPv4
header, which a packet or raw socket begins with; the headers of our own packets carry no options.
"""

from __future__ import annotations

import struct
from typing import Final

PROBE: Final = 0x7264
"""The ICMP identifier of the probes, which tells them from the checker's pings."""

_STEP = struct.Struct("=HBBI")  # linux/filter.h: struct sock_filter
_BYTE, _HALF, _HALF_X, _HEADER = 0x30, 0x28, 0x48, 0xB1  # ld b abs, ld h abs, ld h ind, ldx 4*(b & 15)
_AND, _EQUAL, _RETURN = 0x54, 0x15, 0x06
_PACKET_TYPE = 0xFFFFF004  # SKF_AD_OFF + SKF_AD_PKTTYPE
_OUTGOING = 4  # linux/if_packet.h
_ICMP, _IPIP, _TCP, _UDP, _BGP, _VXLAN = 1, 4, 6, 17, 179, 4789
_IN_IPIP, _IN_VXLAN = 20, 50  # where the inner IPv4 header begins

_Step = tuple[int, str, str, int]  # operation, where to go if equal, where if not ("" is the next), operand


def without_probes() -> bytes:
    """A program that lets all through but probes, bare, in IPIP or in VXLAN."""
    return _assemble([*_classify(tcp="yes", other="yes"), *_ends()])


def conversation() -> bytes:
    """A program that lets through what leaves an interface and is BGP, or ICMP (bare or encapsulated) but no probe."""
    outgoing: list[tuple[str, _Step]] = [
        ("", (_BYTE, "", "", _PACKET_TYPE)),
        ("", (_EQUAL, "", "no", _OUTGOING)),
        ("", (_BYTE, "", "", 0)),
        ("", (_AND, "", "", 0xF0)),
        ("", (_EQUAL, "", "no", 0x40)),
    ]
    return _assemble([*outgoing, *_classify(tcp="tcp", other="no"), *_tcp(), *_ends()])


def only_probes() -> bytes:
    """A program that lets through bare probes, and nothing else."""
    return _assemble([("", (_HALF, "", "", 24)), ("", (_EQUAL, "yes", "no", PROBE)), *_ends()])


def _classify(*, tcp: str, other: str) -> list[tuple[str, _Step]]:
    """Steps that go to `tcp` for TCP, `no` for probes, `yes` for other ICMP, `other` for anything else."""

    def inner(label: str, at: int) -> list[tuple[str, _Step]]:
        return [
            (label, (_BYTE, "", "", at + 9)),
            ("", (_EQUAL, "", other, _ICMP)),
            ("", (_HALF, "", "", at + 24)),
            ("", (_EQUAL, "no", "yes", PROBE)),
        ]

    return [
        ("", (_BYTE, "", "", 9)),
        ("", (_EQUAL, tcp, "", _TCP)),
        ("", (_EQUAL, "icmp", "", _ICMP)),
        ("", (_EQUAL, "ipip", "", _IPIP)),
        ("", (_EQUAL, "", other, _UDP)),
        ("", (_HALF, "", "", 22)),
        ("", (_EQUAL, "", other, _VXLAN)),
        *inner("vxlan", _IN_VXLAN),
        *inner("ipip", _IN_IPIP),
        ("icmp", (_HALF, "", "", 24)),
        ("", (_EQUAL, "no", "yes", PROBE)),
    ]


def _tcp() -> list[tuple[str, _Step]]:
    return [
        ("tcp", (_HEADER, "", "", 0)),
        ("", (_HALF_X, "", "", 0)),
        ("", (_EQUAL, "yes", "", _BGP)),
        ("", (_HALF_X, "", "", 2)),
        ("", (_EQUAL, "yes", "no", _BGP)),
    ]


def _ends() -> list[tuple[str, _Step]]:
    return [("yes", (_RETURN, "", "", 0xFFFFFFFF)), ("no", (_RETURN, "", "", 0))]


def _assemble(steps: list[tuple[str, _Step]]) -> bytes:
    """Labels become distances: all jumps lead forward."""
    places = {label: number for number, (label, _) in enumerate(steps) if label}
    program = b""
    for number, (_, (operation, equal, unequal, operand)) in enumerate(steps):
        jumps = [places[target] - number - 1 if target else 0 for target in (equal, unequal)]
        program += _STEP.pack(operation, *jumps, operand)
    return program

"""The BPF programs, run by the kernel on a socket that needs no privilege."""

from __future__ import annotations

import ctypes
import socket
import struct

import pytest

from routed_lab.scenario import sieve

SO_ATTACH_FILTER = 26


def ip(protocol: int, payload: bytes) -> bytes:
    header = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0, b"\x0a\0\0\1", b"\x0a\0\0\2"
    )
    return header + payload


def icmp(identifier: int) -> bytes:
    return ip(1, struct.pack("!BBHHH", 0, 0, 0, identifier, 1) + bytes(8))


def in_ipip(inner: bytes) -> bytes:
    return ip(4, inner)


def in_vxlan(inner: bytes) -> bytes:
    return ip(17, struct.pack("!HHHH", 50000, 4789, 0, 0) + bytes(8) + bytes(12) + b"\x08\x00" + inner)


PROBE, PING = icmp(sieve.PROBE), icmp(7)
BGP = ip(6, struct.pack("!HH", 40000, 179) + bytes(16))
DNS = ip(17, struct.pack("!HHHH", 50000, 53, 0, 0) + bytes(40))


def passes(program: bytes, packet: bytes) -> bool:
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with sender, receiver:
        buffer = ctypes.create_string_buffer(program, len(program))
        receiver.setsockopt(
            socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
        )
        receiver.setblocking(False)
        try:
            sender.send(packet)
            return receiver.recv(2048) == packet
        except (BlockingIOError, PermissionError):  # EPERM: the filter took none of it
            return False


@pytest.mark.parametrize("packet", [PROBE, in_ipip(PROBE), in_vxlan(PROBE)])
def test_probes_are_left_out_whatever_they_travel_in(packet: bytes):
    assert not passes(sieve.without_probes(), packet)


@pytest.mark.parametrize("packet", [PING, in_ipip(PING), in_vxlan(PING), BGP, DNS, in_ipip(BGP)])
def test_all_else_is_let_through(packet: bytes):
    assert passes(sieve.without_probes(), packet)


def test_the_prober_hears_its_own_replies_only():
    assert passes(sieve.only_probes(), PROBE)
    assert not passes(sieve.only_probes(), PING)


def test_what_does_not_leave_an_interface_is_no_part_of_the_conversation():
    """A unix socket's packets are for this host: SKF_AD_PKTTYPE is not PACKET_OUTGOING."""
    assert not passes(sieve.conversation(), BGP)

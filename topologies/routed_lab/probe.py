"""Ping all pod pairs at once from inside the pods, while listening on every interface of every node and router.

One process, a few sockets: a socket belongs to the namespace in which it was opened, wherever it is used.
"""

from __future__ import annotations

import ctypes
import os
import selectors
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Self

from routed.netlink.socket import inside
from routed_lab import capture, expect
from routed_lab.capture import Sighting, Token
from routed_lab.scenario import sieve

if TYPE_CHECKING:
    from routed_lab.expect import Encapsulation, Pair, Verdict
    from routed_lab.topology import Pod, Topology

_ETH_P_ALL = 3
_SOL_RAW = 255
_ICMP_FILTER = 1  # linux/icmp.h; a set bit drops that type
_SO_TIMESTAMPNS = 35  # asm-generic/socket.h
_SO_RCVBUFFORCE = 33
_SO_ATTACH_FILTER = 26
_FILTER = struct.Struct("@HP")  # linux/filter.h: struct sock_fprog
_STEP = 8  # bytes of one step of a filter
_BUFFER = 4 << 20
_TIMESPEC = struct.Struct("=qq")
_LONGEST = 2048
_SETTLE = 0.02  # seconds for the last copies to arrive after the last reply


class Probe:
    """The sockets of one check. Blocking: for a thread of its own. Needs CAP_NET_RAW and CAP_SYS_ADMIN."""

    def __init__(
        self, topology: Topology, namespaces: Mapping[str, Path], pods: Mapping[Pod, tuple[Path, IPv4Address]]
    ) -> None:
        """`namespaces` of the nodes and routers by name; of each pod the namespace and the address."""
        self._topology = topology
        self._pods = pods
        self._run = os.urandom(8)
        self._round = 0
        self._selector = selectors.DefaultSelector()
        self._senders: dict[Pod, socket.socket] = {}
        self._stack = ExitStack()
        with ExitStack() as stack:
            stack.callback(self._selector.close)
            for node, namespace in namespaces.items():
                with inside(namespace):
                    listener = stack.enter_context(packets(sieve.without_probes()))
                self._selector.register(listener, selectors.EVENT_READ, node)
            for pod, (namespace, _) in pods.items():
                with inside(namespace):
                    sender = stack.enter_context(replies(sieve.without_probes()))
                self._senders[pod] = sender
                self._selector.register(sender, selectors.EVENT_READ, pod)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the sockets."""
        self._stack.close()

    def round(self, expected: Mapping[Pair, Encapsulation], timeout: float) -> Sequence[Verdict]:
        """Ping each pair of `expected` once and judge it; replies that take longer than `timeout` seconds are lost."""
        self._round += 1
        pairs = list(expected)
        seen: list[list[Sighting]] = [[] for _ in pairs]
        replied: set[int] = set()
        for number, (source, destination) in enumerate(pairs):
            packet = capture.request(Token(self._run, self._round, number))
            with suppress(OSError):  # no route (yet): the pair is unreachable, which is what the round is to find out
                self._senders[source].sendto(packet, (str(self._pods[destination][1]), 0))
            self._collect(0, seen, replied)
        deadline = time.monotonic() + timeout
        while len(replied) < len(pairs) and (left := deadline - time.monotonic()) > 0:
            self._collect(left, seen, replied)
        end = time.monotonic() + _SETTLE
        while (left := end - time.monotonic()) > 0:
            self._collect(left, seen, replied)
        return [
            expect.judge(self._topology, pair, expected[pair], seen[number], reachable=number in replied)
            for number, pair in enumerate(pairs)
        ]

    def _collect(self, timeout: float, seen: list[list[Sighting]], replied: set[int]) -> None:
        """Take what the sockets have within `timeout` seconds: at least once around, then no more waiting."""
        for key, _ in self._selector.select(timeout):
            source = key.fileobj
            if not isinstance(source, socket.socket):
                continue
            while True:
                try:
                    packet, control, _, address = source.recvmsg(_LONGEST, 64)
                except BlockingIOError:
                    break
                except OSError:  # ENETDOWN from a packet socket whose device went, an ICMP error on a pod's socket
                    continue
                echo = capture.parse(packet)
                if echo is None or (echo.token.run, echo.token.round) != (self._run, self._round):
                    continue
                if isinstance(key.data, str):
                    sighting = Sighting(key.data, address[0], stamp(control), echo.reply, echo.wrapping)
                    seen[echo.token.pair].append(sighting)
                elif echo.reply:
                    replied.add(echo.token.pair)


def packets(program: bytes) -> socket.socket:
    """A packet socket that sees the IPv4 packets of its namespace that `program` (`scenario.sieve`) lets through.

    In and out, from the network header on, with the time at which the kernel saw them (`stamp`).
    """
    listener = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
    listener.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    return _stamped(listener, program)


def replies(program: bytes) -> socket.socket:
    """A raw ICMP socket that receives only echo replies, of those what `program` lets through, stamped likewise."""
    pinger = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    pinger.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    pinger.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", ~1 & 0xFFFFFFFF))
    return _stamped(pinger, program)


def _stamped(opened: socket.socket, program: bytes) -> socket.socket:
    buffer = ctypes.create_string_buffer(program, len(program))
    opened.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, _FILTER.pack(len(program) // _STEP, ctypes.addressof(buffer))
    )
    opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    opened.setblocking(False)
    return opened


def stamp(control: list[tuple[int, int, bytes]]) -> int:
    """When the kernel received a packet, nanoseconds of the clock, from what came with it."""
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            return int(seconds * 1_000_000_000 + nanoseconds)
    return time.time_ns()

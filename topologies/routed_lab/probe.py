"""Ping all pod pairs at once from inside the pods, while listening on every interface of every node and router.

One process, a few sockets: a socket belongs to the namespace in which it was opened, wherever it is used.
"""

from __future__ import annotations

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

if TYPE_CHECKING:
    from routed_lab.expect import Encapsulation, Pair, Verdict
    from routed_lab.topology import Pod, Topology

_ETH_P_ALL = 3
_SOL_RAW = 255
_ICMP_FILTER = 1  # linux/icmp.h; a set bit drops that type
_SO_TIMESTAMPNS = 35  # asm-generic/socket.h
_SO_RCVBUFFORCE = 33
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
                    listener = stack.enter_context(_listener())
                self._selector.register(listener, selectors.EVENT_READ, node)
            for pod, (namespace, _) in pods.items():
                with inside(namespace):
                    sender = stack.enter_context(_pinger())
                self._senders[pod] = sender
                self._selector.register(sender, selectors.EVENT_READ, pod)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
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
                    sighting = Sighting(key.data, address[0], _time(control), echo.reply, echo.wrapping)
                    seen[echo.token.pair].append(sighting)
                elif echo.reply:
                    replied.add(echo.token.pair)


def _listener() -> socket.socket:
    """A packet socket that sees all IPv4 packets of its namespace, in and out, from the network header on."""
    listener = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
    listener.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    listener.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    listener.setblocking(False)
    return listener


def _pinger() -> socket.socket:
    """A raw ICMP socket that receives echo replies only."""
    pinger = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    pinger.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", ~1 & 0xFFFFFFFF))
    pinger.setblocking(False)
    return pinger


def _time(control: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            return int(seconds * 1_000_000_000 + nanoseconds)
    return time.time_ns()

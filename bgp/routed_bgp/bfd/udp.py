"""The sockets of BFD: RFC 5881 sections 4 and 5, RFC 5883 section 5.

One socket listens for each local address and kind of session, one with a source port of its own sends for each session.
"""

from __future__ import annotations

import contextlib
import errno
import random
import socket
import struct
import sys
from dataclasses import dataclass

from routed.model.address import AnyAddress
from routed_bgp.bfd.messages import BfdSession

SINGLE_HOP_PORT, MULTIHOP_PORT = 3784, 4784
HOPS = 255  # sent, and required of what comes on a single hop: GTSM, RFC 5881 section 5
_SOURCE_PORTS = range(49152, 65536)
_TRIES = 50
_CONTROL_TRAFFIC = 0xC0  # DSCP CS6, as routing protocols have
_PRIORITY = 6  # TC_PRIO_INTERACTIVE, the highest that needs no privilege
_LONGEST = 128  # octets; a packet is 24, with authentication at most some 60
_ANCILLARY = 256
_IP_PKTINFO, _IP_RECVTTL = 8, 12  # linux/in.h; Python 3.11 does not name them
_BROKEN = {errno.ENODEV, errno.ENXIO, errno.EADDRNOTAVAIL, errno.EINVAL, errno.EBADF}


@dataclass(frozen=True, slots=True)
class Arrival:
    """A datagram: what, from whom, with how many hops left, at which interface."""

    data: bytes
    source: str
    hops: int
    interface: int


def plain(address: AnyAddress) -> str:
    """The address as the kernel names the source of a packet, without a zone."""
    return str(address).partition("%")[0]


def port(*, multihop: bool) -> int:
    """The UDP port of the kind of session."""
    return MULTIHOP_PORT if multihop else SINGLE_HOP_PORT


class Listener:
    """The socket that takes what comes to `local`. Raises OSError when it cannot be."""

    def __init__(self, wanted: BfdSession) -> None:
        v4 = wanted.local.version == 4
        self.socket = _socket(v4=v4)
        try:
            if v4:
                self.socket.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
                self.socket.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            else:
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            self.socket.bind(_address(plain(wanted.local), port(multihop=wanted.multihop), wanted))
        except BaseException:
            self.socket.close()
            raise

    def receive(self) -> Arrival | None:
        """The next datagram; None when there is none now."""
        try:
            data, ancillary, _, source = self.socket.recvmsg(_LONGEST, _ANCILLARY)
        except OSError:  # nothing there, or the report of an error that is not about what we receive
            return None
        hops = interface = 0
        for level, kind, value in ancillary:
            if level == socket.IPPROTO_IP:
                if kind == socket.IP_TTL:
                    hops = int.from_bytes(value[:4], sys.byteorder)
                elif kind == _IP_PKTINFO:
                    interface = struct.unpack_from("=i", value)[0]
            elif kind == socket.IPV6_HOPLIMIT:
                hops = int.from_bytes(value[:4], sys.byteorder)
            elif kind == socket.IPV6_PKTINFO:
                interface = struct.unpack_from("=16xI", value)[0]
        return Arrival(data, source[0], hops, interface)

    def close(self) -> None:
        """Listen no more."""
        self.socket.close()


class Sender:
    """What sends for one session. It is made when first needed, and anew when its interface or address was away."""

    def __init__(self, wanted: BfdSession) -> None:
        self._wanted = wanted
        self._socket: socket.socket | None = None
        self._port = 0  # the same for the life of the session
        self._to: tuple[str | int, ...] = ()

    def send(self, data: bytes) -> bool:
        """Send one packet; False if it could not be sent now, which is no more than one lost."""
        try:
            if self._socket is None:
                self._socket = self._open()
            self._socket.sendto(data, self._to)
        except OSError as error:
            if error.errno in _BROKEN:
                self.close()
            return False
        return True

    def close(self) -> None:
        """Send no more, for now."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _open(self) -> socket.socket:
        wanted = self._wanted
        v4 = wanted.local.version == 4
        self._to = _address(plain(wanted.peer), port(multihop=wanted.multihop), wanted)
        made = _socket(v4=v4)
        try:
            if v4:
                made.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, HOPS)
                made.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _CONTROL_TRAFFIC)
            else:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, HOPS)
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _CONTROL_TRAFFIC)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, _PRIORITY)
            if wanted.interface is not None and not wanted.multihop:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, wanted.interface.encode())
            self._bind(made)
        except BaseException:
            made.close()
            raise
        return made

    def _bind(self, made: socket.socket) -> None:
        """Take the port of before, or any free one of those that RFC 5881 section 4 allows."""
        for candidate in (self._port, *random.sample(_SOURCE_PORTS, _TRIES)):
            if not candidate:
                continue
            try:
                made.bind(_address(plain(self._wanted.local), candidate, self._wanted))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                self._port = candidate
                return
        raise OSError(errno.EADDRINUSE, "no source port is free")


def index(interface: str | None) -> int:
    """The interface's number now; 0 if there is none of the name."""
    with contextlib.suppress(OSError):
        return socket.if_nametoindex(interface) if interface else 0
    return 0


def name_of(interface: int) -> str:
    """The name of the interface with that number; empty if there is none."""
    with contextlib.suppress(OSError):
        return socket.if_indextoname(interface)
    return ""


def _socket(*, v4: bool) -> socket.socket:
    made = socket.socket(socket.AF_INET if v4 else socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    if not v4:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return made


def _address(address: str, port: int, wanted: BfdSession) -> tuple[str | int, ...]:
    """As bind and sendto want it; a link-local address has the number of its interface with it."""
    if wanted.local.version == 4:
        return address, port
    scope = index(wanted.interface) if wanted.local.is_link_local else 0
    if wanted.local.is_link_local and not scope:
        raise OSError(errno.ENODEV, f"there is no interface {wanted.interface}")
    return address, port, 0, scope

"""What goes wrong, made on purpose: a foreign daemon at full rate, a full FIB, lost answers, a death at any send."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from collections.abc import Collection
from ipaddress import IPv4Network
from random import Random
from types import TracebackType
from typing import Any, ClassVar, Self

from tests.kernel.felix.world import World

from routed.netlink.socket import inside

_HEADER = struct.Struct("=IHHII")
_NEWROUTE, _DELROUTE, _ERROR = 24, 25, 2
_QUESTION = 2  # rtnetlink numbers each kind of object NEW, DEL, GET
_GATEWAY = socket.inet_aton("10.1.1.12")


class Daemon:
    """A thread that deletes routes with our keys, puts static ones in their place, and adds others, without a pause."""

    def __init__(self, world: World, keys: Collection[str], own: Collection[str], seed: int) -> None:
        self.rounds = 0
        self._keys, self._own, self._random = list(keys), list(own), Random(seed)
        with inside(world.path):
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.settimeout(10)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        for prefix in self._own:  # so that what is there at the end does not depend on when it was told to stop
            self._send(_NEWROUTE, 0x500, prefix, replace=True)
        self._socket.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            match self._random.randrange(4):
                case 0 | 1:
                    self._send(_DELROUTE, 0, self._random.choice(self._keys), replace=False)
                case 2:
                    self._send(_NEWROUTE, 0x500, self._random.choice(self._keys), replace=True)
                case _:
                    self._send(_NEWROUTE, 0x500, self._random.choice(self._own), replace=True)
            self.rounds += 1

    def _send(self, message: int, flags: int, prefix: str, *, replace: bool) -> None:
        network = IPv4Network(prefix)
        kind, protocol, scope = (1, 4, 0) if replace else (0, 0, 255)
        body = struct.pack("=BBBBBBBBI", socket.AF_INET, network.prefixlen, 0, 0, 254, protocol, scope, kind, 0)
        body += struct.pack("=HH", 8, 1) + network.network_address.packed + struct.pack("=HHI", 8, 6, 1024)
        if replace:
            body += struct.pack("=HH", 8, 5) + _GATEWAY
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), message, 5 | flags, 1, 0) + body)
        self._socket.recv(65536)  # its acknowledgement, or that there was nothing to delete


def _messages(data: Any) -> list[bytes]:
    view, at, found = bytes(data), 0, list[bytes]()
    while at + _HEADER.size <= len(view):
        length = _HEADER.unpack_from(view, at)[0]
        found.append(view[at : at + ((length + 3) & ~3)])
        at += (length + 3) & ~3
    return found


class Faulty(socket.socket):
    """A netlink socket to a kernel that has no room for routes to some destinations: ENOSPC, and no route.

    `doomed` has the addresses of these in wire form. And the answers to so many of the next writes get lost: `lose`.
    """

    doomed: ClassVar[set[bytes]] = set()
    lose: ClassVar[int] = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._spoiled: set[int] = set()  # sequence numbers
        self._lost = False

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        if self.family == socket.AF_NETLINK:
            data = b"".join(map(self._passed, _messages(data)))
            if Faulty.lose and _HEADER.unpack_from(data)[1] & 3 != _QUESTION:
                Faulty.lose -= 1
                self._lost = True
        super().sendall(data, flags)

    def _passed(self, message: bytes) -> bytes:
        _, kind, _, number, _ = _HEADER.unpack_from(message)
        if kind != _NEWROUTE or not any(struct.pack("=HH", 8, 1) + each in message for each in self.doomed):
            return message
        self._spoiled.add(number)
        at = _HEADER.size + 1  # the length of the prefix, which no kernel takes: so it answers in its order
        return message[:at] + b"\x21" + message[at + 1 :]

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        size = super().recv_into(buffer, nbytes, flags)
        if self._lost:
            self._lost = False
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        at = 0
        while self._spoiled and at + _HEADER.size + 4 <= size:
            length, kind, _, number, _ = _HEADER.unpack_from(buffer, at)
            if kind == _ERROR and number in self._spoiled:
                self._spoiled.discard(number)
                struct.pack_into("=i", buffer, at + _HEADER.size, -errno.ENOSPC)
            at += (length + 3) & ~3
        return size


class Mortal(socket.socket):
    """A netlink socket whose process dies, as by kill -9, at its `fatal`th send that is no question.

    Before that send, or, if it is `late`, when the kernel has done what it says.
    """

    fatal: ClassVar[int] = 0
    late: ClassVar[bool] = False
    sends: ClassVar[int] = 0

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        if self.family == socket.AF_NETLINK and _HEADER.unpack_from(data)[1] & 3 != _QUESTION:
            Mortal.sends += 1
            if Mortal.sends == Mortal.fatal:
                if self.late:
                    super().sendall(data, flags)
                os._exit(9)
        super().sendall(data, flags)

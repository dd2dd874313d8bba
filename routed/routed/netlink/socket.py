"""One rtnetlink socket: requests with their acknowledgement, dumps, batches, and event subscription."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from routed.netlink import constants as c
from routed.netlink.constants import Flag, Msg
from routed.netlink.message import Message, pack, unpack

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_ERRNO = struct.Struct("=i")
_BATCH_BUFFER = 8 << 20  # each failed message of a batch costs 832 bytes of receive buffer
_CHUNK = 500  # messages per send: the send buffer is finite, and so is the room for their failures
_SMALL_CHUNK = 32  # where the buffers have the default size, 208 KiB, and an answer may take 4 of them
_TIMEOUT = 5.0


class NetlinkError(OSError):
    """The kernel refused a request; `errno` is its reason."""


@contextmanager
def inside(namespace: str | Path | int) -> Generator[None]:
    """Run a block with this thread in another network namespace (a path, or an open descriptor of it).

    Sockets opened inside stay there, which is what it is for: it takes 0.015 ms. Raises OSError when `namespace` is
    none; a thread that cannot come back ends the process, because its next write would hit the wrong namespace.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        own = not isinstance(namespace, int)
        target = namespace if isinstance(namespace, int) else os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _libc.setns(target, _CLONE_NEWNET):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), str(namespace))
        finally:
            if own:
                os.close(target)
        try:
            yield
        finally:
            if _libc.setns(home, _CLONE_NEWNET):
                os._exit(70)
    finally:
        os.close(home)


class Netlink:
    """A blocking rtnetlink socket in the network namespace of the thread that opens it. Not for several threads."""

    def __init__(self, groups: int = 0, *, receive_buffer: int = _BATCH_BUFFER) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._chunk_size = _CHUNK
        for option, size in ((c.SO_SNDBUFFORCE, _BATCH_BUFFER), (c.SO_RCVBUFFORCE, receive_buffer)):
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, option, size)
            except PermissionError:  # no CAP_NET_ADMIN in the machine's own user namespace
                self._chunk_size = _SMALL_CHUNK
                break
        self._socket.setsockopt(c.SOL_NETLINK, c.NETLINK_CAP_ACK, 1)
        self._socket.setsockopt(c.SOL_NETLINK, c.NETLINK_GET_STRICT_CHK, 1)
        self._socket.bind((0, groups))
        self._socket.settimeout(_TIMEOUT)
        self.port: int = self._socket.getsockname()[0]
        self._seq = 0

    @classmethod
    def open_in(cls, namespace: str | Path | int, groups: int = 0, *, receive_buffer: int = _BATCH_BUFFER) -> Self:
        """A socket in another network namespace."""
        with inside(namespace):
            return cls(groups, receive_buffer=receive_buffer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def fileno(self) -> int:
        """For an event loop."""
        return self._socket.fileno()

    def request(self, kind: Msg, body: bytes, flags: int = 0) -> None:
        """Send one request and wait for its acknowledgement; raise NetlinkError if the kernel refuses."""
        failures = self.batch([(kind, flags, body)])
        if failures:
            number = failures[0]
            raise NetlinkError(number, os.strerror(number))

    def batch(self, messages: Sequence[tuple[Msg, int, bytes]]) -> dict[int, int]:
        """Send (type, flags, body) messages in order; return errno by index of those that failed.

        Any number of them: they go out in chunks, and only the last of a chunk asks for an acknowledgement, because
        the kernel works in order and a failure answers in any case.
        """
        failures: dict[int, int] = {}
        for start in range(0, len(messages), self._chunk_size):
            chunk = self._chunk(messages[start : start + self._chunk_size])
            failures.update({start + index: number for index, number in chunk.items()})
        return failures

    def _chunk(self, messages: Sequence[tuple[Msg, int, bytes]]) -> dict[int, int]:
        first = self._seq + 1
        last = self._seq = self._seq + len(messages)
        self._socket.sendall(
            b"".join(
                pack(kind, flags | (Flag.ACK if first + n == last else 0), first + n, body)
                for n, (kind, flags, body) in enumerate(messages)
            )
        )
        failures: dict[int, int] = {}
        while True:
            for answer in self._receive():
                if answer.type != Msg.ERROR or not first <= answer.seq <= last:
                    continue
                if number := -_ERRNO.unpack_from(answer.body)[0]:
                    failures[answer.seq - first] = number
                if answer.seq == last:
                    return failures

    def get(self, kind: Msg, body: bytes) -> Message:
        """Ask for one object; raise NetlinkError (ENODEV, ENETUNREACH, ...) when there is none."""
        self._seq += 1
        self._socket.sendall(pack(kind, 0, self._seq, body))
        while True:
            for answer in self._receive():
                if answer.seq != self._seq:
                    continue
                if answer.type == Msg.ERROR:
                    number = -_ERRNO.unpack_from(answer.body)[0]
                    raise NetlinkError(number, os.strerror(number))
                return answer

    def dump(self, kind: Msg, body: bytes) -> list[Message]:
        """All objects that match `body` (filtered by the kernel where it can); again if it changed meanwhile."""
        while True:
            self._seq += 1
            self._socket.sendall(pack(kind, Flag.DUMP, self._seq, body))
            found: list[Message] = []
            interrupted = done = False
            while not done:
                for answer in self._receive():
                    if answer.seq != self._seq:
                        continue
                    interrupted |= bool(answer.flags & Flag.DUMP_INTR)
                    if answer.type == Msg.DONE:
                        done = True
                    elif answer.type == Msg.ERROR:
                        number = -_ERRNO.unpack_from(answer.body)[0]
                        raise NetlinkError(number, os.strerror(number))
                    else:
                        found.append(answer)
            if not interrupted:
                return found

    def events(self) -> list[Message]:
        """What a subscribed socket has to tell now, without waiting; OSError ENOBUFS when some were lost."""
        found: list[Message] = []
        self._socket.setblocking(False)  # MSG_DONTWAIT would not do: Python itself waits on a socket with a timeout
        try:
            while True:
                found += unpack(self._socket.recv(1 << 17))
        except BlockingIOError:
            return found
        finally:
            self._socket.settimeout(_TIMEOUT)

    def _receive(self) -> list[Message]:
        try:
            return list(unpack(self._socket.recv(1 << 17)))
        except TimeoutError:
            raise NetlinkError(errno.ETIMEDOUT, "the kernel did not answer a netlink request") from None

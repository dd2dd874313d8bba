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
from typing import NamedTuple, Self

from routed.model.nlri import Nlri
from routed.netlink import constants as c
from routed.netlink.constants import Flag, Msg
from routed.netlink.message import HEADER, Message, pack, unpack
from routed.netlink.routes import Template

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_ERRNO = struct.Struct("=i")
_BATCH_BUFFER = 8 << 20  # each failed message of a batch costs 832 bytes of receive buffer
_CHUNK = 500  # messages per send: the send buffer is finite, and so is the room for their failures
_SMALL_CHUNK = 32  # where the buffers have the default size, 208 KiB, and an answer may take 4 of them
_TIMEVAL = struct.Struct("@ll")  # struct timeval
_TIMEOUT = 5  # seconds
_TRIES = 3  # sends of a chunk whose acknowledgement was lost
_DATAGRAM = 1 << 17
_FILTER_STEP = 8  # bytes of a struct sock_filter
_FILTER_PROGRAM = struct.Struct("@HP")  # struct sock_fprog


class NetlinkError(OSError):
    """The kernel refused a request; `errno` is its reason."""


class Written(NamedTuple):
    """What became of many messages: errno by index of those that failed.

    `repeated`: some went out twice, because the answer to the first time was lost. One with EXCL that was carried out
    the first time has failed with EEXIST then.
    """

    failures: dict[int, int]
    repeated: bool


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
        # the kernel's own timeouts: with Python's each call is two, and gives up the interpreter twice
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._socket.setsockopt(socket.SOL_SOCKET, option, _TIMEVAL.pack(_TIMEOUT, 0))
        self.port: int = self._socket.getsockname()[0]
        self._seq = 0
        self._buffer = bytearray(_DATAGRAM)
        self._view = memoryview(self._buffer)

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
        first, last = self._numbers(len(messages))
        self._socket.sendall(
            b"".join(
                pack(kind, flags | (Flag.ACK if first + n == last else 0), first + n, body)
                for n, (kind, flags, body) in enumerate(messages)
            )
        )
        return self._failures(first, last)

    def write(self, template: Template, nlris: Sequence[Nlri]) -> Written:
        """Send `template` for each of `nlris`, which have its length; in chunks, as `batch` does.

        A chunk whose answer got lost is sent again (a failure costs 832 bytes of receive buffer). Raises NetlinkError
        when the kernel does not answer at all.
        """
        failures: dict[int, int] = {}
        repeated = False
        for start in range(0, len(nlris), self._chunk_size):
            chunk = nlris[start : start + self._chunk_size]
            tries = 0
            while True:
                first, last = self._numbers(len(chunk))
                self._socket.sendall(template.fill(chunk, first))
                tries += 1
                try:
                    found = self._failures(first, last)
                    break
                except OSError as error:
                    if error.errno not in (errno.ENOBUFS, errno.ETIMEDOUT) or tries == _TRIES:
                        raise NetlinkError(error.errno, os.strerror(error.errno or errno.EIO)) from error
                    repeated = True
            failures.update((start + index, number) for index, number in found.items())
        return Written(failures, repeated)

    def _numbers(self, count: int) -> tuple[int, int]:
        """The first and last of `count` sequence numbers never used before, or not for very long."""
        if self._seq + count >= 1 << 32:
            self._seq = 0
        self._seq += count
        return self._seq - count + 1, self._seq

    def _failures(self, first: int, last: int) -> dict[int, int]:
        """The refusals of messages `first` to `last`, by index, when the last is acknowledged."""
        read, size, error = HEADER.unpack_from, HEADER.size, int(Msg.ERROR)
        failures: dict[int, int] = {}
        while True:
            datagram = self._receive_bytes()
            offset, end = 0, len(datagram)
            while offset + size + _ERRNO.size <= end:
                length, answer, _, number, _ = read(datagram, offset)
                if length < size:
                    break
                if answer == error and first <= number <= last:
                    reason = _ERRNO.unpack_from(datagram, offset + size)[0]
                    if reason:
                        failures[number - first] = -reason
                    if number == last:
                        return failures
                offset += (length + 3) & ~3

    def get(self, kind: Msg, body: bytes) -> Message:
        """Ask for one object; raise NetlinkError (ENODEV, ENETUNREACH, ...) when there is none."""
        self._numbers(1)
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
        return [Message(kind - 2, 0, self._seq, found) for found in self.dump_bodies(kind, body)]

    def dump_bodies(self, kind: Msg, body: bytes) -> list[bytes]:
        """The bodies of what `dump` finds: for the table of routes, which may be long."""
        while True:
            seq, _ = self._numbers(1)
            self._socket.sendall(pack(kind, Flag.DUMP, seq, body))
            found, flags = self._dumped(kind - 2, seq)  # rtnetlink numbers each kind of object NEW, DEL, GET
            if not flags & Flag.DUMP_INTR:
                return found

    def _dumped(self, wanted: int, seq: int) -> tuple[list[bytes], int]:
        """The bodies of type `wanted` that answer request `seq`, to its end; and the flags of any of them."""
        read, size = HEADER.unpack_from, HEADER.size
        last, error = int(Msg.DONE), int(Msg.ERROR)  # comparing with an enum costs more than the rest of the loop
        found: list[bytes] = []
        every = 0
        usual, body, step = b"", 0, 1  # the header that most of a long table have is read once
        every_octet = range(size)
        while True:
            datagram = self._receive_bytes()
            offset, end = 0, len(datagram)
            while offset + size <= end:
                start = offset + size
                header = datagram[offset:start]
                if header == usual:
                    count = (end - offset) // step
                    if all(
                        datagram[offset + k : offset + count * step : step] == usual[k : k + 1] * count
                        for k in every_octet
                    ):
                        # all that is left is of that size: 100,000 routes in 10 ms instead of 45
                        found += [datagram[at : at + body] for at in range(start, start + count * step, step)]
                        offset += count * step
                        continue
                    found.append(datagram[start : start + body])
                    offset += step
                    continue
                length, answer, flags, number, _ = read(header)
                if length < size or number != seq:  # damaged; or late, from a request that was given up
                    break
                every |= flags
                if answer == wanted:
                    found.append(datagram[start : offset + length])
                    usual, body, step = header, length - size, (length + 3) & ~3
                elif answer == last:
                    reason = -_ERRNO.unpack_from(datagram, start)[0] if length >= size + _ERRNO.size else 0
                    if reason > 0:  # a dump that failed on its way must not pass for a whole one
                        raise NetlinkError(reason, os.strerror(reason))
                    return found, every
                elif answer == error:
                    reason = -_ERRNO.unpack_from(datagram, offset + size)[0]
                    raise NetlinkError(reason, os.strerror(reason))
                offset += (length + 3) & ~3

    def only(self, program: bytes) -> None:
        """Be given only the events that `program` (`netlink.filter`) lets pass, in place of an earlier one."""
        buffer = ctypes.create_string_buffer(program, len(program))
        option = _FILTER_PROGRAM.pack(len(program) // _FILTER_STEP, ctypes.addressof(buffer))
        self._socket.setsockopt(socket.SOL_SOCKET, c.SO_ATTACH_FILTER, option)

    def join(self, group: int) -> None:
        """Subscribe to a group of events, by its number (RTNLGRP_*)."""
        self._socket.setsockopt(c.SOL_NETLINK, c.NETLINK_ADD_MEMBERSHIP, group)

    def leave(self, group: int) -> None:
        """End that subscription."""
        self._socket.setsockopt(c.SOL_NETLINK, c.NETLINK_DROP_MEMBERSHIP, group)

    def events(self) -> list[Message]:
        """What a subscribed socket has to tell now, without waiting; OSError ENOBUFS when some were lost."""
        found: list[Message] = []
        while True:
            try:
                size = self._socket.recv_into(self._buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return found
            found += unpack(bytes(self._view[:size]))

    def _receive(self) -> list[Message]:
        return list(unpack(self._receive_bytes()))

    def _receive_bytes(self) -> bytes:
        """One datagram. By way of a buffer of our own: recv would get and give back 128 KiB for each."""
        try:
            size = self._socket.recv_into(self._buffer)
        except BlockingIOError:  # after the socket's timeout
            raise NetlinkError(errno.ETIMEDOUT, "the kernel did not answer a netlink request") from None
        return bytes(self._view[:size])

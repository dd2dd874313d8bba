"""The channel between the outside and PID 1 of the new kernel: frames on a byte stream. Pure.

    frame = kind (1 byte) + length (4 bytes, big-endian) + payload

    READY     guest -> outside   the kernel's release, a space, seconds since it booted
    EXIT      guest -> outside   1 byte: exit status of the command; then what went wrong inside, UTF-8, or nothing
    DATA      both ways          1 byte: stream (0 stdin, 1 stdout, 2 stderr); then its bytes; none: end of the stream
    CREDIT    both ways          1 byte: stream; 4 bytes: how many more bytes of it may come
    SIGNAL    outside -> guest   1 byte: signal for the command's process group

A stream has a window: its sender may have WINDOW bytes on the way (STDIN_WINDOW for stdin), and its receiver gives
credit as it gets rid of them. So both ends read the channel at all times, and a reader that does not read its stdout,
or a command that does not read its stdin, holds up nothing but that stream.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = b"\x00routed-uml-1\n"
"""Comes first from the guest; whatever stands before it on the serial line is the kernel's or the terminal's."""

READY, EXIT, DATA, CREDIT, SIGNAL = b"REDCS"
STDIN, STDOUT, STDERR = 0, 1, 2
WINDOW = 256 << 10
STDIN_WINDOW = 3 << 10
"""Less than the 4 KiB that the guest's serial line holds, the other frames on the way included: UML's driver (6.1) can
sleep for ever once that buffer has been full. Stdin moves 0.5 MB/s, stdout 30."""

CHUNK = 32 << 10

_HEADER = struct.Struct(">BI")
_CREDIT = struct.Struct(">BI")


def frame(kind: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return _HEADER.pack(kind, len(payload)) + payload


def data(stream: int, payload: bytes) -> bytes:
    """A piece of a stream; an empty one ends it."""
    return frame(DATA, bytes((stream,)) + payload)


def credit(stream: int, size: int) -> bytes:
    """Leave to send `size` more bytes of a stream."""
    return frame(CREDIT, _CREDIT.pack(stream, size))


def credit_of(payload: bytes) -> tuple[int, int]:
    """Stream and size from the payload of a CREDIT."""
    stream, size = _CREDIT.unpack(payload)
    return int(stream), int(size)


class Frames:
    """Cuts bytes into frames: feed it what was read, get (kind, payload) of those that are complete.

    With `synced` false all up to and including MAGIC is skipped first.
    """

    __slots__ = ("_buffer", "_synced")

    def __init__(self, *, synced: bool) -> None:
        self._buffer = bytearray()
        self._synced = synced

    def feed(self, received: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield each frame that `received` completes."""
        self._buffer += received
        if not self._synced:
            at = self._buffer.find(MAGIC)
            if at < 0:
                return
            del self._buffer[: at + len(MAGIC)]
            self._synced = True
        while len(self._buffer) >= _HEADER.size:
            kind, size = _HEADER.unpack_from(self._buffer)
            end = _HEADER.size + size
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            yield kind, payload


class Inflow:
    """A stream as its receiver holds it: bytes that came and are not written yet, and the credit to give for them."""

    __slots__ = ("_pending", "_window", "_written", "ended")

    def __init__(self, window: int) -> None:
        self._window = window
        self._pending = bytearray()
        self._written = 0
        self.ended = False

    def __bool__(self) -> bool:
        return bool(self._pending)

    def add(self, payload: bytes) -> None:
        """Take what a DATA frame brought; nothing in it ends the stream."""
        if payload:
            self._pending += payload
        else:
            self.ended = True

    def head(self, size: int) -> bytes:
        """Return the next bytes to write, at most `size`."""
        return bytes(self._pending[:size])

    def wrote(self, size: int) -> int:
        """Note that `size` bytes have gone; return the credit to give now, 0 for none yet.

        Credit goes in quarters of the window, so that a command that reads little at a time costs few frames.
        """
        del self._pending[:size]
        self._written += size
        if self._written < self._window // 4:
            return 0
        given, self._written = self._written, 0
        return given

    def drop(self) -> int:
        """Forget all that is pending, for a stream that nobody reads any more; return the credit to give."""
        size = len(self._pending) + self._written
        self._pending.clear()
        self._written = 0
        return size

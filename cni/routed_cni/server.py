"""The agent's end of the plugin's socket: one call per connection, root only.

A client that is slow, silent, too big or gone costs one connection for a bounded time and holds up nobody else.

Plain sockets and no asyncio streams: a call is one small message each way, for which streams cost four times as much
as the rest of the agent's work on an address.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

from routed.errors import EnvironmentFault, OperatorError
from routed_cni.faults import CniError, Code
from routed_cni.protocol import MAX_REQUEST, check_socket_path
from routed_cni.results import encode_error

_log = logging.getLogger(__name__)
_UCRED = struct.Struct("=iII")  # struct ucred: pid, uid, gid
_LENGTH_BYTES = 4
_BACKLOG = 1024
_PART = 1 << 16  # bytes taken from a client at once
_REST_SECONDS = 1.0  # before the next try when nobody can be accepted
_NEWEST_COMMON = "1.0.0"  # in which to answer a client whose request was not read
Handler = Callable[[bytes], Awaitable[tuple[int, bytes]]]


class Server:
    """Serves `handle` on the unix socket `path`: request bytes in, exit status and output out.

    `client_seconds` bounds how long a client may take to send its request, and to take its answer;
    `close_seconds` how long `close` waits for calls in flight; `connections` how many there may be at a time.
    """

    def __init__(
        self,
        path: Path,
        handle: Handler,
        *,
        client_seconds: float = 10.0,
        close_seconds: float = 20.0,
        connections: int = 512,
    ) -> None:
        self._path = path
        self._handle = handle
        self._client_seconds = client_seconds
        self._close_seconds = close_seconds
        self._connections = connections
        self._listening: socket.socket | None = None
        self._inode = 0
        self._calls: set[asyncio.Task[None]] = set()

    @property
    def _beside(self) -> Path:
        return self._path.with_name(f"{self._path.name}.new")

    def check(self) -> None:
        """Raise OperatorError when `path` cannot be a socket or is another kind of file; makes nothing."""
        check_socket_path(self._beside)
        if self._path.exists() and not stat.S_ISSOCK(self._path.stat().st_mode):
            raise OperatorError(f"{self._path} is there and not a socket", hint="remove it, or choose another run_dir")

    async def start(self) -> None:
        """Listen, in the place of a socket file that a former agent left.

        Raises OperatorError when `path` cannot be a socket or is another kind of file, EnvironmentFault when the
        kernel refuses.
        """
        self.check()
        # bound beside its place and renamed into it: at no moment is there a socket that others may open, or none
        beside = self._beside
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            beside.unlink(missing_ok=True)
            listening.bind(str(beside))
            beside.chmod(0o600)
            listening.listen(_BACKLOG)
            self._inode = beside.stat().st_ino
            beside.replace(self._path)
        except OSError as error:
            listening.close()
            with contextlib.suppress(OSError):
                beside.unlink()
            raise EnvironmentFault(
                f"cannot listen on {self._path}: {error.strerror}", hint="run_dir must be writable to the agent"
            ) from error
        listening.setblocking(False)
        self._listening = listening
        self._hear()

    async def close(self) -> None:
        """Take no more calls, finish those in flight, remove the socket file if it is still this server's."""
        if self._listening is None:
            return
        asyncio.get_running_loop().remove_reader(self._listening)
        self._listening.close()
        self._listening = None
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
        if self._calls:
            _, late = await asyncio.wait(self._calls, timeout=self._close_seconds)
            for call in late:
                call.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _hear(self) -> None:
        if self._listening is not None:
            asyncio.get_running_loop().add_reader(self._listening, self._accept, self._listening)

    def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(_BACKLOG):
            try:
                connection, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no more files, or no memory: whoever calls waits in the backlog meanwhile
                _log.error("CNI calls wait: %s", error.strerror)
                loop.remove_reader(listening)
                loop.call_later(_REST_SECONDS, self._hear)
                return
            connection.setblocking(False)
            call = loop.create_task(self._answer(connection))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    async def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                await self._serve(connection)
            except (ConnectionError, TimeoutError):
                _log.debug("a CNI client did not take its answer")

    async def _serve(self, connection: socket.socket) -> None:
        try:
            _check_user(connection)
            payload = await _read(connection, self._client_seconds)
            self._check_load()  # only now: closing on an unread request would reset the connection
        except TimeoutError:
            status, output = _refusal(Code.IO_FAILURE, f"no whole request within {self._client_seconds:g} s")
        except CniError as error:
            status, output = _refusal(error.code, error.msg)
        else:
            # to its end, whether or not the client is still there: half an ADD is worse than one nobody waits for
            status, output = await self._handle(payload)
        await _write(connection, bytes((status,)) + output, self._client_seconds)

    def _check_load(self) -> None:
        if len(self._calls) > self._connections:
            raise CniError(Code.TRY_AGAIN_LATER, f"{self._connections} calls are in progress already")


def _check_user(connection: socket.socket) -> None:
    _, user, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    if user not in (0, os.geteuid()):
        raise CniError(Code.IO_FAILURE, f"user {user} may not call the agent, only root")


async def _read(connection: socket.socket, seconds: float) -> bytes:
    """The request: its length in 4 bytes, then itself. Mostly all of it is there, and nothing waits."""
    data = bytearray()
    with contextlib.suppress(BlockingIOError):
        data += connection.recv(_PART)
        if not data:
            raise CniError(Code.DECODE_FAILURE, "the request ends early")
    if (end := _end(data)) is None or len(data) < end:
        async with asyncio.timeout(seconds):
            while (end := _end(data)) is None or len(data) < end:
                part = await asyncio.get_running_loop().sock_recv(connection, _PART)
                if not part:
                    raise CniError(Code.DECODE_FAILURE, "the request ends early")
                data += part
    return bytes(data[_LENGTH_BYTES:end])


def _end(data: bytearray) -> int | None:
    """Where the request that begins with `data` ends; None: not known yet."""
    if len(data) < _LENGTH_BYTES:
        return None
    size = int.from_bytes(data[:_LENGTH_BYTES], "big")
    # the limit is on stdin; the variables come on top
    if size > 2 * MAX_REQUEST:
        raise CniError(Code.DECODE_FAILURE, f"a request of {size} bytes is too large")
    return _LENGTH_BYTES + size


async def _write(connection: socket.socket, answer: bytes, seconds: float) -> None:
    sent = 0
    with contextlib.suppress(BlockingIOError):
        sent = connection.send(answer)
    if sent < len(answer):
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().sock_sendall(connection, answer[sent:])


def _refusal(code: int, message: str) -> tuple[int, bytes]:
    return 1, encode_error(_NEWEST_COMMON, CniError(code, message))

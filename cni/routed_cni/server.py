"""The agent's end of the plugin's socket: one call per connection, root only.

A client that is slow, silent, too big or gone costs one connection for a bounded time and holds up nobody else.
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
        self._server: asyncio.Server | None = None
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
        self._server = await asyncio.start_unix_server(self._accept, sock=listening, backlog=_BACKLOG)

    async def close(self) -> None:
        """Take no more calls, finish those in flight, remove the socket file if it is still this server's."""
        if self._server is None:
            return
        self._server.close()
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
        await asyncio.sleep(0)  # what was accepted just now becomes a call
        if self._calls:
            _, late = await asyncio.wait(self._calls, timeout=self._close_seconds)
            for call in late:
                call.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        call = asyncio.current_task()
        assert call is not None
        self._calls.add(call)
        try:
            await self._serve(reader, writer)
        except (ConnectionError, TimeoutError):
            _log.debug("a CNI client did not take its answer")
        finally:
            self._calls.discard(call)
            writer.transport.abort()  # not close: that would wait for a client that does not take its answer

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            _check_user(writer)
            async with asyncio.timeout(self._client_seconds):
                payload = await _read(reader)
            self._check_load()  # only now: closing on an unread request would reset the connection
        except TimeoutError:
            status, output = _refusal(Code.IO_FAILURE, f"no whole request within {self._client_seconds:g} s")
        except CniError as error:
            status, output = _refusal(error.code, error.msg)
        else:
            # to its end, whether or not the client is still there: half an ADD is worse than one nobody waits for
            status, output = await self._handle(payload)
        writer.transport.set_write_buffer_limits(0)  # so that drain waits for the last byte
        writer.write(bytes((status,)) + output)
        async with asyncio.timeout(self._client_seconds):
            await writer.drain()

    def _check_load(self) -> None:
        if len(self._calls) > self._connections:
            raise CniError(Code.TRY_AGAIN_LATER, f"{self._connections} calls are in progress already")


def _check_user(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    _, user, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    if user not in (0, os.geteuid()):
        raise CniError(Code.IO_FAILURE, f"user {user} may not call the agent, only root")


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        size = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
        # the limit is on stdin; the variables come on top
        if size > 2 * MAX_REQUEST:
            raise CniError(Code.DECODE_FAILURE, f"a request of {size} bytes is too large")
        return await reader.readexactly(size)
    except asyncio.IncompleteReadError as error:
        raise CniError(Code.DECODE_FAILURE, "the request ends early") from error


def _refusal(code: int, message: str) -> tuple[int, bytes]:
    return 1, encode_error(_NEWEST_COMMON, CniError(code, message))

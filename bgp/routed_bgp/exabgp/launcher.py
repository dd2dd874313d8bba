"""Run ExaBGP with what routed needs changed: `python -m routed_bgp.exabgp.launcher FD PARENT CONFIGURATION`.

FD is a connected unix stream socket for the API, PARENT the process that must outlive us. Five things in ExaBGP are
replaced, which is why its version is exact and each is looked at before it is touched:

- its API helper: a socket takes the place of a process that would only copy bytes;
- the pause before it connects again: at most 1 s instead of 60, so that a peer that returns is found;
- a connection attempt gives up after 7 s (two retransmitted SYNs) instead of two minutes, for the same end;
- a reload is forgotten while anything is left to send, to *any* peer: an unreachable peer would stop every change of
  sessions;
- it asks the DNS for its own name at start, which in a fabric without DNS takes half a minute.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import sys
from importlib import import_module
from types import SimpleNamespace
from typing import Any

EXABGP_VERSION = "5.0.15"
RECONNECT_SECONDS = 1
_SYN_RETRIES = 2
_API_BUFFER = 64 << 20  # events wait here while the agent is busy; a full buffer would stop ExaBGP and cost sessions
_SO_SNDBUFFORCE = 32
_PR_SET_PDEATHSIG = 1


class UnexpectedExaBGP(Exception):  # noqa: N818  a statement, shown as such
    """ExaBGP is not the one that this module was written against."""


class Api:
    """The API socket, dressed as the `subprocess.Popen` of a helper that never ends before ExaBGP does."""

    def __init__(self, api: socket.socket) -> None:
        self._socket = api
        self.stdin = self  # what ExaBGP writes, we read
        self.stdout = self

    def fileno(self) -> int:
        """The socket, for polling and reading commands; ExaBGP makes it non-blocking."""
        return self._socket.fileno()

    def write(self, data: bytes) -> int:
        """Send all of `data`, waiting for the reader if need be."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                select.select([], [self._socket], [])
        return len(data)

    def flush(self) -> None:
        """Nothing is buffered here."""

    def poll(self) -> None:
        """It runs."""

    def terminate(self) -> None:
        """End of the conversation."""
        self._socket.close()

    kill = terminate

    def wait(self, timeout: float | None = None) -> int:  # noqa: ARG002  subprocess's signature
        """It ended well."""
        return 0


def follow(parent: int) -> None:
    """Be killed when `parent` dies, however it dies; its peers then see a closed connection, as in a restart."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        sys.exit("routed: the agent is gone")


def adapt(api: socket.socket) -> None:
    """Replace in ExaBGP what the module says. Raises UnexpectedExaBGP, before anything is replaced, if it differs."""
    server = _module("exabgp.application.server")
    delay = _module("exabgp.reactor.delay")
    loop = _module("exabgp.reactor.loop")
    processes = _module("exabgp.reactor.api.processes")
    outgoing = _module("exabgp.reactor.network.outgoing")
    version = _module("exabgp.version")

    _expect(version.release == EXABGP_VERSION, f"it is version {version.release}")
    _expect(processes.subprocess.__name__ == "subprocess", "its API does not use subprocess")
    _expect(hasattr(delay.Delay(), "_next"), "Delay counts otherwise")
    _expect(callable(getattr(loop.Reactor, "_pending_adjribout", None)), "Reactor._pending_adjribout is missing")
    _expect(callable(getattr(server, "warn", None)), "server.warn is missing")
    _expect(callable(getattr(outgoing, "create", None)), "outgoing.create is missing")

    real = processes.subprocess

    def popen(*_: Any, **__: Any) -> Api:
        return Api(api)

    processes.subprocess = SimpleNamespace(
        Popen=popen,
        PIPE=real.PIPE,
        CalledProcessError=real.CalledProcessError,
        TimeoutExpired=real.TimeoutExpired,
    )
    increase, create = delay.Delay.increase, outgoing.create

    def capped(self: Any) -> None:
        increase(self)
        self._next = min(self._next, RECONNECT_SECONDS)

    def impatient(*args: Any, **kwargs: Any) -> socket.socket:
        connection: socket.socket = create(*args, **kwargs)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, _SYN_RETRIES)
        return connection

    def never(_: Any) -> bool:
        return False

    delay.Delay.increase = capped
    outgoing.create = impatient
    loop.Reactor._pending_adjribout = never  # noqa: SLF001  what this module is for
    server.warn = str  # no warning


def _module(name: str) -> Any:
    """A module of ExaBGP, whose parts have no types to check."""
    return import_module(name)


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise UnexpectedExaBGP(
            f"expected ExaBGP {EXABGP_VERSION}, but {otherwise}: install the version of routed's lock"
        )


def main() -> None:
    """Run until ExaBGP ends; its exit status is ours."""
    fd, parent, configuration = sys.argv[1:]
    follow(int(parent))
    api = socket.socket(fileno=int(fd))
    try:
        api.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _API_BUFFER)
    except PermissionError:  # without CAP_NET_ADMIN the kernel's limit holds
        api.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _API_BUFFER)
    try:
        adapt(api)
    except (ImportError, AttributeError, UnexpectedExaBGP) as error:
        sys.exit(f"routed: {error}")
    sys.argv = ["exabgp", configuration]
    _module("exabgp.application.server").main()


if __name__ == "__main__":
    main()

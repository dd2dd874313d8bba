"""Small things in ExaBGP that routed needs otherwise, with the seams and without.

- Its API helper: a socket takes the place of a process that would only copy bytes.
- The pause before it connects again: at most 1 s instead of 60, so that a peer that returns is found.
- A reload is forgotten while anything is left to send, to *any* peer: an unreachable peer would stop every change of
  sessions.
- It asks the DNS for its own name at start, which in a fabric without DNS takes half a minute.
- TTL security is set on the listening socket, for all peers of it: here on what was accepted (RFC 5082).
- Its Adj-RIB-Out outlives a session: a route withdrawn meanwhile would come back. Ours is the one that counts.
- The keepalive interval and the N bit (RFC 8538), for which its configuration has no words: they come in `description`.
"""

# ruff: noqa: SLF001  ExaBGP has no other parts to replace

from __future__ import annotations

import select
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

from routed_bgp.exabgp.frames import Kind, pack
from routed_bgp.exabgp.pinned import module

RECONNECT_SECONDS = 1
_SENDING_TTL = 255
_NOTIFICATION_FLAG = 0x4  # beside the R bit, RFC 8538 section 2


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
        """Send a line, waiting for the reader if need be."""
        rest = memoryview(pack(Kind.LINE, data))
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


@dataclass(frozen=True, slots=True)
class Extras:
    """What ExaBGP's configuration has no words for; times in seconds, a keepalive interval of 0 is no wish."""

    keepalive: int
    notification: bool
    patience: float


@cache
def _read_extras(description: str) -> Extras:
    words = description.split()
    found = dict(zip(words[::2], words[1::2], strict=True))
    return Extras(int(found["keepalive"]), found["notification"] == "1", float(found["patience"]))


def extras(neighbor: Any) -> Extras:
    """Those of `neighbor`; `config` has written them into its description."""
    return _read_extras(neighbor["description"])


def install(api: Api) -> None:
    """Replace what the module says."""
    _speak_through(api)
    _connect_patiently()
    _keep_nothing()
    _secure_accepted()
    _offer_extras()


def _speak_through(api: Api) -> None:
    processes = module("reactor.api.processes")
    real = processes.subprocess

    def popen(*_: Any, **__: Any) -> Api:
        return api

    processes.subprocess = SimpleNamespace(
        Popen=popen,
        PIPE=real.PIPE,
        CalledProcessError=real.CalledProcessError,
        TimeoutExpired=real.TimeoutExpired,
    )
    module("application.server").warn = str  # no warning about its name


def _connect_patiently() -> None:
    delay = module("reactor.delay").Delay
    increase = delay.increase

    def capped(self: Any) -> None:
        increase(self)
        self._next = min(self._next, RECONNECT_SECONDS)

    delay.increase = capped


def _keep_nothing() -> None:
    neighbor = module("bgp.neighbor").Neighbor

    def never(_: Any) -> bool:
        return False

    def forget(self: Any) -> None:
        self.rib.outgoing.clear()
        for queue in (self.eor, self.messages, self.refresh):
            queue.clear()

    module("reactor.loop").Reactor._pending_adjribout = never
    neighbor.reset_rib = forget


def _secure_accepted() -> None:
    listener = module("reactor.listener")
    tcp = module("reactor.network.tcp")
    send = listener.set_accepted_ttl

    def listening(sock: Any, afi: Any, ip: Any, minimum: int) -> None:  # noqa: ARG001  ExaBGP's signature
        # our half of the handshake must have this TTL already, and no other peer minds it
        tcp.set_sending_ttl(sock, afi, ip, _SENDING_TTL)

    def accepted(connection: Any, neighbor: Any) -> None:
        send(connection, neighbor)
        tcp.set_minimum_ttl(connection.io, connection.afi, connection.peer, neighbor["incoming-ttl"])

    listener.set_minimum_ttl = listening
    listener.set_accepted_ttl = accepted


def _offer_extras() -> None:
    keepalives = module("reactor.keepalive").KA
    capabilities = module("bgp.message.open.capability.capabilities").Capabilities
    neighbor = module("bgp.neighbor").Neighbor
    graceful_code = module("bgp.message.open.capability").Capability.CODE.GRACEFUL_RESTART
    start, graceful, equal = keepalives.__init__, capabilities._graceful, neighbor.__eq__

    def started(self: Any, session: Any, proto: Any) -> None:
        start(self, session, proto)
        wanted = extras(proto.neighbor).keepalive
        if wanted and self.send_timer.keepalive:  # never rarer than a third of the hold time, RFC 4271 section 4.4
            self.send_timer.keepalive = min(wanted, self.send_timer.keepalive)

    def offered(self: Any, neighbor: Any, restarted: bool) -> None:
        graceful(self, neighbor, restarted)
        if graceful_code in self and extras(neighbor).notification:
            self[graceful_code].restart_flag |= _NOTIFICATION_FLAG

    def same(self: Any, other: Any) -> bool:
        return bool(equal(self, other)) and self["description"] == other["description"]

    keepalives.__init__ = started
    capabilities._graceful = offered
    neighbor.__eq__ = same


RELIED_ON: Sequence[str] = (
    "application.server:run",
    "bgp.message.open.capability.capabilities:Capabilities",
    "bgp.message.open.capability.graceful:Graceful",
    "bgp.neighbor:Neighbor",
    "bgp.timer:SendTimer",
    "reactor.api.processes:Processes",
    "reactor.delay:Delay",
    "reactor.keepalive:KA",
    "reactor.listener:Listener",
    "reactor.listener:set_accepted_ttl",
    "reactor.loop:Reactor",
    "reactor.network.tcp:set_minimum_ttl",
    "reactor.network.tcp:set_sending_ttl",
    "rib.outgoing:OutgoingRIB",
)

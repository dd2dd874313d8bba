"""The BFD process's end of its conversation with the agent: lines, and never a wait."""

from __future__ import annotations

import select
import socket
from collections import deque


class Control:
    """Lines both ways over `peer`, which is watched by `poller`."""

    def __init__(self, peer: socket.socket, poller: select.epoll) -> None:
        peer.setblocking(False)
        self._socket, self._poller = peer, poller
        self._incoming = b""
        self._outgoing: deque[bytes] = deque()
        self.gone = False
        poller.register(peer.fileno(), select.EPOLLIN)

    @property
    def ready(self) -> bool:
        """Whether all was taken that was said. What can wait should, while it was not."""
        return not self._outgoing

    def say(self, line: bytes) -> None:
        """Send `line` now or when the agent reads again."""
        self._outgoing.append(line)
        if len(self._outgoing) == 1:
            self._flush()
            if self._outgoing:
                self._poller.modify(self._socket.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def lines(self) -> list[bytes]:
        """What was said since the last time. Call it whenever the poller names the socket; sets `gone` at the end."""
        if self._outgoing:
            self._flush()
            if not self._outgoing:
                self._poller.modify(self._socket.fileno(), select.EPOLLIN)
        try:
            data = self._socket.recv(1 << 20)
        except BlockingIOError:  # it was about writing
            return []
        except ConnectionError:
            data = b""
        if not data:
            self.gone = True
            return []
        *lines, self._incoming = (self._incoming + data).split(b"\n")
        return lines

    def _flush(self) -> None:
        try:
            while self._outgoing:
                sent = self._socket.send(self._outgoing[0])
                if sent < len(self._outgoing[0]):
                    self._outgoing[0] = self._outgoing[0][sent:]
                else:
                    self._outgoing.popleft()
        except BlockingIOError:
            return
        except ConnectionError:  # the agent is gone; the next read says so
            self._outgoing.clear()

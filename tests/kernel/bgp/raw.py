"""A peer of the test's own, octet by octet: for what no real router would say."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from pathlib import Path

CLONE_NEWNET = 0x40000000
OPEN, UPDATE, NOTIFICATION, KEEPALIVE, REFRESH = 1, 2, 3, 4, 5
IPV4 = b"\1\4\0\1\0\1"  # the capability of IPv4 unicast, RFC 4760
END_OF_RIB = b"\0\0\0\0"


def graceful(seconds: int = 60, *, n_bit: bool = False) -> bytes:
    """The capability of RFC 4724, with the F bit, for IPv4."""
    return b"\x40\6" + (seconds | n_bit << 14).to_bytes(2) + b"\0\1\1\x80"


def message(kind: int, body: bytes = b"") -> bytes:
    return b"\xff" * 16 + (19 + len(body)).to_bytes(2) + bytes([kind]) + body


def prefix(number: int, base: int = 10 << 24) -> bytes:
    """A /32 as an NLRI."""
    return b"\x20" + (base + number).to_bytes(4)


def announced(nlris: bytes, *, asn: int, next_hop: str) -> bytes:
    """The body of an UPDATE to a peer with four-octet AS numbers."""
    attributes = b"\x40\1\1\0" + b"\x40\2\6\2\1" + asn.to_bytes(4) + b"\x40\3\4" + socket.inet_aton(next_hop)
    return b"\0\0" + len(attributes).to_bytes(2) + attributes + nlris


class RawPeer:
    """Connects from `address` in `namespace`. The receive buffer is small, so that what is not read waits elsewhere."""

    def __init__(self, namespace: str, address: str, *, asn: int) -> None:
        self.namespace, self.address, self.asn = namespace, address, asn
        self.socket = socket.socket()
        self.received = b""

    def connect(self, to: str, *, buffer: int = 0) -> None:
        """A new connection, in place of the one before."""
        self.close()

        def make() -> None:  # only this thread goes to the other namespace
            handle = os.open(Path("/run/netns", self.namespace), os.O_RDONLY)
            try:
                if ctypes.CDLL(None, use_errno=True).setns(handle, CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
                self.socket, self.received = socket.socket(), b""
            finally:
                os.close(handle)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(10)
        self.socket.bind((self.address, 0))
        self.socket.connect((to, 179))

    def open(self, *capabilities: bytes, hold: int = 90) -> None:
        """Send an OPEN and a KEEPALIVE, whatever comes back."""
        said = b"".join([IPV4, b"\x41\4" + self.asn.to_bytes(4), *capabilities])
        head = b"\4" + self.asn.to_bytes(2) + hold.to_bytes(2) + socket.inet_aton(self.address)
        self.send(OPEN, head + bytes([len(said) + 2, 2, len(said)]) + said)
        self.send(KEEPALIVE)

    def establish(self, to: str, *capabilities: bytes, hold: int = 90, buffer: int = 0) -> None:
        """A connection that becomes a session."""
        self.connect(to, buffer=buffer)
        self.open(*capabilities, hold=hold)
        self.until(KEEPALIVE)

    def send(self, kind: int, body: bytes = b"") -> None:
        self.socket.sendall(message(kind, body))

    def read(self) -> tuple[int, bytes]:
        """The next message; (0, b"") when the connection is closed."""
        while len(self.received) < 19 or len(self.received) < int.from_bytes(self.received[16:18]):
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionError:
                data = b""
            if not data:
                return 0, b""
            self.received += data
        length = int.from_bytes(self.received[16:18])
        found, self.received = self.received[:length], self.received[length:]
        return found[18], found[19:]

    def until(self, *kinds: int) -> bytes:
        """The next message of one of these kinds."""
        while True:
            kind, body = self.read()
            if kind in kinds:
                return body
            assert kind, f"the connection was closed before any of {kinds} came"

    def close(self) -> None:
        self.socket.close()

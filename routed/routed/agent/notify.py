"""systemd's readiness protocol, sd_notify(3): one datagram to `$NOTIFY_SOCKET`."""

from __future__ import annotations

import logging
import os
import socket

_log = logging.getLogger("routed.agent")


def notify(state: str) -> None:
    """Tell the service manager `state` (e.g. `READY=1`); nothing happens where there is none.

    A manager that cannot be told is no reason to stop: it decides itself what to make of the silence.
    """
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            sock.connect("\0" + path[1:] if path.startswith("@") else path)
            sock.sendall(state.encode())
    except OSError as error:
        _log.warning("NOTIFY_SOCKET %s: %s was not told: %s", path, state, error.strerror or error)

"""Run ExaBGP as routed needs it: `python -m routed_bgp.exabgp.launcher FD PARENT MODE CONFIGURATION`.

FD is a connected unix stream socket for everything (see `frames`), PARENT the process that must outlive us, MODE is
`seams` or `stock`. What is replaced in ExaBGP is in `adaptations`, `connections` and, for MODE seams, `seams`; each
names what it relies on, and before anything is replaced, the source of all that is compared with `digests`. Where the
seams do not fit, ExaBGP runs in its stock packets mode, slower; where the rest does not, it does not run.
"""

from __future__ import annotations

import socket
import sys

from routed_bgp.exabgp import adaptations, connections, pinned, seams
from routed_bgp.exabgp.frames import Kind, pack
from routed_bgp.lifeline import follow

# In stock mode events wait in the socket while the agent is busy; full, it stops ExaBGP, costing sessions. The seams
# have a buffer of their own, beside which one of this size would count twice (thrice: the kernel doubles it).
_STOCK_BUFFER, _SEAMS_BUFFER = 64 << 20, 8 << 20
_SO_SNDBUFFORCE = 32


def adapt(agent: socket.socket, mode: str) -> str:
    """Replace what is to be replaced; return why the seams are not, empty if they are.

    Raises UnexpectedExaBGP, before anything is replaced, if ExaBGP cannot be used at all.
    """
    pinned.require_version()
    pinned.require([*adaptations.RELIED_ON, *connections.RELIED_ON])
    note = "" if mode == "seams" else "asked for"
    if not note:
        try:
            pinned.require(seams.RELIED_ON)
        except pinned.UnexpectedExaBGP as error:
            note = str(error)
    api = adaptations.Api(agent)
    adaptations.install(api)
    connections.install()
    if not note:
        fast = seams.Seams(agent)
        fast.install()
        api.write = fast.line  # type: ignore[method-assign]
    return note


def _buffer(agent: socket.socket, octets: int) -> None:
    try:
        agent.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, octets)
    except PermissionError:  # without CAP_NET_ADMIN the kernel's limit holds
        agent.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, octets)


def main() -> None:
    """Run until ExaBGP ends; its exit status is ours."""
    fd, parent, mode, configuration = sys.argv[1:]
    follow(int(parent))
    agent = socket.socket(fileno=int(fd))
    try:
        note = adapt(agent, mode)
    except pinned.UnexpectedExaBGP as error:
        sys.exit(f"routed: ExaBGP: {error}: install the version of routed's lock")
    _buffer(agent, _STOCK_BUFFER if note else _SEAMS_BUFFER)
    agent.setblocking(True)
    agent.sendall(pack(Kind.HELLO, note.encode()))
    agent.setblocking(False)
    sys.argv = ["exabgp", configuration]
    pinned.module("application.server").main()


if __name__ == "__main__":
    main()

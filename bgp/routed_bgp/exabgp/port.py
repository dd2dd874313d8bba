"""Whether we could listen: asked before ExaBGP starts, because it would only exit with a line in its log."""

from __future__ import annotations

import errno
import socket

from routed.errors import EnvironmentFault
from routed.model.address import AnyAddress

_HINTS = {
    errno.EADDRINUSE: "find its owner with `ss -ltnp 'sport = :{port}'` and stop it, or set another listenPort in the"
    " BGPConfiguration",
    errno.EADDRNOTAVAIL: "put the address on an interface, or correct spec.bgp of this Node",
    errno.EACCES: "run as root or with CAP_NET_BIND_SERVICE",
}
_REASONS = {
    errno.EADDRINUSE: "another process listens there",
    errno.EADDRNOTAVAIL: "no interface has this address",
    errno.EACCES: "not permitted",
}


def require_port(address: AnyAddress, port: int) -> None:
    """Raise EnvironmentFault, naming address, port and reason, unless this process could listen there."""
    with socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6) as probe:
        # as ExaBGP does: connections of the past (TIME-WAIT) do not count, a listener does
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.version == 6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind((str(address), port))
            probe.listen(1)
        except OSError as error:
            number = error.errno or 0
            raise EnvironmentFault(
                f"BGP cannot listen on {address} port {port}: {_REASONS.get(number, error.strerror)}",
                hint=_HINTS.get(number, "see the reason above").format(port=port),
            ) from error

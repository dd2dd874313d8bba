"""What `birdc show protocols all` says of BGP sessions. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from routed_lab.session import Session

_ADDRESS = "Neighbor address:"
_STATE = "BGP state:"


def sessions(output: str) -> Iterator[Session]:
    """The BGP sessions in `output`, in BIRD's order."""
    protocol: str | None = None
    state = ""
    for line in output.splitlines():
        if line[:1].strip():
            words = line.split()
            protocol = words[0] if len(words) > 1 and words[1] == "BGP" else None
            state = ""
        elif protocol is not None and line.strip().startswith(_STATE):
            state = line.split(_STATE, 1)[1].strip()
        elif protocol is not None and line.strip().startswith(_ADDRESS):
            try:
                yield Session(protocol, ip_address(line.split(_ADDRESS, 1)[1].strip().partition("%")[0]), state)
            except ValueError:  # a range of addresses, of which no neighbour has come yet
                continue

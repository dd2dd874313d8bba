"""What `birdc show protocols all` says of BGP sessions. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

_ADDRESS = "Neighbor address:"
_STATE = "BGP state:"


@dataclass(frozen=True, slots=True)
class Session:
    """A BGP protocol of BIRD: its name in the configuration, the neighbour, and the state (RFC 4271's, or Down)."""

    protocol: str
    neighbor: IPv4Address
    state: str

    @property
    def established(self) -> bool:
        """Whether the session carries routes."""
        return self.state == "Established"


def sessions(output: str) -> Iterator[Session]:
    """The IPv4 BGP sessions in `output`, in BIRD's order."""
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
                yield Session(protocol, IPv4Address(line.split(_ADDRESS, 1)[1].strip().partition("%")[0]), state)
            except ValueError:  # an IPv6 neighbour, which no node of a lab is
                continue

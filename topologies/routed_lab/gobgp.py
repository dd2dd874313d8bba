"""What `gobgp -j` says: which sessions there are, and which way its best paths lead. Pure.

Path attributes are told apart by their type codes (RFC 4271 section 4.3, RFC 4760 section 3).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeVar

import msgspec

from routed_lab.session import Session

_NEXT_HOP: Final = 3
_MP_REACH_NLRI: Final = 14
_STATES: Final = ("Down", "Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established")  # api/gobgp.proto

_Answer = TypeVar("_Answer")

Fib = Mapping[IPv4Network | IPv6Network, IPv4Address | IPv6Address]
"""The gateway of each prefix."""


class _Config(msgspec.Struct):
    neighbor_address: str = ""


class _State(msgspec.Struct):
    neighbor_address: str = ""
    session_state: int = 0


class _Neighbor(msgspec.Struct):
    conf: _Config = msgspec.field(default_factory=_Config)
    state: _State = msgspec.field(default_factory=_State)


class _Attribute(msgspec.Struct):
    type: int
    nexthop: str | None = None


class _Path(msgspec.Struct):
    attrs: list[_Attribute] = []
    best: bool = False


class _Route(msgspec.Struct):
    dst: str
    gateway: str | None = None


def sessions(output: str) -> Iterator[Session]:
    """The sessions in the answer to `gobgp -j neighbor`, none if it is no such answer."""
    for told in _decoded(output, list[_Neighbor]) or ():
        address = told.state.neighbor_address or told.conf.neighbor_address
        yield Session(address, ip_address(address), _STATES[told.state.session_state])


def fib(output: str) -> Fib:
    """Where the best paths in the answer to `gobgp -j global rib` lead; what it originates itself leads nowhere."""
    found: dict[IPv4Network | IPv6Network, IPv4Address | IPv6Address] = {}
    for prefix, paths in (_decoded(output, dict[str, list[_Path]]) or {}).items():
        gateway = next((_next_hop(path) for path in paths if path.best), None)
        if gateway is not None and not gateway.is_unspecified:
            found[ip_network(prefix)] = gateway
    return found


def resolved(output: str) -> IPv4Address | IPv6Address | None:
    """The neighbour by which the answer to `ip -j route get GATEWAY` says that a gateway is reached."""
    route = next(iter(_decoded(output, list[_Route]) or ()), None)
    return None if route is None else ip_address(route.gateway or route.dst)


def changes(before: Fib, after: Fib) -> tuple[str, ...]:
    """The lines of `ip -batch` that make routes of `before` those of `after`, protocol 186 (bgp) being GoBGP's."""
    gone = (f"route delete {prefix} proto bgp" for prefix in before if prefix not in after)
    new = (
        f"route replace {prefix} via {gateway} proto bgp"
        for prefix, gateway in after.items()
        if before.get(prefix) != gateway
    )
    return (*new, *gone)


def _next_hop(path: _Path) -> IPv4Address | IPv6Address | None:
    found = {each.type: each.nexthop for each in path.attrs}
    text = found.get(_MP_REACH_NLRI) or found.get(_NEXT_HOP)
    return None if text is None else ip_address(text)


def _decoded(output: str, kind: type[_Answer]) -> _Answer | None:
    try:
        return msgspec.json.decode(output, type=kind)
    except msgspec.MsgspecError:
        return None

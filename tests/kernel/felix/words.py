"""Short words for desired states, for kernel tests."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from routed_felix.state import Desired, Group, Hop, Route, RouteKey, RouteKind


def key(prefix: str) -> RouteKey:
    return RouteKey(IPv4Network(prefix), 1024)


def via(gateway: str, device: str = "eth1", source: str | None = None, *, onlink: bool = False) -> Route:
    hop = Hop(device, IPv4Address(gateway), onlink)
    return Route(hops=(hop,), source=IPv4Address(source) if source else None)


def on(device: str) -> Route:
    return Route(hops=(Hop(device),))


BLACKHOLE = Route(RouteKind.BLACKHOLE)


def wanted(table: dict[str, Route]) -> Desired:
    """Routes by a gateway go by a group each, as those of calc."""
    return Desired(
        routes={
            key(prefix): replace(route, group=Group()) if route.hops and route.hops[0].gateway else route
            for prefix, route in table.items()
        }
    )

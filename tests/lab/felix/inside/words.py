"""Desired states with a tunnel."""

from __future__ import annotations

from ipaddress import IPv4Interface

from tests.kernel.felix.words import BLACKHOLE, key, via

from routed_felix.state import Desired, Link, Route

OWN, NEAR, FAR = "192.168.11.0/26", "192.168.12.0/26", "192.168.21.0/26"


def through(end: str, source: str = "192.168.11.1") -> Route:
    return via(end, "tunl0", source, onlink=True)


def tunnelled(address: str = "192.168.11.1", *, far: Route | None = None) -> Desired:
    routes = {OWN: BLACKHOLE, NEAR: via("10.1.1.12", source=address), FAR: far or through("10.2.2.21", address)}
    return Desired(
        links={"tunl0": Link("ipip", 1480)},
        addresses={IPv4Interface((address, 32)): ("tunl0",)},
        sysctls={"net/ipv4/conf/tunl0/rp_filter": "2"},
        routes={key(prefix): route for prefix, route in routes.items()},
    )


TUNNELLED = tunnelled()

"""Two top-of-rack routers announce one prefix: they share its traffic, and one that goes leaves it to the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.kernel.interop.bird import Bird
from tests.kernel.interop.ours import Ours, Resource
from tests.kernel.interop.routers import Neighbor, Route, Setup, Subnet
from tests.waiting import until

US, FIRST, SECOND = "10.99.0.1", "10.99.0.10", "10.99.0.11"
SHARED, ALONE = "10.244.50.0/24", "10.244.60.0/24"
SECONDS = 20


def resources() -> list[Resource]:
    def resource(kind: str, name: str, **spec: Any) -> Resource:
        return {"kind": kind, "metadata": {"name": name}, "spec": spec}

    return [
        resource("BGPConfiguration", "default"),
        resource("IPPool", "pods", cidr="10.244.0.0/16", ipipMode="CrossSubnet"),
        resource("Node", "n1", bgp={"ipv4Address": f"{US}/24"}, podCIDRs=["10.244.1.0/24"]),
        resource("BGPPeer", "first", peerIP=FIRST, asNumber=65010),
        resource("BGPPeer", "second", peerIP=SECOND, asNumber=65011),
    ]


@dataclass
class Rack:
    ours: Ours
    first: Bird
    second: Bird

    def until(self, **gateways: list[str]) -> None:
        """Wait until the prefixes go by exactly these."""
        wanted = {SHARED: gateways.get("shared"), ALONE: gateways.get("alone")}

        def found() -> bool:
            ways = self.ours.ways()
            return {prefix: ways.get(prefix) for prefix in wanted} == wanted

        until(found, SECONDS, lambda: (self.ours.ways(), self.ours.tail()))


@pytest.fixture
def rack(tmp_path: Path) -> Iterator[Rack]:
    subnet = Subnet(tmp_path)
    routers: list[Bird] = []
    ours: Ours | None = None
    try:
        place = subnet.place(1, "n1")
        for number, asn in ((10, 65010), (11, 65011)):
            routers.append(Bird(subnet.place(number, f"r{number}")))
            alone = (Route(prefix=ALONE),) if number == 10 else ()
            us = Neighbor(address=US, remote_as=64512, restart_time=60)
            routers[-1].start(Setup(asn=asn, neighbors=(us,), routes=(Route(prefix=SHARED), *alone)))
        ours = Ours(place, bgp_sync_seconds=5)
        ours.apply(*resources())
        ours.start()
        rack = Rack(ours, *routers)
        rack.until(shared=[FIRST, SECOND], alone=[FIRST])
        yield rack
    finally:
        for each in (ours, *routers):
            if each is not None:
                each.close()
        subnet.close()


def test_a_router_that_is_shut_down_leaves_the_traffic_to_the_other(rack: Rack) -> None:
    rack.first.shut(US)
    rack.until(shared=[SECOND])


def test_a_path_that_is_withdrawn_leaves_the_traffic_to_the_other_and_shares_it_when_it_is_back(rack: Rack) -> None:
    rack.second.withdraw(Route(prefix=SHARED))
    rack.until(shared=[FIRST], alone=[FIRST])
    rack.second.announce(Route(prefix=SHARED))
    rack.until(shared=[FIRST, SECOND], alone=[FIRST])


def test_rfc8326_a_path_that_is_about_to_go_does_not_share(rack: Rack) -> None:
    rack.second.withdraw(Route(prefix=SHARED))
    rack.second.announce(Route(prefix=SHARED, communities=("65535:0",)))
    rack.until(shared=[FIRST], alone=[FIRST])


def test_what_is_told_of_the_route_names_both(rack: Rack) -> None:
    decisions = {each["prefix"]: each for each in rack.ours.ask("/status")["routes"]["decisions"]}
    assert [hop["gateway"] for hop in decisions[SHARED]["next_hops"]] == [FIRST, SECOND]
    assert f"shared with {SECOND}" in decisions[SHARED]["because"]
    assert "shared with" not in decisions[ALONE]["because"]

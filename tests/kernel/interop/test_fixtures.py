"""The routers among themselves: that a fixture does what a scenario asks of it, before ours is at the other end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.kernel.interop.bird import Bird
from tests.kernel.interop.frr import Frr
from tests.kernel.interop.gobgp import Gobgp
from tests.kernel.interop.routers import Neighbor, Route, Router, Seen, Setup, Subnet, up
from tests.waiting import until

KINDS: dict[str, type[Router]] = {kind.kind: kind for kind in (Bird, Frr, Gobgp)}
PAIRS = [("bird", "frr"), ("frr", "gobgp"), ("gobgp", "bird")]


class Pair:
    """Two routers on one subnet, the first in AS 65001 and the second in AS 4200000002."""

    def __init__(self, subnet: Subnet, kinds: tuple[str, str]) -> None:
        self.places = [subnet.place(number, kind) for number, kind in enumerate(kinds, 1)]
        self.routers = [KINDS[kind](place) for kind, place in zip(kinds, self.places, strict=True)]

    def start(self, *, version: int = 4, asns: tuple[int, int] = (65001, 4200000002), **options: Any) -> None:
        for number, router in enumerate(self.routers):
            other = self.places[1 - number].local(version)
            families = (4, 6) if options.get("extended_next_hop") or version == 6 else (4,)
            neighbor = Neighbor(address=other, remote_as=asns[1 - number], families=families)
            routes = [Route(prefix=f"10.{number + 1}.0.0/24", communities=(f"65000:{number + 1}",), med=number + 5)]
            routes += [Route(prefix=f"fd0{number + 1}::/64")] if 6 in families else []
            routes = [each for each in routes if each.version in families]
            router.start(Setup(asn=asns[number], neighbors=(replace(neighbor, **options),), routes=tuple(routes)))
        self.up(version)

    def up(self, version: int = 4) -> None:
        for number, router in enumerate(self.routers):
            up(router, self.places[1 - number].local(version))

    def seen(self, number: int, version: int = 4) -> dict[str, Seen]:
        return self.routers[number].routes(self.places[1 - number].local(version))


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    subnet = Subnet(tmp_path_factory.mktemp("pair"))
    made = Pair(subnet, request.param)
    try:
        yield made
    finally:
        for router in made.routers:
            router.close()
        subnet.close()


def test_each_prints_what_the_other_announced_over_ebgp_with_md5_and_ttl_security(pair: Pair) -> None:
    pair.start(password="secret", ttl_security=True)
    first = Seen(next_hop="10.99.0.1", as_path=(65001,), communities=frozenset({"65000:1"}), med=5)
    second = Seen(next_hop="10.99.0.2", as_path=(4200000002,), communities=frozenset({"65000:2"}), med=6)
    for number, prefix, wanted in ((1, "10.1.0.0/24", first), (0, "10.2.0.0/24", second)):
        until(lambda number=number, prefix=prefix: prefix in pair.seen(number))
        seen = pair.seen(number)[prefix]
        assert replace(seen, local_pref=None) == wanted
    pair.routers[0].withdraw(Route(prefix="10.1.0.0/24", communities=("65000:1",), med=5))
    until(lambda: "10.1.0.0/24" not in pair.seen(1))
    pair.routers[0].announce(Route(prefix="10.1.9.0/24"))
    until(lambda: "10.1.9.0/24" in pair.seen(1))


def test_ipv6_and_ipv4_over_an_ipv6_session_with_extended_next_hops(pair: Pair) -> None:
    pair.start(version=6, extended_next_hop=True)
    until(lambda: {"10.1.0.0/24", "fd01::/64"} <= pair.seen(1, 6).keys(), 20, lambda: pair.seen(1, 6))
    until(lambda: {"10.2.0.0/24", "fd02::/64"} <= pair.seen(0, 6).keys(), 20, lambda: pair.seen(0, 6))
    assert pair.seen(1, 6)["10.1.0.0/24"].next_hop == "fd99::1"
    assert pair.seen(0, 6)["fd02::/64"].next_hop == "fd99::2"


def test_ibgp_routes_of_a_killed_router_are_stale_until_it_is_back(pair: Pair) -> None:
    pair.start(asns=(65001, 65001), restart_time=60)
    until(lambda: "10.1.0.0/24" in pair.seen(1))
    setup = pair.routers[0].setup
    pair.routers[0].kill()
    until(lambda: pair.seen(1)["10.1.0.0/24"].stale, 20, lambda: pair.seen(1))
    assert setup
    pair.routers[0].start(setup, restarting=True)
    pair.up()
    until(lambda: not pair.seen(1)["10.1.0.0/24"].stale, 20, lambda: pair.seen(1))


@pytest.mark.parametrize("pair", [("bird", "frr"), ("frr", "bird")], ids="-".join, indirect=True)
def test_a_reset_says_so_at_the_other_end_and_a_shutdown_stays_down(pair: Pair) -> None:
    pair.start()
    pair.routers[0].reset("10.99.0.2")
    until(lambda: pair.routers[1].last_error("10.99.0.1"))
    pair.up()
    pair.routers[0].shut("10.99.0.2")
    until(lambda: not pair.routers[1].established("10.99.0.1"))

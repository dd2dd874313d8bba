"""Every other topology that ships: up, and all pod pairs as it implies."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.lab.topologies.conftest import Lab


@pytest.mark.parametrize("name", ["three-subnets", "one-node-per-subnet", "md5-ttl", "twenty-nodes"])
def test_all_pairs_are_as_the_topology_implies(up: Callable[[str], Lab], name: str):
    found = up(name).check()

    assert (found["reachable"], found["wrong"]) == (found["pairs"], 0)


@pytest.mark.parametrize("name", ["dual-tor", "dual-tor-gobgp"])
def test_a_node_without_its_tor_sessions_falls_back_whichever_router_the_tor_is(up: Callable[[str], Lab], name: str):
    lab = up(name)

    figures = [lab.check(), lab.check("--without-tor", "node-a1"), lab.check()]

    assert [(found["reachable"], found["encapsulated"], found["wrong"]) for found in figures] == [
        (12, 0, 0),
        (12, 6, 0),
        (12, 0, 0),
    ]

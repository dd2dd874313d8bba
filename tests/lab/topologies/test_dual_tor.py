"""Two ToRs per node, FRR here: both planes carry, and a node without ToR sessions reaches everybody by IPIP."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.lab.topologies.conftest import Lab


@pytest.fixture(scope="module")
def lab(up: Callable[..., Lab]) -> Lab:
    return up("dual-tor-frr")


def figures(found: dict[str, object]) -> tuple[object, ...]:
    return tuple(found[key] for key in ("pairs", "reachable", "direct", "encapsulated", "wrong"))


def test_all_pairs_are_direct_and_spread_over_both_planes(lab: Lab):
    assert figures(lab.check()) == (12, 12, 12, 0, 0)
    nexthops = lab.do("exec", "node-a1", "ip", "nexthop")
    assert "via 10.1.1.1 dev eth1" in nexthops
    assert "via 10.1.2.1 dev eth2" in nexthops
    assert any("group" in line and "/" in line for line in nexthops.splitlines())


def test_a_node_without_its_tor_sessions_falls_back_to_the_tunnel_and_returns(lab: Lab):
    assert figures(lab.check("--without-tor", "node-a1")) == (12, 12, 6, 6, 0)
    assert figures(lab.check()) == (12, 12, 12, 0, 0)

"""Two racks whose fabric carries the pods' prefixes: no tunnel, unless a node loses its top-of-rack router."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from tests.lab.topologies.restart import assert_restart_is_invisible

if TYPE_CHECKING:
    from conftest import Lab

ALL_DIRECT = {"pairs": 56, "reachable": 56, "direct": 56, "encapsulated": 0, "wrong": 0}


@pytest.fixture(scope="module")
def lab(up: Callable[[str], Lab]) -> Lab:
    return up("two-racks-tor")


def figures(found: dict[str, object]) -> dict[str, object]:
    return {key: found[key] for key in ALL_DIRECT}


def test_no_pair_is_encapsulated_while_the_fabric_carries_the_prefixes(lab: Lab):
    assert figures(lab.check()) == ALL_DIRECT


def test_the_prefixes_of_a_node_without_tor_session_fall_back_to_the_tunnel_and_return(lab: Lab):
    without = lab.check("--without-tor", "node-a1")

    assert figures(without) == {"pairs": 56, "reachable": 56, "direct": 40, "encapsulated": 16, "wrong": 0}
    assert figures(lab.check()) == ALL_DIRECT


def test_a_router_has_no_tor_session_to_lose(lab: Lab):
    lab.do("check", "--without-tor", "tor-a", status=1)


def test_a_restarted_agent_changes_no_route_anywhere_and_loses_no_ping(lab: Lab):
    assert_restart_is_invisible(lab)
    assert figures(lab.check()) == ALL_DIRECT

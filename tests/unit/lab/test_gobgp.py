"""Reading what `gobgp -j` says, and making the kernel's routes follow it."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed_lab.gobgp import Fib, changes, fib, resolved, sessions
from routed_lab.session import Session

RIB = {
    "10.244.1.0/24": [
        {"best": True, "attrs": [{"type": 1, "value": 0}, {"type": 3, "nexthop": "10.1.0.11"}]},
        {"attrs": [{"type": 3, "nexthop": "10.1.0.12"}]},
    ],
    "10.244.9.0/24": [{"best": True, "attrs": [{"type": 3, "nexthop": "0.0.0.0"}]}],
    "fd00:1::/64": [{"best": True, "attrs": [{"type": 14, "nexthop": "fd00::11"}]}],
}


def test_the_best_paths_lead_to_their_next_hops_and_what_it_originates_leads_nowhere():
    assert fib(json.dumps(RIB)) == {
        IPv4Network("10.244.1.0/24"): IPv4Address("10.1.0.11"),
        IPv6Network("fd00:1::/64"): IPv6Address("fd00::11"),
    }


@pytest.mark.parametrize("output", ["", "Network not in table", "{}"])
def test_an_empty_table_leads_nowhere(output: str):
    assert fib(output) == {}


def test_the_sessions_are_read_with_neighbour_and_state():
    neighbors = [
        {"conf": {"neighbor_address": "10.1.0.11"}, "state": {"neighbor_address": "10.1.0.11", "session_state": 6}},
        {"conf": {"neighbor_address": "10.0.1.0"}, "state": {"session_state": 3}},
    ]

    assert list(sessions(json.dumps(neighbors))) == [
        Session("10.1.0.11", IPv4Address("10.1.0.11"), "Established"),
        Session("10.0.1.0", IPv4Address("10.0.1.0"), "Active"),
    ]


@pytest.mark.parametrize(
    ("answer", "neighbour"),
    [
        ('[{"dst": "10.1.0.11", "gateway": "10.1.1.11", "dev": "br0"}]', "10.1.1.11"),
        ('[{"dst": "10.1.1.11", "dev": "br0"}]', "10.1.1.11"),
    ],
)
def test_a_gateway_is_reached_by_the_kernels_gateway_to_it_or_is_a_neighbour_itself(answer: str, neighbour: str):
    assert resolved(answer) == IPv4Address(neighbour)


PREFIXES = st.sampled_from([ip_network(f"10.244.{number}.0/24") for number in range(4)])
FIBS = st.dictionaries(PREFIXES, st.sampled_from([IPv4Address("10.1.1.11"), IPv4Address("10.1.1.12")]))


def after(table: Fib, lines: tuple[str, ...]) -> Fib:
    """What a kernel makes of `ip -batch` lines."""
    routes = dict(table)
    for line in lines:
        match line.split():
            case ["route", "replace", prefix, "via", gateway, "proto", "bgp"]:
                routes[ip_network(prefix)] = IPv4Address(gateway)
            case ["route", "delete", prefix, "proto", "bgp"]:
                del routes[ip_network(prefix)]
            case words:
                raise AssertionError(words)
    return routes


@given(FIBS, FIBS)
def test_the_changes_from_one_table_to_another_make_the_other_of_it(before: Fib, wanted: Fib):
    assert after(before, changes(before, wanted)) == wanted


@given(FIBS)
def test_a_table_that_has_not_changed_costs_nothing(table: Fib):
    assert changes(table, table) == ()

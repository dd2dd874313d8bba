"""Reading FRR's `daemons` file, what an frr.conf needs, and vtysh's account of the sessions."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv6Address

import pytest

from routed.errors import OperatorError
from routed_lab.frr import FrrDaemon, asked_for, needed_by, sessions
from routed_lab.session import Session


def names(daemons: tuple[FrrDaemon, ...]) -> list[str]:
    return [daemon.name for daemon in daemons]


def test_zebra_and_staticd_run_whatever_the_daemons_file_says():
    assert names(asked_for("zebra=no\nbgpd=no\n", "daemons")) == ["zebra", "staticd"]


def test_a_daemon_runs_when_the_file_says_yes_and_zebra_is_the_first():
    assert names(asked_for("bgpd=yes\nospfd=yes # areas\nripd=no\nbfdd=maybe\n", "daemons")) == [
        "zebra", "staticd", "bgpd", "ospfd",
    ]  # fmt: skip


def test_options_and_profile_are_passed_on_but_not_what_puts_a_daemon_in_the_background():
    text = 'frr_profile="datacenter"\nbgpd=yes\nbgpd_options="  --daemon -A 127.0.0.1 -M rpki -d"\n'

    assert asked_for(text, "daemons")[-1] == FrrDaemon("bgpd", ("-F", "datacenter", "-A", "127.0.0.1", "-M", "rpki"))


def test_a_line_that_no_shell_would_read_is_refused_with_its_place():
    with pytest.raises(OperatorError, match="daemons:2: bgpd_options is no value of a shell"):
        asked_for('bgpd=yes\nbgpd_options="-A\n', "daemons")


@pytest.mark.parametrize(
    ("configuration", "daemons"),
    [
        ("hostname r1\n", ["zebra"]),
        ("router bgp 65001\n neighbor 10.0.0.1 remote-as 65002\n", ["zebra", "bgpd"]),
        ("router bgp 65001\n neighbor 10.0.0.1 bfd\n", ["zebra", "bgpd", "bfdd"]),
        ("router ospf\n network 10.0.0.0/8 area 0\n", ["zebra", "ospfd"]),
        ("router ospf6\n", ["zebra", "ospf6d"]),
        ("ip route 10.0.0.0/8 10.1.0.1\n", ["zebra", "staticd"]),
    ],
)
def test_without_a_daemons_file_those_run_that_the_configuration_needs(configuration: str, daemons: list[str]):
    assert names(needed_by(configuration)) == daemons


def test_the_sessions_are_read_with_neighbour_and_state():
    answer = {
        "10.1.0.11": {"bgpNeighborAddr": "10.1.0.11", "nbrDesc": "node-a1", "bgpState": "Established"},
        "2001:db8::1": {"bgpNeighborAddr": "2001:db8::1", "bgpState": "Active"},
        "eth1": {"bgpNeighborAddr": "none", "bgpState": "Idle"},
    }

    assert list(sessions(json.dumps(answer))) == [
        Session("node-a1", IPv4Address("10.1.0.11"), "Established"),
        Session("2001:db8::1", IPv6Address("2001:db8::1"), "Active"),
    ]


@pytest.mark.parametrize("output", ["", "% BGP instance not found", "{}", "[]"])
def test_a_router_without_bgp_has_no_sessions(output: str):
    assert list(sessions(output)) == []

"""Reading `birdc show protocols all`."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from routed_lab.birdc import sessions
from routed_lab.session import Session

OUTPUT = """\
BIRD 2.0.12 ready.
Name       Proto      Table      State  Since         Info
device1    Device     ---        up     12:00:00.000  \n
node_a1    BGP        ---        up     12:00:01.000  Established   \n\
  BGP state:          Established
    Neighbor address: 10.1.1.11
    Neighbor AS:      64601
  Channel ipv4
    State:          UP
node_a2    BGP        ---        down   12:00:01.000  \n\
  BGP state:          Down
    Neighbor address: 10.1.1.12
six        BGP        ---        start  12:00:01.000  Idle
  BGP state:          Idle
    Neighbor address: fe80::1%eth1
spine      BGP        ---        start  12:00:01.000  Connect
  BGP state:          Connect
    Neighbor address: 10.0.1.0
"""


def test_the_bgp_sessions_are_read_with_protocol_neighbour_and_state():
    assert list(sessions(OUTPUT)) == [
        Session("node_a1", IPv4Address("10.1.1.11"), "Established"),
        Session("node_a2", IPv4Address("10.1.1.12"), "Down"),
        Session("six", IPv6Address("fe80::1"), "Idle"),
        Session("spine", IPv4Address("10.0.1.0"), "Connect"),
    ]


def test_only_an_established_session_carries_routes():
    assert [one.established for one in sessions(OUTPUT)] == [True, False, False, False]


def test_a_router_without_sessions_has_none():
    assert list(sessions("BIRD 2.0.12 ready.\n")) == []

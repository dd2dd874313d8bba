"""Whether expectations hold, and what recorded things are called."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from routed.model.resources import EncapsulationMode
from routed_lab import expect, topology
from routed_lab.expect import Encapsulation, Verdict
from routed_lab.scenario import story
from routed_lab.scenario.losses import Probed
from routed_lab.scenario.model import Carried, Pool, Rib, Traffic
from routed_lab.scenario.pcapng import Packet
from routed_lab.scenario.record import Change, StepRecord
from routed_lab.topology import Pod, Topology

TOPOLOGIES = Path(__file__).parents[3] / "topologies"
ONE, OTHER = Pod("node-a1", 1), Pod("node-b1", 1)
PAIRS = ((ONE, OTHER),)


@pytest.fixture(scope="module")
def racks() -> Topology:
    return topology.load(TOPOLOGIES / "two-racks-tor.clab.yml")


def verdict(carried: Encapsulation = Encapsulation.DIRECT, *, reachable: bool = True) -> Verdict:
    return Verdict(
        ONE, OTHER, ("node-a1", "tor-a"), carried, Encapsulation.DIRECT, reachable, 0.1 if reachable else None
    )


@pytest.mark.parametrize(
    ("asked", "found", "complaint"),
    [
        (Traffic(PAIRS, 1, converged=True), verdict(), ""),
        (Traffic(PAIRS, 1, converged=True), verdict(Encapsulation.IPIP), "carried ipip, expected direct"),
        (Traffic(PAIRS, 1, converged=True), verdict(reachable=False), "no reply"),
        (Traffic(PAIRS, 1, reachable=False), verdict(reachable=False), ""),
        (Traffic(PAIRS, 1, reachable=False), verdict(), "reachable"),
        (Traffic(PAIRS, 1, carried=Carried.TUNNEL), verdict(Encapsulation.VXLAN), ""),
        (Traffic(PAIRS, 1, carried=Carried.IPIP), verdict(Encapsulation.VXLAN), "carried vxlan, expected ipip"),
        (Traffic(PAIRS, 1, path=("node-a1",)), verdict(), "by node-a1 > tor-a"),
    ],
)
def test_a_complaint_says_what_is_not_as_asked(asked: Traffic, found: Verdict, complaint: str):
    assert story.complaint(asked, found).removeprefix("node-a1-pod1 > node-b1-pod1 ") == complaint


@pytest.mark.parametrize(("found", "answer"), [(True, "x\nvia 10.0.0.1\n"), (False, "Network not found")])
def test_a_rib_has_a_pattern_or_lacks_it(found: bool, answer: str):
    assert story.matches(Rib("tor-a", (), r"^via 10\.", found, 1), answer)
    assert not story.matches(Rib("tor-a", (), r"^via 10\.", not found, 1), answer)


def test_each_question_for_losses_counts_from_the_one_before():
    probed = [Probed("a", "b", [0.0, 1.0, 2.0, 3.0], [0, 9, 0, 0])]
    steps = [StepRecord("", "expectation", "met", 0, 0)] * 2

    first, second = story.with_losses(steps, [story.Asked(0, 1, 1.5), story.Asked(1, 1, 9.0)], probed)

    assert (first.outcome, first.detail) == ("met", "lost 1")
    assert (second.outcome, second.detail) == ("failed", "a > b lost 2")


def test_a_pool_whose_mode_is_changed_implies_another_encapsulation(racks: Topology):
    changed, pool = story.pool_changed(racks, Pool("pods", EncapsulationMode.ALWAYS, EncapsulationMode.NEVER))

    assert expect.expected(changed)[ONE, OTHER] is Encapsulation.IPIP
    assert pool in changed.resources


def test_a_message_is_told_once_where_its_sender_put_it_on_the_wire(racks: Topology):
    spine, tor = IPv4Address("10.0.1.0"), IPv4Address("10.0.1.1")
    segment = struct.pack("!HHIIBBHHH", 40000, 179, 1, 0, 80, 16, 0, 0, 0) + b"\xff" * 16 + b"\0\x13\x04"
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(segment), 0, 0, 64, 6, 0, spine.packed, tor.packed)
    seen = [Packet(2_000_000_000 + n, node, "eth1", head + segment) for n, node in enumerate(("spine", "tor-a"))]

    (message,) = story.messages(racks, seen, 1_000_000_000)

    assert (message.time, message.sender, message.receiver, message.kind) == (1.0, "spine", "tor-a", "KEEPALIVE")


def test_changes_are_in_the_order_of_time_without_local_and_ipv6_routes():
    told = [
        ("b", [(12.0, "10.244.1.0/24 nhid 7 via 10.9.9.2 dev v0"), (12.1, "local 10.9.9.1 dev v0 table local")]),
        ("a", [(11.0, "fe80::/64 dev v0 proto kernel metric 256"), (11.5, "Deleted 10.8.0.0/16 nhid 7")]),
    ]

    assert story.changes(told, 10.0) == [
        Change(1.5, "a", "Deleted 10.8.0.0/16 nhid 7"),
        Change(2.0, "b", "10.244.1.0/24 nhid 7 via 10.9.9.2 dev v0"),
    ]


def test_a_link_is_told_when_it_goes_down_and_comes_up_not_each_time_the_kernel_mentions_it():
    up = "2: eth1@if3: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 state UP"
    down = "2: eth1@if3: <NO-CARRIER,BROADCAST,MULTICAST,UP> mtu 1500 state LOWERLAYERDOWN"

    told = [(float(n), line) for n, line in enumerate([up, up, down, down, up])]

    assert [change.text for change in story.changes([("n", told)], 0.0)] == [
        "link eth1 is up",
        "link eth1 is down",
        "link eth1 is up",
    ]

"""What the pictures and the page show."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest

from routed_lab import drawing, picture, topology
from routed_lab.scenario import chart
from routed_lab.scenario.page import page
from routed_lab.scenario.record import Bin, Change, Gap, Message, PairRecord, Record, Seen, StepRecord
from routed_lab.topology import Topology
from routed_lab.wire import Row

TOPOLOGIES = Path(__file__).parents[3] / "topologies"


@pytest.fixture(scope="module")
def racks() -> Topology:
    return topology.load(TOPOLOGIES / "two-racks-tor.clab.yml")


def rows(racks: Topology, *, lost: str = "") -> list[Row]:
    return [
        Row(one.name, other.name, path(one.node, other.node), "direct", "direct", None if one.node == lost else 0.2)
        for one, other in permutations(racks.pods, 2)
    ]


def path(one: str, other: str) -> str:
    tor, far = f"tor-{one[5]}", f"tor-{other[5]}"
    middle = [] if one == other else [tor] if tor == far else [tor, "spine", far]
    return " > ".join(dict.fromkeys([one, *middle, other]))


def titles(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}title")]


def record(racks: Topology, **changes: object) -> Record:
    base = Record(
        scenario="a & b",
        lab="two-racks-tor",
        machine="Linux 6.1",
        started="2026-01-01T00:00:00+00:00",
        seconds=10.0,
        quiet=1.0,
        rate=1000,
        width=0.025,
        steps=[
            StepRecord("kill -9 of <tor-a>", "act", "done", 1.0, 1.1),
            StepRecord("all pairs reachable", "expectation", "met", 1.1, 2.0, rows=rows(racks)),
        ],
        pairs=[
            PairRecord("node-a1-pod1", "node-b1-pod1", 2, 1, 0, 0, 0.2, 0.4, [Gap(1, 1.2, 1)], [Bin(2, 1, 0.2, 0.2)])
        ],
        seen=[Seen(0.1, "node-a1-pod1", "node-b1-pod1", "node-a1 > tor-a", "direct")],
        messages=[Message(1.0, "tor-a", "spine", "NOTIFICATION", "cease")],
        changes=[Change(1.0, "spine", "Deleted 10.244.1.0/24 via 10.0.1.1")],
    )
    return msgspec.structs.replace(base, **changes)


def test_pairs_that_travel_alike_both_ways_share_a_line_and_each_direction_has_its_cell(racks: Topology):
    told = titles(picture.draw(racks, rows(racks)))

    assert sum("<->" in text for text in told) == 28
    assert sum(text.startswith("node-") and " -> " in text for text in told) == 56


def test_a_pair_without_reply_is_told_apart(racks: Topology):
    told = titles(picture.draw(racks, rows(racks, lost="node-a1")))

    assert "node-a1-pod1 -> node-b1-pod1: no reply" in told


def test_every_node_link_and_session_is_in_the_picture(racks: Topology):
    drawn = picture.draw(racks, [], [picture.Session("tor-a", "node-a1", up=False)])

    assert all(f">{name}</text>" in drawn for name in racks.nodes)
    assert "spine:eth1 - tor-a:eth1" in titles(drawn)
    assert "BGP tor-a - node-a1: not established" in titles(drawn)


def test_the_sessions_of_a_lab_are_those_that_routers_tell_and_those_of_the_mesh(racks: Topology):
    told = {"nodes": {"tor-a": {"sessions": [{"neighbor": "10.1.1.11", "state": "Active"}]}}}

    found = drawing.sessions(racks, drawing.inspected(told))

    assert picture.Session("tor-a", "node-a1", up=False) in found
    assert picture.Session("node-a1", "node-b2") in found


def test_the_page_is_whole_by_itself_and_links_only_the_capture(racks: Topology):
    text = page(record(racks), racks, "capture.pcapng")

    assert "<script" not in text
    assert text.count("href=") == 1
    assert "src=" not in text
    assert "a &amp; b" in text
    assert "kill -9 of &lt;tor-a&gt;" in text


def test_the_page_says_whether_all_was_as_expected(racks: Topology):
    failed = [StepRecord("all pairs reachable", "expectation", "failed", 1.1, 2.0, "no reply")]

    assert "NOT as expected" not in page(record(racks), racks, "c")
    assert "NOT as expected" in page(record(racks, steps=failed), racks, "c")


def test_the_timeline_tells_steps_losses_messages_and_changes(racks: Topology):
    told = "\n".join(titles(chart.draw(record(racks))))

    assert "1. kill -9 of <tor-a>" in told
    assert "1 of 2 lost" in told
    assert "1.000 s NOTIFICATION to spine cease" in told
    assert "Deleted 10.244.1.0/24" in told
    assert "direct by node-a1 > tor-a" in told


def test_a_picture_that_shows_nothing_new_is_left_out(racks: Topology):
    again = [StepRecord("all pairs reachable", "expectation", "met", n, n + 1.0, rows=rows(racks)) for n in (1.0, 2.0)]

    assert page(record(racks, steps=again), racks, "c").count("<figure>") == 1


def test_plain_nodes_and_bridges_have_a_place_in_the_picture_too(tmp_path: Path):
    file = tmp_path / "plain.clab.yml"
    file.write_text(
        "name: plain\ntopology:\n  nodes: {pc: {kind: linux}, sw: {kind: bridge}}\n"
        '  links: [{endpoints: ["pc:eth1", "sw:e1"]}, {endpoints: ["pc:eth2", "host:x0"]}]\n'
    )
    drawn = picture.draw(topology.load(file), [], [])
    assert all(f">{name}<" in drawn for name in ("pc", "sw"))

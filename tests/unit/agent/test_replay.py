"""Recordings: their lines read back as they were written, and what is decided follows from them alone."""

from __future__ import annotations

import logging
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.felix import words

from routed.agent.recording import lines
from routed.agent.recording.recorder import Recorder
from routed.agent.recording.replay import replay
from routed.cli.main import main
from routed.errors import EnvironmentFault, OperatorError
from routed.model.address import Family
from routed.model.cluster import Cluster
from routed.model.endpoint import Endpoint
from routed.model.interface import Interface
from routed_bgp.bfd.ledger import BfdChange
from routed_bgp.open import Open
from routed_bgp.sessions import Session
from routed_bgp.speaker import RefreshReceived, SessionDown, SessionUp, UpdatesReceived
from routed_felix.state import Encapsulation, Hop, Settings, UnderlayRoute

RECORDINGS = sorted((Path(__file__).parents[2] / "replay").glob("*.jsonl"))
HEADER = f'{{"format": "{lines.FORMAT}"}}\n'
DRAWN = (SessionUp, SessionDown, UpdatesReceived, RefreshReceived, BfdChange, lines.Adopted, lines.Expired,
         lines.Assigned, lines.Borrowed, lines.Drained, lines.Lost, lines.LookedAround)  # fmt: skip


def read(*texts: str) -> list[tuple[float, lines.Line]]:
    return list(lines.decode([HEADER, *texts], "some.jsonl"))


def without_password(line: lines.Line) -> lines.Line:
    if isinstance(line, SessionUp) and line.offered is not None:
        return replace(line, offered=replace(line.offered, password=None))
    return line


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.stem)
def test_a_recording_replays_to_its_decisions(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(recording)]) == 0
    assert capsys.readouterr().out == recording.with_suffix(".decisions").read_text()


@given(st.floats(0, 1e9), st.one_of([st.from_type(kind) for kind in DRAWN]))
def test_a_line_is_read_back_as_it_was_written(at: float, line: lines.Line) -> None:
    assert read(lines.encode(at, line) + "\n") == [(at, without_password(line))]


def test_surroundings_are_read_back_as_they_were_written() -> None:
    around = lines.Surroundings(
        cluster=3,
        peers=(IPv4Address("10.1.1.1"),),
        gateways={IPv4Address("10.1.1.1"): IPv4Address("10.1.1.254")},
        endpoints=(Endpoint("c", "eth0", IPv4Address("192.168.1.2"), "rtd1"),),
        interfaces={"eth1": Interface("eth1", 2, 1500, True, "veth", (IPv4Interface("10.1.1.11/24"),))},
        underlay=(
            UnderlayRoute(IPv4Network("0.0.0.0/0"), (Hop("eth1", IPv4Address("10.1.1.1")),), metric=5),
            UnderlayRoute(IPv6Network("2001:db8::/64"), (Hop("eth1"),)),
        ),
        tunnel_address=None,
        tunnel=True,
        vxlan=False,
        lost=frozenset(),
        kept=frozenset({Encapsulation.TUNNEL}),
    )
    assert lines.plain.decode(lines.Surroundings, lines.plain.encode(around)) == around


def test_a_cluster_is_read_back_as_it_was_written() -> None:
    cluster = words.cluster()
    assert lines.cluster_of(lines.resources_of(cluster)) == cluster


def test_a_session_is_written_without_its_password() -> None:
    session = Session(
        name="peer/tor", peer=IPv4Address("10.1.1.1"), peer_as=65101, local=IPv4Address("10.1.1.11"), local_as=64512,
        router_id=IPv4Address("10.1.1.11"), password="never told",
    )  # fmt: skip
    up = SessionUp(session.peer, Open(65101, 90, IPv4Address("10.1.1.1")), session)
    text = lines.encode(1.0, up)
    assert "never told" not in text
    assert read(f"{text}\n") == [(1.0, without_password(up))]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]\n", "expected an object"),
        ('{"at": 1.0}\n', "`at` and one input"),
        ('{"at": 1.0, "Imagined": {}}\n', "`at` and one input"),
        ('{"at": "1", "Expired": {}}\n', "'1' is no float"),
        ('{"at": 1.0, "Borrowed": {"addresses": 7}}\n', "7 is no list"),
        ('{"at": 1.0, "Borrowed": {}}\n', "addresses"),
        ('{"at": 1.0, "Expired": {"more": 1}}\n', "has no more"),
        ('{"at": 1.0, "Drained": {"drain": "SOON"}}\n', "'SOON' is none of NO"),
        ('{"at": 1.0, "SessionDown": {"peer": "x", "ending": "LOCAL", "reason": ""}}\n', "'x' is none of"),
        ("{\n", "line 2"),
    ],
)
def test_a_line_that_nobody_wrote_is_refused_with_its_number(text: str, said: str) -> None:
    with pytest.raises(OperatorError, match=r"some\.jsonl: line 2: ") as refused:
        read(text)
    assert said in str(refused.value)


@pytest.mark.parametrize("texts", [[], ["{}\n"], ["[]\n"], ["no JSON"], ['{"format": "routed-recording/0"}\n']])
def test_a_file_that_is_no_recording_is_refused(texts: list[str]) -> None:
    with pytest.raises(OperatorError, match=r"some\.jsonl: "):
        list(lines.decode(texts, "some.jsonl"))


def test_a_last_line_that_was_not_finished_is_passed_over() -> None:
    assert read('{"at": 1.0, "Expired": {}}\n', '{"at": 2.0, "Expi') == [(1.0, lines.Expired())]


@pytest.mark.parametrize(
    "wrong",
    [
        [lines.Expired()],
        [lines.Started({"node": "n1"}, Settings()), lines.Adopted(5)],
        [lines.Started({"node": "n1"}, Settings()), lines.Viewed(Family.IPV4, {})],
        [lines.Started({"node": "n1"}, Settings()), lines.Started({"node": "n1"}, Settings())],
        [lines.Started({"node": 7}, Settings())],
    ],
)
def test_lines_that_make_no_sense_one_after_another_are_refused(wrong: list[Any]) -> None:
    with pytest.raises(OperatorError, match="recording: line "):
        list(replay((1.0, line) for line in wrong))


def test_a_cluster_is_written_once_as_long_as_it_is_the_same(tmp_path: Path) -> None:
    cluster = words.cluster()
    with Recorder(tmp_path / "file") as recorder:
        assert recorder.number(cluster) == recorder.number(cluster) == 1
        assert recorder.number(Cluster()) == 2
    assert (tmp_path / "file").read_text().count("Stored") == 2


def test_a_recording_that_cannot_be_made_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"--record .*nowhere/file: cannot be written: No such file"):
        Recorder(tmp_path / "nowhere" / "file")


def test_a_full_disk_ends_the_recording_and_not_the_agent(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "routed.agent"), Recorder(Path("/dev/full")) as recorder:
        for _ in range(3):
            recorder.write(lines.Expired())
    assert [record.getMessage() for record in caplog.records] == [
        "--record /dev/full: No space left on device: nothing more is recorded"
    ]

"""Two racks with two route reflectors instead of the mesh: the same paths, whoever tells them, and the move between."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from tests.lab.topologies.conftest import MINUTES, TOPOLOGIES
from tests.lab.topologies.restart import NODES, ROUTERS, Lines, mark

if TYPE_CHECKING:
    from conftest import Lab

ALL_DIRECT = {"pairs": 56, "reachable": 56, "direct": 56, "encapsulated": 0, "wrong": 0}
WITHOUT_A_TOR = {"pairs": 56, "reachable": 56, "direct": 40, "encapsulated": 16, "wrong": 0}
VARIANT = TOPOLOGIES / "two-racks-tor" / "reflectors"

# quiet, since lines that nobody reads for so long would fill the pipes of the whole lab; its first line at once, though
PING = ("stdbuf", "-oL", "ping", "-q", "-n", "-i", "0.01")
# what each node's sessions with members come from, and the prefixes that the peer has told: of all nodes, or its own
REFLECTED = {
    "node-a1": {"peer/reflectors/node-a2": 1, "peer/reflectors/node-b1": 4, "peer/reflectors/node-b2": 1},
    "node-a2": {"peer/reflectors/node-a1": 4, "peer/reflectors/node-b1": 4},
    "node-b1": {"peer/reflectors/node-a1": 4, "peer/reflectors/node-a2": 1, "peer/reflectors/node-b2": 1},
    "node-b2": {"peer/reflectors/node-a1": 4, "peer/reflectors/node-b1": 4},
}


@pytest.fixture(scope="module")
def lab(up: Callable[..., Lab]) -> Lab:
    return up("two-racks-tor", "--resources", str(VARIANT))


def figures(found: dict[str, object]) -> dict[str, object]:
    return {key: found[key] for key in ALL_DIRECT}


def bgp(lab: Lab, node: str) -> list[dict[str, Any]]:
    """The sessions of a node, as its agent tells; asked without Python, which starts slowly in this kernel."""
    ask = 'exec 3<>/dev/tcp/127.0.0.1/9099; printf "GET /bgp/status HTTP/1.0\\r\\n\\r\\n" >&3; cat <&3'
    _, _, body = lab.do("exec", node, "bash", "-c", ask).replace("\r\n", "\n").partition("\n\n")
    sessions: list[dict[str, Any]] = json.loads(body)["sessions"]
    return sessions


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + MINUTES
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def settle(lab: Lab, members: Mapping[str, Mapping[str, int]]) -> None:
    """Wait until the nodes' sessions with members are these, and have delivered their tables: what an operator sees."""
    for node, wanted in members.items():

        def right(node: str = node, wanted: Mapping[str, int] = wanted) -> bool:
            found = [session for session in bgp(lab, node) if session["member"]]
            delivered = {one["name"]: one["received"] for one in found if one["established"] and one["synced"]}
            return len(found) == len(wanted) and delivered == wanted

        until(right, f"{node} has other sessions")


@contextmanager
def nothing_is_lost(lab: Lab, *ignored: str) -> Iterator[None]:
    """Meanwhile pods ping each other at 100 Hz, and no machine's route table changes."""
    pods = {pod["name"]: pod["address"] for node in lab.inspect()["nodes"].values() for pod in node.get("pods", ())}
    pairs = (
        ("node-a1-pod1", "node-b1-pod1"),  # between the reflectors
        ("node-a2-pod1", "node-b2-pod1"),  # between clients across racks
        ("node-b2-pod2", "node-b1-pod2"),  # a client and its reflector
        ("node-a2-pod2", "node-a1-pod2"),
    )
    with ExitStack() as stack:
        events = {
            name: Lines(stack.enter_context(lab.running(name, "ip", "-ts", "monitor", "route")))
            for name in (*NODES, *ROUTERS)
        }
        mark(lab, events, "192.0.2.1")
        pings = [stack.enter_context(lab.running(a, *PING, pods[b])) for a, b in pairs]
        answers = [Lines(ping) for ping in pings]
        for lines in answers:
            lines.until("PING ")
        yield
        mark(lab, events, "192.0.2.2")
        for ping in pings:
            ping.send_signal(2)
        for pair, lines in zip(pairs, answers, strict=True):
            said = lines.rest()
            counts = re.search(r"(\d+) packets transmitted, (\d+) received", said)
            assert counts is not None, said
            transmitted, received = int(counts[1]), int(counts[2])
            # Late is not lost: one processor runs the whole lab. The last may have been on its way at the end.
            assert transmitted - received <= 1, f"{pair}: {transmitted} sent, {received} answered"
    for name in (*NODES, *ROUTERS):
        lab.do("exec", name, "ip", "route", "del", "blackhole", "192.0.2.1")
        lab.do("exec", name, "ip", "route", "del", "blackhole", "192.0.2.2")
    strange = {name: [line for line in lines.seen if "192.0.2." not in line] for name, lines in events.items()}
    assert {name: lines for name, lines in strange.items() if lines and name not in ignored} == {}


def test_no_pair_is_encapsulated_while_the_fabric_carries_the_prefixes(lab: Lab):
    settle(lab, REFLECTED)

    assert figures(lab.check()) == ALL_DIRECT


@pytest.mark.parametrize("node", ["node-a1", "node-a2"], ids=["reflector", "client"])
def test_the_reflected_path_is_the_fallback_of_a_node_without_tor_session(lab: Lab, node: str):
    assert figures(lab.check("--without-tor", node)) == WITHOUT_A_TOR
    assert figures(lab.check()) == ALL_DIRECT


def test_a_reflector_whose_agent_is_killed_loses_nothing(lab: Lab):
    with nothing_is_lost(lab):
        lab.do("exec", "node-a1", "pkill", "-9", "-f", "routed agent")  # of node-a1 alone: it has its own processes
        until(lambda: not any(one["member"] == "node-a1" and one["established"] for one in bgp(lab, "node-b2")), "up")
        time.sleep(5)  # what a peer would flush late
        lab.do("restart", "node-a1")
        settle(lab, REFLECTED)
    assert figures(lab.check()) == ALL_DIRECT

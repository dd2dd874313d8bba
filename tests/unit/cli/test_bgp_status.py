"""`routed bgp status`, against the views of real RIBs behind HTTP."""

from __future__ import annotations

import json
import time

import msgspec
import pytest
from tests.unit.agent.bgp_parts import MEMBER, TOR, TOR2, Node, P, Q
from tests.unit.cli.agents import serving

from routed.agent.bgp_view import bgp_status
from routed.cli.bgp_status import Bfd, Fault, Session, Status, render
from routed.errors import OperatorError
from routed_bgp.export import Drain
from routed_bgp.sessions import PeerFault
from routed_bgp.speaker import Ending

NOON = time.mktime((2026, 5, 4, 12, 0, 0, 0, 0, -1))


def shown(*sessions: Session, **more) -> str:
    return render(Status(list(sessions), **more), NOON)


def attention(*sessions: Session, **more) -> str:
    return shown(*sessions, **more).partition("To look at:\n")[2]


def established(**more) -> Session:
    return Session(**{"peer": "10.1.1.1", "name": "peer/tor", "state": "established", "established": True} | more)


def of_node() -> Status:
    node = Node()
    node.up(TOR)
    node.announce(P, Q, "10.9.0.0/24", peer=TOR)
    node.up(MEMBER)
    node.announce(P, peer=MEMBER)
    node.now += 125
    node.down(TOR2, Ending.NOTIFICATION, 'cease, administrative shutdown (6/2): "back at noon"')
    return msgspec.convert(bgp_status(node.seen()), Status)


def test_the_table_shows_what_an_operator_needs():
    assert (
        render(of_node(), NOON)
        == """\
2 of 3 sessions established; prefixes: 2 IPv4, 0 IPv6, last change 2m05s ago

PEER       AS     NODE  STATE        SINCE     FOR    RECEIVED  ACCEPTED  OUT  GR   BFD  LAST ERROR
10.1.1.1   65101  -     established  11:57:55  2m05s  3         2         1    60s  -    -
10.1.1.2   65102  -     down         11:57:55  2m05s  0         0         0    -    -    \
cease, administrative shutdown (6/2): "back at noon"
10.2.2.11  64512  b1    established  11:57:55  2m05s  1         1         1    60s  -    -

To look at:
  peer/tor-a (10.1.1.1): established for 2m05s, and its table is not complete
    it has not sent End-of-RIB
  peer/tor-b (10.1.1.2): down for 2m05s: cease, administrative shutdown (6/2): "back at noon"
    expected: 10.1.1.2 is reached, runs BGP, is AS 65102 and knows us as 10.1.1.11 AS 64512
  mesh/b1 (10.2.2.11): established for 2m05s, and its table is not complete
    it has not sent End-of-RIB

Rejected (`routed bgp routes --peer PEER --received` shows which):
  10.1.1.1: 1 outside every pool"""
    )


def test_all_well_asks_for_no_attention():
    out = shown(established())
    assert out.startswith("1 of 1 sessions established; prefixes: none")
    assert "To look at" not in out


def test_a_node_without_sessions():
    assert shown() == "no BGP sessions; prefixes: none, last change 0s ago"


def test_a_day_and_more_is_a_date():
    assert "2026-05-02  2d01h" in shown(established(since_seconds=49 * 3600.0))


def test_a_peer_that_restarts_tells_what_is_kept():
    down = Session("10.1.1.1", "peer/tor", 65101, state="restarting", stale=7, since_seconds=3, last_error="closed")
    assert attention(down).startswith(
        "  peer/tor (10.1.1.1): restarting for 3s, 7 of its paths are kept while it restarts: closed\n"
    )


def test_rfc4486_a_prefix_limit_says_what_to_do():
    down = Session("10.1.1.1", "peer/tor", state="prefix limit", since_seconds=3, last_error="11 of 10")
    assert attention(down).startswith("  peer/tor (10.1.1.1): closed 3s ago: 11 of 10\n    it is tried again")
    assert "raise its maxPrefixes" in attention(down)
    near = established(near_limit=True, received=80, prefix_limit=100)
    assert "peer/tor (10.1.1.1): sends 80 prefixes, its limit is 100\n" in attention(near)


def test_bfd_that_is_down_says_since_when_and_why():
    down = established(bfd=Bfd(up=False, since_seconds=4, diagnostic="control detection time expired"))
    assert "  down  " in shown(down)
    assert "BFD is down for 4s: control detection time expired" in attention(down)
    assert "  up 100ms  " in shown(established(bfd=Bfd(up=True, interval_ms=100.0)))
    assert "  not watched  " in shown(established(bfd=Bfd(up=True, watched=False)))


def test_a_session_that_cannot_be_says_why():
    fault = Fault("peer/x", "10.7.7.7", "there is no BGPFilter f", "apply it")
    assert attention(faults=[fault]) == "  peer/x (10.7.7.7): no session: there is no BGPFilter f\n    apply it"


@pytest.mark.parametrize(("phase", "said"), [("lowered", "marked as going away"), ("withdrawn", "routed node undrain")])
def test_a_drain_is_told(phase, said):
    assert said in shown(drain=phase)


def test_the_speakers_note_is_told():
    assert "stock packets mode" in shown(note="stock packets mode: slower")


def test_the_view_of_the_agent_is_read_whole():
    node = Node()
    fault = PeerFault("peer/x", TOR2, OperatorError("no such filter", hint="apply it"))
    read = msgspec.convert(bgp_status(node.seen(faults=(fault,), drain=Drain.LOWERED, note="slow")), Status)
    assert (read.faults, read.drain, read.note) == (
        [Fault("peer/x", "10.1.1.2", "no such filter", "apply it")],
        "lowered",
        "slow",
    )


def test_it_is_fetched_from_the_agent(run, monkeypatch):
    node = Node()
    answer = bgp_status(node.seen())
    with serving({"/bgp/status": lambda _: (200, json.dumps(answer).encode())}) as port:
        monkeypatch.setenv("ROUTED_HEALTH_PORT", str(port))
        assert run("bgp", "status").out.startswith("0 of 3 sessions established")
        assert json.loads(run("bgp", "status", "--json").out) == answer


def test_an_agent_that_knows_no_such_path_is_of_another_version(run, monkeypatch):
    with serving({}) as port:
        monkeypatch.setenv("ROUTED_HEALTH_PORT", str(port))
        result = run("bgp", "status")
    assert (result.status, result.out) == (1, "")
    assert "answers 404" in result.err

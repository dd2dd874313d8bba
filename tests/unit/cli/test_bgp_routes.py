"""`routed bgp routes`, against the views of real RIBs behind HTTP."""

from __future__ import annotations

import json

import msgspec
import pytest
from tests.unit.agent.bgp_parts import MEMBER, TOR, TOR2, Node, P, Q, R
from tests.unit.cli.agents import serving

from routed.agent.bgp_routes import bgp_routes
from routed.cli.bgp_routes import Route, Routes, render
from routed.errors import OperatorError
from routed.model.address import Address
from routed.model.path import Segment


@pytest.fixture
def node() -> Node:
    node = Node()
    for peer in (TOR, TOR2, MEMBER):
        node.up(peer)
    node.announce(P, Q, peer=TOR)
    node.announce(P, peer=TOR2, path=(65102, 65103))
    node.announce(P, R, peer=MEMBER)
    node.announce("10.9.0.0/24", peer=TOR2)
    return node


@pytest.fixture
def agent(run, monkeypatch, node):
    """`run`, with an agent that answers for `node`."""

    def answer(parameters: dict[str, str]) -> tuple[int, bytes]:
        try:
            return 200, json.dumps(bgp_routes(node.seen(widths=(2, 1)), parameters)).encode()
        except OperatorError as error:
            return 400, f"{error}\n".encode()

    with serving({"/bgp/routes": answer}) as port:
        monkeypatch.setenv("ROUTED_HEALTH_PORT", str(port))
        yield run


def test_one_path_a_line_with_the_reason(agent):
    assert (
        agent("bgp", "routes").out
        == """\
   PREFIX          NEXT HOP   PEER       PREF  AS PATH      WHY
>  10.244.2.0/26   10.1.1.1   10.1.1.1   100   65101        the only path
>  10.244.2.64/26  10.2.2.11  10.2.2.11  90    -            the only path
>  10.244.3.0/26   10.1.1.1   10.1.1.1   100   65101        best of 3: step 2: shortest AS path (1, the next 2)
   10.244.3.0/26   10.1.1.2   10.1.1.2   100   65102 65103  lost at step 2: shortest AS path (2, the best 1)
   10.244.3.0/26   10.2.2.11  10.2.2.11  90    -            lost at step 1: highest LOCAL_PREF (90, the best 100)
"""
    )


def test_a_prefix_is_shown_in_full(agent, node):
    node.announce(
        R,
        peer=MEMBER,
        as_path=(Segment(True, (65001,)), Segment(False, (7, 8))),
        med=5,
        communities=(0xFFFF0000, 65000 << 16 | 1),
        large_communities=((65000, 1, 2),),
        originator_id=Address("10.2.2.12"),
        cluster_list=(Address("10.0.0.1"),),
    )
    assert (
        agent("bgp", "routes", "10.244.2.70").out
        == """\
10.244.2.64/26
> via 10.2.2.11, from 10.2.2.11
    why           the only path
    as path       65001 {7,8}
    origin        igp
    local pref    0
    med           5
    communities   65535:0 (graceful-shutdown), 65000:1
    large         65000:1:2
    originator    10.2.2.12
    cluster list  10.0.0.1
"""
    )


def test_of_a_peer_what_it_sent_with_what_was_rejected(agent):
    lines = agent("bgp", "routes", "--peer", "10.1.1.2").out.splitlines()
    assert [line.split(maxsplit=1)[0] for line in lines[1:]] == ["x", "10.244.3.0/26"]
    assert "rejected: outside every pool" in lines[1]


def test_advertised_names_whom_it_is_told(agent):
    lines = agent("bgp", "routes", "--peer", "10.1.1.1", "--advertised").out.splitlines()
    assert lines[0].split() == ["PREFIX", "NEXT", "HOP", "TO", "PREF", "AS", "PATH", "WHY"]
    assert "originated by this node" in lines[1]


def test_paths_that_share_the_traffic_are_marked(agent, node):
    node.announce(P, peer=TOR2)
    lines = agent("bgp", "routes", "--family", "ipv4").out.splitlines()
    assert [line[0] for line in lines if P in line] == [">", "=", " "]


def test_more_than_is_shown_is_said(agent):
    out = agent("bgp", "routes", "--limit", 2).out
    assert out.endswith("\n\n2 of 5 routes shown: name a PREFIX or a --peer, or raise --limit\n")


def test_no_route_says_where_to_look(agent):
    assert agent("bgp", "routes", "10.9.0.0/24").out == (
        "no route to 10.9.0.0/24 was let in: `routed bgp routes 10.9.0.0/24 --received` shows what peers sent, "
        "and why it is rejected\n"
    )
    assert "rejected: outside every pool" in agent("bgp", "routes", "10.9.0.0/24", "--received").out
    assert agent("bgp", "routes", "--accepted", "--family", "ipv6").out == "no routes in this table (accepted)\n"


def test_json_is_the_agents_own_answer_and_nothing_else(agent, node):
    found = json.loads(agent("bgp", "routes", P, "--best", "--json").out)
    assert found == bgp_routes(node.seen(widths=(2, 1)), {"prefix": P, "table": "best"})


def test_what_the_agent_cannot_understand_is_an_error_with_its_hint(agent):
    result = agent("bgp", "routes", "10.244.1.7/24")
    assert (result.status, result.out) == (1, "")
    assert result.err == "error: prefix: '10.244.1.7/24' is no prefix\nhint: did you mean 10.244.1.0/24?\n"
    assert "there is no session with 10.7.7.7" in agent("bgp", "routes", "--peer", "10.7.7.7").err
    assert "limit: '0' is not a number from 1" in agent("bgp", "routes", "--limit", "0").err


def test_two_tables_at_once_are_refused(agent):
    assert agent("bgp", "routes", "--received", "--best").status == 2


def test_states_of_a_path_are_said_in_full():
    route = Route("10.1.0.0/24", "10.1.1.1", "10.1.1.1", path_id=7, stale=True, unreachable=True)
    shown = render(Routes([route]), where="10.1.0.0/24")
    assert shown.splitlines()[1] == "  via 10.1.1.1, from 10.1.1.1 #7, stale, unreachable"


def test_an_answer_that_says_little_is_shown_as_far_as_it_goes():
    answer = msgspec.json.decode(
        b'{"routes": [{"prefix": "10.0.0.0/8", "next_hop": "::1", "peer": "::2", "later": 1}]}', type=Routes
    )
    assert "10.0.0.0/8" in render(answer)

"""`/bgp/status` and the metrics, on real RIBs."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from tests.unit.agent.bgp_parts import MEMBER, TOR, TOR2, Node, P, Q

from routed.agent.bgp_metrics import BgpCollector
from routed.agent.bgp_observation import BgpObservation
from routed.agent.bgp_view import bgp_status
from routed.errors import OperatorError
from routed.model.address import Address
from routed_bgp.bfd.ledger import BfdStatus
from routed_bgp.bfd.messages import BfdSession
from routed_bgp.bfd.packet import Diagnostic, State
from routed_bgp.bfd.snapshot import Snapshot
from routed_bgp.export import Drain
from routed_bgp.sessions import PeerFault
from routed_bgp.speaker import Ending


def session(seen: BgpObservation, peer: Address = TOR) -> dict[str, Any]:
    shown = bgp_status(seen)
    assert json.loads(json.dumps(shown)) == shown
    found: dict[str, Any] = next(each for each in shown["sessions"] if each["peer"] == str(peer))
    return found


def lines(seen: BgpObservation) -> set[str]:
    registry = CollectorRegistry()
    registry.register(BgpCollector(seen))
    return set(generate_latest(registry).decode().splitlines())


def bfd(*, up: bool = True) -> BfdStatus:
    wanted = BfdSession(peer=TOR, local=Address("10.1.1.11"), interval=100)
    snapshot = Snapshot(
        discriminator=1,
        state=State.UP if up else State.DOWN,
        diagnostic=Diagnostic.NONE if up else Diagnostic.DETECTION_TIME_EXPIRED,
        remote_state=State.UP,
        transmit_interval=100_000,
        detection_time=300_000,
        failures=2,
    )
    return BfdStatus(session=wanted, up=up, snapshot=snapshot, since=1000.0, watched=True)


def test_a_session_that_is_up_shows_what_was_agreed() -> None:
    node = Node()
    node.up(TOR)
    node.announce(P, "10.9.0.0/24")
    node.now += 5
    shown = session(node.seen())
    assert shown == {
        "name": "peer/tor-a",
        "peer": "10.1.1.1",
        "as": 65101,
        "member": None,
        "type": "external",
        "client": False,
        "local": "10.1.1.11",
        "local_as": 64512,
        "router_id": "10.1.1.1",
        "state": "established",
        "established": True,
        "since_seconds": 5.0,
        "synced": False,
        "received": 2,
        "accepted": 1,
        "rejected": {"outside every pool": 1},
        "advertised": 1,
        "stale": 0,
        "families": ["ipv4"],
        "hold_time": 30,
        "password": False,
        "graceful_restart": {
            "restart_seconds": 120,
            "notification": False,
            "peer": {"restart_seconds": 60, "restarting": False, "notification": False, "families": {"ipv4": True}},
        },
        "bfd": None,
        "prefix_limit": shown["prefix_limit"],
        "near_limit": False,
        "last_error": None,
        "counts": {"established": 1, "ended": 0, "failed_attempts": 0},
    }


def test_a_session_that_is_down_shows_why_and_what_is_kept() -> None:
    node = Node()
    node.up(TOR)
    node.announce(P)
    node.down(TOR, Ending.CLOSED, "connection closed by the peer")
    node.down(TOR, Ending.CLOSED, "connection refused")
    shown = session(node.seen())
    assert (shown["state"], shown["established"], shown["stale"], shown["advertised"]) == ("restarting", False, 1, 0)
    assert shown["last_error"] == "connection closed by the peer"
    assert shown["counts"] == {"established": 1, "ended": 1, "failed_attempts": 1}
    assert (shown["router_id"], shown["hold_time"], shown["graceful_restart"]["peer"]) == (None, 90, None)


def test_members_are_named_and_sessions_are_in_order_of_address() -> None:
    shown = bgp_status(Node().seen())
    assert [(each["peer"], each["member"], each["type"]) for each in shown["sessions"]] == [
        (str(TOR), None, "external"),
        (str(TOR2), None, "external"),
        (str(MEMBER), "b1", "internal"),
    ]


def test_a_password_is_never_shown_only_that_there_is_one() -> None:
    node = Node()
    secret = "open sesame"
    with_password = tuple(replace(peer, session=replace(peer.session, password=secret)) for peer in node.rib.status())
    seen = node.seen(peers=with_password)
    assert session(seen)["password"] is True
    assert secret not in json.dumps(bgp_status(seen))
    assert secret not in repr(seen)
    assert not any(secret in line for line in lines(seen))


def test_the_loc_rib_is_counted_and_dated() -> None:
    node = Node()
    node.up(TOR)
    node.announce(P, Q)
    node.now += 60
    assert bgp_status(node.seen())["loc_rib"] == {
        "prefixes": {"ipv4": 2, "ipv6": 0},
        "changed_at": 1000.0,
        "changed_seconds_ago": 60.0,
    }


def test_what_cannot_be_a_session_says_why() -> None:
    fault = PeerFault("peer/x", TOR2, OperatorError("no such filter", hint="apply it"))
    assert bgp_status(Node().seen(faults=(fault,)))["faults"] == [
        {"name": "peer/x", "peer": "10.1.1.2", "error": "no such filter", "hint": "apply it"}
    ]


def test_bfd_is_shown_in_milliseconds() -> None:
    shown = session(Node().seen(bfd={TOR: bfd(up=False)}))["bfd"]
    assert (shown["up"], shown["interval_ms"], shown["detection_ms"], shown["failures"]) == (False, 100, 300, 2)
    assert (shown["state"], shown["remote_state"]) == ("down", "up")
    assert shown["diagnostic"] == Diagnostic.DETECTION_TIME_EXPIRED.words


def test_bfd_that_was_never_told_of_is_shown_as_unknown() -> None:
    status = replace(bfd(), snapshot=None, up=False, watched=False)
    shown = session(Node().seen(bfd={TOR: status}))["bfd"]
    assert (shown["state"], shown["interval_ms"], shown["watched"]) == (None, None, False)


def test_a_drain_and_a_slow_speaker_are_told() -> None:
    shown = bgp_status(Node().seen(drain=Drain.LOWERED, note="stock mode"))
    assert (shown["drain"], shown["note"]) == ("lowered", "stock mode")


def test_metrics_of_sessions_and_ribs() -> None:
    node = Node()
    node.up(TOR)
    node.announce(P, "10.9.0.0/24")
    node.down(TOR2)
    node.now += 2
    found = lines(node.seen(bfd={TOR: bfd()}, drain=Drain.WITHDRAWN))
    assert found >= {
        'routed_bgp_session_up{as="65101",peer="10.1.1.1"} 1.0',
        'routed_bgp_session_up{as="65102",peer="10.1.1.2"} 0.0',
        'routed_bgp_session_state{as="65102",peer="10.1.1.2",state="down"} 1.0',
        'routed_bgp_session_state{as="65102",peer="10.1.1.2",state="prefix limit"} 0.0',
        'routed_bgp_session_state_seconds{as="65101",peer="10.1.1.1"} 2.0',
        'routed_bgp_prefixes{as="65101",kind="received",peer="10.1.1.1"} 2.0',
        'routed_bgp_prefixes{as="65101",kind="accepted",peer="10.1.1.1"} 1.0',
        'routed_bgp_prefixes{as="65101",kind="rejected",peer="10.1.1.1"} 1.0',
        'routed_bgp_prefixes{as="65101",kind="advertised",peer="10.1.1.1"} 1.0',
        'routed_bgp_prefixes{as="65101",kind="stale",peer="10.1.1.1"} 0.0',
        'routed_bgp_session_transitions_total{as="65101",peer="10.1.1.1",to="established"} 1.0',
        'routed_bgp_session_transitions_total{as="65101",peer="10.1.1.1",to="down"} 0.0',
        'routed_bgp_session_failed_attempts_total{as="65102",peer="10.1.1.2"} 1.0',
        'routed_bgp_loc_rib_prefixes{family="ipv4"} 1.0',
        'routed_bfd_up{peer="10.1.1.1"} 1.0',
        'routed_bfd_failures_total{peer="10.1.1.1"} 2.0',
        'routed_bgp_drain{phase="withdrawn"} 1.0',
        "routed_bgp_session_faults 0.0",
    }
    assert any(line.startswith('routed_bgp_updates_received_bytes_total{as="65101"') for line in found)
    assert not any("_created" in line for line in found)


def test_rfc4724_4_2_a_new_connection_ends_the_old_session() -> None:
    node = Node()
    node.up(TOR)
    node.up(TOR)
    assert session(node.seen())["counts"] == {"established": 2, "ended": 1, "failed_attempts": 0}


def test_a_restart_of_our_own_speaker_is_no_failed_attempt() -> None:
    node = Node()
    node.up(TOR)
    node.down(TOR, Ending.LOCAL)
    node.down(TOR, Ending.LOCAL)
    assert session(node.seen())["counts"] == {"established": 1, "ended": 1, "failed_attempts": 0}

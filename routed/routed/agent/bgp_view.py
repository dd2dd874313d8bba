"""`/bgp/status`: the sessions and the Loc-RIB, the shape that `routed bgp status` reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from routed.agent.bgp_observation import BgpObservation
from routed.model.address import AnyAddress, Family
from routed_bgp.bfd.ledger import BfdStatus
from routed_bgp.dialect import agreed
from routed_bgp.peer_status import PeerStatus, State


def bgp_status(seen: BgpObservation) -> Mapping[str, Any]:
    """What an operator asks of the sessions. It holds no password, only whether there is one."""
    return {
        "sessions": [_session(seen, peer) for peer in seen.peers],
        "faults": [
            {
                "name": fault.name,
                "peer": str(fault.peer),
                "error": fault.error.message,
                "hint": fault.error.hint,
            }
            for fault in seen.faults
        ],
        "loc_rib": {
            "prefixes": {family_name(family): len(seen.best[family]) for family in Family},
            "changed_at": seen.changed_at,
            "changed_seconds_ago": _ago(seen.now, seen.changed_at),
        },
        "drain": drain_name(seen),
        "note": seen.note or None,
    }


def family_name(family: Family) -> str:
    """`ipv4` or `ipv6`."""
    return family.name.lower()


def drain_name(seen: BgpObservation) -> str:
    """`no`, `lowered` or `withdrawn`."""
    return seen.drain.name.lower()


def _session(seen: BgpObservation, peer: PeerStatus) -> Mapping[str, Any]:
    session, opened = peer.session, peer.open
    families = sorted(agreed(session, opened).families) if opened else session.families
    bfd = seen.bfd.get(peer.peer)
    return {
        "name": peer.name,
        "peer": str(peer.peer),
        "as": session.peer_as,
        "member": session.member,
        "type": "external" if session.ebgp else "internal",
        "client": peer.policy.client,
        "local": str(session.local),
        "local_as": session.local_as,
        "router_id": str(opened.router_id) if opened else None,
        "state": str(peer.state),
        "established": peer.state is State.ESTABLISHED,
        "since_seconds": _ago(seen.now, peer.since),
        "synced": peer.synced,
        "received": peer.received,
        "accepted": peer.accepted,
        "rejected": {str(why): count for why, count in peer.rejected.items()},
        "advertised": seen.advertised(peer.peer),
        "stale": peer.stale,
        "families": [family_name(family) for family in families],
        "hold_time": min(session.hold_time, opened.hold_time) if opened else session.hold_time,
        "password": session.password is not None,
        "graceful_restart": _graceful_restart(peer),
        "bfd": _bfd(seen.now, bfd) if bfd else None,
        "prefix_limit": peer.policy.max_prefixes,
        "near_limit": peer.many_prefixes,
        "last_error": peer.last_error or None,
        "counts": _counts(seen, peer.peer),
    }


def _graceful_restart(peer: PeerStatus) -> Mapping[str, Any]:
    """`restart_seconds` is what we ask for. `peer`: what it asks for, None where it cannot or is not there.

    In `peer`, `families` says for which families its paths are kept, and whether it had gone on forwarding when it
    sent its OPEN.
    """
    theirs = peer.open.graceful_restart if peer.open else None
    return {
        "restart_seconds": peer.session.restart_time,
        "notification": peer.session.notification_restart,
        "peer": None
        if theirs is None
        else {
            "restart_seconds": theirs.restart_time,
            "restarting": theirs.restarting,
            "notification": theirs.notification,
            "families": {family_name(family): kept for family, kept in theirs.families},
        },
    }


def _bfd(now: float, bfd: BfdStatus) -> Mapping[str, Any]:
    """Intervals in milliseconds; what is None is not known yet."""
    snapshot = bfd.snapshot
    return {
        "up": bfd.up,
        "since_seconds": _ago(now, bfd.since),
        "watched": bfd.watched,
        "wanted_interval_ms": bfd.session.interval,
        "multiplier": bfd.session.multiplier,
        "multihop": bfd.session.multihop,
        "state": snapshot.state.name.lower() if snapshot else None,
        "remote_state": snapshot.remote_state.name.lower() if snapshot else None,
        "interval_ms": snapshot.transmit_interval / 1000 if snapshot else None,
        "detection_ms": snapshot.detection_time / 1000 if snapshot else None,
        "diagnostic": snapshot.diagnostic.words if snapshot else None,
        "failures": snapshot.failures if snapshot else 0,
    }


def _counts(seen: BgpObservation, peer: AnyAddress) -> Mapping[str, int]:
    counts = seen.counts.get(peer)
    return {
        "established": counts.established if counts else 0,
        "ended": counts.ended if counts else 0,
        "failed_attempts": counts.failed if counts else 0,
    }


def _ago(now: float, then: float) -> float:
    return round(now - then, 1)

"""What the agent tells of itself: the same facts as JSON for people's tools and as metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from routed.agent.bgp_metrics import BgpCollector
from routed.agent.bgp_observation import BgpObservation
from routed.agent.bgp_view import drain_name
from routed.agent.dataplane_metrics import DataplaneCollector
from routed.agent.firewall_keeper import FirewallSeen
from routed.agent.firewall_metrics import FirewallCollector
from routed.agent.leak_keeper import LeaksSeen
from routed.agent.programmer import Counts, Work
from routed.ipam.absence import JournalSeen
from routed.model.address import Address
from routed_felix.state import Forwarding, Problem, Report

MOST_DECISIONS = 1000  # in one answer, so that a large table does not hold the event loop


@dataclass(frozen=True, slots=True)
class TunnelDevice:
    """A device that wraps packets. `needed`: a pool may want it. `available`: it is there or can be made."""

    name: str
    needed: bool
    available: bool


@dataclass(frozen=True)
class Observation:
    """The agent at one moment."""

    node: str
    not_ready: str | None
    in_sync: bool
    bgp: BgpObservation
    counts: Counts
    decisions: Iterable[Forwarding]  # made as they are asked for
    problems: tuple[Problem, ...]
    report: Report
    work: Work
    tunnel: TunnelDevice
    vxlan: TunnelDevice
    tunnel_address: Address | None
    addresses_in_use: int
    journal: JournalSeen
    leaks: LeaksSeen
    endpoints: int
    firewall: FirewallSeen
    faults: tuple[str, ...]


def status(seen: Observation) -> Mapping[str, Any]:
    """`/status`: the shape that `routed node status` reads."""
    return {
        "node": seen.node,
        "ready": seen.not_ready is None,
        "reason": seen.not_ready,
        "synced": seen.in_sync,
        "sessions": [
            {
                "name": peer.name,
                "peer": str(peer.peer),
                "as": peer.session.peer_as,
                "member": peer.session.member,
                "state": str(peer.state),
                "since_seconds": round(seen.bgp.now - peer.since, 1),
                "received": peer.received,
                "accepted": peer.accepted,
                "stale": peer.stale,
                "last_error": peer.last_error or None,
            }
            for peer in seen.bgp.peers
        ],
        "drain": drain_name(seen.bgp),
        "routes": {
            "desired": seen.counts.desired,
            "programmed": seen.counts.programmed,
            "failures": [f"{key}: {reason}" for key, reason in seen.report.failures.items()],
            "decided": sum(seen.counts.by_encapsulation.values()),
            "decisions": [
                {
                    "prefix": str(each.prefix),
                    "encapsulation": str(each.encapsulation),
                    "next_hops": [
                        {"device": hop.device, "gateway": str(hop.gateway) if hop.gateway else None}
                        for hop in each.hops
                    ],
                    "because": str(each.because),
                }
                for each in islice(seen.decisions, MOST_DECISIONS)
            ],
        },
        "tunnel": _tunnel(seen.tunnel, seen.tunnel_address),
        "vxlan": _tunnel(seen.vxlan, seen.tunnel_address),
        "firewall": {"backend": seen.firewall.backend or None, "right": seen.firewall.right},
        "endpoints": seen.endpoints,
        "addresses_in_use": seen.addresses_in_use,
        "journal": {
            "store_away": seen.journal.away,
            "waiting": seen.journal.waiting,
            "lost": list(seen.journal.lost),
        },
        "leaks": [
            {
                "handle": each.handle,
                "addresses": list(map(str, each.addresses)),
                "seconds": round(seconds, 1),
            }
            for each, seconds in seen.leaks.suspected
        ],
        "conflicts": [str(each) for each in (*seen.report.conflicts, *seen.report.warnings)],
        "problems": [*seen.faults, *(str(problem) for problem in seen.problems)],
    }


def _tunnel(device: TunnelDevice, address: Address | None) -> Mapping[str, Any]:
    return {
        "device": device.name,
        "needed": device.needed,
        "available": device.available,
        "address": str(address) if address else None,
    }


def metrics(seen: Observation) -> tuple[int, str, bytes]:
    """`/metrics`: an HTTP answer in Prometheus' text format."""
    registry = CollectorRegistry()

    def gauge(name: str, help_text: str, *labels: str) -> Gauge:
        return Gauge(f"routed_{name}", help_text, labels, registry=registry)

    gauge("ready", "1 when the node can serve").set(seen.not_ready is None)
    gauge("bgp_synced", "1 when the store and every peer were in sync, or waited for long enough").set(seen.in_sync)
    registry.register(BgpCollector(seen.bgp))
    registry.register(DataplaneCollector(seen.counts, seen.report, seen.work))
    registry.register(FirewallCollector(seen.firewall))
    gauge("ipam_addresses_in_use", "Addresses of the node's blocks in use").set(seen.addresses_in_use)
    gauge("ipam_store_away", "1 while addresses are given by the journal").set(seen.journal.away)
    gauge("ipam_journal_waiting", "Changes of addresses that the store is to be told of").set(seen.journal.waiting)
    lost = gauge("ipam_addresses_lost", "Addresses given while the store was away that are others'")
    lost.set(len(seen.journal.lost))
    journalled = Counter("routed_ipam_journalled", "Changes written to the journal", registry=registry)
    journalled.inc(seen.journal.written)
    gauge("ipam_leaks", "Handles whose interface is gone without a DEL").set(len(seen.leaks.suspected))
    released = Counter("routed_ipam_leaks_released", "Leaks whose addresses were taken back", registry=registry)
    released.inc(seen.leaks.released)
    gauge("endpoints", "Pod interfaces on this node").set(seen.endpoints)
    gauge("problems", "What an operator should look at").set(len(seen.problems) + len(seen.faults))
    return 200, CONTENT_TYPE_LATEST, generate_latest(registry)

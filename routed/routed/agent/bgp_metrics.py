"""Sessions and RIBs for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from routed.agent.bgp_observation import BgpObservation, Counts
from routed.agent.bgp_view import drain_name, family_name
from routed.model.address import Family
from routed_bgp.export import Drain
from routed_bgp.peer_status import State


class BgpCollector:
    """What a registry asks for the metrics of `seen`."""

    def __init__(self, seen: BgpObservation) -> None:
        self._seen = seen

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        yield from _sessions(self._seen)
        yield from _counters(self._seen)
        yield from _bfd(self._seen)
        yield from _node(self._seen)


def _sessions(seen: BgpObservation) -> Iterator[Metric]:
    labels = ("peer", "as")
    up = GaugeMetricFamily("routed_bgp_session_up", "1 when the session is established", labels=labels)
    state = GaugeMetricFamily("routed_bgp_session_state", "1 for the state it is in", labels=(*labels, "state"))
    since = GaugeMetricFamily(
        "routed_bgp_session_state_seconds", "For how long the session has been in its state", labels=labels
    )
    prefixes = GaugeMetricFamily(
        "routed_bgp_prefixes", "Paths of a session by what became of them", labels=(*labels, "kind")
    )
    near = GaugeMetricFamily(
        "routed_bgp_prefix_limit_near", "1 when the peer sends nearly as many prefixes as it may", labels=labels
    )
    for peer in seen.peers:
        values = (str(peer.peer), str(peer.session.peer_as))
        up.add_metric(values, peer.state is State.ESTABLISHED)
        for each in State:
            state.add_metric((*values, str(each)), peer.state is each)
        since.add_metric(values, max(0.0, seen.now - peer.since))
        near.add_metric(values, peer.many_prefixes)
        for kind, count in (
            ("received", peer.received),
            ("accepted", peer.accepted),
            ("rejected", peer.received - peer.accepted),
            ("advertised", seen.advertised(peer.peer)),
            ("stale", peer.stale),
        ):
            prefixes.add_metric((*values, kind), count)
    yield from (up, state, since, prefixes, near)


def _counters(seen: BgpObservation) -> Iterator[Metric]:
    labels = ("peer", "as")
    transitions = CounterMetricFamily(
        "routed_bgp_session_transitions", "Sessions that came up, and that ended", labels=(*labels, "to")
    )
    failed = CounterMetricFamily(
        "routed_bgp_session_failed_attempts", "Attempts at a session that failed", labels=labels
    )
    octets = CounterMetricFamily("routed_bgp_updates_received_bytes", "Octets of UPDATEs received", labels=labels)
    for peer in seen.peers:
        values, counts = (str(peer.peer), str(peer.session.peer_as)), seen.counts.get(peer.peer, Counts())
        transitions.add_metric((*values, "established"), counts.established)
        transitions.add_metric((*values, "down"), counts.ended)
        failed.add_metric(values, counts.failed)
        octets.add_metric(values, counts.octets)
    yield from (transitions, failed, octets)


def _bfd(seen: BgpObservation) -> Iterator[Metric]:
    up = GaugeMetricFamily("routed_bfd_up", "1 when the BFD session is up", labels=("peer",))
    failures = CounterMetricFamily("routed_bfd_failures", "Times that the path to the peer broke", labels=("peer",))
    for address, status in seen.bfd.items():
        up.add_metric((str(address),), status.up)
        failures.add_metric((str(address),), status.snapshot.failures if status.snapshot else 0)
    yield from (up, failures)


def _node(seen: BgpObservation) -> Iterator[Metric]:
    prefixes = GaugeMetricFamily("routed_bgp_loc_rib_prefixes", "Prefixes in the Loc-RIB", labels=("family",))
    for family in Family:
        prefixes.add_metric((family_name(family),), len(seen.best[family]))
    drain = GaugeMetricFamily("routed_bgp_drain", "1 for how far the node is out of service", labels=("phase",))
    for each in Drain:
        drain.add_metric((each.name.lower(),), each.name.lower() == drain_name(seen))
    faults = GaugeMetricFamily("routed_bgp_session_faults", "Sessions that are configured and cannot be")
    faults.add_metric((), len(seen.faults))
    yield from (prefixes, drain, faults)

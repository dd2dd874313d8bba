"""The route programmer for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric

from routed.agent.programmer import Counts, Work
from routed.model.address import AnyHostAddress
from routed_felix.state import Encapsulation, FdbKey, Key, NeighbourKey, Report, RouteKey

_KINDS = ("route", "address", "link", "sysctl", "neighbour", "fdb")


class DataplaneCollector:
    """What a registry asks for the metrics of the last round and of all work so far."""

    def __init__(self, counts: Counts, report: Report, work: Work) -> None:
        self._counts = counts
        self._report = report
        self._work = work

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        counts, work = self._counts, self._work
        routes = GaugeMetricFamily(
            "routed_dataplane_routes",
            "Routes of ours: desired, in the kernel as desired (programmed), and not so (dirty)",
            labels=("state",),
        )
        dirty = counts.desired - counts.programmed
        for state, number in (("desired", counts.desired), ("programmed", counts.programmed), ("dirty", dirty)):
            routes.add_metric((state,), number)
        failures = GaugeMetricFamily("routed_dataplane_failures", "Objects that the kernel refused", labels=("kind",))
        found = Counter(map(_kind, self._report.failures))
        for kind in _KINDS:
            failures.add_metric((kind,), found[kind])
        conflicts = GaugeMetricFamily("routed_dataplane_conflicts", "Strangers' objects in the way of ours")
        conflicts.add_metric((), counts.conflicts)
        ways = GaugeMetricFamily(
            "routed_forwarding_prefixes", "Prefixes by how packets to them leave the node", labels=("encapsulation",)
        )
        for encapsulation in Encapsulation:
            ways.add_metric((str(encapsulation),), counts.by_encapsulation.get(encapsulation, 0))
        yield from (routes, failures, conflicts, ways)
        yield SummaryMetricFamily(
            "routed_dataplane_apply_seconds",
            "Changes carried out in the kernel, and the time it took",
            count_value=work.applies,
            sum_value=work.apply_seconds,
        )
        yield SummaryMetricFamily(
            "routed_dataplane_resync_seconds",
            "Comparisons of everything with the kernel, and the time it took",
            count_value=work.resyncs,
            sum_value=work.resync_seconds,
        )
        yield CounterMetricFamily("routed_dataplane_writes", "Objects written to the kernel", value=work.writes)
        yield CounterMetricFamily(
            "routed_dataplane_repairs", "Routes of ours put back that another hand had changed", value=work.repairs
        )


def _kind(key: Key) -> str:
    if isinstance(key, RouteKey):
        return "route"
    if isinstance(key, AnyHostAddress):
        return "address"
    if isinstance(key, NeighbourKey):
        return "neighbour"
    if isinstance(key, FdbKey):
        return "fdb"
    return "sysctl" if "/" in key else "link"

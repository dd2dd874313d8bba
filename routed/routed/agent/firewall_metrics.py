"""The firewall for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from routed.agent.firewall_keeper import FirewallSeen


class FirewallCollector:
    """What a registry asks for the metrics of the last look and of all work so far."""

    def __init__(self, seen: FirewallSeen) -> None:
        self._seen = seen

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        work = self._seen.work
        right = GaugeMetricFamily(
            "routed_firewall_right", "1 when the firewall was as wanted at the last look", labels=("backend",)
        )
        right.add_metric((self._seen.backend,), self._seen.right)
        yield right
        yield CounterMetricFamily("routed_firewall_writes", "Times that it was written", value=work.writes)
        yield CounterMetricFamily(
            "routed_firewall_repairs", "Times that what another hand had changed was put back", value=work.repairs
        )
        yield CounterMetricFamily("routed_firewall_failures", "Times that it failed", value=work.failures)

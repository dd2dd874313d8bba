"""What Prometheus is told of the route programmer."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from prometheus_client import CollectorRegistry

from routed.agent.dataplane_metrics import DataplaneCollector
from routed.agent.programmer import Counts, Work
from routed_felix.state import Encapsulation, FdbKey, NeighbourKey, Report, RouteKey

PREFIX = IPv4Network("10.244.1.0/24")


def test_counts_failures_by_kind_and_work_are_told() -> None:
    failures = {
        RouteKey(PREFIX, 1024): "network unreachable",
        IPv4Interface("10.244.1.1/32"): "no such device",
        "tunl0": "no IPIP driver",
        NeighbourKey("vxlan.routed", IPv4Address("10.2.2.21")): "no buffer space available",
        FdbKey("vxlan.routed", "02:72:0a:02:02:15"): "no buffer space available",
        "net/ipv4/ip_forward": "read-only file system",
        "net/ipv4/conf/eth1/rp_filter": "read-only file system",
    }
    registry = CollectorRegistry()
    registry.register(
        DataplaneCollector(
            Counts(5, 3, len(failures), 2, {Encapsulation.DIRECT: 4}),
            Report(failures=failures),
            Work(applies=7, apply_seconds=0.5, resyncs=2, resync_seconds=0.25, writes=11, repairs=3),
        )
    )

    def told(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"routed_{name}", labels)

    states = {state: told("dataplane_routes", state=state) for state in ("desired", "programmed", "dirty")}
    assert states == {"desired": 5, "programmed": 3, "dirty": 2}
    expected = {"route": 1, "address": 1, "link": 1, "sysctl": 2, "neighbour": 1, "fdb": 1}
    assert {kind: told("dataplane_failures", kind=kind) for kind in expected} == expected
    assert told("dataplane_conflicts") == 2
    assert told("forwarding_prefixes", encapsulation="direct") == 4
    assert told("forwarding_prefixes", encapsulation="ipip") == 0
    assert (told("dataplane_apply_seconds_count"), told("dataplane_apply_seconds_sum")) == (7, 0.5)
    assert (told("dataplane_resync_seconds_count"), told("dataplane_resync_seconds_sum")) == (2, 0.25)
    assert (told("dataplane_writes_total"), told("dataplane_repairs_total")) == (11, 3)

"""Each benchmark runs in its short form and prints one JSON object with the keys its issue names."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MAY_BE_ZERO = {"rss_10k_blocks_mb", "tor_death_lost", "resync_100k_writes", "resync_100k_extra_mb"}
KEYS = {
    "bgp": {
        "receive_100k_single_vs_bird",
        "receive_100k_single_vs_gobgp",
        "receive_100k_grouped_vs_bird",
        "receive_500k_grouped_vs_bird",
        "announce_100k_seconds",
        "announce_1k_to_100_peers_seconds",
        "update_p50_ms",
        "update_p99_ms",
        "wire_to_fib_100k_vs_bird",
        "rss_100k_2peers_mb",
        "idle_200_peers_cpu_percent",
        "idle_200_peers_rss_mb",
        "rr_500_nodes_repair_seconds",
    },
    "cni": {
        "add_c_vs_ptp",
        "add_python_vs_ptp",
        "del_c_vs_ptp",
        "del_python_vs_ptp",
        "del_gone_ms",
        "parallel8_adds_vs_ptp",
        "agent_add_p50_ms",
        "agent_add_p99_ms",
        "first_packet_ms",
        "sandbox_share_percent",
        "sandbox_share_ptp_percent",
    },
    "dataplane": {
        "program_100k_vs_bird",
        "program_100k_vs_c",
        "rss_1m_mb",
        "program_1m_vs_100k",
        "repoint_1k_ms",
        "repoint_100k_ms",
        "repoint_100k_vs_bird",
        "tor_death_ms",
        "tor_death_lost",
        "resync_100k_ms",
        "resync_100k_writes",
        "resync_100k_extra_mb",
        "repair_p99_ms",
        "idle_100k_cpu_percent",
        "calc_one_of_100k_ms",
    },
    "ipam": {
        "assign_release_per_second",
        "assign_vs_host_local",
        "full_pool_p99_ms",
        "rss_10k_blocks_mb",
        "etcd_assign_per_second",
        "etcd_writes_per_assign",
        "etcd_50_nodes_seconds",
    },
    "modes": {
        "direct_vs_bare_throughput",
        "direct_vs_bare_latency",
        "ipip_vs_vxlan_throughput",
        "ipip_vs_vxlan_latency",
    },
    "start": {"ready_seconds", "cni_add_vs_ptp", "agent_rss_mb"},
}

FILES = {"modes": {"README.md", *(f"{c}.{kind}" for c in ("tcp-throughput", "udp-latency") for kind in ("png", "svg"))}}


@pytest.mark.parametrize("name", sorted(KEYS))
def test_the_short_form_prints_one_object_with_every_figure(name: str, tmp_path: Path) -> None:
    script = Path(__file__).parent / f"bench_{name}.py"
    files = FILES.get(name, set())
    more = ["--write", str(tmp_path)] if files else []
    done = subprocess.run(
        [sys.executable, str(script), "--quick", "--json", *more], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert value["name"] == name
    assert value["figures"].keys() == KEYS[name]
    assert all(isinstance(figure, int | float) and figure >= 0 for figure in value["figures"].values())
    assert {key for key, figure in value["figures"].items() if not figure} <= MAY_BE_ZERO
    assert value["machine"]["cpus"] > 0
    assert {file.name for file in tmp_path.iterdir() if file.stat().st_size} == files

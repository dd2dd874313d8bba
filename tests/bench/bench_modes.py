"""./dev bench modes: the ways between pods of two hosts, side by side in one kernel; with --write also docs/modes.

The kernel is User-mode Linux, which has the IPIP driver wherever this runs. `modes_world` builds the ways,
`modes_inside` measures them there; `modes_report` and `modes_charts` say what came out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from harness import Figure, Json, at_least, at_most, machine, main, say, sh, under
from modes_inside import Plan
from modes_report import Series, figures, page

ROOT = Path(__file__).parents[2]
MODULES = "bridge,ipip,macvlan,veth,vxlan"
SECONDS = 3600

FIGURES = (
    at_least("direct_vs_bare_throughput", 0.95, "TCP, pods of routed without a tunnel over the hosts themselves"),
    at_most("direct_vs_bare_latency", 1.1, "UDP round trip, the same"),
    Figure("ipip_vs_vxlan_throughput", "TCP, routed's pools with IPIP over those with VXLAN", "> 1", lambda v: v > 1),
    under("ipip_vs_vxlan_latency", 1, "UDP round trip, the same"),
)


def plan(probe: Path, *, quick: bool) -> Plan:
    """What to measure."""
    if quick:
        return Plan(str(probe), 1, 1, (512, 1 << 20), (64, 8192), ("--bytes", "1M"), 50)
    return Plan(str(probe), 5, 11, powers(512, 1 << 20), powers(64, 8192), ("--time", "1"), 1000)


def powers(first: int, last: int) -> tuple[int, ...]:
    """The powers of two from `first` to `last`."""
    return tuple(1 << power for power in range(first.bit_length() - 1, last.bit_length()))


def take(quick: bool) -> Json:
    """What `modes_inside` found."""
    with tempfile.TemporaryDirectory(prefix="routed-bench-") as directory:
        probe = Path(directory, "latency")
        sh("cc", "-std=gnu11", "-O2", "-static", "-o", str(probe), str(Path(__file__).with_name("latency.c")))
        Path(directory).chmod(0o755)
        say("booting User-mode Linux")
        inside = Path(__file__).with_name("modes_inside.py")
        uml = (sys.executable, "-m", "routed_lab.uml", "--modules", MODULES, "--timeout", str(SECONDS))
        command = (sys.executable, str(inside), plan(probe, quick=quick).text())
        done = subprocess.run((*uml, "--cwd", str(ROOT), "--", *command), stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(f"bench: measuring ended with status {done.returncode}; the lines above say why")
    found: Json = json.loads(done.stdout)
    return found


def measure(quick: bool, directory: Path | None) -> tuple[Mapping[str, float], Json]:
    """All figures from one kernel; the page and its charts in `directory` if there is one."""
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)  # better now than after a quarter of an hour
    found = take(quick)
    streams = Series.of(found["samples"]["stream"], "Gbit/s", more_is_better=True)
    probes = Series.of(found["samples"]["probe"], "µs", more_is_better=False)
    if directory is not None:
        write(directory, streams, probes, found)
    where = {"kernel": f"User-mode Linux {found['kernel']}", "host_kernel": os.uname().release, "mtu": found["mtu"]}
    return figures(streams, probes), {"samples": found["samples"], "machine": where}


def write(directory: Path, streams: Series, probes: Series, found: Json) -> None:
    """The page and its charts."""
    import modes_charts  # half a second that only --write needs

    modes_charts.draw(streams, modes_charts.TCP, directory / "tcp-throughput")
    modes_charts.draw(probes, modes_charts.UDP, directory / "udp-latency")
    rounds = {kind: len(next(iter(by_mode["bare"].values()))) for kind, by_mode in found["samples"].items()}
    told = {**found, "cpu": machine()["cpu"], "rounds": rounds}
    (directory / "README.md").write_text(page(streams, probes, told))
    say(f"wrote {directory}/README.md and two charts")


if __name__ == "__main__":
    more = argparse.ArgumentParser(add_help=False)
    more.add_argument("--write", type=Path, metavar="DIR", help="write the page with its tables and charts there")
    options, _ = more.parse_known_args()
    main("modes", FIGURES, lambda quick: measure(quick, options.write), parents=[more])

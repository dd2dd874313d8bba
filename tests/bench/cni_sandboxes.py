"""RunPodSandbox of Debian's containerd, and which share of it the network plugin has: ours, and ptp with host-local."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from harness import Json, Node, Subnet

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.kernel.runtime.containerd import Containerd

DEBIAN = Path("/usr/lib/cni")


@dataclass(frozen=True)
class Share:
    """Milliseconds of each RunPodSandbox, and of the plugin's ADD within."""

    whole: list[float]
    plugin: list[float]

    @property
    def percent(self) -> float:
        """The plugin's share, by medians."""
        return 100 * statistics.median(self.plugin) / statistics.median(self.whole)


def share(nodes: Subnet, node: Node, program: Path, network: Json, count: int) -> Share:
    """Run `count` pods one after the other, each removed again, with `program` in the place of the plugin."""
    kind = network["type"]
    directory = nodes.directory / f"containerd-{kind}"
    bin_dir, conf_dir = directory / "bin", directory / "net.d"
    bin_dir.mkdir(parents=True)
    conf_dir.mkdir()
    for name in ("loopback", "host-local"):
        (bin_dir / name).symlink_to(DEBIAN / name)
    shutil.copy(program, bin_dir / f"{kind}.real")
    subprocess.run(["cc", "-O2", "-static", "-o", bin_dir / kind, Path(__file__).with_name("timed.c")], check=True)
    conflist = {"cniVersion": "1.0.0", "name": network["name"], "plugins": [network]}
    (conf_dir / "10.conflist").write_text(json.dumps(conflist))
    containerd = Containerd(directory / "run", node.namespace, bin_dir, conf_dir)
    try:
        whole: list[float] = []
        for number in range(count):
            start = time.perf_counter()
            sandbox = containerd.cri.run_sandbox(f"pod{number}")
            whole.append((time.perf_counter() - start) * 1000)
            containerd.cri.stop_sandbox(sandbox.id)
            containerd.cri.remove_sandbox(sandbox.id)
    finally:
        containerd.close()
    times = (bin_dir / f"{kind}.ns").read_text().split()
    return Share(whole, [int(each) / 1e6 for each in times])

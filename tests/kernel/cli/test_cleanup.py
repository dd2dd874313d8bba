"""`routed node cleanup` in a network namespace of its own, which goes with its last process."""

from __future__ import annotations

import json
import subprocess
import sys

SCRIPT = """
set -e
ip link set lo up
ip link add rtd0123456789a type veth peer name eth0
ip link set rtd0123456789a up alias 'routed:pod 0123/eth0'
ip link add theirs type veth peer name theirs0
ip link set theirs up
ip route add 10.244.0.5/32 dev rtd0123456789a proto 114 metric 1024
ip route add blackhole 10.244.0.0/24 proto 114 metric 1024
ip route add blackhole 10.9.0.0/16 proto static
"$PYTHON" -m routed node cleanup >&2
ip -j route show
echo
ip -j link show
echo
"$PYTHON" -m routed node cleanup >&2
"""


def test_it_removes_what_is_ours_leaves_strangers_alone_and_may_be_repeated(tmp_path):
    environment = {"PYTHON": sys.executable, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "ROUTED_RUN_DIR": str(tmp_path)}
    result = subprocess.run(
        ["unshare", "--net", "sh", "-c", SCRIPT],
        env=environment | {"ROUTED_NODE": "a1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    routes, links = [json.loads(line) for line in result.stdout.splitlines() if line]
    assert [route["dst"] for route in routes] == ["10.9.0.0/16"]
    assert {"theirs", "theirs0"} <= {link["ifname"] for link in links}
    assert "rtd0123456789a" not in {link["ifname"] for link in links}
    assert result.stderr.splitlines() == [
        "removed 2 routes",
        "removed the pod interface rtd0123456789a",
        "nothing of routed was in this kernel",
    ]

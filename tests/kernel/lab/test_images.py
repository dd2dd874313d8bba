"""What the image of a node runs in containerlab, run by two nodes of a lab whose directories are their own."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

from tests.waiting import until

from routed_lab import topology
from routed_lab.runner.directory import RunDirectory
from routed_lab.runner.lab import Lab

NAME = f"image-{os.getpid()}"
SCRIPT = Path(__file__).parents[3] / "topologies" / "images" / "node" / "routed-node"

TEXT = f"""\
name: {NAME}
topology:
  defaults: {{kind: linux}}
  groups:
    node:
      cmd: {SCRIPT}
      env: {{CLAB_LABEL_ROUTED_PODS: "1"}}
      binds:
        - resources.yaml:/etc/routed/resources.yaml:ro
        - /run/routed
        - /var/lib/routed
        - /opt/cni
        - /etc/cni
        - /run/netns
  nodes:
    one: {{group: node, exec: [ip address add 10.9.0.1/24 dev eth1]}}
    two: {{group: node, exec: [ip address add 10.9.0.2/24 dev eth1]}}
  links: [{{endpoints: ["one:eth1", "two:eth1"]}}]
"""

RESOURCES = """\
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: pods}
spec: {cidr: 10.244.0.0/16, ipipMode: Never}
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: one}
spec: {bgp: {ipv4Address: 10.9.0.1/24}, podCIDRs: [10.244.1.0/24]}
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: two}
spec: {bgp: {ipv4Address: 10.9.0.2/24}, podCIDRs: [10.244.2.0/24]}
"""


def test_two_nodes_with_stores_of_their_own_reach_each_others_pods(tmp_path: Path) -> None:
    file = tmp_path / "image.clab.yml"
    file.write_text(TEXT)
    (tmp_path / "resources.yaml").write_text(RESOURCES)
    loaded = topology.load(file)

    with asyncio.Runner() as loop:
        lab = Lab(loaded, RunDirectory.claim(loaded.name, leftovers=True))
        try:
            loop.run(lab.up(lambda _: None))
            addresses = [address_of_pod(lab, node) for node in ("one", "two")]
            assert [address.rpartition(".")[0] for address in addresses] == ["10.244.1", "10.244.2"]
            until(lambda: pod(lab, "one", "ping", "-c1", "-W1", addresses[1]).returncode == 0, 90, pause=0.1)
        finally:
            loop.run(lab.down(lambda _: None))


def pod(lab: Lab, node: str, *argv: str) -> subprocess.CompletedProcess[str]:
    """A program in the first pod of a node, which the node alone can see."""
    sandbox = lab.sandbox_of(node)
    assert sandbox is not None
    with sandbox.entered():
        inside = sandbox.argv(["nsenter", "--net=/run/netns/pod1", *argv])
        return subprocess.run(inside, capture_output=True, text=True, check=False)


def address_of_pod(lab: Lab, node: str) -> str:
    """The address of the node's first pod, once it has one."""

    def address() -> str:
        told = pod(lab, node, "ip", "-4", "-o", "address", "show", "dev", "eth0").stdout.split()
        return told[3].partition("/")[0] if len(told) > 3 else ""

    found: str = until(address, 90, (lab._home(node) / "log").read_text, pause=0.1)
    return found

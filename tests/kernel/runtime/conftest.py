from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kernel.cni.node import Node
from tests.kernel.runtime.containerd import Containerd

from routed_cni.install import write_conflist


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def containerd(node: Node, tmp_path: Path) -> Iterator[Containerd]:
    """containerd on `node`, with the network configuration that we install and Debian's portmap behind."""
    for kind in ("loopback", "portmap"):
        (tmp_path / "bin" / kind).symlink_to(f"/usr/lib/cni/{kind}")
    path = write_conflist(tmp_path / "net.d")
    configuration = json.loads(path.read_text())
    configuration["plugins"].append({"type": "portmap", "snat": True, "capabilities": {"portMappings": True}})
    path.write_text(json.dumps(configuration))
    made = Containerd(tmp_path / "containerd", node.name, tmp_path / "bin", tmp_path / "net.d")
    try:
        yield made
    finally:
        made.close()

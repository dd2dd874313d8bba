from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kernel.cni.node import Node
from tests.kernel.runtime.containerd import Containerd

from routed_cni.install import chain, write_conflist


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def containerd(node: Node, tmp_path: Path) -> Iterator[Containerd]:
    """containerd on `node`, with the network configuration that we install, Debian's portmap and bandwidth in it."""
    for kind in ("loopback", "portmap", "bandwidth"):
        (tmp_path / "bin" / kind).symlink_to(f"/usr/lib/cni/{kind}")
    behind = chain(tmp_path / "bin")
    assert behind.missing == ()
    write_conflist(tmp_path / "net.d", behind=behind)
    made = Containerd(tmp_path / "containerd", node.name, tmp_path / "bin", tmp_path / "net.d")
    try:
        yield made
    finally:
        made.close()

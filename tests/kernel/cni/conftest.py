from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kernel.cni.node import Node


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    try:
        yield made
    finally:
        made.close()

"""Fixtures of the BGP kernel tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kernel.bgp.fabric import Fabric


@pytest.fixture
def fabric(tmp_path: Path) -> Iterator[Fabric]:
    made = Fabric(tmp_path)
    try:
        made.up()
        yield made
    finally:
        made.down()

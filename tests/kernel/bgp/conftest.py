"""Fixtures of the BGP kernel tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kernel.bgp.fabric import Fabric


@pytest.fixture(params=["seams", "stock"])
def mode(request: pytest.FixtureRequest) -> str:
    """How ExaBGP carries UPDATEs: ours, and its own, to which we fall back."""
    return str(request.param)


@pytest.fixture
def fabric(tmp_path: Path, mode: str) -> Iterator[Fabric]:
    made = Fabric(tmp_path, mode)
    try:
        made.up()
        yield made
    finally:
        made.down()

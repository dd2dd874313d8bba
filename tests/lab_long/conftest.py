"""Labs as in `tests/lab`, but one at a time: each test takes its own down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.lab.topologies.conftest import TOPOLOGIES, Lab


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[[str], Lab]]:
    """Bring a topology of the repository up; it goes down after the test."""
    labs: list[Lab] = []

    def bring_up(name: str) -> Lab:
        lab = Lab(TOPOLOGIES / f"{name}.clab.yml", tmp_path)
        labs.append(lab)
        lab.do("up", "--kernel", "uml")
        return lab

    yield bring_up
    for lab in labs:
        lab.do("down")

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.kernel.felix.world import World


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    try:
        yield made
    finally:
        made.close()

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.kernel.felix.firewall.site import Site
from tests.kernel.felix.world import World


@pytest.fixture
def site(world: World) -> Iterator[Site]:
    made = Site(world)
    try:
        yield made
    finally:
        made.close()

"""What can be said of a topology without making anything: whether its routers accept their configurations."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from routed_lab.runner.routers import KINDS

if TYPE_CHECKING:
    from routed_lab.topology import Topology


def validate(topology: Topology) -> None:
    """Have the program of each router read its configuration, one after the other; raises as `Router.check` does."""
    with tempfile.TemporaryDirectory(prefix="routed-lab-") as directory:
        asyncio.run(_check(topology, Path(directory)))


async def _check(topology: Topology, directory: Path) -> None:
    for router in topology.routers:
        await KINDS[router.router].check(router, directory / "log")

"""The stages that nodes go through while a lab comes up: who may enter one now, and who has completed one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from routed_lab.topology import LabNode, Stage, Step


class Stages:
    """Which steps of `nodes` are completed. What waits for what is checked when the topology is read: no circles."""

    def __init__(self, nodes: Iterable[LabNode]) -> None:
        self._nodes = tuple(nodes)
        self._completed = {Step(node.name, stage): asyncio.Event() for node in self._nodes for stage in Stage}

    async def may_enter(self, node: LabNode, stage: Stage) -> None:
        """Wait for what the topology file has the node wait for before this stage.

        Routers and agents are started (HEALTHY) when all nodes that wait for nobody are configured: a BGP session that
        is tried before its peer has an address is tried again only seconds later. Nodes that do wait are not waited
        for, or two of them could wait for each other.
        """
        for step in node.waits.get(stage, ()):
            await self._completed[step].wait()
        if stage is Stage.CREATE:
            await asyncio.sleep(node.delay)
        if stage is Stage.HEALTHY:
            for other in self._nodes:
                if not other.waits and not other.delay:
                    await self._completed[Step(other.name, Stage.CONFIGURE)].wait()

    def complete(self, node: LabNode, stage: Stage) -> None:
        """The node has been through this stage: whoever waits for that goes on."""
        self._completed[Step(node.name, stage)].set()

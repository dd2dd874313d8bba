"""When a round of the agent's work begins, once something asks for one: not too often, not amid what still comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

COALESCE_SECONDS = 0.005  # a burst of UPDATEs is one round, a lone one is not kept waiting
LARGE, LOAD_SECONDS, LONGEST_LOAD_SECONDS = 1000, 0.05, 2.0  # prefixes; while so many more come, so long each, at most
LONGEST_FOR_PODS_SECONDS = 0.05  # that a round is put off for pods that are being added
LONGEST_REST_SECONDS = 1.0  # between two rounds, however long the last one took


class Calls(Protocol):
    """The plugin, as far as this asks it: how many requests came, and how many are not answered yet."""

    calls: int
    under_way: int


class Pace:
    """See the module. `waiting` gives how many prefixes of tables that arrive are still to be decided on.

    `urgent`: something happened that waits for no table. `spent`: seconds of work since the last round began.
    """

    def __init__(self, waiting: Callable[[], int], plugin: Calls) -> None:
        self.urgent = False
        self.spent = 0.0
        self._waiting = waiting
        self._plugin = plugin

    def begun(self) -> None:
        """A round begins."""
        self.urgent, self.spent = False, 0.0

    async def rest(self) -> None:
        """As long again as the last round of work took, and then until what comes has come, as far as it is near.

        So a storm of kernel events costs about half of a processor, and the loop has time for pods and probes.
        """
        calls = self._plugin.calls
        await asyncio.sleep(min(max(COALESCE_SECONDS, self.spent), LONGEST_REST_SECONDS))
        await self._load()
        await self._let_pods_pass(calls)

    async def _load(self) -> None:
        """Let a table that arrives arrive, before any of it goes to the kernel: both are done sooner, one by one.

        What happens in the kernel or to pods waits for no table, and none waits for long.
        """
        waited, before = 0.0, LARGE
        while waited < LONGEST_LOAD_SECONDS and not self.urgent and (count := self._waiting()) > before:
            await asyncio.sleep(LOAD_SECONDS)
            waited, before = waited + LOAD_SECONDS, count

    async def _let_pods_pass(self, calls: int) -> None:
        """Do not begin while pods are added, nor just after the last of `calls`: none is to wait for what is done about
        the one before, and one round does for all. Not for long, as others' damage to the kernel waits meanwhile.
        """
        plugin, waited = self._plugin, 0.0
        while waited < LONGEST_FOR_PODS_SECONDS and (plugin.under_way or plugin.calls != calls):
            calls = plugin.calls
            await asyncio.sleep(COALESCE_SECONDS)
            waited += COALESCE_SECONDS

"""Takes back what pods' interfaces hold that are gone without a DEL, again and again (`routed.ipam.leaks`)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from routed.errors import RoutedError
from routed.ipam.leaks import Held, Suspicion, leaks, look
from routed_cni.faults import CniError

_log = logging.getLogger("routed.agent")
_LONGEST_SECONDS = 60.0  # between two looks


class Interfaces(Protocol):
    """What is asked of the CNI plugin."""

    async def missing(self) -> Mapping[str, Held]:
        """What is held for interfaces that are not there, by handle."""
        ...

    async def give_up(self, handles: Collection[str]) -> None:
        """Take back what these hold, unless their interfaces are there after all."""
        ...


@dataclass(frozen=True, slots=True)
class LeaksSeen:
    """What is told: what is `suspected`, each with the seconds since it was first seen, and how many handles were
    `released` by this process.
    """

    suspected: tuple[tuple[Suspicion, float], ...] = ()
    released: int = 0


class LeakKeeper:
    """Looks by itself. `grace` in seconds; `now` is a clock in seconds."""

    def __init__(self, interfaces: Interfaces, grace: float, now: Callable[[], float]) -> None:
        self._interfaces = interfaces
        self._grace = grace
        self._now = now
        self._suspected: tuple[Suspicion, ...] = ()
        self._released = 0

    @property
    def seen(self) -> LeaksSeen:
        """What is told, as of now."""
        now = self._now()
        return LeaksSeen(tuple((each, now - each.seen) for each in self._suspected), self._released)

    async def run(self, serving: Callable[[], bool]) -> None:
        """Look for as long as it is not cancelled, while the agent is `serving`."""
        while True:
            await asyncio.sleep(min(self._grace, _LONGEST_SECONDS))
            if not serving():
                continue
            try:
                await self.look()
            except (RoutedError, CniError, OSError) as error:  # there is time
                _log.warning("what pods' interfaces hold that are gone could not be looked at: %s", error)

    async def look(self) -> None:
        """Look once, and take back what has been missing for long enough. Raises RoutedError, CniError, OSError."""
        self._suspected = look(self._suspected, await self._interfaces.missing(), self._now())
        found = leaks(self._suspected, self._now(), self._grace)
        if not found:
            return
        for each in found:
            listed = ", ".join(map(str, each.addresses))
            _log.warning("%s holds %s, but its interface is gone without a DEL: taking it back", each.handle, listed)
        await self._interfaces.give_up([each.handle for each in found])
        self._released += len(found)

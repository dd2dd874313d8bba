"""Pods' links that were given up, deleted many at once; what they held is free only when they are gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

from routed.errors import RoutedError
from routed_cni.faults import CniError, Code

_log = logging.getLogger(__name__)
_GATHER_SECONDS = 0.05  # others that leave meanwhile go in the same time; a link is to be gone within 250 ms
_RETRY_SECONDS = 1.0


class Janitor:
    """Deletes host interfaces by name.

    `remove` deletes them, in a thread of the janitor's, and says which are still there, and why. `gone` is called with
    those that are not there any more, and is to raise RoutedError if that could not be taken note of: it is called
    again later then. For one event loop.
    """

    def __init__(
        self,
        remove: Callable[[Collection[str]], Mapping[str, str]],
        gone: Callable[[Collection[str]], Awaitable[None]],
    ) -> None:
        self._remove = remove
        self._gone = gone
        self._doomed: dict[str, None] = {}
        self._round = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="routed-janitor")

    @property
    def pending(self) -> Collection[str]:
        """The host interfaces that are not gone yet, or not taken note of."""
        return self._doomed.keys()

    def add(self, *names: str) -> None:
        """Have these deleted soon."""
        self._doomed.update(dict.fromkeys(names))
        if self._doomed and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._work(), name="janitor")

    async def finish(self, *names: str) -> None:
        """Return when these are gone, or all if none is named. Raises CniError when one stays, and RoutedError."""
        wanted = names or tuple(self._doomed)
        if self._doomed.keys().isdisjoint(wanted):
            return
        faults = await self._sweep()
        for name in wanted:
            if name in faults:
                raise faults[name]

    def close(self) -> None:
        """Stop; what is left is found again by the next agent."""
        if self._task is not None:
            self._task.cancel()
        self._worker.shutdown()

    async def _work(self) -> None:
        told = False
        while self._doomed:
            await asyncio.sleep(_RETRY_SECONDS if told else _GATHER_SECONDS)
            faults = await self._sweep()
            if faults and not told:
                _log.warning("%d pod interfaces are still to be deleted: %s", len(faults), next(iter(faults.values())))
            told = bool(faults)

    async def _sweep(self) -> dict[str, CniError | RoutedError]:
        """Delete all that is pending now; what kept each of those that still are."""
        async with self._round:
            names = tuple(self._doomed)
            if not names:  # another sweep was quicker
                return {}
            faults: dict[str, CniError | RoutedError]
            try:
                loop = asyncio.get_running_loop()
                staying = dict(await loop.run_in_executor(self._worker, self._remove, names))
            except (OSError, RuntimeError) as error:  # the kernel does not answer; closed
                staying = dict.fromkeys(names, str(error))
            faults = {
                name: CniError(Code.TRY_AGAIN_LATER, f"cannot delete {name}: {why}") for name, why in staying.items()
            }
            gone = [name for name in names if name not in staying]
            try:
                await self._gone(gone)
            except RoutedError as error:
                faults.update(dict.fromkeys(gone, error))
            else:
                for name in gone:
                    self._doomed.pop(name, None)
            return faults

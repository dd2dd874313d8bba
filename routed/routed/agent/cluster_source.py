"""The cluster as it changes: the store's resources, read once and then watched."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from routed.errors import EnvironmentFault
from routed.model.cluster import Cluster
from routed.model.codec import RESOURCES, decode_json
from routed.model.resources import AnyResource
from routed.store import CompactedError, Store

_log = logging.getLogger("routed.agent")


@dataclass(frozen=True)
class Reading:
    """The cluster at one moment, and what stands in the store's place of a resource but cannot be read as one."""

    cluster: Cluster
    unreadable: tuple[EnvironmentFault, ...] = ()


async def readings(store: Store) -> AsyncGenerator[Reading, None]:
    """The cluster now, and again after every change. EnvironmentFault when the store goes away.

    A resource that cannot be read keeps its last good value: one bad object must not take the node's routes away.
    """
    held = _Held()
    while True:
        found = await store.range(RESOURCES)
        values = {item.key: item.value for item in found.items}
        for key in held.keys - values.keys():
            held.take(key, None)
        for key, value in values.items():
            held.take(key, value)
        yield held.reading()
        try:
            async for events in store.watch(RESOURCES, found.revision + 1):
                for event in events:
                    held.take(event.key, event.value)
                yield held.reading()
        except CompactedError:
            _log.info("the store no longer keeps the changes since revision %d: reading all again", found.revision)


class _Held:
    """The resources as last read."""

    def __init__(self) -> None:
        self._resources: dict[str, AnyResource] = {}
        self._unreadable: dict[str, EnvironmentFault] = {}

    @property
    def keys(self) -> set[str]:
        return self._resources.keys() | self._unreadable.keys()

    def take(self, key: str, value: bytes | None) -> None:
        """`key` has this `value` now; None: it is gone."""
        before = self._unreadable.pop(key, None)
        if value is None:
            self._resources.pop(key, None)
            return
        try:
            self._resources[key] = decode_json(value, key=key)
        except EnvironmentFault as fault:
            self._unreadable[key] = fault
            if str(fault) != str(before):
                _log.error("%s", fault)

    def reading(self) -> Reading:
        return Reading(Cluster.of(self._resources.values()), tuple(self._unreadable.values()))

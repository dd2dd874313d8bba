"""How far this node is on its way out of service: the store's word, read once and then watched."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator

from routed.errors import EnvironmentFault
from routed.model.drain import Phase, decode, drain_key
from routed.store import CompactedError, Store
from routed_bgp.export import Drain

_log = logging.getLogger("routed.agent")
_DRAINS = {Phase.LOWERED: Drain.LOWERED, Phase.WITHDRAWN: Drain.WITHDRAWN}


async def drains(store: Store, node: str) -> AsyncGenerator[Drain, None]:
    """How drained `node` is now, and again whenever that changes. EnvironmentFault when the store goes away.

    What cannot be read changes nothing: a slip in one key must not take the node out of service, nor put it back.
    """
    key = drain_key(node)
    told: Drain | None = None
    last = Drain.NO
    while True:
        found = await store.range(key)  # and those of nodes whose names begin with ours
        last = _read(key, next((item.value for item in found.items if item.key == key), None), last)
        if last is not told:
            told = last
            yield last
        try:
            async for events in store.watch(key, found.revision + 1):
                for event in events:
                    if event.key == key:
                        last = _read(key, event.value, last)
                if last is not told:
                    told = last
                    yield last
        except CompactedError:
            _log.info("the store no longer keeps the changes since revision %d: reading again", found.revision)


def _read(key: str, value: bytes | None, last: Drain) -> Drain:
    if value is None:
        return Drain.NO
    try:
        return _DRAINS[decode(value, key=key)]
    except EnvironmentFault as fault:
        _log.error("%s", fault)
        return last

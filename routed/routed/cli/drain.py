"""`routed node drain|undrain`: a node out of service without loss, and back.

Drained in two steps (RFC 8326): first its paths are marked, so that whoever has another uses that one while this node
still forwards; then they are withdrawn. Both are written to the store, where the node's agent, wherever it runs, reads
them.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from routed.cli import output
from routed.errors import ConflictError, EnvironmentFault, OperatorError
from routed.model.codec import resource_key
from routed.model.drain import Phase, decode, drain_key, encode
from routed.store import Compare, Delete, KeyValue, Put

if TYPE_CHECKING:
    from routed.store import Store

_Result = TypeVar("_Result")
_NODES = resource_key("Node", "")


@dataclass(frozen=True, slots=True)
class Target:
    """The node, and how to open the store, which is not held open while we wait."""

    node: str
    open: Callable[[], Store]


def drain(target: Target, *, wait_seconds: float, as_json: bool) -> int:
    """Lower the node's preference, wait, withdraw. Raises OperatorError for a node that is not there."""
    lowered_at = _with(target, lambda store: _lower(store, target.node))
    if lowered_at is not None:
        try:
            _wait(target.node, wait_seconds)
        except KeyboardInterrupt:
            below = "\n" if sys.stderr.isatty() else ""  # the line that counts
            print(
                f"{below}node {target.node} stays lowered, not withdrawn: `routed node drain {target.node}` goes on, "
                f"`routed node undrain {target.node}` takes it back",
                file=sys.stderr,
            )
            raise
        _with(target, lambda store: _withdraw(store, target.node, lowered_at))
    said = "drained" if lowered_at is not None else "was drained before"
    _tell(target.node, Phase.WITHDRAWN, f"node {target.node} {said}", as_json=as_json)
    return 0


def undrain(target: Target, *, as_json: bool) -> int:
    """Put the node back into service. Raises OperatorError for a node that is not there."""
    was = _with(target, lambda store: _undrain(store, target.node))
    said = "is in service again" if was else "was not drained"
    _tell(target.node, None, f"node {target.node} {said}", as_json=as_json)
    return 0


async def _lower(store: Store, node: str) -> int | None:
    """The revision at which the node was lowered, which may have been before; None: it is withdrawn already."""
    there = await _find(store, node)
    item = await store.get(drain_key(node))
    if item is not None and (phase := _phase(item)) is not None:
        return None if phase is Phase.WITHDRAWN else item.mod_revision
    done = await store.txn(
        [
            Compare(there.key, there.mod_revision),
            Compare(drain_key(node), item.mod_revision if item is not None else 0),
        ],
        [Put(drain_key(node), encode(Phase.LOWERED))],
    )
    if not done.succeeded:
        raise ConflictError(f"store: node {node} was changed at the same moment", hint="try again")
    return done.revision


async def _withdraw(store: Store, node: str, lowered_at: int) -> None:
    done = await store.txn([Compare(drain_key(node), lowered_at)], [Put(drain_key(node), encode(Phase.WITHDRAWN))])
    if done.succeeded:
        return
    item = await store.get(drain_key(node))
    if item is None:
        raise ConflictError(
            f"node {node} was put back into service by somebody else while this command waited",
            hint="nothing was withdrawn; drain it again if that is what you want",
        )
    if _phase(item) is not Phase.WITHDRAWN:
        raise ConflictError(
            f"node {node} was put back and drained again by somebody else while this command waited",
            hint="the other command withdraws it; nothing was withdrawn by this one",
        )


async def _undrain(store: Store, node: str) -> bool:
    """Whether it was drained. A drain that outlived its Node goes as well."""
    item = await store.get(drain_key(node))
    if item is None:
        await _find(store, node)
        return False
    await store.txn([], [Delete(drain_key(node))])
    return True


async def _find(store: Store, node: str) -> KeyValue:
    found = (await store.range(_NODES)).items
    for item in found:
        if item.key == resource_key("Node", node):
            return item
    names = ", ".join(item.key.removeprefix(_NODES) for item in found)
    raise OperatorError(f"store: there is no Node {node}", hint=f"there is: {names or 'none'}")


def _phase(item: KeyValue) -> Phase | None:
    """None for what cannot be read: it is written anew."""
    try:
        return decode(item.value, key=item.key)
    except EnvironmentFault:
        return None


def _with(target: Target, call: Callable[[Store], Awaitable[_Result]]) -> _Result:
    async def main() -> _Result:
        store = target.open()
        try:
            return await call(store)
        finally:
            await store.close()

    return asyncio.run(main())


def _wait(node: str, seconds: float) -> None:
    """Let the others choose other paths; on a terminal the seconds are counted."""
    said = f"node {node}: its paths are marked, others are preferred; withdrawing"
    if not sys.stderr.isatty():
        print(f"{said} in {output.duration(seconds)} (Ctrl-C leaves it so)", file=sys.stderr, flush=True)
        time.sleep(seconds)
        return
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        print(
            f"\r\033[K{said} in {output.duration(left + 1)} (Ctrl-C leaves it so)", end="", file=sys.stderr, flush=True
        )
        time.sleep(min(left, 1.0))
    print(f"\r\033[K{said}", file=sys.stderr)


def _tell(node: str, phase: Phase | None, said: str, *, as_json: bool) -> None:
    print(json.dumps({"node": node, "phase": phase}) if as_json else said)

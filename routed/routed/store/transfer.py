"""The whole content of a store as one value: taken from one store, put into another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from routed.errors import ConflictError, EnvironmentFault
from routed.store import Compare, Delete, Put, Store, TooLargeError

ROOT = "/routed/"
"""Everything of ours is below it; an etcd without a prefix may hold others' keys beside."""
UNFINISHED = "/routed/v1/restore-unfinished"
"""There while a content is put that was too large for one transaction."""

_BATCH_OPERATIONS = 100  # etcd takes 128 (--max-txn-ops) ...
_BATCH_BYTES = 500_000  # ... and 1.5 MiB (--max-request-bytes), comparisons included


@dataclass(frozen=True, slots=True)
class Content:
    """Key to value, sorted by key, as of `revision` of the store it was taken from."""

    revision: int
    values: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Transfer:
    """How many keys were set, deleted, and left because they were right."""

    written: int
    deleted: int
    unchanged: int


async def take(store: Store) -> Content:
    """What the store holds at one moment. Raises EnvironmentFault when it cannot be read, or is half put."""
    found = await store.range(ROOT)
    values = {item.key: item.value for item in found.items}
    if UNFINISHED in values:
        raise EnvironmentFault(
            "store: a restore or migration into it was not finished",
            hint="run it again with --replace, then come back",
        )
    return Content(found.revision, values)


async def put(store: Store, content: Content, *, replace: bool) -> Transfer:
    """Make `store` hold `content`; one that holds something else already only with `replace`.

    One transaction where the backend takes it. Else several: resources come last, and `UNFINISHED` stands in the store
    until all is done. Raises ConflictError, with nothing changed, or in the second case with that mark left.
    """
    found = await store.range(ROOT)
    held = {item.key: item for item in found.items}
    if {key: item.value for key, item in held.items()} == dict(content.values):
        return Transfer(0, 0, len(held))
    if held and not replace:
        raise ConflictError(
            f"store: the target holds {len(held)} keys already; nothing was changed",
            hint="--replace makes it hold what is restored and nothing else",
        )
    changes: list[Put | Delete] = [
        Put(key, value) for key, value in content.values.items() if key not in held or held[key].value != value
    ]
    written = len(changes)
    changes += [Delete(key) for key in held if key not in content.values and key != UNFINISHED]
    deleted = len(changes) - written
    revisions = {change.key: held[change.key].mod_revision if change.key in held else 0 for change in changes}
    try:
        await _commit(store, [*changes, Delete(UNFINISHED)], revisions)
    except TooLargeError:
        batches = list(_batches(changes))
        await _commit(store, [Put(UNFINISHED, b""), *batches[0]], revisions)
        for batch in batches[1:]:
            await _commit(store, batch, revisions)
        await _commit(store, [Delete(UNFINISHED)], revisions)
    return Transfer(written, deleted, len(content.values) - written)


async def _commit(store: Store, changes: Sequence[Put | Delete], revisions: Mapping[str, int]) -> None:
    compares = [Compare(change.key, revisions[change.key]) for change in changes if change.key in revisions]
    if not (await store.txn(compares, changes)).succeeded:
        raise ConflictError(
            "store: the target was changed by others meanwhile", hint="stop every agent that uses it, then try again"
        )


def _batches(changes: Sequence[Put | Delete]) -> Iterator[list[Put | Delete]]:
    batch: list[Put | Delete] = []
    size = 0
    for change in changes:
        its = 2 * len(change.key) + (len(change.value) if isinstance(change, Put) else 0)
        if batch and (len(batch) >= _BATCH_OPERATIONS or size + its > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(change)
        size += its
    yield batch

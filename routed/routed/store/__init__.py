"""The store: etcd-shaped, so that every backend is the same to its users.

`Store` is the interface; `sqlite` serves the processes of one machine, `etcd` those of many. A revision counts
committed transactions that changed something; each key remembers the revision of its creation and of its last change,
as in etcd's `mvcc`. Keys begin with a slash.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from routed.errors import Bug, OperatorError


@dataclass(frozen=True, slots=True)
class KeyValue:
    """One key as of `mod_revision`. `create_revision` 0 never occurs here: absent keys are not returned."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int


@dataclass(frozen=True, slots=True)
class Compare:
    """A condition of a transaction: `key` was last changed at `mod_revision`; 0 means that it must not exist."""

    key: str
    mod_revision: int


@dataclass(frozen=True, slots=True)
class Put:
    """Set `key` to `value`."""

    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove `key`; removing what is not there is no error."""

    key: str


@dataclass(frozen=True, slots=True)
class Range:
    """What a range read saw: every key under the prefix as of `revision`, sorted by key."""

    revision: int
    items: tuple[KeyValue, ...]


@dataclass(frozen=True, slots=True)
class Txn:
    """Whether the comparisons held (then all operations were applied, durably) and the revision afterwards."""

    succeeded: bool
    revision: int


@dataclass(frozen=True, slots=True)
class Event:
    """A change seen by a watch; `value` None is a deletion."""

    key: str
    value: bytes | None
    mod_revision: int


class CompactedError(Exception):
    """The revision a watch asked for is gone: range again, then watch from that range's revision + 1."""


class TooLargeError(OperatorError):
    """The transaction is larger than the backend takes at once; nothing was changed."""


def refuse_repeated(operations: Sequence[Put | Delete]) -> None:
    """Raise Bug if a key is operated on twice: no order is promised within a transaction."""
    if len({operation.key for operation in operations}) < len(operations):
        raise Bug("store: one transaction may change a key only once")


class Store(Protocol):
    """What a backend does. Every method raises `errors.EnvironmentFault` when the store cannot be reached.

    OperatorError where the operator's input is why, and nothing worked before: it is not retried.
    """

    async def get(self, key: str) -> KeyValue | None:
        """The key as of now, or None."""
        ...

    async def range(self, prefix: str) -> Range:
        """All keys that start with `prefix`."""
        ...

    async def txn(self, compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> Txn:
        """Apply all `operations` if all `compares` hold, else nothing. Durable when it returns.

        Raises Bug for two operations on one key, TooLargeError for more than the backend takes at once. After an
        EnvironmentFault it may have been done all the same.
        """
        ...

    def watch(self, prefix: str, from_revision: int) -> AsyncIterator[Sequence[Event]]:
        """Yield the changes below `prefix` from `from_revision` on, in order, those of one transaction together.

        Raises `CompactedError` when that revision is no longer kept.
        """
        ...

    async def check(self) -> Sequence[str]:
        """What is wrong with the backend itself, be it used or not, in sentences; nothing when it is sound."""
        ...

    async def close(self) -> None:
        """Let go of the backend."""
        ...

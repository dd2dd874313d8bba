"""Resources in the store: read them as one snapshot, change them as one transaction.

A change is judged by what the store would hold after it (`routed.model.validate`). So that this judgement still holds
at the commit, every change compares and rewrites one serial key: of two changes at once, one starts over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from routed.errors import EnvironmentFault, OperatorError
from routed.model.codec import RESOURCES, decode_json, encode_json, resource_key
from routed.model.resources import AnyResource
from routed.model.validate import Problem, validate
from routed.store import Compare, Delete, KeyValue, Put, Store

SERIAL = "/routed/v1/resources-serial"  # outside of RESOURCES, so watches of resources do not see it
_TRIES = 50

Name = tuple[str, str]
"""Kind and name."""


class ContradictionError(OperatorError):
    """The store would hold resources that contradict one another; nothing was changed."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


class NotFoundError(OperatorError):
    """Some of the resources to delete are not there; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one resource."""

    kind: str
    name: str
    verb: Literal["created", "configured", "unchanged", "deleted", "not found"]


@dataclass(frozen=True, slots=True)
class _Plan:
    changes: Sequence[Change]
    operations: Sequence[Put | Delete]


async def read_resources(store: Store) -> tuple[AnyResource, ...]:
    """All resources of one moment, sorted by kind and name. Raises EnvironmentFault for one that cannot be read."""
    return resources_of((await store.range(RESOURCES)).items)


def resources_of(items: Iterable[KeyValue]) -> tuple[AnyResource, ...]:
    """The resources that a range of `RESOURCES` returned. Raises EnvironmentFault for one that cannot be read."""
    return tuple(decode_json(item.value, key=item.key) for item in items)


async def apply(store: Store, resources: Sequence[AnyResource]) -> list[Change]:
    """Create or replace `resources`, all of them or none.

    Raises ContradictionError when the store would hold a contradiction, EnvironmentFault when it cannot be reached.
    """

    def plan(stored: Mapping[str, KeyValue]) -> _Plan:
        changes: list[Change] = []
        operations: list[Put | Delete] = []
        for resource in resources:
            key, value = resource_key(resource.kind, resource.name), encode_json(resource)
            if key not in stored:
                changes.append(Change(resource.kind, resource.name, "created"))
            elif stored[key].value != value:
                changes.append(Change(resource.kind, resource.name, "configured"))
            else:
                changes.append(Change(resource.kind, resource.name, "unchanged"))
                continue
            operations.append(Put(key, value))
        return _Plan(changes, operations)

    return await _change(store, plan)


async def delete(store: Store, names: Sequence[Name], *, ignore_not_found: bool = False) -> list[Change]:
    """Delete the resources `names`, all of them or none.

    Raises NotFoundError for one that is not there, ContradictionError when what remains needs one of them.
    """

    def plan(stored: Mapping[str, KeyValue]) -> _Plan:
        missing = [(kind, name) for kind, name in names if resource_key(kind, name) not in stored]
        if missing and not ignore_not_found:
            listed = ", ".join(f"{kind} {name}" for kind, name in missing)
            raise NotFoundError(
                f"store: there is no {listed}", hint="nothing was deleted; --ignore-not-found passes over it"
            )
        gone = set(missing)
        return _Plan(
            [Change(*name, "not found" if name in gone else "deleted") for name in names],
            [Delete(resource_key(*name)) for name in names if name not in gone],
        )

    return await _change(store, plan)


async def _change(store: Store, plan: Callable[[Mapping[str, KeyValue]], _Plan]) -> list[Change]:
    for _ in range(_TRIES):
        serial = await store.get(SERIAL)  # before the range: a change between the two makes the comparison fail
        stored = {item.key: item for item in (await store.range(RESOURCES)).items}
        planned = plan(stored)
        if problems := validate(_after(stored, planned.operations)):
            raise ContradictionError(problems)
        if not planned.operations:
            return list(planned.changes)
        compares = [Compare(SERIAL, serial.mod_revision if serial else 0)]
        for operation in planned.operations:  # others than we may write a resource without the serial
            at = stored.get(operation.key)
            compares.append(Compare(operation.key, at.mod_revision if at else 0))
        if (await store.txn(compares, [*planned.operations, Put(SERIAL, b"")])).succeeded:
            return list(planned.changes)
    raise EnvironmentFault(
        f"store: others changed the resources {_TRIES} times while this change was tried", hint="try again"
    )


def _after(stored: Mapping[str, KeyValue], operations: Sequence[Put | Delete]) -> tuple[AnyResource, ...]:
    """The resources once `operations` are done. One that is replaced or deleted need not be readable."""
    values = {key: item.value for key, item in stored.items()}
    for operation in operations:
        if isinstance(operation, Put):
            values[operation.key] = operation.value
        else:
            values.pop(operation.key, None)
    return tuple(decode_json(value, key=key) for key, value in values.items())

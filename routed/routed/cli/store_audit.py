"""What is wrong with a store's content, as far as it can be told from the content alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from routed.errors import RoutedError
from routed.ipam import block
from routed.model import drain
from routed.model.codec import RESOURCES, decode_json, resource_key
from routed.model.resources import AnyResource
from routed.model.validate import validate

_BLOCKS = "/routed/v1/ipam/blocks/"


@dataclass(frozen=True, slots=True)
class Audit:
    """How many keys of which sort there are, by name, and what is wrong, a sentence each."""

    counts: Mapping[str, int]
    problems: tuple[str, ...]


def audit(values: Mapping[str, bytes]) -> Audit:
    """Look at every key. What is of no known sort may be a later version's, and is only counted."""
    counts: Counter[str] = Counter()
    problems: list[str] = []
    unread = 0
    resources: list[AnyResource] = []
    for key, value in values.items():
        try:
            if key.startswith(RESOURCES):
                unread += 1
                resource = decode_json(value, key=key)
                unread -= 1
                resources.append(resource)
                counts[resource.kind] += 1
                if key != resource_key(resource.kind, resource.name):
                    problems.append(f"key {key}: holds {resource.kind} {resource.name}")
            elif key.startswith(_BLOCKS):
                counts["address block"] += 1
                block.decode(value)
            elif key.startswith(drain.DRAINS):
                counts["drained node"] += 1
                drain.decode(value, key=key)
            else:
                counts["other key"] += 1
        except RoutedError as error:
            said = error.message.removeprefix("store: ")
            problems.append(said if key in said else f"key {key}: {said}")
    if not unread:  # else what refers to one of those would be called wrong
        problems += map(str, validate(resources))
    return Audit(dict(sorted(counts.items())), tuple(problems))

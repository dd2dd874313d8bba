"""What a node has from `defaults`, its kind, its group and itself, the later the stronger. Pure.

Containerlab's rules (types/topology.go): of a plain value the most special one that is not empty counts; `env`,
`labels` and `sysctls` are merged by key; `exec` and `env-files` stand one after the other, from the most general, and
what was there is not added again; of `binds` with the same destination the most special counts; what a stage waits for
and executes is added up. The kind is the node's, else its group's, else that of the defaults' group, else the
defaults'; the group is the node's, else its kind's, else the defaults'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce

from routed_lab.topology.document import Value
from routed_lab.topology.keys import KEYS, LISTS, MAPS, SCALARS, Warnings
from routed_lab.topology.model import Stage

_STAGE_KEYS = ("wait-for", "exec")


@dataclass(frozen=True, slots=True)
class Settings:
    """What one level sets, or several together: each value with its place, for later errors."""

    scalars: Mapping[str, Value] = field(default_factory=dict[str, Value])
    maps: Mapping[str, Mapping[str, Value]] = field(default_factory=dict[str, Mapping[str, Value]])
    lists: Mapping[str, tuple[Value, ...]] = field(default_factory=dict[str, tuple[Value, ...]])
    binds: Mapping[str, Value] = field(default_factory=dict[str, Value])  # by destination
    waits: Mapping[Stage, Mapping[tuple[str, str], Value]] = field(
        default_factory=dict[Stage, Mapping[tuple[str, str], Value]]
    )  # by node and stage
    stage_commands: Mapping[Stage, tuple[Value, ...]] = field(default_factory=dict[Stage, tuple[Value, ...]])

    def over(self, base: Settings) -> Settings:
        """These settings on top of `base`."""
        return Settings(
            {**base.scalars, **self.scalars},
            {key: {**base.map(key), **self.map(key)} for key in (*base.maps, *self.maps)},
            {key: _together(base.list(key), self.list(key)) for key in (*base.lists, *self.lists)},
            {**base.binds, **self.binds},
            {stage: {**base.waits.get(stage, {}), **self.waits.get(stage, {})} for stage in (*base.waits, *self.waits)},
            {
                stage: base.stage_commands.get(stage, ()) + self.stage_commands.get(stage, ())
                for stage in (*base.stage_commands, *self.stage_commands)
            },
        )

    def scalar(self, key: str) -> str:
        """A plain value as it is written, empty if it is not given."""
        return self.scalars[key].text() if key in self.scalars else ""

    def map(self, key: str) -> Mapping[str, Value]:
        """The entries of env, labels or sysctls."""
        return self.maps.get(key, {})

    def list(self, key: str) -> tuple[Value, ...]:
        """The items of exec or env-files."""
        return self.lists.get(key, ())


def settings(value: Value, warnings: Warnings) -> Settings:
    """What `value`, a node's or another level's mapping, sets; nothing if it is empty. Raises OperatorError."""
    if value.empty:
        return Settings()
    given = value.fields(KEYS)
    warnings.of(given.items())
    stages = given["stages"].fields(tuple(Stage)) if "stages" in given else {}
    each = {Stage(name): stage.fields(_STAGE_KEYS) for name, stage in stages.items()}
    return Settings(
        {key: given[key] for key in SCALARS if key in given and given[key].text()},
        {key: {name.text(): entry for name, entry in given[key].items()} for key in MAPS if key in given},
        {key: _together((), given[key].list()) for key in LISTS if key in given},
        {_destination(bind): bind for bind in given["binds"].list()} if "binds" in given else {},
        {stage: _waits(keys["wait-for"]) for stage, keys in each.items() if "wait-for" in keys},
        {stage: keys["exec"].list() for stage, keys in each.items() if "exec" in keys},
    )


def inherit(
    node: Settings, defaults: Settings, kinds: Mapping[str, Settings], groups: Mapping[str, Settings]
) -> Settings:
    """All that holds for `node`, its scalars `kind` and `group` being the effective ones."""
    kind = _first("kind", node, groups.get(node.scalar("group")), groups.get(defaults.scalar("group")), defaults)
    of_kind = kinds.get(kind.text(), Settings()) if kind is not None else Settings()
    group = _first("group", node, of_kind, defaults)
    of_group = groups.get(group.text(), Settings()) if group is not None else Settings()
    whole = reduce(lambda base, above: above.over(base), (of_kind, of_group, node), defaults)
    chosen = {key: value for key, value in (("kind", kind), ("group", group)) if value is not None}
    return Settings(
        {**whole.scalars, **chosen}, whole.maps, whole.lists, whole.binds, whole.waits, whole.stage_commands
    )


def _first(key: str, *levels: Settings | None) -> Value | None:
    return next((level.scalars[key] for level in levels if level is not None and key in level.scalars), None)


def _together(first: tuple[Value, ...], second: tuple[Value, ...]) -> tuple[Value, ...]:
    """One after the other, each text once."""
    found: dict[str, Value] = {}
    for value in (*first, *second):
        found.setdefault(value.text_or_nothing(), value)
    return tuple(found.values())


def _destination(bind: Value) -> str:
    """Where the bind is mounted: HOST:DESTINATION or HOST:DESTINATION:MODE, or the destination alone."""
    parts = bind.text().split(":")
    if len(parts) > 3 or not all(parts):
        raise bind.error(
            f'{bind.what} is "{bind.text()}", expected SOURCE:DESTINATION, with :ro or another mode if need be'
        )
    return parts[1] if len(parts) > 1 else parts[0]


def _waits(value: Value) -> Mapping[tuple[str, str], Value]:
    found: dict[tuple[str, str], Value] = {}
    for item in value.list():
        keys = item.fields(("node", "stage"), required=("node", "stage"))
        found.setdefault((keys["node"].text(), keys["stage"].text()), item)
    return found

"""Who waits for whom while a lab comes up: `stages` of the nodes, checked as a whole. Pure.

A node goes through its stages in order, and enters one when all that `wait-for` names there is completed
(containerlab's types/stages.go). A circle would wait for ever, and is refused with its members.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from routed_lab.topology.document import Value
from routed_lab.topology.inheritance import Settings
from routed_lab.topology.model import LabNode, Role, Stage, StageCommand, Step
from routed_lab.topology.surroundings import Surroundings

_COMMAND_KEYS = ("command", "target", "phase")
_TARGETS = ("container", "host")
_PHASES = ("on-enter", "on-exit")


def words(text: str, value: Value) -> tuple[str, ...]:
    """A command line split as a shell would; OperatorError if that is not possible or nothing is left."""
    try:
        found = tuple(shlex.split(text))
    except ValueError as error:
        raise value.error(f"{value.what} is no command line: {error}: {text}") from error
    if not found:
        raise value.error(f"{value.what} is an empty command line")
    return found


def waits(settings: Settings) -> dict[Stage, tuple[Step, ...]]:
    """What each stage waits for; whether the nodes exist is for `check`."""
    found: dict[Stage, tuple[Step, ...]] = {}
    for stage, given in settings.waits.items():
        steps: list[Step] = []
        for (node, name), value in given.items():
            if name not in tuple(Stage):
                raise value.error(f'the stage of {value.what} is "{name}", expected one of {", ".join(Stage)}')
            steps.append(Step(node, Stage(name)))
        if steps:
            found[stage] = tuple(steps)
    return found


def commands(settings: Settings, node: str, around: Surroundings) -> dict[Stage, tuple[StageCommand, ...]]:
    """What runs when the node enters or leaves each stage."""
    found: dict[Stage, tuple[StageCommand, ...]] = {}
    for stage, values in settings.stage_commands.items():
        found[stage] = tuple(_command(value, node, around) for value in values)
    return found


def _command(value: Value, node: str, around: Surroundings) -> StageCommand:
    keys = value.fields(_COMMAND_KEYS, required=("command",))
    chosen: dict[str, str] = {}
    for key, allowed in (("target", _TARGETS), ("phase", _PHASES)):
        chosen[key] = keys[key].text() if key in keys else allowed[0]
        if chosen[key] not in allowed:
            raise keys[key].error(f'{key} of {value.what} is "{chosen[key]}", expected {" or ".join(allowed)}')
    argv = words(around.magic(keys["command"].text(), node), keys["command"])
    return StageCommand(argv, on_host=chosen["target"] == "host", on_exit=chosen["phase"] == "on-exit")


def check(nodes: Mapping[str, LabNode], places: Mapping[str, Value]) -> None:
    """Every wait is for a node of the lab and for a stage that it will complete, and none in a circle.

    `places` are the nodes' descriptions. Raises OperatorError.
    """
    for node in nodes.values():
        for step in (step for steps in node.waits.values() for step in steps):
            place = places[node.name]
            if step.node not in nodes:
                raise place.error(
                    f'node {node.name} waits for "{step.node}", which the topology does not have; '
                    f"it has {', '.join(nodes)}"
                )
            if step.node == node.name:
                raise place.error(f"node {node.name} waits for itself")
            if step.stage is Stage.EXIT and not (nodes[step.node].role is Role.PLAIN and nodes[step.node].program):
                raise place.error(
                    f"node {node.name} waits for the end of {step.node}, which has no program of its own that ends",
                    hint="give that node a cmd, or wait for another stage",
                )
    if circle := _circle(nodes):
        first = places[circle[0].node]
        raise first.error(f"nodes wait for one another in a circle: {' -> '.join(map(str, (*circle, circle[0])))}")


def _circle(nodes: Mapping[str, LabNode]) -> tuple[Step, ...] | None:
    """Steps of which each waits for the next and the last for the first; None if there are none."""
    finished: set[Step] = set()
    for start in (Step(name, stage) for name, node in nodes.items() for stage in node.waits):
        path: dict[Step, list[Step]] = {start: _before(start, nodes)}
        while path:
            step = next(reversed(path))
            if not path[step]:
                finished.add(path.popitem()[0])
                continue
            following = path[step].pop()
            if following in path:
                members = list(path)
                return tuple(members[members.index(following) :])
            if following not in finished:
                path[following] = _before(following, nodes)
    return None


def _before(step: Step, nodes: Mapping[str, LabNode]) -> list[Step]:
    """What has to be completed before `step` can be."""
    order = tuple(Stage)
    position = order.index(step.stage)
    own = [Step(step.node, order[position - 1])] if position else []
    return [*nodes[step.node].waits.get(step.stage, ()), *own]

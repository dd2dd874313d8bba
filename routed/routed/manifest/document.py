"""YAML documents as plain values, with the line of every field.

Scalars follow the core schema of YAML 1.2 (section 10.3): `on`, `yes`, `0123:45` and dates are text, as operators who
write interface and node names expect. A key that occurs twice is an error, never "the last one wins".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import yaml

Value: TypeAlias = "bool | int | float | str | list[Value] | dict[str, Value] | None"
Path: TypeAlias = tuple[str | int, ...]
"""Field names and list indices, from the document's root."""

_MOST_VALUES = 100_000  # aliases multiply: a small file can unfold to billions
_DEEPEST = 64

_NULL, _BOOL, _INT, _FLOAT, _STR = (f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str"))

_CORE_SCHEMA: tuple[tuple[str, re.Pattern[str], list[str]], ...] = (
    (_NULL, re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    (_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    (_INT, re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789")),
    (
        _FLOAT,
        re.compile(
            r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
        ),
        list("-+.0123456789"),
    ),
)
"""Tag, form and first characters of the plain scalars that are no text; the order decides."""


class SyntaxFault(Exception):  # noqa: N818  `read` turns it into an error with the file's name
    """The text is not what we read as YAML, at `line` (from 1)."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


@dataclass(frozen=True, slots=True)
class Document:
    """One document: its value, and the line (from 1) of each field and list element by path."""

    value: Value
    lines: Mapping[Path, int]

    def line(self, path: Path) -> int:
        """The line of `path`, or of the nearest thing around it that is there."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


class _Loader(yaml.CSafeLoader):
    """PyYAML's parser with the scalars of YAML 1.2 instead of 1.1's."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  PyYAML's own protocol


def add_core_schema(yaml_class: type[yaml.resolver.BaseResolver]) -> None:
    """Let a loader or dumper of PyYAML know the scalars of the core schema."""
    for tag, form, first in _CORE_SCHEMA:
        yaml_class.add_implicit_resolver(tag, form, first)  # pyright: ignore[reportUnknownMemberType]  untyped stub


add_core_schema(_Loader)


def documents(text: str) -> Iterator[Document]:
    """The documents of `text`, empty ones left out. Raises SyntaxFault."""
    try:
        check_depth(text)
        for root in yaml.compose_all(text, Loader=_Loader):
            document = _Builder().document(root)
            if document.value is not None:
                yield document
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = "; ".join(part for part in (error.context, error.problem) if part)
        raise SyntaxFault(mark.line + 1 if mark else 1, f"not YAML: {said}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SyntaxFault(line, f"not YAML: character {error.character!r} is not allowed") from error


def check_depth(text: str) -> None:
    """Raise SyntaxFault for what is nested too deeply to be composed: libyaml's binding recurses, and would crash."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            mark = event.start_mark
            raise SyntaxFault(mark.line + 1 if mark else 1, f"nested more than {_DEEPEST} deep")


class _Builder:
    """Unfolds one node graph."""

    def __init__(self) -> None:
        self._lines: dict[Path, int] = {}
        self._left = _MOST_VALUES

    def document(self, root: yaml.Node) -> Document:
        self._lines[()] = root.start_mark.line + 1
        return Document(self._value(root, ()), self._lines)

    def _value(self, node: yaml.Node, path: Path) -> Value:
        self._left -= 1
        if self._left < 0 or len(path) > _DEEPEST:
            raise SyntaxFault(node.start_mark.line + 1, "too large or too deep; does an alias contain itself?")
        match node:
            case yaml.MappingNode():
                return self._mapping(node, path)
            case yaml.SequenceNode():
                values: list[Value] = []
                for index, item in enumerate(node.value):
                    self._lines[*path, index] = item.start_mark.line + 1
                    values.append(self._value(item, (*path, index)))
                return values
            case _:
                return _scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> Value:
        values: dict[str, Value] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = _scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                if not isinstance(key_node, yaml.ScalarNode):
                    raise SyntaxFault(line, "this key is a list or fields; expected text")
                raise SyntaxFault(line, f"the key {key_node.value!r} is not text; quote it")
            if key in values:
                first = self._lines[*path, key]
                raise SyntaxFault(line, f"the key {key!r} is there twice, first in line {first}; remove one")
            self._lines[*path, key] = line
            values[key] = self._value(value_node, (*path, key))
        return values


def _scalar(node: yaml.Node) -> Value:
    text = str(node.value)
    try:
        match node.tag:
            case "tag:yaml.org,2002:str":
                return text
            case "tag:yaml.org,2002:null":
                return None
            case "tag:yaml.org,2002:bool":
                return text.lower() == "true"
            case "tag:yaml.org,2002:int":
                return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
            case "tag:yaml.org,2002:float":
                return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
            case _:
                raise SyntaxFault(node.start_mark.line + 1, f"the tag {node.tag} is not supported; remove it")
    except ValueError as error:
        raise SyntaxFault(node.start_mark.line + 1, f"{text[:40]!r} is not a value of its tag {node.tag}") from error

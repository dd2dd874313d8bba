"""A YAML document whose every value knows the place it stands at, so that an error can say where.

Pure: text in, values out. Scalars are those of YAML 1.2's core schema: `on`, `yes` and `1:2` are text. Duplicate keys,
which YAML forbids and most readers let pass, are errors. `<<` merges, as containerlab's reader has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from routed.errors import OperatorError
from routed.manifest.document import SyntaxFault, add_core_schema, check_depth

_NULL, _BOOL, _INT, _FLOAT = (f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float"))
_DEEPEST_MERGE = 16  # `<<` of a mapping that has `<<`; one that holds itself has no end
_LONGEST_NUMBER = 20  # digits; int() refuses some thousands with an error of its own


class _Loader(yaml.CSafeLoader):
    """PyYAML's parser with the scalars of YAML 1.2 instead of 1.1's."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  PyYAML's own protocol


add_core_schema(_Loader)


@dataclass(frozen=True, slots=True)
class Value:
    """A value of the document: `what` names it to the operator, as in `node spine` or `links[2]`."""

    file: Path
    node: yaml.Node
    what: str

    @property
    def line(self) -> int:
        """The line on which it begins, counted from 1."""
        return self.node.start_mark.line + 1

    @property
    def place(self) -> str:
        """File, line and column, both counted from 1, as compilers write them."""
        return f"{self.file}:{self.line}:{self.node.start_mark.column + 1}"

    @property
    def empty(self) -> bool:
        """Whether nothing stands there, or `null`: containerlab takes the key for not given."""
        return self.node.tag == _NULL

    def error(self, message: str, hint: str | None = None) -> OperatorError:
        """An error about this value, with its place."""
        return OperatorError(f"{self.place}: {message}", hint=hint)

    def named(self, what: str) -> Value:
        """The same value under another name."""
        return Value(self.file, self.node, what)

    def items(self) -> Iterator[tuple[Value, Value]]:
        """The keys and values of a mapping whose keys are free; OperatorError if it is none or a key comes twice.

        What `<<` brings in comes last, and only keys that the mapping itself has not.
        """
        seen: dict[str, int] = {}
        for key, value, merged in self._entries(_DEEPEST_MERGE):
            name = key.text()
            if name in seen:
                if merged:
                    continue
                raise key.error(
                    f'key "{name}" of {self.what} was given before, on line {seen[name]}; each may stand there once',
                    hint="remove or rename one of the two",
                )
            seen[name] = key.line
            yield key, value.named(f"{self.what}.{name}" if self.what else name)

    def _entries(self, deepest: int) -> Iterator[tuple[Value, Value, bool]]:
        if not isinstance(self.node, yaml.MappingNode):
            raise self.error(f"{self.what} is {_kind(self.node)}, expected a mapping of keys to values")
        merged: list[Value] = []
        for key_node, node in self.node.value:
            key = Value(self.file, key_node, f"a key of {self.what}")
            value = Value(self.file, node, "what << merges")
            if isinstance(key_node, yaml.ScalarNode) and key_node.value == "<<" and not key_node.style:
                merged.extend(value.list() if isinstance(node, yaml.SequenceNode) else [value])
            else:
                yield key, value, False
        for each in merged:
            if not deepest:
                raise each.error(f"<< in {self.what} goes deeper than {_DEEPEST_MERGE}; does it merge itself?")
            yield from ((key, value, True) for key, value, _ in each._entries(deepest - 1))  # noqa: SLF001  its own class

    def fields(self, allowed: Sequence[str], *, required: Sequence[str] = ()) -> dict[str, Value]:
        """A mapping with a fixed set of keys, empty ones left out; OperatorError names an unknown or missing one."""
        found: dict[str, Value] = {}
        for key, value in self.items():
            name = key.text()
            if name not in allowed:
                raise key.error(
                    f'unknown key "{name}" in {self.what}; allowed: {", ".join(allowed)}', hint=_similar(name, allowed)
                )
            if not value.empty:
                found[name] = value
        for name in required:
            if name not in found:
                raise self.error(f'{self.what} has no "{name}"', hint=f'add the key "{name}:"')
        return found

    def list(self) -> tuple[Value, ...]:
        """The items of a sequence; OperatorError if it is none."""
        if not isinstance(self.node, yaml.SequenceNode):
            raise self.error(f"{self.what} is {_kind(self.node)}, expected a list")
        return tuple(Value(self.file, item, f"{self.what}[{n}]") for n, item in enumerate(self.node.value))

    def text(self) -> str:
        """A scalar as it is written; OperatorError for anything else, and for nothing."""
        if not isinstance(self.node, yaml.ScalarNode) or self.empty:
            raise self.error(f"{self.what} is {_kind(self.node)}, expected text")
        if "\0" in self.node.value:
            raise self.error(f"{self.what} has a NUL in it, which no path, name or argument can have")
        return str(self.node.value)

    def text_or_nothing(self) -> str:
        """A scalar as it is written, nothing as the empty text: how containerlab reads the values of env and labels."""
        return "" if self.empty else self.text()

    def integer(self, least: int, most: int) -> int:
        """A whole number within bounds, in decimal, 0x or 0o; OperatorError for anything else."""
        text = self.text()
        if self.node.tag == _INT and len(text) < _LONGEST_NUMBER:
            number = int(text, 0) if text.startswith(("0x", "0o")) else int(text)
            if least <= number <= most:
                return number
        raise self.error(f'{self.what} is "{text}", expected a whole number from {least} to {most}')

    def check_number(self) -> None:
        """OperatorError unless it is a number, whole or not."""
        text = self.text()
        if self.node.tag not in (_INT, _FLOAT):
            raise self.error(f'{self.what} is "{text}", expected a number')

    def boolean(self) -> bool:
        """True or false; OperatorError for anything else, `yes` and `on` included."""
        text = self.text()
        if self.node.tag != _BOOL:
            raise self.error(f'{self.what} is "{text}", expected true or false')
        return text.lower() == "true"


def parse(text: str, file: Path) -> Value:
    """The one document in `text`; OperatorError says where it is no YAML, or when it is empty."""
    try:
        check_depth(text)
        node = yaml.compose(text, Loader=_Loader)
    except SyntaxFault as fault:
        raise OperatorError(f"{file}:{fault.line}: not YAML: {fault.message}") from fault
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else str(file)
        raise OperatorError(f"{where}: not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise OperatorError(f"{file}: not YAML: {error}") from error
    if node is None:
        raise OperatorError(f"{file}: the file is empty, expected a topology with the keys name and topology")
    return Value(file, node, "")


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return "empty" if node.tag == _NULL else f'the text "{node.value}"'


def _similar(name: str, allowed: Sequence[str]) -> str | None:
    import difflib

    close = difflib.get_close_matches(name, allowed, n=1)
    return f'did you mean "{close[0]}"?' if close else None

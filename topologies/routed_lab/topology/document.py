"""A YAML document whose every value knows the line it stands on, so that an error can say where.

Pure: text in, values out. Duplicate keys, which YAML forbids and most readers let pass, are errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from routed.errors import OperatorError
from routed.manifest.document import SyntaxFault, check_depth


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

    def error(self, message: str, hint: str | None = None) -> OperatorError:
        """An error about this value, with its place."""
        return OperatorError(f"{self.file}:{self.line}: {message}", hint=hint)

    def named(self, what: str) -> Value:
        """The same value under another name."""
        return Value(self.file, self.node, what)

    def items(self) -> Iterator[tuple[Value, Value]]:
        """The keys and values of a mapping whose keys are free; OperatorError if it is none or a key comes twice."""
        if not isinstance(self.node, yaml.MappingNode):
            raise self.error(f"{self.what} is {_kind(self.node)}, expected a mapping of keys to values")
        seen: dict[str, int] = {}
        for key_node, node in self.node.value:
            key = Value(self.file, key_node, f"a key of {self.what}")
            name = key.text()
            if name in seen:
                raise key.error(
                    f'key "{name}" of {self.what} was given before, on line {seen[name]}; each may stand there once',
                    hint="remove or rename one of the two",
                )
            seen[name] = key.line
            yield key, Value(self.file, node, f"{self.what}.{name}" if self.what else name)

    def fields(self, allowed: Sequence[str], *, required: Sequence[str] = ()) -> dict[str, Value]:
        """A mapping with a fixed set of keys; OperatorError names a key that is unknown or missing."""
        found: dict[str, Value] = {}
        for key, value in self.items():
            name = key.text()
            if name not in allowed:
                raise key.error(
                    f'unknown key "{name}" in {self.what}; allowed: {", ".join(allowed)}', hint=_similar(name, allowed)
                )
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
        if not isinstance(self.node, yaml.ScalarNode) or self.node.tag == "tag:yaml.org,2002:null":
            raise self.error(f"{self.what} is {_kind(self.node)}, expected text")
        return str(self.node.value)


def parse(text: str, file: Path) -> Value:
    """The one document in `text`; OperatorError says where it is no YAML, or when it is empty."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's where PyYAML was built with it: ten times faster
    try:
        check_depth(text)
        node = yaml.compose(text, Loader=loader)
    except SyntaxFault as fault:
        raise OperatorError(f"{file}:{fault.line}: not YAML: {fault.message}") from fault
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{file}:{mark.line + 1}" if mark else str(file)
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
    return "empty" if node.tag == "tag:yaml.org,2002:null" else f'the text "{node.value}"'


def _similar(name: str, allowed: Sequence[str]) -> str | None:
    import difflib

    close = difflib.get_close_matches(name, allowed, n=1)
    return f'did you mean "{close[0]}"?' if close else None

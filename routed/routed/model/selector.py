"""Calico's selector language: an expression over labels, parsed once.

    or     := and ("||" and)*
    and    := not ("&&" not)*
    not    := "!" not | "(" or ")" | test
    test   := "all()" | "global()" | "has(" label ")"
            | label ("==" | "!=" | "contains" | "starts with" | "ends with") string
            | label ("in" | "not in") "{" string ("," string)* "}"

A string stands in ' or ", without escapes. As in Calico `!=` and `not in` are true of an object that lacks the label,
the other tests of a label are not; no text at all selects all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Self

from routed.model.fields import Text

Labels = Mapping[str, str]
Test = Callable[[Labels], bool]

_NAMESPACE = "projectcalico.org/namespace"  # the label that Calico gives what lives in a namespace
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<string>'[^']*'|"[^"]*")
  | (?P<call>(?:all|global)\s*\(\s*\)|has\s*\(\s*[-_./a-zA-Z0-9]+\s*\))
  | (?P<operator>==|!=|&&|\|\||[!(){},])
  | (?P<word>starts\s+with\b|ends\s+with\b|not\s+in\b|[-_./a-zA-Z0-9]+)
)""",
    re.VERBOSE | re.ASCII,
)
_END = ("end", "")


class SelectorError(ValueError):
    """A selector that cannot be parsed; `position` counts characters from 1."""

    def __init__(self, text: str, position: int, expected: str) -> None:
        found = f"found {text[position - 1 :][:20]!r}" if text[position - 1 :].strip() else "but it ends there"
        super().__init__(f"{text!r} is no selector: at character {position} expected {expected}, {found}")
        self.position = position


class Selector(Text):
    """A parsed selector. Equal text is an equal selector."""

    __slots__ = ("_test", "_text")

    def __init__(self, text: str) -> None:
        """Parse `text`. Raises SelectorError."""
        self._text = text
        self._test = _parse(text)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form. Raises SelectorError."""
        return cls(text)

    def matches(self, labels: Labels) -> bool:
        """Whether an object with `labels` is selected."""
        return self._test(labels)

    def __str__(self) -> str:
        return self._text


@lru_cache(maxsize=1024)
def _parse(text: str) -> Test:
    return _Parser(text).whole()


class _Parser:
    """Recursive descent over the tokens of one selector."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0  # where the next token may begin
        self.start = 0  # where the current token begins
        self.token = _END
        self.depth = 0
        self.advance()

    def advance(self) -> None:
        match = _TOKEN.match(self.text, self.at)
        if match is None:
            rest = self.text[self.at :]
            self.start = self.at + len(rest) - len(rest.lstrip())
            if rest.strip():
                raise self.error("a label, a string or an operator")
            self.token = _END
            return
        kind = str(match.lastgroup)
        self.start, self.at = match.start(kind), match.end()
        self.token = (kind, " ".join(match[kind].split()) if kind == "word" else match[kind])

    def error(self, expected: str) -> SelectorError:
        return SelectorError(self.text, self.start + 1, expected)

    def accept(self, operator: str) -> bool:
        if self.token != ("operator", operator):
            return False
        self.advance()
        return True

    def whole(self) -> Test:
        if self.token == _END:
            return _all
        test = self.any_of()
        if self.token != _END:
            raise self.error("&&, || or the end")
        return test

    def any_of(self) -> Test:
        tests = [self.all_of()]
        while self.accept("||"):
            tests.append(self.all_of())
        return tests[0] if len(tests) == 1 else lambda labels: any(test(labels) for test in tests)

    def all_of(self) -> Test:
        tests = [self.negated()]
        while self.accept("&&"):
            tests.append(self.negated())
        return tests[0] if len(tests) == 1 else lambda labels: all(test(labels) for test in tests)

    def negated(self) -> Test:
        if self.depth > 64:  # a bound below Python's own, which would end in a RecursionError
            raise self.error("fewer than 64 parentheses and negations inside one another")
        if self.accept("!"):
            self.depth += 1
            test = self.negated()
            self.depth -= 1
            return lambda labels: not test(labels)
        if self.accept("("):
            self.depth += 1
            test = self.any_of()
            self.depth -= 1
            if not self.accept(")"):
                raise self.error("&&, || or )")
            return test
        return self.test()

    def test(self) -> Test:
        kind, text = self.token
        if kind == "call":
            self.advance()
            return _call(text)
        if kind != "word":
            raise self.error("a label, has(), all(), ! or (")
        self.advance()
        return self.comparison(text)

    def comparison(self, label: str) -> Test:
        operator = self.token[1]
        if self.token[0] not in ("operator", "word"):
            operator = ""
        if operator in ("in", "not in"):
            self.advance()
            values = self.values()
            if operator == "in":
                return lambda labels: labels.get(label) in values
            return lambda labels: labels.get(label) not in values
        tests: dict[str, Callable[[str], Test]] = {
            "==": lambda value: lambda labels: labels.get(label) == value,
            "!=": lambda value: lambda labels: labels.get(label) != value,
            "contains": lambda value: lambda labels: label in labels and value in labels[label],
            "starts with": lambda value: lambda labels: label in labels and labels[label].startswith(value),
            "ends with": lambda value: lambda labels: label in labels and labels[label].endswith(value),
        }
        if operator not in tests:
            raise self.error("==, !=, in, not in, contains, starts with or ends with")
        self.advance()
        return tests[operator](self.string())

    def string(self) -> str:
        kind, text = self.token
        if kind != "string":
            raise self.error("a string in ' or \"")
        self.advance()
        return text[1:-1]

    def values(self) -> frozenset[str]:
        if not self.accept("{"):
            raise self.error("{ and the strings of the set")
        values = [self.string()]
        while self.accept(","):
            values.append(self.string())
        if not self.accept("}"):
            raise self.error(", or }")
        return frozenset(values)


def _call(text: str) -> Test:
    name, _, argument = text.partition("(")
    if name.strip() == "all":
        return _all
    if name.strip() == "global":
        return lambda labels: _NAMESPACE not in labels
    label = argument.rstrip().removesuffix(")").strip()
    return lambda labels: label in labels


def _all(labels: Labels) -> bool:  # noqa: ARG001  one of the tests
    return True

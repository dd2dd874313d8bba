"""Environment variables in a topology file, put in before it is read as YAML: the whole text, comments too.

As containerlab does it (core/file.go: BytesRestrictedNoReplace of github.com/hellt/envsubst): a variable that is set is
replaced, one that is not stays as it is written, unless it says what to take instead.

    $V  ${V}            the value, as written when V is not set
    ${V-w}  ${V=w}      the value, w when V is not set
    ${V:-w}  ${V:=w}    the value, w when V is not set or empty
    ${V+w}  ${V:+w}     w when V is set, nothing when it is not
    $$                  a dollar sign, and what follows is text

A word `w` ends at the first closing brace and may hold `$V`. A name begins with a letter, or with `_` and more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Self

_NAME = r"(?:[A-Za-z]|_(?=[A-Za-z0-9_]))[A-Za-z0-9_]*"
_DOLLAR = re.compile(
    rf"\$(?:\$(?P<text>[A-Za-z0-9_]*)|(?P<plain>{_NAME})"
    rf"|\{{(?P<braced>{_NAME})(?P<rest>[^}}\n]*\}}?)|(?P<open>\{{[ \t]*$))",
    re.MULTILINE,
)
_OPERATOR = re.compile(r"(:?[-=+])([^}]*)\}")


class SubstitutionFault(Exception):  # noqa: N818  `load` turns it into an error with the file's name
    """A `${...}` that makes no sense, at `line` and `column` (from 1)."""

    def __init__(self, line: int, column: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.column = column
        self.message = message

    @classmethod
    def at(cls, text: str, position: int, message: str) -> Self:
        """The fault at an offset of `text`."""
        line = text.count("\n", 0, position) + 1
        return cls(line, position - text.rfind("\n", 0, position), message)


def substitute(text: str, environment: Mapping[str, str]) -> str:
    """Return `text` with the variables of `environment` put in. Raises SubstitutionFault."""

    def replacement(found: re.Match[str]) -> str:
        if found["text"] is not None:
            return "$" + found["text"]
        if found["open"] is not None:
            raise SubstitutionFault.at(text, found.start(), "${ without a name and a closing brace")
        if (name := found["plain"]) is not None:
            return environment.get(name, found[0])
        name, rest = found["braced"], found["rest"]
        if rest == "}":
            return environment.get(name, found[0])
        if not rest.endswith("}"):
            raise SubstitutionFault.at(text, found.start(), f"${{{name} has no closing brace on its line")
        operator = _OPERATOR.fullmatch(rest)
        if operator is None or "${" in rest:
            raise SubstitutionFault.at(text, found.start(), f"{found[0]} is no substitution that containerlab knows")
        return _choose(name, operator[1], operator[2], environment)

    return _DOLLAR.sub(replacement, text)


def used(text: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of `environment` that `text` mentions: what another machine has to be told to read it alike.

    All of them when it asks for that by containerlab's `__IMPORT_ENVS`.
    """
    if "__IMPORT_ENVS" in text:
        return dict(environment)
    names = set(re.findall(rf"\$\{{?({_NAME})", text))
    return {name: environment[name] for name in sorted(names) if name in environment}


def _choose(name: str, operator: str, word: str, environment: Mapping[str, str]) -> str:
    value = environment.get(name)
    instead = _DOLLAR.sub(lambda found: environment.get(found["plain"] or "", ""), word)
    if operator.endswith("+"):
        return "" if value is None else instead
    if value is None or (not value and operator.startswith(":")):
        return instead
    return value

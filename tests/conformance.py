"""Which tests prove which requirement of a specification: the page of requirements held against the tests' markers.

A test names what it proves by `@pytest.mark.spec("CNI 1.1.0", "2 ADD.4")`: specification, then section and number of
the requirement as the page has it. The page is written by hand but for its last column, which is made of the markers:
`.venv/bin/python -m tests.conformance`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs/reference/cni-conformance.md"
SPECIFICATION = "CNI 1.1.0"
_COLUMNS = ("requirement", "level", "of", "what", "proved by")


@dataclass(frozen=True, slots=True)
class Requirement:
    """A line of the page. `of`: whom it binds; `what` it is, in own words; `line` is its number on the page."""

    name: str
    level: str
    of: str
    what: str
    proof: str
    line: int


def requirements(text: str) -> Iterator[Requirement]:
    """The requirements on the page `text`."""
    for number, line in enumerate(text.splitlines(), 1):
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) == len(_COLUMNS) and tuple(cells) != _COLUMNS:
            yield Requirement(*cells, number)


def markers(directory: Path) -> Mapping[str, list[str]]:
    """By requirement, the tests below `directory` that say they prove it: `path::function`, in order."""
    found: dict[str, list[str]] = {}
    for path in sorted(directory.rglob("test_*.py")):
        text = path.read_text()
        if "mark.spec(" not in text:
            continue
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef):
                for name in _named(node):
                    found.setdefault(name, []).append(f"{path.relative_to(directory.parent)}::{node.name}")
    return found


def _named(function: ast.FunctionDef) -> Iterator[str]:
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.spec":
            specification, *names = map(ast.literal_eval, decorator.args)
            if specification == SPECIFICATION:
                yield from names


def proof(requirement: Requirement, proving: Mapping[str, list[str]]) -> str:
    """The last cell of the requirement's line."""
    return "<br>".join(f"`{test}`" for test in proving.get(requirement.name, ())) or "-"


def written(text: str, proving: Mapping[str, list[str]]) -> str:
    """The page `text` with its last column made anew."""
    lines = text.splitlines()
    for each in requirements(text):
        lines[each.line - 1] = f"| {each.name} | {each.level} | {each.of} | {each.what} | {proof(each, proving)} |"
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(), markers(REPOSITORY / "tests")))

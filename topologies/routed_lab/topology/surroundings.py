"""What a topology file means besides its own text: where it lies, the variables of the shell, the files it names. Pure.

`load` gives the real ones; that keeps the rest of the package a function of its arguments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from routed_lab.topology.document import Value


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Of one file: its directory, the lab's name, the shell's variables, the user's home, and ways to look at files."""

    directory: Path
    lab: str
    environment: Mapping[str, str]
    home: Path
    exists: Callable[[Path], bool]
    is_file: Callable[[Path], bool]
    read: Callable[[Path], str]
    """The text of a file; raises OperatorError."""
    files: Callable[[Path], Mapping[str, Path]]
    """The files in a directory, by name."""

    @property
    def lab_directory(self) -> Path:
        """Where containerlab keeps a lab's files: `clab-` and its name, beside the topology file."""
        return self.directory / f"clab-{self.lab}"

    def magic(self, text: str, node: str) -> str:
        """`text` with containerlab's magic variables put in, in one pass (core/config.go, magicVarReplacer)."""
        values = {
            "__clabDir__": str(self.lab_directory),
            "__clabLabName__": self.lab_directory.name,
            "__clabNodeDir__": str(self.lab_directory / node),
            "__clabNodeName__": node,
        }
        return _MAGIC.sub(lambda found: values[found[0]], text)

    def path(self, text: str) -> Path:
        """The path that `text` names: `~` is the user's home, and what is relative begins at the topology file."""
        if text == "~" or text.startswith("~/"):
            return self.home / text[2:]
        return self.directory / text


_MAGIC = re.compile("__clabDir__|__clabLabName__|__clabNodeDir__|__clabNodeName__")


def variables_of(text: str, where: Value) -> dict[str, str]:
    """The variables of an env-file: lines NAME=VALUE, quotes around the value dropped; `#` begins a comment line.

    Raises OperatorError, placed at `where`, for any other line.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip().removeprefix("export ")
        if not stripped or stripped.startswith("#"):
            continue
        name, equals, value = stripped.partition("=")
        if not equals or not _NAME.fullmatch(name.strip()):
            raise where.error(f'line {number} of {where.text()} is "{stripped}", expected NAME=VALUE')
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        found[name.strip()] = value
    return found


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")

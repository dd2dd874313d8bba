"""`__gitBranch__` and `__gitHash__` in a lab's name: of the repository whose top the topology file stands in.

As containerlab has it (core/config.go): `none` where there is no repository, `-` for `/` in a branch, seven digits of
the hash. Reads files of `.git`; runs no program.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

MAGIC: Final = re.compile("__gitBranch__|__gitHash__")

_SHORT = 7
_NONE = "none"


def named(text: str, directory: Path) -> str:
    """`text` with the variables put in for the repository at `directory`."""
    branch, commit = _head(directory / ".git")
    values = {"__gitBranch__": branch.replace("/", "-"), "__gitHash__": commit}
    return MAGIC.sub(lambda found: values[found[0]], text)


def _head(repository: Path) -> tuple[str, str]:
    head = _line(repository / "HEAD")
    if head is None:
        return _NONE, _NONE
    _, named_ref, ref = head.partition("ref: ")
    if not named_ref:
        return "HEAD", head[:_SHORT]
    commit = _line(repository / ref) or _packed(repository / "packed-refs", ref)
    return ref.removeprefix("refs/heads/"), commit[:_SHORT] if commit else _NONE


def _packed(file: Path, ref: str) -> str | None:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    return next((line.split()[0] for line in lines if line.endswith(f" {ref}")), None)


def _line(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None

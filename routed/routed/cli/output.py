"""What the terminal sees: aligned tables, colours where a person looks, complaints on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

_CODES = {"red": "31", "green": "32", "yellow": "33", "bold": "1"}


def colour(text: str, name: str, stream: TextIO | None = None) -> str:
    """`text` in a colour, if `stream` (default: stdout) is a terminal and NO_COLOR (no-color.org) is not set."""
    if os.environ.get("NO_COLOR") or not (stream or sys.stdout).isatty():
        return text
    return f"\033[{_CODES[name]}m{text}\033[0m"


def complain(message: str, hint: str | None) -> None:
    """Say on stderr what is wrong, one problem per line, and what to do about it."""
    for line in message.splitlines():
        print(colour("error:", "red", sys.stderr), line, file=sys.stderr)
    if hint:
        print(colour("hint:", "yellow", sys.stderr), hint, file=sys.stderr)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """`rows` below `header` in aligned columns, a line each; an empty cell shows as -."""
    cells = [list(header), *([cell or "-" for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    lines[0] = colour(lines[0], "bold")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """`seconds` in the two units that a person reads: 12s, 3m12s, 4h03m, 2d05h."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"

"""What a person sees of a lab: progress while it works, the table of a check."""

from __future__ import annotations

import getpass
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from routed_lab import wire

if TYPE_CHECKING:
    from routed_lab.place import Card

_OURS = ("role", "rack", "router", "pid", "addresses", "pods", "sessions")
_HEAD = ("PAIR", "PATH", "ENCAPSULATION", "RTT")


class _Told(msgspec.Struct):
    """The part of the answer to Inspect that has a place in containerlab's."""

    name: str
    nodes: dict[str, dict[str, Any]]


class Progress:
    """Lines of progress: one that is updated with the seconds it takes on a terminal, plain ones elsewhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._text = ""
        self._since = time.monotonic()
        self._begun = self._since

    def __call__(self, text: str | None) -> None:
        """Show a new line of progress; None: time has passed."""
        if text is not None:
            self._text, self._since = text, time.monotonic()
            if not self._terminal:
                self._stream.write(f"{text}\n")
        if self._terminal and self._text:
            seconds = time.monotonic() - self._since
            passed = f" ({seconds:.0f} s)" if seconds >= 1 else ""
            room = os.get_terminal_size(self._stream.fileno()).columns - len(passed) - 1
            self._stream.write(f"\r\x1b[K{self._text[: max(room, 10)]}{passed}")
        self._stream.flush()

    def done(self, text: str | None = None) -> None:
        """Remove the line, and put `text` and the seconds since the beginning in its place."""
        if self._terminal and self._text:
            self._stream.write("\r\x1b[K")
        self._text = ""
        if text is not None:
            self._stream.write(f"{text} ({time.monotonic() - self._begun:.1f} s)\n")
        self._stream.flush()


def passed(checked: wire.Checked) -> bool:
    """Whether a check found what the topology implies: all pairs reachable, none by the wrong encapsulation."""
    return checked.summary.reachable == checked.summary.pairs and checked.summary.wrong == 0


def containers(told: wire.Json, card: Card) -> wire.Json:
    """What the runner tells of a lab in the shape of `containerlab inspect --format json`: a list by the lab's name.

    Keys of ours are added: `node`, `role`, `rack`, `router`, `pid`, `addresses`, `pods` and `sessions`.
    """
    lab = msgspec.convert(told, _Told)
    found: list[wire.Json] = []
    for name, node in lab.nodes.items():
        held = [address for addresses in node["addresses"].values() for address in addresses]
        pid = node["pid"]
        found.append(
            {
                "lab_name": lab.name,
                "labPath": card.file,
                "absLabPath": card.file,
                "name": node["namespace"],
                "container_id": str(pid or ""),
                "image": node["image"],
                "kind": "linux",
                "state": "running" if pid else "exited",
                "status": f"since {card.started}",
                "ipv4_address": _first(held, ":", wanted=False),
                "ipv6_address": _first(held, ":", wanted=True),
                "owner": getpass.getuser(),
                "node": name,
                **{key: node[key] for key in _OURS if key in node},
            }
        )
    return {lab.name: found}


def _first(addresses: Sequence[str], mark: str, *, wanted: bool) -> str:
    return next((each for each in addresses if (mark in each) is wanted), "N/A")


def table(checked: wire.Checked) -> str:
    """Return the table of a check and its summary; what is not as expected comes first."""
    rows = sorted(checked.rows, key=lambda row: row.rtt_ms is not None and row.encapsulation == row.expected)
    lines = _aligned([_HEAD, *(_cells(row) for row in rows)])
    found = checked.summary
    verdict = "as the topology implies" if passed(checked) else "NOT as the topology implies"
    lines += [
        "",
        (
            f"{found.topology}: {found.reachable} of {found.pairs} pairs reachable, {found.direct} direct, "
            f"{found.encapsulated} encapsulated, {found.wrong} wrong; {verdict} ({found.seconds:.1f} s)"
        ),
    ]
    return "\n".join(lines)


def _cells(row: wire.Row) -> tuple[str, str, str, str]:
    encapsulation = row.encapsulation
    if row.encapsulation != row.expected:
        encapsulation += f" (expected {row.expected})"
    rtt = "no reply" if row.rtt_ms is None else f"{row.rtt_ms:.2f} ms"
    return f"{row.source} -> {row.destination}", row.path, encapsulation, rtt


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Columns as wide as their widest cell, the last one to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines: list[str] = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)]
        lines.append("  ".join([*cells, row[-1].rjust(widths[-1])]))
    return lines


def outline(value: wire.Json, depth: int = 0) -> str:
    """Objects as indented `key: value` lines, lists of plain values on one line."""
    indent = "  " * depth
    if isinstance(value, dict):
        lines: list[str] = []
        for key, inner in value.items():
            if _plain(inner):
                lines.append(f"{indent}{key}: {_one_line(inner)}\n")
            else:
                lines.append(f"{indent}{key}:\n{outline(inner, depth + 1)}")
        return "".join(lines)
    if isinstance(value, list):
        return "".join(f"{indent}{_one_line(item)}\n" for item in value)
    return f"{indent}{_one_line(value)}\n"


def _plain(value: wire.Json) -> bool:
    if isinstance(value, list):
        return all(not isinstance(item, list | dict) for item in value)
    return not isinstance(value, dict) or not value


def _one_line(value: wire.Json) -> str:
    if isinstance(value, dict):
        return "  ".join(f"{key} {_one_line(inner)}" for key, inner in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(_one_line(item) for item in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)

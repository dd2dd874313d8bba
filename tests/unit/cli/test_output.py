"""Tables, colours, durations."""

from __future__ import annotations

import io

import pytest

from routed.cli.output import colour, duration, table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_columns_are_as_wide_as_their_widest_cell_and_empty_cells_are_dashes():
    assert table(("A", "LONG"), [("xxx", ""), ("", "y")]) == "A    LONG\nxxx  -\n-    y"


def test_colour_is_for_terminals_only(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert colour("x", "red", Terminal()) == "\033[31mx\033[0m"
    assert colour("x", "red", io.StringIO()) == "x"


def test_no_color_is_obeyed(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert colour("x", "red", Terminal()) == "x"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (-1, "0s"), (59.9, "59s"), (60, "1m00s"), (192, "3m12s"), (14580, "4h03m"), (190800, "2d05h")],
)
def test_durations_are_in_two_units(seconds, text):
    assert duration(seconds) == text

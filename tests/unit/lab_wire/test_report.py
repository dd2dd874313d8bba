"""What a person sees of a check."""

from __future__ import annotations

import io

from routed_lab import report, wire

ROWS = [
    wire.Row("a1-pod1", "a2-pod1", "a1 a2", "none", "none", 0.512),
    wire.Row("a1-pod1", "b1-pod10", "a1 tor-a spine", "none", "ipip", 1.25),
    wire.Row("b1-pod10", "a1-pod1", "", "unreachable", "ipip", None),
]


def checked(*, reachable: int = 3, wrong: int = 0) -> wire.Checked:
    summary = wire.Summary("t", 3, reachable, reachable, 0, wrong, 2.0)
    return wire.Checked(summary, ROWS)


def test_a_check_passes_only_if_all_are_reachable_and_none_wrong() -> None:
    assert report.passed(checked())
    assert not report.passed(checked(reachable=2))
    assert not report.passed(checked(wrong=1))


def test_the_tables_columns_are_aligned_and_what_is_wrong_comes_first() -> None:
    assert report.table(checked()).splitlines()[:4] == [
        "PAIR                 PATH            ENCAPSULATION                     RTT",
        "a1-pod1 -> b1-pod10  a1 tor-a spine  none (expected ipip)          1.25 ms",
        "b1-pod10 -> a1-pod1                  unreachable (expected ipip)  no reply",
        "a1-pod1 -> a2-pod1   a1 a2           none                          0.51 ms",
    ]


def test_progress_is_plain_lines_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    progress = report.Progress(stream)
    progress("booting")
    progress(None)
    progress("building")
    progress.done()
    assert stream.getvalue() == "booting\nbuilding\n"

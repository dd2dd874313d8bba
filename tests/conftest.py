"""Rules of the gate: a tier that ran no test fails, and so does one that skipped any."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# cores are shared: how long an example took says nothing about the code
settings.register_profile("shared cores", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared cores")


class _Count:
    passed = 0
    skipped: list[str] = []  # noqa: RUF012  one session, one list


def pytest_runtest_logreport(report: Any) -> None:
    if report.when == "call" and report.passed:
        _Count.passed += 1
    if report.skipped:
        _Count.skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus == 0 and not session.config.option.collectonly and (_Count.skipped or not _Count.passed):
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _Count.skipped:
        terminalreporter.write_line(f"skipped tests fail the tier: {', '.join(_Count.skipped)}", red=True)

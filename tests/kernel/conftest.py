"""Tests of a kernel without the IPIP driver run here only where this kernel has none; else the lab tier runs them."""

from __future__ import annotations

import subprocess

import pytest

# in a namespace of its own, so that what loads with the driver shows nowhere
PROBE = ("unshare", "--net", "ip", "link", "add", "rtdprobe", "type", "ipip", "local", "127.0.0.1")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("without_ipip")]
    if marked and subprocess.run(PROBE, capture_output=True, check=False).returncode == 0:
        config.hook.pytest_deselected(items=marked)
        items[:] = [item for item in items if item not in marked]

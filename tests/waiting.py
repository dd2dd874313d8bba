"""Waiting for what comes about by itself: a condition with a deadline, in place of a sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

SECONDS = 40.0
"""In which whatever is waited for has to come about on a busy machine."""


def until(
    condition: Callable[[], Any],
    seconds: float = SECONDS,
    what: Callable[[], object] = lambda: "",
    *,
    pause: float = 0.01,
) -> Any:
    """The first true value of `condition`, asked every `pause` seconds; AssertionError with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what()}"
        time.sleep(pause)
    return value

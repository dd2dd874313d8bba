"""What is wrong with the agent as a whole."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from enum import StrEnum

from routed.errors import RoutedError

_log = logging.getLogger("routed.agent")


class Subject(StrEnum):
    """What can be wrong; one fault each at a time."""

    STORE = "store"
    CLUSTER = "cluster"
    TUNNEL = "tunnel address"
    BGP = "bgp"
    BFD = "bfd"


class Faults:
    """The faults of now, by subject. What is tried again every few seconds is logged once."""

    def __init__(self) -> None:
        self._now: dict[Subject, RoutedError] = {}

    def __iter__(self) -> Iterator[RoutedError]:
        return iter(self._now.values())

    def get(self, subject: Subject) -> RoutedError | None:
        """What is wrong with `subject`, if anything."""
        return self._now.get(subject)

    def set(self, subject: Subject, error: RoutedError | None) -> None:
        """`error` is wrong with `subject` now; None: nothing is."""
        before = self._now.pop(subject, None)
        if error is not None:
            self._now[subject] = error
            if str(error) != str(before):
                _log.error("%s", error)

"""When to try again what failed: soon at first, then ever more rarely."""

from __future__ import annotations

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 30.0


class Backoff:
    """The pause doubles with each failure of a *due* try, from `FIRST_SECONDS` to `LONGEST_SECONDS`.

    What fails in between, because something else made it be tried, does not count: a burst of events during a short
    trouble must not end in half a minute of waiting. Times are the caller's clock, in seconds.
    """

    def __init__(self) -> None:
        self.due: float | None = None
        self._pause = FIRST_SECONDS

    def failed(self, now: float) -> float:
        """It failed; the seconds until it is due again."""
        if self.due is None or now >= self.due:
            self.due = now + self._pause
            self._pause = min(self._pause * 2, LONGEST_SECONDS)
        return self.due - now

    def succeeded(self) -> None:
        """It worked: nothing is due, and the next failure is a first one."""
        self.due, self._pause = None, FIRST_SECONDS

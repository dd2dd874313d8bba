"""What can go wrong, by who can act on it.

    RoutedError
      OperatorError      the operator's input: a file, a field, a flag. Not retried.
        ConflictError    ... that contradicts something which is there already
      PeerError          a BGP peer broke the protocol or refused us
      EnvironmentFault   the machine or a neighbour service: missing driver, port taken, store away. Retried.
      Bug                ours: an invariant is broken. Reported with its traceback in the log, never to the terminal.

Every message says where (file, field, value), what was expected, and, in `hint`, what to do.
"""

from __future__ import annotations


class RoutedError(Exception):
    """Base of all errors that routed raises on purpose; `str()` is a sentence fit for a terminal."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class OperatorError(RoutedError):
    """The operator's input is wrong; the same input fails again."""


class ConflictError(OperatorError):
    """The input contradicts what the store or the kernel holds already."""


class PeerError(RoutedError):
    """A BGP peer sent what the protocol forbids, or refused the session."""


class EnvironmentFault(RoutedError):  # noqa: N818  a fault of the machine is not an error of the program
    """The machine or a service is not as needed now; trying again later may work."""


class Bug(RoutedError):  # noqa: N818  the shortest true name
    """An invariant of ours does not hold."""

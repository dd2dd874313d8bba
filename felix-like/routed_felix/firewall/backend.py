"""What every way of writing the firewall has in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from routed_felix.firewall.rules import Rules


class Backend(Protocol):
    """One way of writing the rules, in one network namespace. Calls block for some milliseconds; not for two threads.

    All raise EnvironmentFault: `UnsupportedError` when this machine will not do, any other when trying again may work.
    """

    @property
    def name(self) -> str:
        """As the configuration has it."""
        ...

    @property
    def watched(self) -> float | None:
        """Seconds between two glances where the kernel has no events of changes; None where it has."""
        ...

    def glance(self) -> object:
        """Something cheap that is another after most changes of the tables that hold ours; always the same where the
        kernel has events. Raises OSError."""
        ...

    def close(self) -> None:
        """Let go of sockets; the rules stay."""
        ...

    def bring(self, rules: Rules, written: Callable[[], None], *, undisturbed: bool = False) -> bool:
        """Compare what is there with `rules` and write what differs, in one transaction; whether anything was written.

        `undisturbed`: nobody has touched it since the last call, so that it need not be read. `written` is called after
        a write and before what came of it is read: events from before are our own, or are about what is read
        afterwards.
        """
        ...

    def remove(self) -> bool:
        """Remove all of ours, and nothing else; whether there was anything."""
        ...

    def concerns(self, family: int, table: str) -> bool:
        """Whether a change in this table of nf_tables may be one of ours; `family` as in linux/netfilter.h."""
        ...

"""The firewall of one network namespace: the backend that serves here, and what the kernel tells of changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from routed.errors import EnvironmentFault
from routed_felix.firewall.backend import Backend
from routed_felix.firewall.events import NftEvents
from routed_felix.firewall.program import UnsupportedError
from routed_felix.firewall.rules import Rules


@dataclass(frozen=True)
class Choice:
    """Which backends may serve, the best first; `others` may hold rules of an earlier life of ours, which go.

    `warning`: what an operator should know about the node's firewall, empty for nothing.
    """

    serving: Sequence[Backend]
    others: Sequence[Backend] = ()
    warning: str = ""


class Firewall:
    """Rules in, kernel state out. Of several backends the first that this machine has all for serves.

    `bring` blocks for some milliseconds and may be called in another thread; one call at a time.
    """

    def __init__(self, choose: Callable[[], Choice], namespace: str | None = None) -> None:
        """`choose` looks at the machine, when the first rules are to be written and with each `survey`."""
        self.warning = ""
        self._choose = choose
        self._events = NftEvents(namespace)
        self._choice: Choice | None = None
        self._backend: Backend | None = None
        self._left: object = None  # what a glance at the rules tells when they are as we left them
        self._swept = False
        self._brought: Rules | None = None
        self._disturbed = True  # perhaps others are there than we left

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the subscription; the rules stay."""
        self._events.close()
        if self._backend is not None:
            self._backend.close()

    def fileno(self) -> int:
        """Readable when something changed in nf_tables."""
        return self._events.fileno()

    @property
    def backend(self) -> str:
        """The name of the backend that serves; empty as long as none does."""
        return self._backend.name if self._backend else ""

    @property
    def watched(self) -> float | None:
        """Seconds between two calls of `changed` where the kernel tells of no changes; None where it does."""
        return self._backend.watched if self._backend else None

    def changed(self) -> bool:
        """Take all events that wait; whether our rules may be others than we left them. Raises OSError."""
        backend = self._backend
        if backend is None:
            return bool(self._events.read(_nothing))
        told = bool(self._events.read(backend.concerns)) or backend.glance() != self._left
        self._disturbed = self._disturbed or told
        return told

    def survey(self) -> None:
        """Look at the machine: sets `warning`, and which backends may serve where none does yet. Blocks, as `bring`."""
        self._choice = self._choose()
        self.warning = self._choice.warning

    def bring(self, rules: Rules) -> bool:
        """Bring the kernel to `rules`; whether anything was written. Raises EnvironmentFault."""
        if self._choice is None:
            self.survey()
        choice = self._choice
        assert choice is not None
        written = self._bring(choice.serving, rules)
        if not self._swept:  # after the new ones are there, so that no packet finds neither
            # one that could not serve may have got half-way: IPv4 written, IPv6 refused
            others = [*choice.others, *(each for each in choice.serving if each is not self._backend)]
            self._swept = True
            written = bool(cleanup(others)[0]) or written
        return written

    def _bring(self, backends: Sequence[Backend], rules: Rules) -> bool:
        if self._backend is not None:
            return self._write(self._backend, rules)
        first: UnsupportedError | None = None
        for backend in backends:
            try:
                written = self._write(backend, rules)
            except UnsupportedError as fault:
                first = first or fault
                continue
            self._backend = backend
            return written
        if first is not None:
            raise first
        return False  # switched off

    def _write(self, backend: Backend, rules: Rules) -> bool:
        """What happened up to now is read with the rules that follow, and so is what happens up to a write of ours.

        Where nobody touched ours since the last time, and other rules are wanted, nothing is read: a pod that comes is
        then one transaction. Rules that are wanted again are a look, which is what the periodic resync asks for.
        """

        def forget(ours: int) -> None:
            try:  # what stays unread costs one more look
                self._disturbed = self._events.read(backend.concerns) > ours or self._disturbed
                self._left = backend.glance()
            except OSError:
                self._disturbed = True

        forget(0)
        undisturbed = not self._disturbed and rules != self._brought
        self._disturbed, self._brought = False, None
        try:
            written = backend.bring(rules, lambda: forget(1), undisturbed=undisturbed)
        except EnvironmentFault:
            self._disturbed = True
            raise
        self._brought = rules
        return written


def _nothing(family: int, table: str) -> bool:  # noqa: ARG001  a place for what a backend knows
    return False


def cleanup(backends: Sequence[Backend]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Remove the firewall of every backend: the names of those that held any, and what failed, in words."""
    removed: list[str] = []
    failures: list[str] = []
    for backend in backends:
        try:
            if backend.remove():
                removed.append(backend.name)
        except UnsupportedError:
            continue
        except EnvironmentFault as fault:
            failures.append(fault.message)
    return tuple(removed), tuple(failures)

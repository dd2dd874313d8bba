"""Addresses on a node that is there whose pod interface is not: when they are leaks, to be taken back. Pure.

A runtime sends a DEL for every sandbox, but may be killed for good, and an ADD may be given up whose address was
recorded all the same. One look proves nothing, as interfaces come and go: a handle is a leak once it was seen twice, a
grace time apart and in every look between, with exactly the same addresses, given at the same times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from routed.model.address import AnyAddress

Held = frozenset[tuple[AnyAddress, int]]
"""All that a handle holds: each address with the time when it was given, in seconds of the epoch."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """`handle` holds addresses for an interface that is not there, as was `seen` first, in seconds of any clock."""

    handle: str
    held: Held
    seen: float

    @property
    def addresses(self) -> tuple[AnyAddress, ...]:
        """What it holds, IPv4 first."""
        return tuple(sorted((address for address, _ in self.held), key=lambda each: (each.version, each)))


def look(before: Iterable[Suspicion], missing: Mapping[str, Held], now: float) -> tuple[Suspicion, ...]:
    """What is suspected after a look that found the handles `missing`; what changed begins anew."""
    known = {each.handle: each for each in before}
    return tuple(
        known[handle] if handle in known and known[handle].held == held else Suspicion(handle, held, now)
        for handle, held in sorted(missing.items())
    )


def leaks(suspected: Iterable[Suspicion], now: float, grace: float) -> tuple[Suspicion, ...]:
    """Those of `suspected`, as of this moment's look, that an earlier look saw `grace` seconds ago (more than 0)."""
    return tuple(each for each in suspected if now - each.seen >= grace)

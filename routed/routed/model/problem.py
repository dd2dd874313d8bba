"""A contradiction among resources, as `validate` and its parts report it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One contradiction: the `field` of the object that states it, what is wrong and what to do about it."""

    kind: str
    name: str
    field: str  # as a manifest writes it, e.g. spec.podCIDRs[0]
    message: str
    hint: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.field}: {self.message}; {self.hint}"

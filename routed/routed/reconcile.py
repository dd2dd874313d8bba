"""List, diff, apply: the one way in which kernel state becomes desired state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class Delta(Generic[K, V]):
    """What separates actual from desired state."""

    create: Mapping[K, V] = field(default_factory=dict[K, V])
    replace: Mapping[K, V] = field(default_factory=dict[K, V])
    delete: Mapping[K, V] = field(default_factory=dict[K, V])

    def __bool__(self) -> bool:
        return bool(self.create or self.replace or self.delete)

    def __len__(self) -> int:
        return len(self.create) + len(self.replace) + len(self.delete)

    def additions(self) -> Delta[K, V]:
        """What comes before others refer to it: all but the deletions."""
        return Delta(create=self.create, replace=self.replace)

    def deletions(self) -> Delta[K, V]:
        """What goes after nothing refers to it any more."""
        return Delta(delete=self.delete)


def diff(actual: Mapping[K, V], desired: Mapping[K, V]) -> Delta[K, V]:
    """The smallest Delta that turns `actual` into `desired`."""
    return Delta(
        create={key: value for key, value in desired.items() if key not in actual},
        replace={key: value for key, value in desired.items() if key in actual and actual[key] != value},
        delete={key: value for key, value in actual.items() if key not in desired},
    )


class Target(Protocol[K, V]):
    """One kind of kernel state.

    `list` returns what is ours there now. `apply` is idempotent: creating what exists and deleting what is gone are
    no errors; it goes on after a failure and returns errno-like reasons by key, which the caller retries.
    """

    def list(self) -> Mapping[K, V]:
        """What of ours the kernel holds."""
        ...

    def apply(self, delta: Delta[K, V]) -> Mapping[K, str]:
        """Carry out `delta`; return the reason for each key that failed."""
        ...

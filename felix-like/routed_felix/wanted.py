"""The routes that should be, as the kernel's edge asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from routed.model.nlri import Nlri, from_prefix
from routed_felix.state import Route, RouteKey


class Wanted(Protocol):
    """The routes that should be, by prefix."""

    def get(self, nlri: Nlri, /) -> Route | None:
        """The route of one prefix."""
        ...

    def table(self) -> Mapping[Nlri, Route]:
        """All of them."""
        ...

    def __len__(self) -> int: ...


class Table(dict[Nlri, Route]):
    """Wanted routes as a plain value."""

    @classmethod
    def of(cls, routes: Mapping[RouteKey, Route]) -> Table:
        """From calc's whole result."""
        return cls({from_prefix(key.prefix): route for key, route in routes.items()})

    def table(self) -> Mapping[Nlri, Route]:
        """All of them."""
        return self

"""The routes that should be, as the kernel's edge asks for them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from routed.model.address import Family
from routed.model.nlri import Nlri, from_prefix
from routed_felix.state import Group, Hop, Route, RouteKey


class Wanted(Protocol):
    """The routes that should be, by prefix."""

    def get(self, nlri: Nlri, /) -> Route | None:
        """The route of one prefix."""
        ...

    def table(self) -> Mapping[Nlri, Route]:
        """All of them."""
        ...

    def groups(self) -> Mapping[Group, tuple[Hop, ...]]:
        """The groups that they go by, with their hops."""
        ...

    def by(self, groups: Collection[Group]) -> Mapping[Nlri, Route]:
        """Those that go by one of `groups`. Costs what the table is large."""
        ...

    def __len__(self) -> int: ...


class Table(dict[Nlri, Route]):
    """Wanted routes as a plain value."""

    @classmethod
    def of(cls, routes: Mapping[RouteKey, Route], family: Family = Family.IPV4) -> Table:
        """Those of `family` in calc's whole result."""
        return cls({from_prefix(key.prefix): each for key, each in routes.items() if Family.of(key.prefix) is family})

    def table(self) -> Mapping[Nlri, Route]:
        """All of them."""
        return self

    def groups(self) -> Mapping[Group, tuple[Hop, ...]]:
        """The groups that they go by, with their hops."""
        return {route.group: route.hops for route in self.values() if route.group is not None}

    def by(self, groups: Collection[Group]) -> Mapping[Nlri, Route]:
        """Those that go by one of `groups`."""
        return {nlri: route for nlri, route in self.items() if route.group in groups}


NOTHING: Wanted = Table()
"""No route."""

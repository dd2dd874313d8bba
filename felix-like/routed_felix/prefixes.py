"""Longest-prefix match over a fixed set of prefixes. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

from routed.model.address import Address, Prefix

V = TypeVar("V")


class PrefixMap(Generic[V]):
    """Values by prefix, found by the address or prefix that they cover.

    One dictionary per prefix length, keyed by the network's leading bits: a look-up costs one probe per length in
    use, some microseconds less than walking `supernet()`s, which matters at 100,000 prefixes.
    """

    def __init__(self, values: Mapping[Prefix, V]) -> None:
        by_length: dict[int, dict[int, tuple[Prefix, V]]] = {}
        for prefix, value in values.items():
            leading = int(prefix.network_address) >> (32 - prefix.prefixlen)
            by_length.setdefault(prefix.prefixlen, {})[leading] = (prefix, value)
        self._by_length = sorted(by_length.items(), reverse=True)

    def covering(self, prefix: Prefix) -> Iterator[tuple[Prefix, V]]:
        """Every entry that is `prefix` or covers it, longest first."""
        return self._matches(int(prefix.network_address), prefix.prefixlen)

    def longest(self, address: Address) -> tuple[Prefix, V] | None:
        """The longest entry that contains `address`."""
        return next(self._matches(int(address), 32), None)

    def _matches(self, number: int, length: int) -> Iterator[tuple[Prefix, V]]:
        for candidate, entries in self._by_length:
            if candidate <= length:
                found = entries.get(number >> (32 - candidate))
                if found is not None:
                    yield found

"""Backend: a table of our own in nftables, written by `nft`."""

from __future__ import annotations

import json
from collections.abc import Callable

from routed.errors import EnvironmentFault
from routed_felix.firewall.nft_table import FAMILY, NAME, Table, read_listing, removal, table_of, transaction
from routed_felix.firewall.program import UnsupportedError, ask, refused
from routed_felix.firewall.rules import Rules

_NFPROTO_INET = 1  # linux/netfilter.h
_LIST = ("nft", "--json", "--numeric", "--stateless", "list", "table", FAMILY, NAME)
_WRITE = ("nft", "--json", "--file", "-")
_ABSENT = "No such file or directory"
_TRIES = 2  # of a transaction that met another's


class Nft:
    """The table `inet routed`."""

    name = "nft"
    watched = None

    def __init__(self, namespace: str | None = None) -> None:
        self._namespace = namespace
        self._settled: tuple[Table, Table] | None = None  # what was written, and how this version of nft tells it
        self._standing: Table | None = None  # what was there at the end of the last `bring`

    def bring(self, rules: Rules, written: Callable[[], None], *, undisturbed: bool = False) -> bool:
        """As `Backend` has it."""
        wanted = table_of(rules)
        known, self._standing = self._standing if undisturbed else None, None
        tries = 0
        while True:
            found = known or self._read()
            change = None if self._settled == (wanted, found) else transaction(wanted, found)
            if change is None:
                self._standing = found
                return False
            said = ask(_WRITE, self._namespace, json.dumps(change))
            if not said.error:
                break
            known = None
            tries += 1
            # what is absent in two transactions is an expression that the kernel lacks
            fault = refused(_WRITE, said.error, lasting=_ABSENT in said.error and tries == _TRIES)
            if tries == _TRIES or isinstance(fault, UnsupportedError):
                raise fault
        written()
        if found is not None and (found.chains, found.sets) == (wanted.chains, wanted.sets):
            self._standing = wanted
            return True  # only elements were written, and this version of nft has our words for the rest
        after = self._standing = self._read()
        self._settled = (wanted, after) if after is not None and _alike(after, wanted) else None
        return True

    def glance(self) -> object:
        """As `Backend` has it."""
        return None

    def close(self) -> None:
        """As `Backend` has it."""

    def remove(self) -> bool:
        """As `Backend` has it."""
        self._settled = self._standing = None
        if self._read() is None:
            return False
        said = ask(_WRITE, self._namespace, json.dumps(removal()))
        if said.error and _ABSENT not in said.error:
            raise refused(_WRITE, said.error)
        return True

    def concerns(self, family: int, table: str) -> bool:
        """As `Backend` has it."""
        return (family, table) == (_NFPROTO_INET, NAME)

    def _read(self) -> Table | None:
        """The table that is there, if any."""
        said = ask(_LIST, self._namespace)
        if said.error:
            if _ABSENT in said.error:
                return None
            raise refused(_LIST, said.error, lasting=True)
        try:
            return read_listing(json.loads(said.output))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise EnvironmentFault(
                f"firewall: nft lists the table {FAMILY} {NAME} in a form that routed does not know: {error!r}",
                hint="expected libnftables-json schema 1, as nftables 1.0 and later have",
            ) from error


def _alike(found: Table, wanted: Table) -> bool:
    """Whether `found` is `wanted` but for the words in which another version of nft tells a rule or a type."""

    def size(table: Table) -> dict[str, int]:
        return {name: len(parts) for name, parts in table.chains.items()}

    return size(found) == size(wanted) and found.sets.keys() == wanted.sets.keys() and found.elements == wanted.elements

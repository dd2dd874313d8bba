"""Backends: chains of our own in the tables of iptables, for each of its two forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path

from routed.model.address import Family
from routed.netlink.socket import inside
from routed_felix.firewall.iptables_rules import Ours, Saved, alike, read_saved, restoration, wanted
from routed_felix.firewall.program import ask, refused
from routed_felix.firewall.rules import Rules
from routed_felix.firewall.x_tables import XTables

_PROGRAMS = {Family.IPV4: "iptables", Family.IPV6: "ip6tables"}
_LOCK_SECONDS = "5"  # how long to wait for another's xtables lock
_NFPROTOS = (2, 10)  # NFPROTO_IPV4, NFPROTO_IPV6: linux/netfilter.h
_LEGACY_SECONDS = 0.1  # the kernel tells nobody of changes of x_tables; a glance takes 0.02 ms
_IPV6 = Path("/proc/thread-self/net/if_inet6")  # not there where IPv6 is switched off at boot

_Tables = Mapping[str, Ours]


class Iptables:
    """Chains of ours by `iptables-legacy-restore` (x_tables), or `iptables-nft-restore` (nf_tables)."""

    def __init__(self, form: str, namespace: str | None = None) -> None:
        """`form`: `legacy` or `nft`."""
        self.name = f"iptables-{form}"
        self.watched = _LEGACY_SECONDS if form == "legacy" else None
        self._form = form
        self._namespace = namespace
        self._x_tables = XTables(namespace)
        self._written: list[tuple[Family, str]] = []  # the tables that hold ours
        self._settled: dict[Family, tuple[_Tables, _Tables]] = {}  # what was written, and how this iptables tells it

    def bring(
        self,
        rules: Rules,
        written: Callable[[], None],
        *,
        undisturbed: bool = False,  # noqa: ARG002  what it is like between two writes, no event tells
    ) -> bool:
        """As `Backend` has it; each table of each family is a transaction."""
        families = self._families()
        changed = [family for family in families if self._bring(wanted(rules, family), family)]
        self._written = [(family, table) for family in families for table in wanted(rules, family)]
        if changed:
            written()
        for family in changed:
            tables, after = wanted(rules, family), self.saved(family).ours
            if alike(tables, after):
                self._settled[family] = tables, after
        return bool(changed)

    def glance(self) -> object:
        """As `Backend` has it."""
        if self.watched is None:
            return None
        return [self._x_tables.info(family, table) for family, table in self._written]

    def close(self) -> None:
        """As `Backend` has it."""
        self._x_tables.close()

    def remove(self) -> bool:
        """As `Backend` has it."""
        removed = [self._bring({}, family) for family in self._families()]  # of both, whatever is in the first
        return any(removed)

    def concerns(self, family: int, table: str) -> bool:
        """As `Backend` has it."""
        return self._form == "nft" and family in _NFPROTOS and table in ("raw", "filter", "nat")

    def saved(self, family: Family) -> Saved:
        """What is in the tables of `family`; a table that does not exist is not made by looking.

        Raises UnsupportedError where this form of iptables cannot even be asked.
        """
        words = (f"{_PROGRAMS[family]}-{self._form}-save",)
        said = ask(words, self._namespace)
        if said.error:
            raise refused(words, said.error, lasting=True)
        return read_saved(said.output)

    def _bring(self, tables: _Tables, family: Family) -> bool:
        found = self.saved(family).ours
        if self._settled.get(family) == (tables, found):
            return False
        script = restoration(tables, found)
        if not script:
            return False
        words = (f"{_PROGRAMS[family]}-{self._form}-restore", "--noflush", "--wait", _LOCK_SECONDS)
        said = ask(words, self._namespace, script)
        if said.error:
            raise refused(words, said.error)
        return True

    def _families(self) -> tuple[Family, ...]:
        with inside(self._namespace) if self._namespace else nullcontext():
            return (Family.IPV4, Family.IPV6) if _IPV6.exists() else (Family.IPV4,)

"""The backends of this machine, and a look at what others keep in its firewall."""

from __future__ import annotations

import json
from collections.abc import Callable

from routed.errors import EnvironmentFault
from routed.model.address import Family
from routed_felix.firewall.backend import Backend
from routed_felix.firewall.choice import Census, order, warning
from routed_felix.firewall.firewall import Choice
from routed_felix.firewall.iptables import Iptables
from routed_felix.firewall.nft import Nft
from routed_felix.firewall.nft_table import FAMILY, NAME
from routed_felix.firewall.program import ask

_IPTABLES_TABLES = ("filter", "nat", "mangle", "raw", "security")
_LIST = ("nft", "--json", "list", "tables")
_WORDS = {Family.IPV4: "ip", Family.IPV6: "ip6"}


def all_backends(namespace: str | None = None) -> dict[str, Backend]:
    """Every backend by its name."""
    made: tuple[Backend, ...] = (Nft(namespace), Iptables("nft", namespace), Iptables("legacy", namespace))
    return {backend.name: backend for backend in made}


def chooser(setting: str, namespace: str | None = None) -> Callable[[], Choice]:
    """For `Firewall`: what `firewall = setting` of the configuration means on this machine as it is now."""
    backends = all_backends(namespace)

    def choose() -> Choice:
        census = take_census(namespace)
        serving = order(setting, census)
        return Choice(
            [backends[name] for name in serving],
            [backend for name, backend in backends.items() if name not in serving],
            warning(census),
        )

    return choose


def take_census(namespace: str | None = None) -> Census:
    """Who else has rules here. What cannot be asked counts as empty: this is for a warning and a preference."""
    nft = [f"{_WORDS[family]} {table}" for family in Family for table in _strangers(Iptables("nft", namespace), family)]
    return Census(
        legacy=tuple(dict.fromkeys(t for family in Family for t in _strangers(Iptables("legacy", namespace), family))),
        nft=(*nft, *_tables_of_others(namespace)),
    )


def _strangers(iptables: Iptables, family: Family) -> tuple[str, ...]:
    try:
        return iptables.saved(family).strangers
    except EnvironmentFault:
        return ()


def _tables_of_others(namespace: str | None) -> list[str]:
    """The tables of nf_tables that are neither ours nor iptables'; that nobody makes one for nothing is assumed."""
    try:
        said = ask(_LIST, namespace)
        listed = [each["table"] for each in json.loads(said.output or "{}").get("nftables", ()) if "table" in each]
        found = [(str(table["family"]), str(table["name"])) for table in listed]
    except (EnvironmentFault, ValueError, KeyError):
        return []
    return [
        f"{family} {name}"
        for family, name in found
        if (family, name) != (FAMILY, NAME) and not (family in _WORDS.values() and name in _IPTABLES_TABLES)
    ]

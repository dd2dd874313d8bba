"""Arguments that several commands take, and what they mean."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from routed.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from routed.config import AgentConfig
    from routed.store import Store


class Subparsers(Protocol):
    """What `ArgumentParser.add_subparsers` returns; its own name is private."""

    def add_parser(self, name: str, **options: Any) -> argparse.ArgumentParser:
        """Add a command."""
        ...


_ALIASES = {
    "Node": ("node", "nodes", "no"),
    "IPPool": ("ippool", "ippools", "pool", "pools", "ipp"),
    "BGPPeer": ("bgppeer", "bgppeers", "peer", "peers", "bgpp"),
    "BGPConfiguration": ("bgpconfiguration", "bgpconfigurations", "bgpconfig", "bgpconfigs", "bgpc"),
    "BGPFilter": ("bgpfilter", "bgpfilters", "filter", "filters", "bgpf"),
    "IPReservation": ("ipreservation", "ipreservations", "reservation", "reservations", "ipr"),
    "IPAMConfiguration": ("ipamconfiguration", "ipamconfigurations", "ipamconfig", "ipamconfigs", "ipamc"),
    "KubernetesNode": ("kubernetesnode", "kubernetesnodes", "k8snode", "k8snodes", "k8s"),
    "Namespace": ("namespace", "namespaces", "ns"),
}
KINDS_HELP = ", ".join(f"{kind} ({aliases[-1]})" for kind, aliases in _ALIASES.items())


def add_config(parser: argparse.ArgumentParser) -> None:
    """`--config`."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="the agent's configuration (default: /etc/routed/agent.toml if there)",
    )


def add_store(parser: argparse.ArgumentParser) -> None:
    """`--store` or `--config`."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--store", metavar="URL", help="the store, e.g. sqlite:///var/lib/routed/store.db")
    where.add_argument(
        "--config", metavar="FILE", type=Path, help="take the store from this file (default: /etc/routed/agent.toml)"
    )


def add_files(parser: argparse.ArgumentParser) -> None:
    """`-f`, any number of times."""
    parser.add_argument("-f", dest="files", metavar="FILE", action="append", default=[], help="file, directory or -")


def in_files(files: Sequence[str]) -> list[tuple[str, str]]:
    """Kind and name of each resource in `files`. Raises OperatorError for what cannot be read."""
    from routed.manifest import read_files

    return [(manifest.resource.kind, manifest.resource.name) for manifest in read_files(files)]


def config(args: argparse.Namespace) -> AgentConfig:
    """The configuration that `--config` names, else the machine's, else the defaults; the environment wins."""
    from routed.config import DEFAULT_PATH, load

    named: Path | None = args.config
    return load(named or (DEFAULT_PATH if DEFAULT_PATH.exists() else None))


def store(args: argparse.Namespace, *, create: bool) -> Store:
    """The store that `--store` or the configuration names. `create` False: it has to be there already."""
    from routed.store.url import open_store

    return open_store(args.store or config(args).store, create=create)


def kind(text: str) -> str:
    """The kind that `text` names in any case, singular, plural or short. Raises OperatorError."""
    for name, aliases in _ALIASES.items():
        if text.lower() in aliases:
            return name
    raise OperatorError(f"unknown kind {text!r}", hint=f"known are {KINDS_HELP}")

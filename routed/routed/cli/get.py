"""`routed get`: resources out of the store, for people and for programs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from routed.cli import arguments, output
from routed.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from routed.cli.arguments import Subparsers
    from routed.model.resources import AnyResource
    from routed.store import Store

_HEADERS = {
    "Node": ("NAME", "ADDRESS", "AS", "POD CIDRS"),
    "IPPool": ("NAME", "CIDR", "IPIP", "VXLAN", "DISABLED", "BGP EXPORT"),
    "IPReservation": ("NAME", "CIDRS"),
    "IPAMConfiguration": ("NAME", "STRICT AFFINITY", "BLOCKS PER NODE", "CLAIMS"),
    "Namespace": ("NAME", "LABELS"),
    "KubernetesNode": ("NAME", "POD CIDRS"),
    "BGPPeer": ("NAME", "PEER", "AS", "NODE"),
    "BGPConfiguration": ("NAME", "AS", "MESH", "PORT"),
    "BGPFilter": ("NAME", "IMPORT IPV4", "IMPORT IPV6", "EXPORT IPV4", "EXPORT IPV6"),
}


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser("get", help="print resources", description="Print resources of the store.")
    parser.add_argument("kind", metavar="KIND", nargs="?", help=f"{arguments.KINDS_HELP}, or all")
    parser.add_argument("names", metavar="NAME", nargs="*", help="only these")
    arguments.add_files(parser)
    parser.add_argument("-o", dest="format", choices=("table", "yaml", "json"), default="table", help="default: table")
    arguments.add_store(parser)


def run(args: argparse.Namespace) -> int:
    """Print."""
    import asyncio

    if bool(args.kind) == bool(args.files):
        raise OperatorError("get: expected either KIND or -f FILE", hint="e.g. routed get nodes")
    kind = None if args.files or args.kind.lower() == "all" else arguments.kind(args.kind)
    if kind is None and args.names:
        raise OperatorError("get all: expected no NAME", hint="name a kind, e.g. routed get node a1")
    named = arguments.in_files(args.files) if args.files else [(kind, name) for name in args.names]
    every = asyncio.run(_read(arguments.store(args, create=False)))
    # what agents write is no manifest that could be applied again: `routed ipam show` tells of it
    chosen = (
        _named(every, named)
        if named
        else [each for each in every if each.kind == kind or (kind is None and each.kind != "BlockAffinity")]
    )
    if args.format == "table":
        print(_tables(chosen) or "no resources", end="\n")
        return 0
    from routed.manifest import write

    if len(named) == 1:
        print((write.to_yaml if args.format == "yaml" else write.to_json)(chosen[0]), end="")
    else:
        listed = write.list_to_yaml if args.format == "yaml" else write.list_to_json
        print(listed(f"{kind or ''}List", chosen), end="")
    return 0


async def _read(store: Store) -> tuple[AnyResource, ...]:
    from routed.store.resources import read_resources

    try:
        return await read_resources(store)
    finally:
        await store.close()


def _named(every: Sequence[AnyResource], named: Sequence[tuple[str | None, str]]) -> list[AnyResource]:
    there = {(resource.kind, resource.name): resource for resource in every}
    if missing := [f"{kind} {name}" for kind, name in named if (kind, name) not in there]:
        kinds = {kind for kind, _ in named}
        names = ", ".join(resource.name for resource in every if resource.kind in kinds)
        raise OperatorError(f"store: there is no {', '.join(missing)}", hint=f"there is: {names or 'none'}")
    return [there[kind, name] for kind, name in named if kind]


def _tables(resources: Sequence[AnyResource]) -> str:
    tables: list[str] = []
    for kind, header in _HEADERS.items():
        rows = [_row(resource) for resource in resources if resource.kind == kind]
        if rows:
            kinds = {resource.kind for resource in resources}
            title = "" if len(kinds) == 1 else output.colour(kind, "bold") + "\n"
            tables.append(title + output.table(header, rows))
    return "\n\n".join(tables)


def _row(resource: AnyResource) -> tuple[str, ...]:
    from routed.model.resources import (
        BGPConfiguration,
        BGPFilter,
        BGPPeer,
        BlockAffinity,
        IPAMConfiguration,
        IPPool,
        IPReservation,
        KubernetesNode,
        Namespace,
        Node,
    )

    match resource:
        case Node(spec=spec):
            as_number = "" if spec.bgp.as_number is None else str(spec.bgp.as_number)
            addresses = [address for address in (spec.bgp.ipv4_address, spec.bgp.ipv6_address) if address is not None]
            return resource.name, ", ".join(map(str, addresses)), as_number, ", ".join(map(str, spec.pod_cidrs))
        case IPPool(spec=spec):
            export = "no" if spec.disable_bgp_export else "yes"
            disabled = "yes" if spec.disabled else "no"
            return resource.name, str(spec.cidr), spec.ipip_mode, spec.vxlan_mode, disabled, export
        case BGPPeer(spec=spec):
            peer = f"nodes {spec.peer_selector}" if spec.peer_ip is None else str(spec.peer_ip)
            on = spec.node or ("every node" if spec.node_selector is None else f"nodes {spec.node_selector}")
            return resource.name, peer, "" if spec.as_number is None else str(spec.as_number), on
        case BGPFilter(spec=spec):
            numbers = (len(spec.import_v4), len(spec.import_v6), len(spec.export_v4), len(spec.export_v6))
            return resource.name, *map(str, numbers)
        case IPReservation(spec=spec):
            return resource.name, ", ".join(map(str, spec.reserved_cidrs))
        case IPAMConfiguration(spec=spec):
            most = str(spec.max_blocks_per_host) if spec.max_blocks_per_host else "no limit"
            strict, claims = (("yes" if each else "no") for each in (spec.strict_affinity, spec.auto_allocate_blocks))
            return resource.name, strict, most, claims
        case KubernetesNode(spec=spec):
            return resource.name, ", ".join(map(str, spec.stated))
        case Namespace(metadata=metadata):
            return resource.name, ", ".join(f"{name}={value}" for name, value in metadata.labels.items())
        case BGPConfiguration(spec=spec):
            mesh = "yes" if spec.node_to_node_mesh_enabled else "no"
            return resource.name, str(spec.as_number), mesh, str(spec.listen_port)
        case BlockAffinity(spec=spec):  # `routed ipam show` tells of it
            return resource.name, str(spec.cidr), spec.node, spec.state

"""`routed apply`: manifests into the store."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from routed.cli import arguments

if TYPE_CHECKING:
    from routed.cli.arguments import Subparsers
    from routed.manifest import Manifest
    from routed.store import Store
    from routed.store.resources import Change


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "apply",
        help="create or change resources, all of them or none",
        description="Create or change the resources of all files: all of them, or on any problem none.",
    )
    parser.add_argument(
        "-f", dest="files", metavar="FILE", action="extend", nargs="+", required=True, help="file, directory or -"
    )
    arguments.add_store(parser)


def run(args: argparse.Namespace) -> int:
    """Apply, and say what became of each resource."""
    import asyncio

    from routed.manifest import read_files

    manifests = read_files(args.files)  # before the store: a bad file must not even create it
    changes, warnings = asyncio.run(_apply(arguments.store(args, create=True), manifests))
    for change in changes:
        print(f"{change.kind} {change.name} {change.verb}")
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return 0


async def _apply(store: Store, manifests: list[Manifest]) -> tuple[list[Change], list[str]]:
    """What became of each, and what of them does nothing as things are."""
    from routed.errors import OperatorError
    from routed.manifest import locate
    from routed.model.adjacency import selects_nobody
    from routed.model.cluster import Cluster
    from routed.store.resources import ContradictionError, apply, read_resources

    try:
        changes = await apply(store, [manifest.resource for manifest in manifests])
        applied = {change.name for change in changes if change.kind == "BGPPeer"}
        cluster = Cluster.of(await read_resources(store)) if applied else Cluster()
        idle = {name: selects_nobody(cluster, peer) for name, peer in cluster.peers.items() if name in applied}
        return changes, [f"BGPPeer {name} makes no session yet: {why}" for name, why in sorted(idle.items()) if why]
    except ContradictionError as error:
        raise OperatorError(
            "\n".join(locate(problem, manifests) for problem in error.problems), hint="nothing was changed"
        ) from error
    finally:
        await store.close()

"""`routed apply`: manifests into the store."""

from __future__ import annotations

import argparse
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
    for change in asyncio.run(_apply(arguments.store(args, create=True), manifests)):
        print(f"{change.kind} {change.name} {change.verb}")
    return 0


async def _apply(store: Store, manifests: list[Manifest]) -> list[Change]:
    from routed.errors import OperatorError
    from routed.manifest import locate
    from routed.store.resources import ContradictionError, apply

    try:
        return await apply(store, [manifest.resource for manifest in manifests])
    except ContradictionError as error:
        raise OperatorError(
            "\n".join(locate(problem, manifests) for problem in error.problems), hint="nothing was changed"
        ) from error
    finally:
        await store.close()

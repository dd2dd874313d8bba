"""`routed delete`: resources out of the store."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from routed.cli import arguments
from routed.errors import OperatorError

if TYPE_CHECKING:
    from routed.cli.arguments import Subparsers
    from routed.store import Store
    from routed.store.resources import Change, Name


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "delete",
        help="delete resources, all of them or none",
        description="Delete the named resources, or those of the files: all of them, or on any problem none.",
    )
    parser.add_argument("kind", metavar="KIND", nargs="?", help=arguments.KINDS_HELP)
    parser.add_argument("names", metavar="NAME", nargs="*")
    arguments.add_files(parser)
    parser.add_argument("--ignore-not-found", action="store_true", help="what is not there is no error")
    arguments.add_store(parser)


def run(args: argparse.Namespace) -> int:
    """Delete, and say what became of each resource."""
    import asyncio

    names = _names(args)
    for change in asyncio.run(_delete(arguments.store(args, create=False), names, args.ignore_not_found)):
        print(f"{change.kind} {change.name} {change.verb}")
    return 0


def _names(args: argparse.Namespace) -> list[Name]:
    if args.files and not args.kind:
        return arguments.in_files(args.files)
    if args.kind and args.names and not args.files:
        kind = arguments.kind(args.kind)
        return [(kind, name) for name in dict.fromkeys(args.names)]
    raise OperatorError("delete: expected either KIND and NAME, or -f FILE", hint="e.g. routed delete node a1")


async def _delete(store: Store, names: list[Name], ignore_not_found: bool) -> list[Change]:
    from routed.store.resources import ContradictionError, delete

    try:
        return await delete(store, names, ignore_not_found=ignore_not_found)
    except ContradictionError as error:
        raise OperatorError(
            "\n".join(f"what remains would contradict itself: {problem}" for problem in error.problems),
            hint="nothing was deleted; delete or change those first, or in the same command with -f",
        ) from error
    finally:
        await store.close()

"""`routed replay FILE`: what a recorded agent decided, and why, without its network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from routed.cli.arguments import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "replay",
        help="what a recorded agent decided",
        description="Run the decisions of routed over the inputs that `routed agent --record FILE` wrote, and print "
        "them in their order: best paths, what the node needs, routes, each when it becomes another. Needs no network "
        "and no root; the same file gives the same output.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the recording")
    parser.add_argument("--final", action="store_true", help="only what was decided in the end")
    parser.add_argument("--json", action="store_true", help="the same for programs, an object a line")


def run(args: argparse.Namespace) -> int:
    """Print the decisions."""
    import msgspec

    from routed.agent.recording import lines
    from routed.agent.recording.replay import Decision, replay

    name = str(args.file)
    with args.file.open(encoding="utf-8", errors="replace") as file:
        decisions = replay(lines.decode(file, name), name)
        if args.final:
            last: dict[tuple[str, str], Decision] = {(each.what, each.subject): each for each in decisions}
            decisions = (each for _, each in sorted(last.items()) if each.text)
        for each in decisions:
            print(msgspec.json.encode(each).decode() if args.json else each)
    return 0

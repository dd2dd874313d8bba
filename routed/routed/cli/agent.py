"""`routed agent`: the daemon."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from routed.cli import arguments

if TYPE_CHECKING:
    from routed.cli.arguments import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "agent",
        help="run this node's agent in the foreground",
        description="Run this node's agent in the foreground. SIGTERM ends it and leaves the kernel's routes in place.",
        epilog="Every key of the configuration: docs/reference/configuration.md",
    )
    arguments.add_config(parser)
    parser.add_argument(
        "--record",
        type=Path,
        default=os.environ.get("ROUTED_RECORD") or None,
        metavar="FILE",
        help="write everything that decisions depend on there, for `routed replay FILE`; it grows all the time "
        "(default: $ROUTED_RECORD, if it is set)",
    )


def run(args: argparse.Namespace) -> int:
    """Run until a signal."""
    from routed.agent.main import run as run_agent

    return run_agent(arguments.config(args), args.record)

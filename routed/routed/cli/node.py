"""`routed node status|cleanup|install|uninstall`: one machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from routed.cli import arguments

if TYPE_CHECKING:
    from routed.cli.arguments import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Declare the commands."""
    node = subparsers.add_parser("node", help="look after this node: status, cleanup, install, uninstall")
    verbs = node.add_subparsers(dest="verb", metavar="VERB", required=True, title="verbs")

    status = verbs.add_parser("status", help="what the agent is doing: sessions, routes, problems")
    status.add_argument("--json", action="store_true", help="the same for programs")
    arguments.add_config(status)

    cleanup = verbs.add_parser(
        "cleanup",
        help="remove everything of routed from this node's kernel",
        description="Remove everything of routed from this node's kernel. The agent must be stopped, and you be root.",
    )
    arguments.add_config(cleanup)

    install = verbs.add_parser("install", help="write the service, its configuration and the CNI plugin")
    uninstall = verbs.add_parser("uninstall", help="remove what install wrote, where it was not changed since")
    for parser in (install, uninstall):
        parser.add_argument(
            "--root", type=Path, default=Path("/"), metavar="DIR", help="the tree to write into (default: /)"
        )
        parser.add_argument(
            "--bin-dir", type=Path, default=Path("/opt/cni/bin"), metavar="DIR", help="default: /opt/cni/bin"
        )
        parser.add_argument(
            "--conf-dir", type=Path, default=Path("/etc/cni/net.d"), metavar="DIR", help="default: /etc/cni/net.d"
        )


def run(args: argparse.Namespace) -> int:
    """Do what `args.verb` says."""
    match args.verb:
        case "status":
            from routed.cli.status import status

            return status(arguments.config(args), as_json=args.json)
        case "cleanup":
            from routed.cli.cleanup import cleanup

            return cleanup(arguments.config(args))
        case "install":
            from routed.cli.install import Layout, install

            return install(Layout(args.root, args.bin_dir, args.conf_dir))
        case _:
            from routed.cli.install import Layout, uninstall

            return uninstall(Layout(args.root, args.bin_dir, args.conf_dir))

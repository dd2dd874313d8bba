"""`routed node status|drain|undrain|cleanup|install|uninstall`: one machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from routed.cli import arguments

if TYPE_CHECKING:
    from routed.cli.arguments import Subparsers
    from routed.cli.drain import Target


def add_parser(subparsers: Subparsers) -> None:
    """Declare the commands."""
    node = subparsers.add_parser("node", help="look after a node: status, drain, undrain, cleanup, install, uninstall")
    verbs = node.add_subparsers(dest="verb", metavar="VERB", required=True, title="verbs")

    status = verbs.add_parser("status", help="what the agent is doing: sessions, routes, problems")
    status.add_argument("--json", action="store_true", help="the same for programs")
    arguments.add_config(status)

    drain = verbs.add_parser(
        "drain",
        help="take a node out of service without loss: lower its preference, wait, withdraw",
        description="Take a node out of service without loss: mark its paths (RFC 8326) so that others are preferred, "
        "wait, then withdraw them. It stays drained, through restarts and `routed apply`, until `routed node undrain`.",
    )
    drain.add_argument(
        "--wait", type=_seconds, default=30.0, metavar="SECONDS", help="between the two steps (default: 30)"
    )
    undrain = verbs.add_parser("undrain", help="put a drained node back into service")
    for parser in (drain, undrain):
        parser.add_argument("node", metavar="NODE", nargs="?", help="default: this machine's node")
        parser.add_argument("--json", action="store_true", help="the outcome for programs")
        arguments.add_store(parser)

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
        case "drain":
            from routed.cli.drain import drain

            return drain(_target(args), wait_seconds=args.wait, as_json=args.json)
        case "undrain":
            from routed.cli.drain import undrain

            return undrain(_target(args), as_json=args.json)
        case "cleanup":
            from routed.cli.cleanup import cleanup

            return cleanup(arguments.config(args))
        case "install":
            from routed.cli.install import Layout, install

            return install(Layout(args.root, args.bin_dir, args.conf_dir))
        case _:
            from routed.cli.install import Layout, uninstall

            return uninstall(Layout(args.root, args.bin_dir, args.conf_dir))


def _target(args: argparse.Namespace) -> Target:
    from routed.cli.drain import Target

    return Target(args.node or arguments.config(args).node, lambda: arguments.store(args, create=False))


def _seconds(text: str) -> float:
    """A span that a command can wait. Raises ValueError, which argparse tells."""
    seconds = float(text)
    if not 0 <= seconds <= _LONGEST_WAIT:
        raise ValueError(text)
    return seconds


_seconds.__name__ = "number of seconds"  # argparse: invalid ... value
_LONGEST_WAIT = 86400.0

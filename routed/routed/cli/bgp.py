"""`routed bgp status|routes`: what BGP knows on this node."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from routed.cli import arguments

if TYPE_CHECKING:
    from routed.cli.arguments import Subparsers

_TABLES = {
    "received": "as the peer sent them, with what became of each",
    "accepted": "as policy let them in",
    "advertised": "what the peer is told",
    "best": "all paths of the Loc-RIB; of a --peer, those that win",
}


def add_parser(subparsers: Subparsers) -> None:
    """Declare the commands."""
    bgp = subparsers.add_parser("bgp", help="what BGP knows on this node: status, routes")
    verbs = bgp.add_subparsers(dest="verb", metavar="VERB", required=True, title="verbs")

    status = verbs.add_parser("status", help="the sessions: state, prefixes, last error, graceful restart, BFD")

    routes = verbs.add_parser(
        "routes",
        help="routes, and why each path won or lost",
        description="Print routes, and why each path won or lost: > the best, = shares the traffic, x rejected.",
    )
    routes.add_argument(
        "prefix", metavar="PREFIX|ADDRESS", nargs="?", help="one prefix, or the longest that holds the address"
    )
    routes.add_argument("--peer", metavar="ADDRESS", help="of this peer; --received unless another table is named")
    tables = routes.add_mutually_exclusive_group()
    for table, text in _TABLES.items():
        tables.add_argument(f"--{table}", dest="table", action="store_const", const=table, help=text)
    routes.add_argument("--family", choices=("ipv4", "ipv6"), help="default: both")
    routes.add_argument("--limit", metavar="N", help="show no more than N routes (default: 1000)")
    for parser in (status, routes):
        parser.add_argument("--json", action="store_true", help="the same for programs")
        arguments.add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Do what `args.verb` says."""
    if args.verb == "status":
        from routed.cli.bgp_status import status

        return status(arguments.config(args), as_json=args.json)
    from routed.cli.bgp_routes import routes

    asked = {name: getattr(args, name) for name in ("prefix", "peer", "table", "family", "limit")}
    parameters = {name: value for name, value in asked.items() if value is not None}
    return routes(arguments.config(args), parameters, as_json=args.json)

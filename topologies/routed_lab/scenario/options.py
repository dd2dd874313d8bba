"""The options of `routed lab` about scenarios and pictures; what they do is in `command` and `drawing`."""

from __future__ import annotations

import argparse
from pathlib import Path


def drawing(parser: argparse.ArgumentParser) -> None:
    """Add --svg."""
    parser.add_argument(
        "--svg",
        type=Path,
        metavar="FILE",
        help="draw racks, sessions and the path of each pod pair, coloured by encapsulation, into FILE",
    )


def playing(parser: argparse.ArgumentParser, text: str) -> None:
    """Add SCENARIO, which `text` explains, and --report."""
    parser.add_argument("scenario", nargs="?", type=Path, metavar="SCENARIO", help=text)
    parser.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="where the scenario's report goes; default: NAME.report in the current directory",
    )

"""`routed COMMAND ...`: finds the command's module, runs it, and turns every error into a message and an exit status.

Exit status: 0 done; 1 an error, said on stderr; 2 usage; 130 interrupted; 141 the reader of our output went away.
A command's module has `add_parser(subparsers)` and `run(args)`; only the one that is called is imported, so that
`routed --help` and each command start fast.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, cast

from routed import __version__
from routed.cli import output
from routed.errors import RoutedError

if TYPE_CHECKING:
    from routed.cli.arguments import Subparsers

_COMMANDS = {  # name -> module, what it does
    "apply": ("routed.cli.apply", "create or change resources, all of them or none"),
    "get": ("routed.cli.get", "print resources"),
    "delete": ("routed.cli.delete", "delete resources, all of them or none"),
    "bgp": ("routed.cli.bgp", "what BGP knows on this node: status, routes"),
    "explain": ("routed.cli.explain", "how this node forwards to an address, and why"),
    "ipam": ("routed.cli.ipam", "who has which addresses: show, check, release, gc"),
    "node": ("routed.cli.node", "look after a node: status, drain, undrain, cleanup, install, uninstall"),
    "store": ("routed.cli.store", "look after the store: check, backup, restore, migrate"),
    "agent": ("routed.cli.agent", "run this node's agent in the foreground"),
    "replay": ("routed.cli.replay", "what a recorded agent decided (routed agent --record FILE)"),
    "lab": ("routed_lab.cli", "run a topology on this machine: up, check, exec, inspect, restart, down, run"),
}


class _Command(Protocol):
    """What a command's module offers."""

    def add_parser(self, subparsers: Subparsers) -> None: ...

    def run(self, args: argparse.Namespace) -> int: ...


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (default: the process') and return the exit status. Raises nothing."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = _run(argv)
        sys.stdout.flush()
    except SystemExit as usage:  # argparse has said what
        return usage.code if isinstance(usage.code, int) else 2
    except RoutedError as error:
        output.complain(error.message, error.hint)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _forget_stdout()
        return 141
    except OSError as error:
        output.complain(": ".join(str(part) for part in (error.filename, error.strerror or error) if part), None)
        return 1
    except Exception as error:  # the terminal gets a sentence, whatever happened
        if os.environ.get("ROUTED_TRACEBACK"):
            raise
        output.complain(
            f"internal error: {type(error).__name__}: {error}",
            "this is a defect of routed; ROUTED_TRACEBACK=1 in the environment shows where",
        )
        return 1
    return status


def _run(argv: list[str]) -> int:
    called = argv[0] if argv else ""
    parser = argparse.ArgumentParser(
        prog="routed", description="A BGP routing-mode network stack for containers.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"routed {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")
    command: _Command | None = None
    for name, (module, summary) in _COMMANDS.items():
        if name == called:
            command = cast("_Command", importlib.import_module(module))
            command.add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=summary)
    args = parser.parse_args(argv)
    assert command is not None  # parse_args left otherwise
    return command.run(args)


def _forget_stdout() -> None:
    """Let the interpreter's last flush go nowhere instead of failing again."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)

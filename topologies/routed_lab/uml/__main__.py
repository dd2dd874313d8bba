"""`python -m routed_lab.uml`: run a command under User-mode Linux."""

from __future__ import annotations

import argparse
import os
import sys

from routed.errors import RoutedError
from routed_lab.uml import outside

_DESCRIPTION = """\
Run CMD as root under a throw-away User-mode Linux kernel that has the IPIP driver, with its own streams, signals and
exit status.

CMD sees the machine's files with all its writes kept in memory, a /run, /dev, /proc and /sys of its own, and one
network device, lo. The machine sees nothing. Works for an ordinary user too, with the files that the user can read.
"""

_EPILOG = """\
Exit status: that of CMD (128 + N if signal N killed it); 124 timeout; 125 the kernel did not boot or died; 130
interrupted; 2 wrong use. Needs the Debian packages user-mode-linux and kmod. $ROUTED_UML names another kernel, one with
all drivers built in.
"""

_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def _memory(text: str) -> int:
    try:
        size = int(float(text[:-1]) * _UNITS[text[-1:].upper()])
    except (KeyError, ValueError):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a size, as 512M or 1G") from None
    if size < 64 << 20:
        raise argparse.ArgumentTypeError(f"{text}: a kernel needs at least 64M")
    return size


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of seconds above 0")
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m routed_lab.uml",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--modules", default="", metavar="M,M", help="kernel modules to load before CMD starts")
    parser.add_argument(
        "--rw", action="append", default=[], metavar="DIR", help="directory that CMD may really write to (repeatable)"
    )
    parser.add_argument(
        "--env", action="append", default=[], metavar="K[=V]", help="set, or pass on, a variable (repeatable)"
    )
    parser.add_argument("--cwd", metavar="DIR", help="working directory of CMD (default: this one)")
    parser.add_argument("--mem", type=_memory, default="1G", metavar="SIZE", help="memory, files included (default 1G)")
    parser.add_argument("--timeout", type=_seconds, metavar="S", help="seconds for everything, boot included")
    parser.add_argument("-i", "--stdin", action="store_true", help="pass stdin on (else CMD reads nothing)")
    parser.add_argument("-v", "--verbose", action="store_true", help="say when the kernel was ready and when it ended")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- CMD", help="the command and its arguments")
    return parser


def _environment(items: list[str]) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for item in items:
        name, given, value = item.partition("=")
        if given:
            chosen[name] = value
        elif name in os.environ:
            chosen[name] = os.environ[name]
    return chosen


def main(argv: list[str] | None = None) -> int:
    """Run the command that `argv` gives; return the exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    command: list[str] = options.command
    if command[:1] == ["--"]:
        del command[0]
    if not command:
        parser.error("no command given")
    boot = outside.Boot(
        command=tuple(command),
        modules=tuple(options.modules.replace(",", " ").split()),
        writable=tuple(options.rw),
        environment=_environment(options.env),
        directory=os.path.abspath(options.cwd or "."),  # noqa: PTH100  resolve() would follow links
        memory=options.mem,
        timeout=options.timeout,
        stdin=options.stdin,
        verbose=options.verbose,
    )
    try:
        return outside.run(boot)
    except RoutedError as error:
        print(f"routed uml: {error}", file=sys.stderr)
        return 125


if __name__ == "__main__":
    sys.exit(main())

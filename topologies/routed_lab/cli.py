"""`routed lab`: bring a topology up, check it, look into it, take it down.

Imports are where they are used: most commands only talk to a keeper, and need neither the parser nor the kernels.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from routed.errors import ConflictError, OperatorError, RoutedError
from routed_lab.scenario import options

if TYPE_CHECKING:
    from routed_lab.client import Client
    from routed_lab.place import Card
    from routed_lab.topology import Topology
    from routed_lab.wire import Checked, Row

_EPILOG = """\
A lab that is up stays up in the background until `routed lab down FILE`, whatever becomes of the terminal. On the host
kernel it needs root; on User-mode Linux (--kernel uml) it needs none, and changes nothing on the machine.
"""


_NODE_MEMORY = 128  # MiB of the lab's own kernel per node: the agent with its ExaBGP, or a router


class Subparsers(Protocol):
    """What `ArgumentParser.add_subparsers` returns; its own name is private."""

    def add_parser(
        self,
        name: str,
        *,
        help: str,  # noqa: A002  argparse's word
        description: str,
        epilog: str,
        formatter_class: type[argparse.HelpFormatter],
    ) -> argparse.ArgumentParser:
        """Add a command."""
        ...


def add_parser(subparsers: Subparsers) -> None:
    """Add the command `lab`, whose arguments `run` takes."""
    parser = subparsers.add_parser(
        "lab",
        help="run a containerlab topology of routers, nodes and pods on a real kernel",
        description="Run a containerlab topology of routers, nodes and pods on a real kernel.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_commands(parser)


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add the commands `up`, `check`, ... to the parser of `lab`."""
    commands = parser.add_subparsers(dest="lab_command", metavar="COMMAND", required=True)

    def command(name: str, text: str, *aliases: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, aliases=aliases, help=text, description=text[0].upper() + text[1:] + ".")
        added.add_argument("file", type=Path, metavar="FILE", help="the topology, *.clab.yml")
        return added

    def checking(added: argparse.ArgumentParser) -> None:
        added.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
        added.add_argument(
            "--without-tor",
            metavar="NODE",
            help="check with the session between NODE and its ToR taken down on the ToR",
        )

    def kernel(added: argparse.ArgumentParser, text: str) -> None:
        added.add_argument("--kernel", choices=("auto", "host", "uml"), default="auto", help=text)

    def variant(added: argparse.ArgumentParser) -> argparse.ArgumentParser:
        added.add_argument(
            "--resources",
            dest="variant",
            metavar="FILE",
            type=Path,
            action="extend",
            nargs="+",
            default=[],
            help="a variant: resources (file or directory) on top of those that the topology names",
        )
        return added

    where = "where to run it; auto (default): the host's if it has the drivers and we are root, else uml"
    up = command("up", "bring the lab up and leave it in the background", "deploy")
    kernel(variant(up), where)
    options.drawing(up)
    check = command("check", "ping every pod pair and compare what the wire carried with what the topology implies")
    checking(check)
    kernel(check, "refuse unless the lab runs there; auto (default): wherever it runs")
    execute = command("exec", "run a program in a node or pod")
    execute.add_argument("node", metavar="NODE", help="a node of the topology, or a pod as inspect calls it")
    execute.add_argument("argv", nargs=argparse.REMAINDER, metavar="CMD", help="the program and its arguments")
    shell = command("shell", "open a shell in a node or pod, on this terminal")
    shell.add_argument("node", metavar="NODE", help="a node of the topology, or a pod as inspect calls it")
    shell.add_argument("argv", nargs=argparse.REMAINDER, metavar="CMD", help="another program, such as vtysh")
    logs = command("logs", "print what the daemons of a node have logged")
    logs.add_argument("node", metavar="NODE", help="a node of the topology")
    logs.add_argument("-f", "--follow", action="store_true", help="go on with what they log, until Ctrl-C")
    command("validate", "read the topology and have each router read its configuration; nothing is made")
    inspect = command("inspect", "tell the nodes, the pods and the sessions of the routers")
    inspect.add_argument(
        "--json", action="store_true", help="print one JSON object, as containerlab does, and nothing else"
    )
    options.drawing(inspect)
    command("restart", "restart the daemon of a node, its kernel state untouched").add_argument("node", metavar="NODE")
    command("down", "take the lab down; nothing of it remains", "destroy")
    run_all = command("run", "bring the lab up, check it, play its scenario and take it down, even when interrupted")
    checking(run_all)
    kernel(variant(run_all), where)
    options.drawing(run_all)
    options.playing(run_all, "a scenario; default: the *.scenario.yml beside FILE, if there is one")
    run_all.add_argument("--no-scenario", action="store_true", help="check, and play no scenario")
    options.playing(command("play", "play a scenario in a lab that is up"), "default: the *.scenario.yml beside FILE")


def run(args: argparse.Namespace) -> int:
    """Do what `args` say and return the exit status: 0, 1 when a check failed, 130 when interrupted.

    `exec` returns that of its program. Raises RoutedError, whose text is fit for the terminal.
    """
    from routed_lab.topology import load

    file = args.file.absolute()
    try:
        topology = load(file, _variant(args))
    except OperatorError:
        if args.lab_command not in ("down", "destroy") or (lab := _up_from(file)) is None:
            raise
        return _down(lab, file)  # a lab that is up does not depend on what its file says by now
    try:
        match args.lab_command:
            case "up" | "deploy":
                return _up(topology, args)
            case "check":
                return _check(topology, args)
            case "exec":
                return _exec(topology, args)
            case "shell":
                return _shell(topology, args)
            case "logs":
                return _logs(topology, args)
            case "validate":
                return _validate(topology)
            case "inspect":
                return _inspect(topology, args)
            case "restart":
                return _restart(topology, args)
            case "play":
                return _play(topology, args)
            case "down" | "destroy":
                return _down(topology.name, file)
            case _:
                return _run(topology, args)
    except KeyboardInterrupt:
        return 130


def _variant(args: argparse.Namespace) -> tuple[str, ...]:
    return tuple(str(path.absolute()) for path in getattr(args, "variant", ()))


def _start(topology: Topology, args: argparse.Namespace, *, leashed: bool) -> tuple[Client, str]:
    """Choose the kernel and start the keeper; nothing is made before the choice is good."""
    from routed_lab import client, kernels, launch

    kernel = kernels.choose(args.kernel, topology.needs, kernels.this_machine())
    settings = launch.Settings(
        lab=topology.name,
        file=str(topology.path),
        kernel=kernel,
        needs=tuple(sorted(topology.needs)),
        memory=f"{max(2048, 512 + _NODE_MEMORY * len(topology.nodes))}M",
        leashed=leashed,
    )
    return client.Client(launch.start_keeper(settings)), kernel


def _raise(
    client: Client, topology: Topology, args: argparse.Namespace, kernel: str, absent: tuple[str, ...] = ()
) -> None:
    """Have the lab built, without the nodes `absent`; an interruption takes down what there is before it goes on."""
    from routed_lab import report, wire

    progress = report.Progress()
    request = wire.Up(
        id=client.new_id(),
        file=str(topology.path),
        variant=_variant(args),
        kernel="host" if kernel == "host" else "uml",
        environment=dict(topology.variables),
        absent=absent,
    )
    for warning in topology.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    try:
        client.call(request, progress)
    except RoutedError:
        progress.done()
        client.wait_end()
        raise
    except KeyboardInterrupt:
        _lower(client, topology.name)
        raise
    progress.done(f'lab "{topology.name}" is up, kernel {kernel}')


def _lower(client: Client, lab: str) -> None:
    from routed_lab import report, wire

    progress = report.Progress()
    progress(f'taking lab "{lab}" down')
    try:
        client.call(wire.Down(id=client.new_id()), progress)
    finally:
        progress.done()
    client.wait_end()
    progress.done(f'lab "{lab}" is down')


def _up(topology: Topology, args: argparse.Namespace) -> int:
    client, kernel = _start(topology, args, leashed=False)
    with client:
        _raise(client, topology, args, kernel)
        _draw(client, topology, args)
    return 0


def _draw(client: Client, topology: Topology, args: argparse.Namespace, rows: list[Row] | None = None) -> None:
    if args.svg is not None:
        from routed_lab import drawing

        drawing.draw(client, topology, args.svg, rows)


def _run(topology: Topology, args: argparse.Namespace) -> int:
    from routed_lab.scenario import command

    _known_node(topology, args.without_tor)
    if args.no_scenario or (args.without_tor is not None and args.scenario is None):
        scenario = None
    else:
        scenario = command.find(topology, args.scenario)
    directory = None if scenario is None else command.place(args.report, scenario.path)
    client, kernel = _start(topology, args, leashed=True)
    record = None
    with client:
        _raise(client, topology, args, kernel, () if scenario is None else scenario.absent)
        try:
            checked = _ask_check(client, args)
            _draw(client, topology, args, checked.rows)
            if scenario is not None and directory is not None:
                record = command.play(client, topology, scenario.path, directory)
        finally:
            _lower(client, topology.name)
    status = _show(checked, args)
    if record is not None and directory is not None:
        command.show(record, directory)
        status = status or int(not record.passed)
    return status


def _play(topology: Topology, args: argparse.Namespace) -> int:
    from routed_lab.scenario import command, load

    scenario = command.find(topology, args.scenario)
    if scenario is None:
        raise OperatorError(
            f"{topology.path} has no scenario beside it",
            hint=f"name one, or write {load.beside(topology.path)}: see docs/reference/scenarios.md",
        )
    directory = command.place(args.report, scenario.path)
    client, _ = _connect(topology)
    with client:
        record = command.play(client, topology, scenario.path, directory)
    command.show(record, directory)
    return int(not record.passed)


def _check(topology: Topology, args: argparse.Namespace) -> int:
    _known_node(topology, args.without_tor)
    client, card = _connect(topology)
    with client:
        if args.kernel not in ("auto", card.kernel):
            raise OperatorError(
                f'lab "{card.lab}" runs on kernel {card.kernel}, not on {args.kernel}',
                hint=f"leave --kernel out, or take the lab down and up again: routed lab down {card.file}",
            )
        return _show(_ask_check(client, args), args)


def _known_node(topology: Topology, name: str | None) -> None:
    names = [node.name for node in topology.members]
    if name is not None and name not in names:
        raise OperatorError(
            f"--without-tor {name}: {topology.path} has no node of that name that runs pods",
            hint=f"name one of {', '.join(names)}",
        )


def _ask_check(client: Client, args: argparse.Namespace) -> Checked:
    import msgspec

    from routed_lab import report, wire

    progress = report.Progress()
    try:
        value = client.call(wire.Check(id=client.new_id(), without_tor=args.without_tor), progress)
    finally:
        progress.done()
    return msgspec.convert(value, wire.Checked)


def _show(checked: Checked, args: argparse.Namespace) -> int:
    import msgspec

    from routed_lab import report

    if args.json:
        sys.stdout.write(msgspec.json.encode(checked.summary).decode() + "\n")
    else:
        sys.stdout.write(report.table(checked) + "\n")
    sys.stdout.flush()
    return 0 if report.passed(checked) else 1


def _connect(topology: Topology) -> tuple[Client, Card]:
    from routed_lab import client

    return client.connect(topology.name, str(topology.path))


def _exec(topology: Topology, args: argparse.Namespace) -> int:
    argv: list[str] = args.argv
    if argv[:1] == ["--"]:
        del argv[0]
    if not argv:
        raise OperatorError("no program given", hint="routed lab exec FILE NODE CMD [ARGUMENT...]")
    client, _ = _connect(topology)
    with client:
        return client.execute(args.node, argv)


def _shell(topology: Topology, args: argparse.Namespace) -> int:
    argv: list[str] = args.argv[1:] if args.argv[:1] == ["--"] else args.argv
    client, _ = _connect(topology)
    with client:
        return client.shell(args.node, argv or ["sh", "-c", "exec bash || exec sh"])


def _logs(topology: Topology, args: argparse.Namespace) -> int:
    client, _ = _connect(topology)
    with client:
        return client.logs(args.node, follow=args.follow)


def _validate(topology: Topology) -> int:
    from routed_lab.runner.validation import validate

    validate(topology)
    counts = f"{len(topology.nodes)} nodes, {len(topology.links)} links, {len(topology.pods)} pods"
    print(f"{topology.path} is valid: {counts}")
    return 0


def _inspect(topology: Topology, args: argparse.Namespace) -> int:
    from routed_lab import report, wire

    client, card = _connect(topology)
    with client:
        progress = report.Progress()
        try:
            value = client.call(wire.Inspect(id=client.new_id()), progress)
        finally:
            progress.done()
        _draw(client, topology, args)
    if args.json:
        sys.stdout.write(json.dumps(report.containers(value, card)) + "\n")
    else:
        print(f'lab "{card.lab}" is up since {card.started}, kernel {card.kernel}, from {card.file}')
        sys.stdout.write(report.outline(value))
    return 0


def _restart(topology: Topology, args: argparse.Namespace) -> int:
    from routed_lab import report, wire

    client, _ = _connect(topology)
    with client:
        progress = report.Progress()
        try:
            client.call(wire.Restart(id=client.new_id(), node=args.node), progress)
        finally:
            progress.done()
        progress.done(f"the daemon of {args.node} is up again")
    return 0


def _up_from(file: Path) -> str | None:
    from routed_lab import client

    return client.up_from(str(file))


def _down(lab: str, file: Path) -> int:
    import os

    from routed_lab import client, launch

    try:
        connection, _ = client.connect(lab, str(file))
    except ConflictError:
        raise
    except OperatorError:
        client.forget(lab)
        if os.geteuid() == 0:  # a lab on the host kernel whose keeper was killed has left its namespaces
            launch.sweep(lab, launch.RUNNER)
        print(f'lab "{lab}" is not up', file=sys.stderr)
        return 0
    with connection:
        _lower(connection, lab)
    return 0


def main(argv: list[str] | None = None) -> int:
    """`python -m routed_lab`: the same as `routed lab`."""
    parser = argparse.ArgumentParser(prog="python -m routed_lab", epilog=_EPILOG)
    add_commands(parser)
    try:
        return run(parser.parse_args(argv))
    except RoutedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1

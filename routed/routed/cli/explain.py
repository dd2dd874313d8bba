"""`routed explain ADDRESS`: from the path that won to what the kernel does, and whether the two agree."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from routed.cli import agent_client, arguments, output
from routed.errors import EnvironmentFault
from routed.netlink.constants import RT_TABLE_MAIN

if TYPE_CHECKING:
    from routed.cli.arguments import Subparsers

_ENCAPSULATIONS = {
    "direct": "direct",
    "ipip": "through an IPIP tunnel",
    "vxlan": "through a VXLAN tunnel",
    "local": "to a pod of this node",
    "blackhole": "nowhere: no pod has it",
    "unreachable": "nowhere",
}


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "explain",
        help="how this node forwards to an address, and why",
        description="Say how this node forwards to an address: which path won and why, direct or tunnel and why, which "
        "device and next hop, and what the kernel says. Exit status 1 if the kernel does otherwise, or nothing.",
    )
    parser.add_argument("address", metavar="ADDRESS", help="an address, e.g. of a pod")
    parser.add_argument(
        "--from", dest="source", metavar="POD", help="packets of this pod: its name, address, container ID or interface"
    )
    parser.add_argument("--json", action="store_true", help="the same for programs")
    arguments.add_config(parser)


class Hop(msgspec.Struct):
    """A next hop; without gateway the address is on the link."""

    device: str
    gateway: str | None = None

    def __str__(self) -> str:
        return f"{self.device} via {self.gateway}" if self.gateway else self.device


class Kernel(msgspec.Struct):
    """The kernel's word: `outcome` is unicast, local, or why the packet goes nowhere; `taken` is this packet's hop."""

    outcome: str
    prefix: str | None = None
    protocol: int = 0
    metric: int = 0
    table: int = RT_TABLE_MAIN
    next_hops: list[Hop] = []
    taken: Hop | None = None
    source: str | None = None

    def __str__(self) -> str:
        if self.prefix is None:
            return self.outcome
        said = "" if self.outcome == "unicast" else f"{self.outcome} "
        route = f"{said}{self.prefix} proto {self.protocol} metric {self.metric}"
        if self.table != RT_TABLE_MAIN:
            route += f" table {self.table}"
        if self.taken is not None:
            route += f", this packet by {self.taken}" if len(self.next_hops) > 1 else f", {self.taken}"
        return route + (f", source {self.source}" if self.source else "")


class Decision(msgspec.Struct):
    """What was decided, for the longest prefix that holds the address."""

    prefix: str
    encapsulation: str
    because: str
    next_hops: list[Hop] = []
    programmed: bool = True


class Pod(msgspec.Struct):
    """Where the packets come from."""

    address: str
    container_id: str = ""
    host_interface: str = ""


class Path(msgspec.Struct):
    """A path of the Loc-RIB, and why it won or lost."""

    next_hop: str
    peer: str
    best: bool = False
    multipath: bool = False
    reason: str = ""


class Answer(msgspec.Struct, rename={"source": "from"}):
    """The answer of /explain. Fields of a later version are ignored, absent ones are empty."""

    node: str
    address: str
    kernel: Kernel
    agrees: bool
    forwarded: bool
    conclusion: str
    hint: str = ""
    source: Pod | None = None
    pool: str | None = None
    owner: str | None = None
    learned: str | None = None
    paths: list[Path] = []
    decision: Decision | None = None
    outer: Kernel | None = None


def run(args: argparse.Namespace) -> int:
    """Print the answer. Raises EnvironmentFault when no agent answers, after what the kernel alone says."""
    config = arguments.config(args)
    asked = {"address": args.address, **({"from": args.source} if args.source else {})}
    try:
        body = agent_client.fetch(config.health_port, "/explain", asked)
    except EnvironmentFault:
        if not args.json and not args.source:
            print("\n".join(_without_agent(args.address)))
        raise
    answer = agent_client.read(body, Answer, port=config.health_port)
    if args.json:
        sys.stdout.write(agent_client.formatted(body))
    else:
        print("\n".join(render(answer)))
    return 0 if answer.agrees and answer.forwarded else 1


def _without_agent(address: str) -> Iterator[str]:
    from routed.agent.explain import kernel_json
    from routed.agent.explainer import ask_kernel, parse

    answer = msgspec.convert(kernel_json(ask_kernel(parse(address))), Kernel)
    yield f"{address} on this machine, as far as the kernel alone can say"
    yield _line("kernel", str(answer))


def render(answer: Answer) -> Iterator[str]:
    """The answer for a person, line by line."""
    decision = answer.decision
    of = f" from pod {answer.source.address} ({answer.source.container_id})" if answer.source else ""
    yield output.colour(f"{answer.address}{of} on node {answer.node}", "bold")
    block = f"block of node {answer.owner}" if answer.owner else "in no node's block"
    yield _line("address", f"pool {answer.pool}, {block}" if answer.pool else "in no pool")
    yield _line("learned", answer.learned or "no path")
    for path in answer.paths:
        mark = ">" if path.best else "=" if path.multipath else " "
        yield _line("", f"{mark} via {path.next_hop} from {path.peer}: {path.reason}")
    if decision is not None:
        way = _ENCAPSULATIONS.get(decision.encapsulation, decision.encapsulation)
        hops = " and ".join(map(str, decision.next_hops))
        yield _line("decision", f"{decision.prefix} {way}" + (f", {hops}" if hops else ""))
        yield _line("because", decision.because + ("" if decision.programmed else "; not programmed"))
    yield _line("kernel", str(answer.kernel))
    if answer.outer is not None:
        yield _line("tunnel", f"its packets go by {answer.outer}")
    good = answer.agrees and answer.forwarded
    colour = "green" if good else "yellow" if answer.agrees else "red"
    yield _line("so", output.colour(answer.conclusion, colour))
    if answer.hint:
        yield _line("hint", answer.hint)


def _line(name: str, text: str) -> str:
    return f"  {name:<10} {text}".rstrip()

"""`routed ipam show|check|release|gc`: who has which addresses, whether that fits together, and giving back."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from routed.cli import arguments, output
from routed.errors import ConflictError, OperatorError

if TYPE_CHECKING:
    from routed.cli.arguments import Subparsers
    from routed.ipam.collect import Giving, Owner, Suspects
    from routed.ipam.survey import BlockUse, PoolUse, Survey
    from routed.model.address import AnyAddress
    from routed.store import Store

T = TypeVar("T")
_WIDTH = 20  # of a bar


def add_parser(subparsers: Subparsers) -> None:
    """Declare the commands."""
    ipam = subparsers.add_parser("ipam", help="who has which addresses: show, check, release, gc")
    verbs = ipam.add_subparsers(dest="verb", metavar="VERB", required=True, title="verbs")
    show = verbs.add_parser("show", help="how full pools and blocks are, or who has an address")
    show.add_argument("addresses", metavar="ADDRESS", nargs="*", help="who has these")
    check = verbs.add_parser("check", help="whether everything fits together; exit status 1 if an address is in danger")
    release = verbs.add_parser(
        "release",
        help="take addresses back that nobody uses",
        description="Take addresses back that nobody uses. Those of a node that is there go with their pods.",
    )
    release.add_argument("addresses", metavar="ADDRESS", nargs="*", help="these")
    release.add_argument("--handle", metavar="HANDLE", help="all that HANDLE holds")
    release.add_argument("--force", action="store_true", help="also of a node that is there")
    gc = verbs.add_parser(
        "gc",
        help="take back what nobody uses: what nodes had that are gone, and leaks of this node",
        description="Take back what nobody uses: addresses and blocks of nodes that are gone, and addresses of this "
        "node whose pod interfaces are gone, as its agent sees it. It is looked at twice, and what changed in between "
        "stays.",
    )
    gc.add_argument("--grace", type=_seconds, default=60.0, metavar="SECONDS", help="between the looks (default: 60)")
    gc.add_argument("--dry-run", action="store_true", help="look once, and only say what is there")
    for parser in (show, check, release, gc):
        parser.add_argument("--json", action="store_true", help="the same for programs")
        arguments.add_store(parser)


def run(args: argparse.Namespace) -> int:
    """Do what the verb says."""
    return {"show": _show, "check": _check, "release": _release, "gc": _gc}[args.verb](args)


def _show(args: argparse.Namespace) -> int:
    from routed.ipam.survey import usage

    survey = _with(args, _survey)
    if args.addresses:
        return _show_addresses(survey, [_address(word) for word in args.addresses], as_json=args.json)
    pools = usage(survey)
    if args.json:
        print(json.dumps({"pools": [_as_told(pool) for pool in pools]}))
    else:
        print("\n\n".join(_picture(pool) for pool in pools) or "no IPPool")
    return 0


def _show_addresses(survey: Survey, addresses: Sequence[AnyAddress], *, as_json: bool) -> int:
    told: list[dict[str, Any]] = []
    for address in addresses:
        block = next((block for block in survey.blocks.values() if address in block.cidr), None)
        ordinal = int(address) - int(block.cidr.network_address) if block is not None else 0
        held = block.allocations.get(ordinal) if block is not None else None
        one: dict[str, Any] = {"address": str(address), "block": str(block.cidr) if block is not None else None}
        if block is not None and held is not None:
            one |= {"node": block.node_of(ordinal), "handle": held.handle, "attributes": dict(held.attributes)}
            one |= {"since": held.since}
        told.append(one)
    if as_json:
        print(json.dumps({"addresses": told}))
        return 0
    for one in told:
        if "handle" not in one:
            print(f"{one['address']} is free" + (f" in block {one['block']}" if one["block"] else ", and in no block"))
            continue
        age = f", for {output.duration(time.time() - one['since'])}" if one["since"] else ""
        print(f"{one['address']} is held by {one['handle']} on node {one['node']}{age}, of block {one['block']}")
        for name, value in one["attributes"].items():
            print(f"  {name}: {value}")
    return 0


def _check(args: argparse.Namespace) -> int:
    from routed.ipam.survey import findings

    survey = _with(args, _survey)
    found = findings(survey)
    harmful = any(each.harmful for each in found)
    if args.json:
        told = [{"where": each.where, "what": each.what, "harmful": each.harmful} for each in found]
        print(json.dumps({"clean": not harmful, "findings": told}))
        return int(harmful)
    for each in found:
        mark = output.colour("error", "red") if each.harmful else output.colour("note", "yellow")
        print(f"{mark}: {each.where}: {each.what}")
    count = sum(1 for _ in survey.holders())
    if not harmful:
        print(output.colour("clean", "green") + f": {len(survey.blocks)} blocks, {count} addresses in use")
    return int(harmful)


def _release(args: argparse.Namespace) -> int:
    from routed.ipam.collect import release

    if bool(args.addresses) == bool(args.handle):
        raise OperatorError(
            "ipam release: expected either addresses or --handle", hint="e.g. routed ipam release 10.1.0.7"
        )
    wanted = {_address(word) for word in args.addresses}

    async def work(store: Store) -> list[AnyAddress]:
        survey = await _survey(store)
        there = {address: (node, handle) for address, node, handle in survey.holders()}
        chosen = wanted or {address for address, (_, handle) in there.items() if handle == args.handle}
        if missing := sorted(map(str, chosen - there.keys())):
            raise OperatorError(
                f"{', '.join(missing)} is not in use", hint="`routed ipam show ADDRESS` tells who has it"
            )
        if not chosen:
            raise OperatorError(f"--handle {args.handle}: holds no address", hint="`routed ipam show` lists blocks")
        alive = sorted({node for node, _ in map(there.__getitem__, chosen)} & survey.cluster.nodes.keys())
        if alive and not args.force:
            raise ConflictError(
                f"node {alive[0]} is there, and may use the address",
                hint="delete the pod; with --force the address is taken back although a pod may still have it",
            )
        await _give(store, release(survey, chosen, time.time()))
        return sorted(chosen, key=lambda address: (address.version, address))

    given = _with(args, work)
    print(json.dumps({"released": list(map(str, given))}) if args.json else f"released {', '.join(map(str, given))}")
    return 0


def _gc(args: argparse.Namespace) -> int:
    from routed.ipam.collect import suspects

    first = suspects(_with(args, _survey), _leaks(args))
    if not first or args.dry_run:
        _tell_gc(first, "would be given back" if first else "nothing to give back", as_json=args.json)
        return 0
    if not args.json:
        count = f"{len(first.handles)} handles and {len(first.claims)} blocks that nobody uses"
        print(f"{count}: looking again in {output.duration(args.grace)}", file=sys.stderr, flush=True)
    time.sleep(args.grace)
    again = _leaks(args)
    confirmed = _with(args, lambda store: _collect(store, first, again))
    _tell_gc(confirmed, "given back" if confirmed else "nothing to give back", as_json=args.json)
    return 0


def _leaks(args: argparse.Namespace) -> frozenset[Owner]:
    """Node and handle of what this machine's agent, if one runs here, sees without an interface."""
    from routed.cli.agent_leaks import leaks

    try:
        port = arguments.config(args).health_port
    except OperatorError:  # the store was named, so that no configuration is needed
        return frozenset()
    return leaks(port)


async def _collect(store: Store, first: Suspects, leaks: frozenset[Owner]) -> Suspects:
    from routed.ipam.collect import collect, release, suspects

    survey = await _survey(store)
    confirmed = first.confirmed_by(suspects(survey, leaks))
    for owner, each in confirmed.handles.items():
        if owner[0] in survey.cluster.nodes:
            survey = await _survey(store)
            if suspects(survey, leaks).handles.get(owner) == each:
                await _give(store, release(survey, [address for address, _ in each.addresses], time.time()))
    nodes = {node for node, _ in confirmed.handles} - survey.cluster.nodes.keys()
    nodes |= {claim.node for cidr in confirmed.claims if (claim := survey.claim(cidr)) is not None}
    for node in sorted(nodes):
        survey = await _survey(store)
        giving = collect(survey, node, confirmed.confirmed_by(suspects(survey)), time.time())
        if giving is not None:
            await _give(store, giving)
    return confirmed


def _tell_gc(found: Suspects, said: str, *, as_json: bool) -> None:
    addresses = sorted({str(address) for each in found.handles.values() for address, _ in each.addresses})
    blocks = sorted(map(str, found.claims))
    if as_json:
        print(json.dumps({"addresses": addresses, "blocks": blocks}))
    elif not found:
        print(said)
    else:
        for (node, handle), each in sorted(found.handles.items()):
            listed = ", ".join(sorted(str(address) for address, _ in each.addresses))
            print(f"{listed} of {handle} on node {node}")
        print(f"{len(addresses)} addresses and {len(blocks)} blocks {said}")


async def _give(store: Store, giving: Giving) -> None:
    from routed.ipam.block import encode
    from routed.store import Compare, Delete, Put

    done = await store.txn(
        [Compare(key, at) for key, at in giving.compares.items()],
        [*(Put(key, encode(block)) for key, block in giving.puts.items()), *map(Delete, sorted(giving.deletes))],
    )
    if not done.succeeded:
        raise ConflictError("store: addresses were given or taken back at the same moment", hint="try again")


async def _survey(store: Store) -> Survey:
    from routed.ipam.survey import EVERYTHING, Survey

    found = await store.range(EVERYTHING)
    return Survey.of([(item.key, item.value, item.mod_revision) for item in found.items])


def _with(args: argparse.Namespace, work: Callable[[Store], Awaitable[T]]) -> T:
    async def main() -> T:
        store = arguments.store(args, create=False)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(main())


def _picture(pool: PoolUse) -> str:
    if not pool.name:
        title = output.colour("in no pool", "bold")
    else:
        off = ", disabled" if pool.disabled else ""
        addresses = f"{pool.used} of {_number(pool.usable)} addresses"
        blocks = f"{len(pool.blocks)} of {_number(pool.most)} blocks of /{pool.block_length}"
        bar = _bar(pool.used, pool.usable)
        title = f"{output.colour(pool.name, 'bold')}  {pool.cidr}{off}  {bar} {addresses}, {blocks}"
    if not pool.blocks:
        return title
    rows = [(str(each.cidr), each.node, each.state, _use(each), _lent(each)) for each in pool.blocks]
    return f"{title}\n" + output.table(("BLOCK", "NODE", "STATE", "IN USE", "LENT TO"), rows)


def _use(block: BlockUse) -> str:
    return f"{_bar(block.used, block.usable)} {block.used}/{_number(block.usable)}"


def _lent(block: BlockUse) -> str:
    return ", ".join(f"{node} ({count})" for node, count in sorted(block.lent.items()))


def _bar(used: int, usable: int) -> str:
    """Never empty while something is in use, never full while something is free."""
    full = _WIDTH * used // usable if usable else 0
    full = max(full, 1) if used else full
    return "[" + "#" * full + "." * (_WIDTH - full) + "]"


def _number(count: int) -> str:
    return str(count) if count < 10_000_000 else f"2^{count.bit_length() - 1}"


def _as_told(pool: PoolUse) -> dict[str, Any]:
    blocks = [
        {"cidr": str(each.cidr), "node": each.node, "state": each.state, "used": each.used, "usable": each.usable,
         "lent": dict(each.lent)}
        for each in pool.blocks
    ]  # fmt: skip
    return {
        "name": pool.name, "cidr": str(pool.cidr), "disabled": pool.disabled, "blockSize": pool.block_length,
        "used": pool.used, "usable": pool.usable, "mostBlocks": pool.most, "blocks": blocks,
    }  # fmt: skip


def _address(word: str) -> AnyAddress:
    from ipaddress import ip_address

    try:
        return ip_address(word)
    except ValueError:
        raise OperatorError(f"{word!r} is no address", hint="e.g. 10.244.0.7 or fd00::7") from None


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: expected 0 to 86400 seconds")
    return value

"""`routed store check|backup|restore|migrate`: the store as a whole."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from routed.cli import arguments, output
from routed.errors import ConflictError, OperatorError

if TYPE_CHECKING:
    from routed.cli.arguments import Subparsers
    from routed.cli.store_audit import Audit
    from routed.store import Store
    from routed.store.transfer import Content, Transfer

T = TypeVar("T")


def add_parser(subparsers: Subparsers) -> None:
    """Declare the commands."""
    store = subparsers.add_parser("store", help="look after the store: check, backup, restore, migrate")
    verbs = store.add_subparsers(dest="verb", metavar="VERB", required=True, title="verbs")

    check = verbs.add_parser(
        "check",
        help="read everything and say what is wrong",
        description="Read everything in the store, and ask the backend how it is. Exit status 1 if anything is wrong.",
    )
    backup = verbs.add_parser(
        "backup",
        help="write everything to a file",
        description="Write everything in the store, as of one moment, to a new file. Agents may go on meanwhile.",
    )
    backup.add_argument("file", metavar="FILE", type=Path, help="a file that is not there yet")
    restore = verbs.add_parser(
        "restore",
        help="make the store hold what a file has",
        description="Make the store hold what a file of `routed store backup` has. Stop the agents first: what they "
        "gave to pods since the backup was made is not in it.",
    )
    restore.add_argument("file", metavar="FILE", type=Path)
    migrate = verbs.add_parser(
        "migrate",
        help="copy everything from one store to another",
        description="Copy everything from one store to another, and compare afterwards. Stop the agents first; then "
        "name the new store in their configuration. The old one is left as it is.",
    )
    migrate.add_argument("--from", dest="source", metavar="URL", required=True)
    migrate.add_argument("--to", dest="target", metavar="URL", required=True)
    for parser in (restore, migrate):
        parser.add_argument(
            "--replace", action="store_true", help="drop what the target holds already (else it has to be empty)"
        )
    for parser in (check, backup, restore):
        arguments.add_store(parser)
    for parser in (check, backup, restore, migrate):
        parser.add_argument("--json", action="store_true", help="the outcome for programs")


def run(args: argparse.Namespace) -> int:
    """Do what `args.verb` says."""
    match args.verb:
        case "check":
            return _check(arguments.store(args, create=False), as_json=args.json)
        case "backup":
            return _backup(arguments.store(args, create=False), args.file, as_json=args.json)
        case "restore":
            return _restore(arguments.store(args, create=True), args.file, replace=args.replace, as_json=args.json)
        case _:
            return _migrate(args.source, args.target, replace=args.replace, as_json=args.json)


def _check(store: Store, *, as_json: bool) -> int:
    from routed.cli.store_audit import audit
    from routed.store.transfer import UNFINISHED

    async def look() -> tuple[int, Audit, list[str]]:
        from routed.store.transfer import ROOT

        found = await store.range(ROOT)
        values = {item.key: item.value for item in found.items}
        half = ["a restore or migration was not finished: run it again with --replace"] if UNFINISHED in values else []
        return found.revision, audit(values), [*await store.check(), *half]

    revision, audited, wrong = _done(store, look)
    problems = [*wrong, *audited.problems]
    if as_json:
        print(json.dumps({"revision": revision, "keys": audited.counts, "problems": problems}))
        return 1 if problems else 0
    counts = [(name, str(number)) for name, number in audited.counts.items()]
    print(output.table(("KEYS", "NUMBER"), counts) if counts else "the store is empty")
    print(f"revision {revision}, {len(problems) or 'no'} problem{'' if len(problems) == 1 else 's'}")
    for problem in problems:
        output.complain(problem, None)
    return 1 if problems else 0


def _backup(store: Store, file: Path, *, as_json: bool) -> int:
    from routed.files import write_whole
    from routed.store.backup import encode
    from routed.store.transfer import take

    if file.exists():
        raise OperatorError(f"{file}: is there already", hint="name a new file; a backup is never overwritten")
    content = _done(store, lambda: take(store))
    if not content.values:
        raise OperatorError("store: is empty; there is nothing to back up", hint="check --store")
    write_whole(file, encode(content.values, content.revision, datetime.now(UTC)), 0o600)  # it may hold passwords
    keys = len(content.values)
    _tell(
        as_json,
        {"file": str(file), "revision": content.revision, "keys": keys},
        f"{keys} keys of revision {content.revision} written to {file}",
    )
    return 0


def _restore(store: Store, file: Path, *, replace: bool, as_json: bool) -> int:
    from routed.cli.store_audit import audit
    from routed.store.backup import decode
    from routed.store.transfer import Content, put

    values, revision = decode(file.read_bytes(), str(file))
    for problem in audit(values).problems:  # the file is as it was written: so was the store
        print(f"warning: {file}: {problem}", file=sys.stderr)
    _told(_done(store, lambda: put(store, Content(revision, values), replace=replace)), as_json)
    return 0


def _migrate(source_url: str, target_url: str, *, replace: bool, as_json: bool) -> int:
    from routed.store.url import open_store

    async def copy() -> Transfer:
        source = open_store(source_url, create=False)
        try:
            content = await _some(source, source_url)
            target = open_store(target_url)
            try:
                return await _copied(source, target, content, replace)
            finally:
                await target.close()
        finally:
            await source.close()

    if source_url == target_url:
        raise OperatorError(f"migrate: --from and --to are both {source_url}", hint="name two stores")
    _told(asyncio.run(copy()), as_json)
    if not as_json:
        print(f"next: set `store` to {target_url} for every agent and start them; {source_url} is as it was")
    return 0


async def _some(source: Store, url: str) -> Content:
    from routed.store.transfer import take

    content = await take(source)
    if not content.values:
        raise OperatorError(f"store: {url} is empty; there is nothing to migrate", hint="check --from")
    return content


async def _copied(source: Store, target: Store, content: Content, replace: bool) -> Transfer:
    from routed.store.transfer import put, take

    done = await put(target, content, replace=replace)
    if (await take(target)).values != content.values:
        raise ConflictError(
            "store: the target is not what was copied to it: others change it",
            hint="stop every agent that uses it, then migrate again with --replace",
        )
    if (await take(source)).values != content.values:
        raise ConflictError(
            "store: the source was changed while it was copied",
            hint="stop every agent that uses it, then migrate again with --replace",
        )
    return done


def _told(done: Transfer, as_json: bool) -> None:
    _tell(
        as_json,
        {"written": done.written, "deleted": done.deleted, "unchanged": done.unchanged},
        f"{done.written} keys written, {done.deleted} deleted, {done.unchanged} were right already",
    )


def _tell(as_json: bool, facts: dict[str, Any], sentence: str) -> None:
    sys.stdout.write((json.dumps(facts) if as_json else sentence) + "\n")


def _done(store: Store, work: Callable[[], Awaitable[T]]) -> T:
    async def main() -> T:
        try:
            return await work()
        finally:
            await store.close()

    return asyncio.run(main())

"""The embedded store's file: a SQLite database, used by many processes at once. `sqlite` gives it to asyncio.

    kv     key -> value, create_revision, mod_revision    what is
    event  (revision, ordinal) -> key, value or NULL      what happened, the last `keep` revisions
    head   the one row: revision, compacted               where we are, and up to where events are gone

Write-ahead log with synchronous=FULL: readers never wait for a writer, and what was acknowledged survives a power cut.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

from routed.errors import EnvironmentFault, OperatorError, RoutedError
from routed.store import CompactedError, Compare, Delete, Event, KeyValue, Put, Range, Txn, refuse_repeated

APPLICATION_ID = 0x726F7574  # "rout", in the file's header (https://www.sqlite.org/fileformat.html, offset 68)
SCHEMA_VERSION = 1
_COMPACT_EVERY = 64  # revisions; deleting in batches keeps the single write short
_EVENTS_PER_READ = 1024  # revisions; bounds the memory of a watch that starts far back

_SCHEMA = (
    """CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB NOT NULL, create_revision INTEGER NOT NULL,
       mod_revision INTEGER NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE event (revision INTEGER NOT NULL, ordinal INTEGER NOT NULL, key TEXT NOT NULL, value BLOB,
       PRIMARY KEY (revision, ordinal)) WITHOUT ROWID""",
    """CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL,
       compacted INTEGER NOT NULL)""",
    "INSERT INTO head VALUES (1, 0, 0)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)

Transactions: TypeAlias = tuple[tuple[Event, ...], ...]
"""Events in order, those of one transaction together."""


class Database:
    """One connection, for one thread. `keep` revisions stay watchable; a writer waits `busy_seconds` for another.

    The connection is made by the first use. Every method raises EnvironmentFault when the file cannot be used now, and
    OperatorError when it is something else than a store.
    """

    def __init__(self, path: Path, *, create: bool, keep: int, busy_seconds: float) -> None:
        self.path = path
        self._create = create
        self._keep = keep
        self._busy_seconds = busy_seconds
        self._open: sqlite3.Connection | None = None
        self._inode: tuple[int, int] = (0, 0)

    def get(self, key: str) -> KeyValue | None:
        """The key as of now, or None."""
        with self._faults():
            row = self._connection().execute("SELECT * FROM kv WHERE key = ?", (key,)).fetchone()
        return None if row is None else KeyValue(*row)

    def range(self, prefix: str) -> Range:
        """All keys below `prefix`, sorted, and the revision of that moment."""
        with self._faults(), self._transaction("BEGIN") as connection:
            revision, _ = _head(connection)
            rows = connection.execute(
                "SELECT * FROM kv WHERE key >= ? AND key < ? ORDER BY key", (prefix, _after(prefix))
            ).fetchall()
        return Range(revision, tuple(KeyValue(*row) for row in rows))

    def txn(self, compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> Txn:
        """Apply all `operations` if all `compares` hold; durable on return. Raises Bug for a key operated on twice."""
        refuse_repeated(operations)
        with self._faults(), self._transaction("BEGIN IMMEDIATE") as connection:
            revision, compacted = _head(connection)
            if not all(_mod_revision(connection, compare.key) == compare.mod_revision for compare in compares):
                return Txn(False, revision)
            changed = 0
            for operation in operations:
                changed += _apply(connection, operation, revision + 1, changed)
            if not changed:
                return Txn(True, revision)
            revision += 1
            if revision % _COMPACT_EVERY == 0 and revision - self._keep > compacted:
                compacted = revision - self._keep
                connection.execute("DELETE FROM event WHERE revision <= ?", (compacted,))
            connection.execute("UPDATE head SET revision = ?, compacted = ?", (revision, compacted))
        return Txn(True, revision)

    def events(self, prefix: str, position: int) -> tuple[int, Transactions]:
        """Changes below `prefix` from revision `position` on, a bounded part of them, and where the next part starts.

        The part is the last one when that start is not greater than `position`, or when nothing follows it.
        Raises CompactedError when `position` is gone.
        """
        with self._faults(), self._transaction("BEGIN") as connection:
            revision, compacted = _head(connection)
            if position <= compacted:
                raise CompactedError(f"revision {position} is gone; the oldest kept is {compacted + 1}")
            last = min(revision, position + _EVENTS_PER_READ - 1)
            if last < position:
                return position, ()
            rows = connection.execute(
                "SELECT key, value, revision FROM event WHERE revision BETWEEN ? AND ? AND key >= ? AND key < ?"
                " ORDER BY revision, ordinal",
                (position, last, prefix, _after(prefix)),
            ).fetchall()
        events = (Event(*row) for row in rows)
        return last + 1, tuple(tuple(group) for _, group in groupby(events, key=lambda event: event.mod_revision))

    def check(self) -> list[str]:
        """What SQLite finds wrong in the file; reads all of it."""
        with self._faults():
            rows = self._connection().execute("PRAGMA integrity_check").fetchall()
        return [f"{self.path}: {line}" for (line,) in rows if line != "ok"]

    def close(self) -> None:
        """Close the connection; the next use would open it again."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _connection(self) -> sqlite3.Connection:
        if self._open is None:
            self._open = self._connect()
        elif self._identity() != self._inode:
            # SQLite would go on with the unlinked file, seen by nobody. A new empty file must not be taken for an
            # empty cluster either, or the agent would withdraw everything: so this is a fault until a person acts.
            raise EnvironmentFault(
                f"store: {self.path} was removed or replaced while in use",
                hint="restore it, then restart routed; to start afresh on purpose, stop every agent that uses it first",
            )
        return self._open

    def _connect(self) -> sqlite3.Connection:
        if not self.path.exists():
            if not self._create:
                raise EnvironmentFault(
                    f"store: there is no {self.path}",
                    hint="check --store (or `store` in the configuration); the first `routed apply` makes the store",
                )
            _make_file(self.path)
        connection = sqlite3.connect(
            f"file:{quote(str(self.path))}?mode=rw",
            uri=True,
            timeout=self._busy_seconds,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            self._prepare(connection)
            self._inode = self._identity()
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        fresh = not _is_store(connection, self.path)  # before anything is written into a stranger's file
        deadline = time.monotonic() + self._busy_seconds
        while True:  # the change to WAL does not go through SQLite's busy handler
            try:
                (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
                break
            except sqlite3.OperationalError as error:
                if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.005)
        if mode != "wal":
            raise EnvironmentFault(
                f"store: the file system of {self.path} cannot share a SQLite database (journal mode {mode})",
                hint="put the store on a local file system, e.g. /var/lib/routed",
            )
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {4 << 20}")
        if fresh:
            connection.execute("BEGIN IMMEDIATE")
            try:
                if not _is_store(connection, self.path):  # another process may have been quicker
                    for statement in _SCHEMA:
                        connection.execute(statement)
                connection.execute("COMMIT")
            except BaseException:
                _rollback(connection)
                raise

    def _identity(self) -> tuple[int, int]:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return 0, 0
        return status.st_dev, status.st_ino

    @contextmanager
    def _transaction(self, begin: str) -> Generator[sqlite3.Connection]:
        connection = self._connection()
        connection.execute(begin)
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            _rollback(connection)
            raise

    @contextmanager
    def _faults(self) -> Generator[None]:
        """Turn what SQLite and the file system say into errors that tell the operator what to do."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.ProgrammingError | sqlite3.IntegrityError):
                raise
            raise _fault(self.path, error) from error
        except OSError as error:
            raise EnvironmentFault(f"store: {self.path}: {error.strerror or error}", hint=_ACCESS_HINT) from error


_ACCESS_HINT = (
    "run as root, or name a store in a directory that you can write with --store sqlite:///DIRECTORY/store.db"
)


def _fault(path: Path, error: sqlite3.DatabaseError) -> RoutedError:
    """The error for what SQLite reports; result codes: https://www.sqlite.org/rescode.html."""
    match _code(error):
        case sqlite3.SQLITE_NOTADB:
            return OperatorError(
                f"store: {path} is not a SQLite database", hint="name another file with --store, or move this one away"
            )
        case sqlite3.SQLITE_CORRUPT:
            return EnvironmentFault(
                f"store: {path} is damaged: {error}",
                hint="stop what uses it, move it away (with its -wal and -shm), then `routed store restore` a backup, "
                "or `routed apply -f` your manifests",
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
            return EnvironmentFault(
                f"store: {path} is held by another process: {error}", hint="find it with `fuser -v` and try again"
            )
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return EnvironmentFault(f"store: {path}: {error}", hint=_ACCESS_HINT)
        case sqlite3.SQLITE_FULL:
            return EnvironmentFault(f"store: {path}: the disk is full", hint="make room on its file system")
        case _:
            return EnvironmentFault(f"store: {path}: {error}", hint="see the machine's log for disk errors")


def _code(error: sqlite3.Error) -> int:
    """The primary result code; the extended ones carry it in the low byte."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF


def _make_file(path: Path) -> None:
    """Make an empty file at `path`, readable by its owner only, as is its directory where that is missing.

    Resources will carry session passwords. It is linked into place after it was closed, since closing a file drops
    every POSIX lock that this process has on it, SQLite's own included, should another thread have opened it already.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, f"{path.parent} is not a directory") from error
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    temporary.touch(mode=0o600, exist_ok=False)
    try:
        with suppress(FileExistsError):
            path.hardlink_to(temporary)
    finally:
        temporary.unlink()
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _is_store(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the schema is there. Raises OperatorError for a file that is another program's or of a later version."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID:
        if tables or application:
            raise OperatorError(
                f"store: {path} is another program's database", hint="name another file with --store, or move it away"
            )
        return False
    if version > SCHEMA_VERSION:
        raise OperatorError(
            f"store: {path} has schema version {version}; this routed knows up to {SCHEMA_VERSION}",
            hint="upgrade routed, or use the store of its own version",
        )
    return True


def _rollback(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        with suppress(sqlite3.Error):  # the error that brought us here is the one to report
            connection.execute("ROLLBACK")


def _head(connection: sqlite3.Connection) -> tuple[int, int]:
    """The store's revision, and the last one whose events are gone."""
    row: tuple[int, int] = connection.execute("SELECT revision, compacted FROM head").fetchone()
    return row


def _mod_revision(connection: sqlite3.Connection, key: str) -> int:
    row = connection.execute("SELECT mod_revision FROM kv WHERE key = ?", (key,)).fetchone()
    return 0 if row is None else int(row[0])


def _apply(connection: sqlite3.Connection, operation: Put | Delete, revision: int, ordinal: int) -> int:
    """Carry out `operation` and log it; return how many events it made, 0 or 1."""
    value: bytes | None = None
    match operation:
        case Put():
            value = operation.value
            connection.execute(
                "INSERT INTO kv VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value,"
                " mod_revision = excluded.mod_revision",
                (operation.key, value, revision, revision),
            )
        case Delete():
            if connection.execute("DELETE FROM kv WHERE key = ?", (operation.key,)).rowcount == 0:
                return 0
    connection.execute("INSERT INTO event VALUES (?, ?, ?, ?)", (revision, ordinal, operation.key, value))
    return 1


def _after(prefix: str) -> str:
    """The least string that follows every key which starts with `prefix`, in the order of their UTF-8 bytes."""
    return prefix + "\U0010ffff"

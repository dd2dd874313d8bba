"""The backend for many machines: etcd 3.4 or later, one member or several.

A key of the store is one of etcd below the URL's prefix. Revisions are etcd's own, and count what others do in it too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from itertools import groupby, takewhile
from typing import Any, Literal, TypeVar

from routed.errors import Bug, EnvironmentFault, OperatorError
from routed.store import CompactedError, Compare, Delete, Event, KeyValue, Put, Range, Txn, refuse_repeated
from routed.store.etcd_links import Link, Links, Patience, pause
from routed.store.etcd_refusal import Refusal, error_of
from routed.store.etcd_url import Endpoint, EtcdUrl
from routed.store.etcd_wire import Channel, Head, Page, Status, Told, prefix_end

T = TypeVar("T")

_PAGE_KEYS = 1000  # bounds what etcd and we hold at once of a large range
_RANGE_TRIES = 5
_BROKEN_WATCHES = 6  # in a row, each on a member that had just answered: somebody has to hear of it
_OLDEST = (3, 4)
_PATIENCE = Patience()


class EtcdStore:
    """`Store` over the cluster that `url` names. A call ends within `patience`; to be used from one event loop."""

    def __init__(self, url: EtcdUrl, patience: Patience = _PATIENCE) -> None:
        self._prefix = url.prefix
        self._patience = patience
        self._links = Links(url, patience)

    async def get(self, key: str) -> KeyValue | None:
        """The key as of now, or None."""
        page = await self._page(self._key(key).encode(), b"", 1, 0)
        return self._outside(page.items[0]) if page.items else None

    async def range(self, prefix: str) -> Range:
        """All keys that start with `prefix`, read in pages of one revision."""
        for _ in range(_RANGE_TRIES):
            with suppress(CompactedError):  # between two pages: from the start, at a later revision
                return await self._pages(*self._bounds(prefix))
        raise EnvironmentFault(
            f"store: etcd at {self._links.members} was compacted {_RANGE_TRIES} times while {prefix} was read",
            hint="compact it less often (--auto-compaction-retention)",
        )

    async def txn(self, compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> Txn:
        """Apply all `operations` if all `compares` hold, else nothing. Durable when it returns.

        Raises Bug for two operations on one key, OperatorError for more of them than etcd takes at once. When etcd
        goes away in between, the EnvironmentFault says whether it may have been done.
        """
        refuse_repeated(operations)
        ours = [replace(compare, key=self._key(compare.key)) for compare in compares]
        changes = [replace(operation, key=self._key(operation.key)) for operation in operations]
        return await self._links.call(
            lambda channel, seconds: channel.txn(ours, changes, seconds), repeatable=not operations
        )

    async def watch(self, prefix: str, from_revision: int) -> AsyncGenerator[Sequence[Event], None]:
        """Yield the changes below `prefix` from `from_revision` on, in order, those of one transaction together.

        Goes on through the loss of a member, missing and repeating nothing. Ends when the store is closed. Raises
        CompactedError when the revision, or the reader's place, is gone, and EnvironmentFault when no member serves.
        """
        start, end = self._bounds(prefix)
        position = from_revision
        broken = 0
        while not self._links.closing.is_set():
            if position <= 0:  # to etcd that would mean from now on
                raise CompactedError(f"there is no revision {position}")
            link: Link | None = None
            try:
                await self._page(start, end, 1, 0)  # says what is wrong better than a watch does
                link = await self._links.link(time.monotonic() + self._patience.call)
                async with aclosing(self._told(link, start, end, position)) as stream:
                    async for told in stream:
                        broken = 0
                        if told.created:  # if another or an older cluster came between, it would be silent for long
                            await self._page(start, end, 1, 0)
                        for revision, events in groupby(told.events, key=lambda event: event.mod_revision):
                            yield [replace(event, key=self._stripped(event.key)) for event in events]
                            position = revision + 1
                        if not (told.events or told.created):  # progress: all up to here has been told
                            position = max(position, told.head.revision + 1)
            except EnvironmentFault:
                if self._links.closing.is_set():
                    return
                raise
            except Refusal as refusal:
                assert link is not None  # only watches raise it
                broken += 1
                if broken >= _BROKEN_WATCHES:
                    raise EnvironmentFault(
                        f"store: etcd at {link.endpoint}: watches break off: {refusal.details or refusal.code}",
                        hint="see the log of etcd",
                    ) from None
                self._links.drop(link)
                await self._links.rest(pause(broken))

    async def check(self) -> Sequence[str]:
        """Every member of the URL that cannot be used, has an alarm, is too old or is of another cluster."""
        surveyed = await asyncio.gather(*(self._survey(endpoint) for endpoint in self._links.endpoints))
        answered = [(endpoint, status.head.cluster) for endpoint, status, _ in surveyed if status]
        strangers = [
            f"etcd at {endpoint}: is of another cluster than etcd at {answered[0][0]}"
            for endpoint, cluster in answered
            if cluster != answered[0][1]
        ]
        return [*(sentence for _, _, sentences in surveyed for sentence in sentences), *strangers]

    async def close(self) -> None:
        """End every watch and let go of the connections. May be called twice."""
        await self._links.close()

    async def _survey(self, endpoint: Endpoint) -> tuple[Endpoint, Status | None, list[str]]:
        try:
            link = await self._links.connect_to(endpoint)
        except (EnvironmentFault, OperatorError) as error:
            return endpoint, None, [error.message.removeprefix("store: ")]
        try:
            status = await link.channel.status(self._patience.attempt)
        except Refusal as refusal:
            return endpoint, None, [error_of(refusal, str(endpoint)).message.removeprefix("store: ")]
        finally:
            await link.close(0)
        wrong = [f"etcd at {endpoint}: {error.removeprefix('etcdserver: ')}" for error in status.errors]
        if version_of(status.version) < _OLDEST:
            wrong.append(f"etcd at {endpoint}: has version {status.version}; expected 3.4 or later")
        return endpoint, status, wrong

    async def _told(self, link: Link, start: bytes, end: bytes, position: int) -> AsyncGenerator[Told, None]:
        """What the member of `link` tells. Ends with the store; raises Refusal when another has to be asked."""
        closed = asyncio.ensure_future(self._links.closing.wait())
        gone = asyncio.ensure_future(link.gone.wait())
        seconds: float | None = self._patience.attempt  # for the first message; the following come when they come
        try:
            async with aclosing(link.channel.watch(start, end, position)) as stream:
                while True:
                    told = await _first(anext(stream), {closed, gone}, seconds)
                    if closed.done():
                        return
                    if told is None:
                        raise Refusal("UNAVAILABLE", "no answer to a watch")
                    if told.compacted:
                        raise CompactedError(f"revision {position} is gone from etcd")
                    seconds = None
                    yield told
        finally:
            closed.cancel()
            gone.cancel()

    async def _pages(self, start: bytes, end: bytes) -> Range:
        items: list[KeyValue] = []
        revision = 0
        while True:
            head, page = await self._headed_page(start, end, _PAGE_KEYS, revision)
            revision = revision or head.revision
            items += map(self._outside, page.items)
            if not page.more:
                return Range(revision, tuple(items))
            start = page.items[-1].key.encode("utf-8", "surrogateescape") + b"\0"

    async def _page(self, start: bytes, end: bytes, limit: int, revision: int) -> Page:
        return (await self._headed_page(start, end, limit, revision))[1]

    async def _headed_page(self, start: bytes, end: bytes, limit: int, revision: int) -> tuple[Head, Page]:
        async def read(channel: Channel, seconds: float) -> tuple[Head, tuple[Head, Page]]:
            head, page = await channel.range(start, end, limit, revision, seconds)
            return head, (head, page)

        return await self._links.call(read, repeatable=True)

    def _bounds(self, prefix: str) -> tuple[bytes, bytes]:
        """The first key of etcd below `prefix`, and the one after the last."""
        whole = self._prefix + (prefix or ("/" if self._prefix else ""))  # not what else begins with our prefix
        start = whole.encode()
        return start or b"\0", prefix_end(start)

    def _key(self, key: str) -> str:
        if not key.startswith("/"):
            raise Bug(f"store: key {key!r} does not begin with a slash")
        return self._prefix + key

    def _stripped(self, key: str) -> str:
        return key[len(self._prefix) :]

    def _outside(self, item: KeyValue) -> KeyValue:
        return replace(item, key=self._stripped(item.key))


def version_of(text: str) -> tuple[int, ...]:
    """`text` as numbers that compare; what is no number ends it."""
    return tuple(int(part) for part in takewhile(str.isdecimal, text.split(".")))


async def _first(wanted: Awaitable[T], others: set[asyncio.Task[Literal[True]]], seconds: float | None) -> T | None:
    """What `wanted` gives, or None when one of `others` comes first or `seconds` are over."""
    reading = asyncio.ensure_future(wanted)
    try:
        waited: set[asyncio.Future[Any]] = {reading, *others}
        await asyncio.wait(waited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return reading.result() if reading.done() else None
    finally:
        if not reading.done():
            reading.cancel()
            await asyncio.wait({reading})
        if not reading.cancelled():
            reading.exception()  # seen; else it would be logged

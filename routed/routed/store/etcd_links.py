"""Which member of etcd is spoken to, and what becomes of a call when that member fails.

One member at a time, from a random one on, the next whenever it fails; between two rounds through all of them a pause
that doubles, with jitter, so that a fleet does not come back in one moment.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from routed.errors import EnvironmentFault, OperatorError, RoutedError
from routed.store import CompactedError, TooLargeError
from routed.store.etcd_probe import context_of, why_not
from routed.store.etcd_refusal import Refusal, Verdict, error_of, judge
from routed.store.etcd_url import Endpoint, EtcdUrl
from routed.store.etcd_wire import Channel, Head

T = TypeVar("T")

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long what may take, in seconds."""

    call: float = 10.0
    """A call, with all that is tried for it."""
    attempt: float = 3.0
    """One try of what can be tried again."""
    connect: float = 2.0
    """Making a connection."""


class Link:
    """A connection that is made and authenticated. `gone` is set once it is given up; then nothing new begins on it."""

    def __init__(self, endpoint: Endpoint, channel: Channel) -> None:
        self.endpoint = endpoint
        self.channel = channel
        self.gone = asyncio.Event()
        self._users = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def used(self) -> Generator[Channel]:
        """The channel, which is not closed while the block runs unless `close` is asked to hurry."""
        self._users += 1
        self._idle.clear()
        try:
            yield self.channel
        finally:
            self._users -= 1
            if not self._users:
                self._idle.set()

    async def close(self, seconds: float) -> None:
        """Close the channel when nobody uses it, after `seconds` in any case."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            pass
        finally:
            await self.channel.close()


class Links:
    """The way to the cluster that `url` names, from one event loop. Nothing is connected before the first call."""

    def __init__(self, url: EtcdUrl, patience: Patience) -> None:
        self.closing = asyncio.Event()
        self._url = url
        self._patience = patience
        self._next = random.randrange(len(url.endpoints))  # noqa: S311  spreads load, guards nothing
        self._link: Link | None = None
        self._connecting: asyncio.Task[Link] | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._fault: RoutedError | None = None
        self._seen: Head | None = None

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The members, as the URL has them."""
        return self._url.endpoints

    @property
    def members(self) -> str:
        """The same for messages."""
        return ", ".join(map(str, self._url.endpoints))

    async def call(self, work: Callable[[Channel, float], Awaitable[tuple[Head, T]]], *, repeatable: bool) -> T:
        """What `work` returns, given a channel and its seconds; it is done again on another one where that is right.

        `repeatable`: doing it twice does no harm. Raises CompactedError, EnvironmentFault, OperatorError.
        """
        deadline = time.monotonic() + self._patience.call
        fresh_tokens = 0
        tries = 0
        while True:
            link = await self.link(deadline)
            left = max(deadline - time.monotonic(), 0.01)
            try:
                return await self._once(link, work, min(left, self._patience.attempt) if repeatable else left)
            except Refusal as refusal:
                verdict, error = judge(refusal), error_of(refusal, str(link.endpoint))
            match verdict:
                case Verdict.COMPACTED:
                    raise CompactedError(str(error))
                case Verdict.REQUEST:
                    raise TooLargeError(error.message, hint=error.hint)
                case Verdict.FINAL:
                    raise self._now(error)
                case Verdict.TOKEN:
                    fresh_tokens += 1
                    if fresh_tokens > 2:
                        raise self._now(error)
                    self.drop(link, move_on=False)
                case Verdict.AGAIN:
                    self.drop(link)
                case Verdict.UNKNOWN:
                    self.drop(link)
                    if not repeatable:
                        raise EnvironmentFault(
                            f"{error.message}; whether the change was made is not known",
                            hint="look before you try again",
                        )
            tries += 1
            await self.rest(min(pause(tries), max(deadline - time.monotonic(), 0)))
            if time.monotonic() >= deadline:
                raise EnvironmentFault(error.message, hint=error.hint)

    async def link(self, deadline: float) -> Link:
        """A link that stands, as far as is known, by `deadline` of the monotonic clock.

        Raises EnvironmentFault; OperatorError where the operator's input is the reason and nothing worked before.
        """
        if self.closing.is_set():
            raise EnvironmentFault("store: etcd was closed by this process", hint="open it again")
        if self._link is not None:
            if self._link.channel.ready:
                return self._link
            self.drop(self._link, move_on=False)
        if self._connecting is None:  # one for all callers; it outlives their patience
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(self._connected)
        connecting = self._connecting
        await asyncio.wait({connecting}, timeout=max(deadline - time.monotonic(), 0))
        if not connecting.done():
            raise self._fault or EnvironmentFault(
                f"store: etcd at {self.members}: no answer", hint="is it running, and not cut off?"
            )
        if connecting.cancelled():
            raise EnvironmentFault("store: etcd was closed by this process", hint="open it again")
        return connecting.result()

    async def connect_to(self, endpoint: Endpoint) -> Link:
        """A new link to this member, which is the caller's to close. Raises EnvironmentFault, OperatorError."""
        url = self._url
        if url.tls is not None:
            context_of(url.tls)  # names the file that is at fault
        channel = Channel(endpoint, url.tls)
        try:
            await self._open(channel, endpoint)
            if url.user is not None:
                await self._authenticate(channel, endpoint, url.user)
        except BaseException:
            await channel.close()
            raise
        return Link(endpoint, channel)

    def drop(self, link: Link, *, move_on: bool = True) -> None:
        """Give `link` up. What runs on it may end. The next connection is to another member if `move_on`."""
        if link.gone.is_set():
            return
        link.gone.set()
        if self._link is link:
            self._link = None
        if move_on:
            self._next += 1
        self._leave(link.close(self._patience.call))

    async def rest(self, seconds: float) -> None:
        """Sleep, but not past `close`."""
        try:
            async with asyncio.timeout(seconds):
                await self.closing.wait()
        except TimeoutError:
            return

    async def close(self) -> None:
        """Let go of everything; calls that run are refused."""
        self.closing.set()
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait({self._connecting})
        if self._link is not None:
            link, self._link = self._link, None
            link.gone.set()
            await link.close(0)
        for task in self._leaving:
            task.cancel()  # which closes the channel at once
        if self._leaving:
            await asyncio.wait(self._leaving)

    async def _once(self, link: Link, work: Callable[[Channel, float], Awaitable[tuple[Head, T]]], seconds: float) -> T:
        before = self._seen
        with link.used() as channel:
            head, result = await work(channel, seconds)
        self._recognise(head, before)
        return result

    def _recognise(self, head: Head, before: Head | None) -> None:
        """Compare a linearizable answer with the last one that had come when it was asked for.

        Another cluster, or an older state, must not be taken for ours: an agent would withdraw everything. So it is a
        fault until a person acts.
        """
        if before is not None and head.cluster != before.cluster:
            raise EnvironmentFault(
                f"store: etcd at {self.members} is another cluster ({head.cluster:x}) than before ({before.cluster:x})",
                hint="correct what answers there; if the change is meant, restart routed",
            )
        if before is not None and head.revision < before.revision:
            raise EnvironmentFault(
                f"store: etcd at {self.members} lost data: its revision was {before.revision} and is {head.revision}",
                hint="restore it; if the older state is meant, restart routed",
            )
        if self._seen is None or head.revision > self._seen.revision:
            self._seen = head

    def _now(self, error: RoutedError) -> RoutedError:
        """`error`, or a fault in its place where it worked before: it may work again, and must not end an agent."""
        return error if self._seen is None else EnvironmentFault(error.message, hint=error.hint)

    async def _connect(self) -> Link:
        """Go round the members until one is connected. OperatorError when none can be, and none ever was."""
        rounds = 0
        while True:
            mistake: OperatorError | None = None
            for _ in self._url.endpoints:
                endpoint = self._url.endpoints[self._next % len(self._url.endpoints)]
                try:
                    return await self.connect_to(endpoint)
                except OperatorError as error:
                    mistake = error
                    self._fault = self._now(error)
                except EnvironmentFault as fault:
                    self._fault = fault
                self._next += 1
            if mistake is not None and self._seen is None:
                raise mistake
            rounds += 1
            await asyncio.sleep(pause(rounds))

    async def _open(self, channel: Channel, endpoint: Endpoint) -> None:
        seconds = self._patience.connect
        try:
            async with asyncio.timeout(seconds):
                connected = await channel.connected()
        except TimeoutError:
            raise EnvironmentFault(
                f"store: etcd at {endpoint}: no answer within {seconds:g} s", hint="is it running, and not cut off?"
            ) from None
        if not connected:
            raise await why_not(endpoint, self._url.tls, seconds)

    async def _authenticate(self, channel: Channel, endpoint: Endpoint, user: str) -> None:
        try:
            await channel.authenticate(user, self._password(), self._patience.attempt)
        except Refusal as refusal:
            if refusal.details != "etcdserver: authentication is not enabled":  # not yet, or not any more
                raise error_of(refusal, str(endpoint)) from None

    def _password(self) -> str:
        file = self._url.password_file
        assert file is not None
        try:
            return file.read_text("utf-8").rstrip("\r\n")  # each time anew: it may change while we run
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is not text"
            raise OperatorError(
                f"store: password_file {file}: {reason}", hint="write the password of etcd's user there, one line"
            ) from None

    def _connected(self, task: asyncio.Task[Link]) -> None:
        self._connecting = None
        if not task.cancelled() and task.exception() is None:
            self._link, self._fault = task.result(), None

    def _leave(self, closing: Awaitable[None]) -> None:
        task = asyncio.ensure_future(closing)
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)


def pause(rounds: int) -> float:
    """Seconds before the next round after `rounds` that failed; at random, between half of it and all of it."""
    whole: float = min(FIRST_PAUSE_SECONDS * 2 ** min(rounds - 1, 10), LONGEST_PAUSE_SECONDS)
    return whole * random.uniform(0.5, 1)  # noqa: S311  spreads load, guards nothing

"""One connection to one member of etcd: gRPC messages outside, this package's values inside.

The stubs are `aetcd`'s, generated from etcd's own interface; docs/decisions/0009-etcd-client.md says why no more of it.
Keys are whole here, with the prefix of the store's URL.
"""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from routed.store import Compare, Delete, Event, KeyValue, Put, Txn
from routed.store.etcd_refusal import Refusal
from routed.store.etcd_url import Endpoint, Tls

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C core writes to stderr what we report ourselves
_rpc: Any = importlib.import_module("aetcd.rpc")  # neither of the two has types
_grpc: Any = importlib.import_module("grpc")

_LEADER = ("hasleader", "true")  # a member that is cut off from the others refuses at once instead of waiting
_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),  # else a new channel inherits the old one's pause before it connects
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),  # etcd bounds what it takes, not what it sends
    ("grpc.keepalive_time_ms", 10_000),  # etcd calls more than one in 5 s too many (--grpc-keepalive-min-time)
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),  # a watch may be quiet for hours
)


@dataclass(frozen=True, slots=True)
class Head:
    """What every answer says: which cluster it is from, and that cluster's revision."""

    cluster: int
    revision: int


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a range; `more`: others follow."""

    items: tuple[KeyValue, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class Told:
    """A message of a watch. `compacted`: its start is gone. Without events and not `created`: a report of progress."""

    head: Head
    events: tuple[Event, ...]
    created: bool
    compacted: bool


@dataclass(frozen=True, slots=True)
class Status:
    """What a member says of itself; `errors` are its alarms, and that it has no leader."""

    head: Head
    version: str
    errors: tuple[str, ...]


class Channel:
    """The connection to `endpoint`, to be used from one event loop. Calls raise Refusal, after their seconds too.

    Raises OSError when a file of `tls` cannot be read.
    """

    def __init__(self, endpoint: Endpoint, tls: Tls | None) -> None:
        target = f"dns:///{endpoint}"
        if tls is None:
            self._channel = _rpc.insecure_channel(target, options=_OPTIONS)
        else:
            files = (tls.ca, tls.key, tls.cert)
            credentials = _grpc.ssl_channel_credentials(*(file and file.read_bytes() for file in files))
            self._channel = _rpc.secure_channel(target, credentials, options=_OPTIONS)
        self._kv = _rpc.KVStub(self._channel)
        self._watch = _rpc.WatchStub(self._channel)
        self._auth = _rpc.AuthStub(self._channel)
        self._maintenance = _rpc.MaintenanceStub(self._channel)
        self._metadata: tuple[tuple[str, str], ...] = (_LEADER,)

    @property
    def ready(self) -> bool:
        """Whether the connection stands, as far as is known here."""
        return bool(self._channel.get_state() == _grpc.ChannelConnectivity.READY)

    async def connected(self) -> bool:
        """Connect; False when the first try failed."""
        state = self._channel.get_state(try_to_connect=True)
        while state != _grpc.ChannelConnectivity.READY:
            if state in (_grpc.ChannelConnectivity.TRANSIENT_FAILURE, _grpc.ChannelConnectivity.SHUTDOWN):
                return False
            await self._channel.wait_for_state_change(state)
            state = self._channel.get_state(try_to_connect=True)
        return True

    async def authenticate(self, user: str, password: str, seconds: float) -> None:
        """Make all later calls as `user`."""
        request = _rpc.AuthenticateRequest(name=user, password=password)
        with _refusals():
            answer = await self._auth.Authenticate(request, timeout=seconds)
        self._metadata = (_LEADER, ("token", answer.token))

    async def status(self, seconds: float) -> Status:
        """What this member says of itself, alone."""
        with _refusals():
            answer = await self._maintenance.Status(_rpc.StatusRequest(), timeout=seconds, metadata=self._metadata[1:])
        return Status(_head(answer), answer.version, tuple(answer.errors))

    async def range(self, start: bytes, end: bytes, limit: int, revision: int, seconds: float) -> tuple[Head, Page]:
        """At most `limit` keys from `start` on, before `end`; empty: `start` alone. `revision` 0 is now."""
        request = _rpc.RangeRequest(key=start, range_end=end, limit=limit, revision=revision)
        with _refusals():
            answer = await self._kv.Range(request, timeout=seconds, metadata=self._metadata)
        items = tuple(KeyValue(_text(kv.key), kv.value, kv.create_revision, kv.mod_revision) for kv in answer.kvs)
        return _head(answer), Page(items, answer.more)

    async def txn(
        self, compares: Sequence[Compare], operations: Sequence[Put | Delete], seconds: float
    ) -> tuple[Head, Txn]:
        """Apply `operations` if `compares` hold."""
        request = _rpc.TxnRequest(
            compare=[
                _rpc.Compare(
                    key=_bytes(compare.key),
                    target=_rpc.Compare.MOD,
                    result=_rpc.Compare.EQUAL,
                    mod_revision=compare.mod_revision,
                )
                for compare in compares
            ],
            success=[_operation(operation) for operation in operations],
        )
        with _refusals():
            answer = await self._kv.Txn(request, timeout=seconds, metadata=self._metadata)
        head = _head(answer)
        return head, Txn(answer.succeeded, head.revision)

    async def watch(self, start: bytes, end: bytes, revision: int) -> AsyncGenerator[Told, None]:
        """What is told of the keys from `start` on, before `end`, since `revision`. Ends by Refusal only."""
        request = _rpc.WatchRequest(
            create_request=_rpc.WatchCreateRequest(
                key=start, range_end=end, start_revision=revision, progress_notify=True
            )
        )
        with _refusals():
            call = self._watch.Watch(metadata=self._metadata)
        try:
            with _refusals():
                await call.write(request)
            while True:
                with _refusals():
                    answer = await call.read()
                if answer is _grpc.aio.EOF:
                    raise Refusal("UNAVAILABLE", "the watch was ended")
                compacted = answer.compact_revision != 0
                if answer.canceled and not compacted:
                    raise Refusal("CANCELLED", answer.cancel_reason)
                events = tuple(
                    Event(_text(event.kv.key), None if event.type else event.kv.value, event.kv.mod_revision)
                    for event in answer.events
                )
                yield Told(_head(answer), events, answer.created, compacted)
        finally:
            call.cancel()

    async def close(self) -> None:
        """Close the connection; calls that run are refused."""
        await self._channel.close()


def prefix_end(prefix: bytes) -> bytes:
    """The least key after all that start with `prefix`, in etcd's sense: a zero byte means the end of all keys."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else b"\0"


@contextmanager
def _refusals() -> Generator[None]:
    """Turn gRPC's ways to say that a call failed into Refusal."""
    try:
        yield
    except _rpc.AioRpcError as error:
        raise Refusal(error.code().name, error.details() or "") from None
    except (_grpc.aio.UsageError, asyncio.InvalidStateError) as error:  # the channel was closed before
        raise Refusal("CANCELLED", str(error)) from None
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise Refusal("CANCELLED", "the connection was closed") from None  # not this task: gRPC says it so


def _operation(operation: Put | Delete) -> Any:
    key = _bytes(operation.key)
    if isinstance(operation, Put):
        return _rpc.RequestOp(request_put=_rpc.PutRequest(key=key, value=operation.value))
    return _rpc.RequestOp(request_delete_range=_rpc.DeleteRangeRequest(key=key))


def _head(answer: Any) -> Head:
    return Head(answer.header.cluster_id, answer.header.revision)


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def _text(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")  # strangers' keys may be any bytes

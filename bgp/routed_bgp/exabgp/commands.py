"""Messages as commands of ExaBGP's text API, for its stock mode, which takes nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address

from routed.model.address import Address, AnyAddress, Family
from routed_bgp.attributes import Attributes
from routed_bgp.dialect import Dialect
from routed_bgp.exabgp.child import Child, Gone
from routed_bgp.nlri import to_prefix
from routed_bgp.notification import SessionReset
from routed_bgp.speaker import Refresh
from routed_bgp.update import Decoder, Update, messages, refresh

log = logging.getLogger("routed.bgp.exabgp")

_UPDATE = 2
_PREFIXES = 500  # in one command; ExaBGP goes round once for each, whatever it holds
_FAMILIES = {Family.IPV4: "ipv4 unicast", Family.IPV6: "ipv6 unicast"}
_NOWHERE = {Family.IPV4: Address(0), Family.IPV6: IPv6Address(0)}  # of what is withdrawn; ExaBGP wants one
_OPTIONAL_TRANSITIVE = 0xC0


@dataclass(slots=True)
class _Batch:
    """Prefixes of one kind that stand in a row."""

    attributes: Attributes | None  # None: withdrawn
    family: Family
    prefixes: list[bytes]


def translate(data: bytes, decoder: Decoder) -> Iterator[str]:
    """The commands, without the neighbours that they are for, that do what the messages in `data` say.

    BoRR and EoRR (RFC 7313) are left out: ExaBGP sends its own.
    """
    batch: _Batch | None = None
    for kind, body in messages(data):
        for said in _parts(decoder.decode(body)) if kind == _UPDATE else _request(body):
            if batch and isinstance(said, _Batch) and _joins(batch, said):
                batch.prefixes += said.prefixes
                continue
            if batch:
                yield from _routes(batch)
            batch = said if isinstance(said, _Batch) else None
            if isinstance(said, str):
                yield said
    if batch:
        yield from _routes(batch)


def _request(body: bytes) -> Iterator[str]:
    asked = refresh(body)
    if asked and asked[1] is Refresh.REQUEST:
        yield f"announce route-refresh {_FAMILIES[asked[0]]}"


def _joins(batch: _Batch, more: _Batch) -> bool:
    return batch.attributes is more.attributes and batch.family is more.family


def _parts(update: Update | None) -> Iterator[_Batch | str]:
    while update:
        if update.withdrawn:
            yield _Batch(None, update.family, update.withdrawn)
        if update.announced:
            yield _Batch(update.attributes, update.family, update.announced)
        if update.end_of_rib:
            yield f"announce eor {_FAMILIES[update.end_of_rib]}"
        update = update.also


def _routes(batch: _Batch) -> Iterator[str]:
    what = describe(batch.attributes) if batch.attributes else f"next-hop {_NOWHERE[batch.family]}"
    verb = "announce" if batch.attributes else "withdraw"
    for at in range(0, len(batch.prefixes), _PREFIXES):
        prefixes = (str(to_prefix(nlri, batch.family)) for nlri in batch.prefixes[at : at + _PREFIXES])
        yield f"{verb} attributes {what} nlri {' '.join(prefixes)}"


def describe(attributes: Attributes) -> str:
    """`attributes` in ExaBGP's words."""
    words = [f"origin {attributes.origin.name.lower()}", f"next-hop {attributes.next_hop}"]
    if attributes.as_path:
        segments = (
            f"[ {_row(segment.numbers)} ]" if segment.ordered else f"( {_row(segment.numbers)} )"
            for segment in attributes.as_path
        )
        words.append(f"as-path {' '.join(segments)}")
    if attributes.med is not None:
        words.append(f"med {attributes.med}")
    if attributes.local_pref is not None:
        words.append(f"local-preference {attributes.local_pref}")
    if attributes.communities:
        words.append(f"community [ {_row(f'{number >> 16}:{number & 0xFFFF}' for number in attributes.communities)} ]")
    if attributes.large_communities:
        words.append(f"large-community [ {_row(':'.join(map(str, three)) for three in attributes.large_communities)} ]")
    if attributes.originator_id:
        words.append(f"originator-id {attributes.originator_id}")
    if attributes.cluster_list:
        words.append(f"cluster-list [ {_row(attributes.cluster_list)} ]")
    if attributes.atomic_aggregate:
        words.append("atomic-aggregate")
    words += [
        f"attribute [ {unknown.code:#04x} {_OPTIONAL_TRANSITIVE:#04x} 0x{unknown.value.hex()} ]"
        for unknown in attributes.unknown
    ]
    return " ".join(words)


def _row(items: Iterable[object]) -> str:
    return " ".join(map(str, items))


class Commands:
    """Tells a child in stock mode what is sent, one command at a time, in order, without letting the sender wait."""

    def __init__(self, child: Child, dialect: Callable[[AnyAddress], Dialect | None]) -> None:
        self._child = child
        self._dialect = dialect
        self._decoders: dict[Dialect, Decoder] = {}
        self._queue: asyncio.Queue[tuple[Mapping[AnyAddress, int], bytes]] = asyncio.Queue()
        self._task = asyncio.create_task(self._tell(), name="bgp commands")

    def put(self, tags: Mapping[AnyAddress, int], data: bytes) -> None:
        """Send to these peers, as long as their sessions have these tags."""
        self._queue.put_nowait((tags, data))

    def close(self) -> None:
        """Tell no more."""
        self._task.cancel()

    async def _tell(self) -> None:
        with contextlib.suppress(Gone):
            while True:
                tags, data = await self._queue.get()
                dialect = next(filter(None, map(self._dialect, tags)), None)
                if dialect is None:
                    continue
                decoder = self._decoders.setdefault(dialect, Decoder(dialect))
                try:
                    for command in translate(data, decoder):
                        if peers := self._up(tags):
                            await self._child.command(f"{selector(peers)} {command}")
                except SessionReset as error:  # of ours; the next messages are not to suffer for it
                    log.warning("cannot be sent: %s", error)

    def _up(self, tags: Mapping[AnyAddress, int]) -> list[AnyAddress]:
        return [peer for peer, tag in tags.items() if self._child.link.reader.tag(peer) == tag]


def selector(peers: Sequence[AnyAddress]) -> str:
    """The peers that a command is for."""
    return " , ".join(f"neighbor {peer}" for peer in peers)

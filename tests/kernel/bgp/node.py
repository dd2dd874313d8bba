"""One node for the speaker's tests: a speaker and no RIB; orders on stdin, what is known on stdout.

Each line of stdin is a JSON `Order`. Each line of stdout is all that the node knows. End of stdin closes the speaker as
SIGTERM to the agent does. What is advertised goes to a peer when its session comes up, with End-of-RIB behind it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any

import msgspec

from routed.errors import OperatorError
from routed.model.address import AnyAddress, AnyPrefix, Family
from routed.model.path import Origin, Segment
from routed_bgp import encode
from routed_bgp.attributes import Attributes
from routed_bgp.dialect import agreed
from routed_bgp.exabgp.speaker import ExaBGP
from routed_bgp.nlri import from_prefix, to_prefix
from routed_bgp.open import Open
from routed_bgp.sessions import Session
from routed_bgp.speaker import (
    Refresh,
    RefreshReceived,
    SessionDown,
    SessionUp,
    SpeakerFailed,
    SpeakerStarted,
    UpdatesReceived,
)
from routed_bgp.update import Decoder, Update, messages


class Order(msgspec.Struct, kw_only=True):
    sessions: list[dict[str, Any]] | None = None
    advertise: list[str] | None = None
    reset: str = ""
    code: int = 6
    subcode: int = 4
    retry: str = ""
    refresh: str = ""
    sleep: float = 0.0


@dataclass(slots=True)
class Peer:
    session: Session
    open: Open
    decoder: Decoder
    routes: dict[str, str] = field(default_factory=dict[str, str])
    ended: list[str] = field(default_factory=list[str])


def session(fields: dict[str, Any]) -> Session:
    read: dict[str, Any] = dict(fields)
    for name in ("peer", "local", "router_id"):
        read[name] = ip_address(fields[name])
    if "families" in fields:
        read["families"] = tuple(Family[name] for name in fields["families"])
    return Session(**read)


class Node:
    def __init__(self, run_dir: Path, *, stock: bool) -> None:
        self.speaker = ExaBGP(run_dir, stock=stock)
        self.sessions: dict[AnyAddress, Session] = {}
        self.advertised: set[AnyPrefix] = set()
        self.up: dict[AnyAddress, Peer] = {}
        self.known: dict[str, Any] = {"fault": "", "note": None, "refused": "", "peers": {}, "refreshes": []}
        self.told = 0.0

    def tell(self) -> None:
        peers = self.known["peers"]
        for address, peer in self.up.items():
            peers[str(address)] |= {"routes": peer.routes, "ended": peer.ended}
        print(json.dumps(self.known | {"pid": self.speaker.pid}), flush=True)

    def peer(self, address: AnyAddress) -> dict[str, Any]:
        empty: dict[str, Any] = {
            "state": "down",
            "ups": 0,
            "reason": "",
            "ending": "",
            "codes": [0, 0],
            "routes": {},
            "ended": [],
            "downs": [],
        }
        found: dict[str, Any] = self.known["peers"].setdefault(str(address), empty)
        return found

    async def obey(self) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=1 << 26)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        async for line in reader:
            order = msgspec.json.decode(line, type=Order)
            if order.advertise is not None:
                self.advertise({ip_network(text) for text in order.advertise})
            if order.sessions is not None:
                await self.want([session(fields) for fields in order.sessions])
            if order.reset:
                await self.speaker.reset(ip_address(order.reset), order.code, order.subcode)
            if order.retry:
                await self.speaker.retry(ip_address(order.retry))
            if order.refresh:
                self.speaker.send([ip_address(order.refresh)], encode.refresh(Family.IPV4, Refresh.REQUEST))
            if order.sleep:
                time.sleep(order.sleep)  # noqa: ASYNC251  the whole agent sleeps, which is the point
            self.tell()

    async def want(self, sessions: list[Session]) -> None:
        try:
            await self.speaker.set(sessions)
        except OperatorError as error:
            self.known["refused"] = str(error)
        else:
            self.sessions = {session.peer: session for session in sessions}

    def advertise(self, prefixes: set[AnyPrefix]) -> None:
        gone, new = self.advertised - prefixes, prefixes - self.advertised
        self.advertised = prefixes
        for address in self.up:
            self.announce(address, new)
            for family in Family:
                self.speaker.send([address], b"".join(encode.withdraw(family, [*of(family, gone)])))

    def announce(self, address: AnyAddress, prefixes: set[AnyPrefix]) -> None:
        peer = self.up[address]
        ours = peer.session
        path = (Segment(ordered=True, numbers=(ours.local_as,)),) if ours.ebgp else ()
        for family in ours.families:
            if nlris := list(of(family, prefixes)):
                attributes = Attributes(Origin.IGP, path, next_hop(ours, family), local_pref=100)
                sent = encode.announce(attributes, family, nlris, asn4=peer.open.asn4, ebgp=ours.ebgp)
                self.speaker.send([address], b"".join(sent))

    async def listen(self) -> None:
        async for event in self.speaker.events():
            match event:
                case SpeakerFailed(fault):
                    self.known |= {"fault": str(fault), "note": None}
                case SpeakerStarted(note):
                    self.known |= {"fault": "", "note": note}
                case SessionUp(address, opened):
                    self.come(address, opened)
                case SessionDown():
                    self.up.pop(event.peer, None)
                    self.peer(event.peer).update(
                        state="down", reason=event.reason, ending=event.ending.name, codes=[event.code, event.subcode]
                    )
                    self.peer(event.peer)["downs"].append([event.ending.name, event.code, event.subcode, event.reason])
                case UpdatesReceived(address, data):
                    for _, body in messages(data):
                        self.learn(self.up[address], self.up[address].decoder.decode(body))
                case RefreshReceived(address, family, kind):
                    self.known["refreshes"].append([str(address), family.name, kind.name])
            self.tell()

    def come(self, address: AnyAddress, opened: Open) -> None:
        ours = self.sessions[address]
        self.up[address] = Peer(ours, opened, Decoder(agreed(ours, opened)))
        known = self.peer(address)
        known |= {"state": "up", "ups": known["ups"] + 1, "hold": opened.hold_time}
        self.announce(address, self.advertised)
        for family in ours.families:
            self.speaker.send([address], encode.end_of_rib(family))

    def learn(self, peer: Peer, update: Update | None) -> None:
        while update:
            for key in update.withdrawn:
                peer.routes.pop(str(to_prefix(key, update.family)), None)
            for key in update.announced:
                assert update.attributes
                peer.routes[str(to_prefix(key, update.family))] = str(update.attributes.next_hop)
            if update.end_of_rib:
                peer.ended.append(update.end_of_rib.name)
            update = update.also

    async def run(self) -> None:
        listener = asyncio.create_task(self.listen())
        try:
            await self.obey()
        finally:
            await self.speaker.close()
            listener.cancel()


def of(family: Family, prefixes: Iterable[AnyPrefix]) -> Iterable[bytes]:
    return (from_prefix(prefix) for prefix in sorted(prefixes, key=str) if Family.of(prefix) is family)


def next_hop(ours: Session, family: Family) -> AnyAddress:
    """Our address; that of the other family has the same last number in the fabric."""
    if Family.of(ours.local) is family:
        return ours.local
    last = ours.local.packed[-1]
    return IPv6Address(f"fd99::{last:x}") if family is Family.IPV6 else IPv4Address(f"10.99.0.{last}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(relativeCreated)d %(name)s %(message)s")
    asyncio.run(Node(Path(sys.argv[1]), stock=sys.argv[2] == "stock").run())

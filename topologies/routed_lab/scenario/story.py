"""What was recorded, put into the order and the words of a report; and whether an expectation holds. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import msgspec

from routed_lab import expect
from routed_lab.expect import Encapsulation
from routed_lab.scenario import bgp
from routed_lab.scenario.model import Pool, Rib, Traffic
from routed_lab.scenario.record import Change, Message, Seen, StepRecord

if TYPE_CHECKING:
    from routed.model.resources import AnyResource
    from routed_lab.expect import Verdict
    from routed_lab.scenario.losses import Probed
    from routed_lab.scenario.pcapng import Packet
    from routed_lab.topology import Topology

_LINK = re.compile(r"[0-9]+: (?P<name>[^:@]+)(@[^:]*)?: <(?P<flags>[^>]*)>")


def pool_changed(topology: Topology, pool: Pool) -> tuple[Topology, AnyResource]:
    """The topology whose pool has the modes of `pool`, and that pool as a resource."""
    before = topology.cluster.pools[pool.name]
    spec = msgspec.structs.replace(before.spec, ipip_mode=pool.ipip, vxlan_mode=pool.vxlan)
    after = msgspec.structs.replace(before, spec=spec)
    resources = tuple(after if one is before else one for one in topology.resources)
    return replace(topology, resources=resources), after


def complaint(asked: Traffic, verdict: Verdict) -> str:
    """What is wrong with one pair, in words; nothing when it is as asked."""
    wrong: list[str] = []
    reachable = True if asked.converged and asked.reachable is None else asked.reachable
    if reachable is not None and verdict.reachable is not reachable:
        wrong.append("reachable" if verdict.reachable else "no reply")
    if asked.converged and not verdict.right:
        wrong.append(f"carried {verdict.carried}, expected {verdict.expected}")
    if asked.carried is not None and not asked.carried.met_by(verdict.carried):
        wrong.append(f"carried {verdict.carried}, expected {asked.carried}")
    if asked.path is not None and verdict.path != asked.path:
        wrong.append(f"by {' > '.join(verdict.path) or 'no node'}")
    return f"{verdict.source.name} > {verdict.destination.name} {', '.join(wrong)}" if wrong else ""


def matches(asked: Rib, answer: str) -> bool:
    """Whether what a router printed is as asked."""
    return (re.search(asked.pattern, answer, re.MULTILINE) is not None) is asked.found


def seen(verdict: Verdict, at: float) -> Seen:
    """How a pair's packets travelled at a time; unseen if they did not come back."""
    carried = verdict.carried if verdict.reachable else Encapsulation.UNSEEN
    path = " > ".join(verdict.path)
    return Seen(at, verdict.source.name, verdict.destination.name, path, str(carried))


@dataclass(frozen=True, slots=True)
class Asked:
    """Step `number` (from 0) asked at the time `at` that at most `most` probes of a pair be lost until then."""

    number: int
    most: int
    at: float


def with_losses(steps: Sequence[StepRecord], asked: Sequence[Asked], probed: Sequence[Probed]) -> list[StepRecord]:
    """The steps, with the verdict of those that ask for losses; each counts from the one before."""
    told = list(steps)
    begin = 0.0
    for one in asked:
        found = {f"{pair.source} > {pair.destination}": pair.lost(begin, one.at) for pair in probed}
        over = [f"{pair} lost {count}" for pair, count in found.items() if count > one.most]
        told[one.number] = msgspec.structs.replace(
            told[one.number],
            outcome="failed" if over else "met",
            detail="; ".join(over) or f"lost {', '.join(map(str, found.values()))}",
        )
        begin = one.at
    return told


def messages(topology: Topology, packets: Iterable[Packet], origin: int) -> list[Message]:
    """The BGP messages in captured packets, each once: where its sender put it on the wire."""
    owner = owners(topology)
    listener = bgp.Listener()
    found: list[Message] = []
    for packet in packets:
        if owner.get(IPv4Address(packet.data[12:16])) != packet.node:
            continue
        found += [
            Message(
                (packet.time - origin) / 1e9,
                packet.node,
                owner.get(said.receiver, str(said.receiver)),
                said.kind,
                said.text,
            )
            for said in listener.feed(packet.data)
        ]
    return found


def owners(topology: Topology) -> Mapping[IPv4Address, str]:
    """Which node has which address by the topology file."""
    return {held.ip: node.name for node in topology.nodes.values() for held in expect.addresses(node)}


def changes(told: Iterable[tuple[str, Iterable[tuple[float, str]]]], origin: float) -> list[Change]:
    """What `ip monitor` told by node, in order, without what every address brings along and without IPv6."""
    found: list[Change] = []
    links: dict[tuple[str, str], str] = {}
    for node, lines in told:
        for at, line in lines:
            words = line.removeprefix("Deleted ")
            if "table local" in words or _ipv6(words) or words.startswith("multicast"):
                continue
            text = line
            if link := _LINK.match(words):
                state = "up" if {"UP", "LOWER_UP"} <= set(link["flags"].split(",")) else "down"
                text = f"link {link['name']} is {state if words == line else 'gone'}"
                if links.get((node, link["name"])) == text:
                    continue
                links[node, link["name"]] = text
            found.append(Change(at - origin, node, text))
    return sorted(found, key=lambda change: change.time)


def _ipv6(words: str) -> bool:
    return words.partition(" ")[0].count(":") > 1

"""The rules in the words of iptables, and what `iptables-save` says read back. Pure; text of iptables-restore(8).

    raw     PREROUTING   routed-from-pod      VXLAN goes on to routed-to-member, which drops what is to one; then per
                                              pod: no protocol 4, its own addresses return, all others are dropped
    filter  INPUT        routed-guard         protocol 4 and VXLAN: members return, all others are dropped
    nat     POSTROUTING  routed-nat-outgoing  sources in a pool with natOutgoing go on to routed-masquerade, where
                                              what goes to a pool returns

Ours are the chains whose names begin with `routed-`, and the rules of other chains that jump to one. Each table is one
transaction. The rules are walked one by one, so that a node with many pods or members is better served by nftables.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from routed.model.address import AnyPrefix, Family
from routed_felix.firewall.rules import IPIP, Rules

PREFIX = "routed-"
_MASQUERADE = "routed-masquerade"
_TO_MEMBER = "routed-to-member"
_JUMP = f"-j {PREFIX}"
_PROTOCOLS = {"-p ipencap": f"-p {IPIP}", "-p ipv4": f"-p {IPIP}"}  # what /etc/protocols may call it


@dataclass(frozen=True)
class Ours:
    """What of one table is ours. `chains`: our chains' rules; `jumps`: rules of others' chains, that one before."""

    chains: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    jumps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Saved:
    """What `iptables-save` told: ours by table, and in which tables somebody else has rules."""

    ours: Mapping[str, Ours]
    strangers: tuple[str, ...] = ()


def wanted(rules: Rules, family: Family) -> dict[str, Ours]:
    """What of each table shall be ours in `family`; a table that is not named has nothing of ours."""
    part = rules.of(family)
    members = [_net(each) for each in _sorted(part.members)]
    vxlan = (f"-p udp -m udp --dport {rules.vxlan_port}",) if rules.vxlan_port else ()
    to_members = {_TO_MEMBER: tuple(f"-d {each} -j DROP" for each in members)} if vxlan else {}
    from_pods = (*_to_members(rules, vxlan), *_from_pods(rules, family))
    found = {
        "raw": Ours({"routed-from-pod": from_pods, **to_members}, ("PREROUTING -j routed-from-pod",)),
        "filter": Ours(
            {"routed-guard": (*(f"-s {each} -j RETURN" for each in members), "-j DROP")},
            tuple(f"INPUT {tunnel} -j routed-guard" for tunnel in (f"-p {IPIP}", *vxlan)),
        ),
    }
    if part.nat_pools:  # else no connection is tracked for our sake
        found["nat"] = Ours(
            {
                "routed-nat-outgoing": tuple(f"-s {_net(each)} -j {_MASQUERADE}" for each in _sorted(part.nat_pools)),
                _MASQUERADE: (
                    *(f"-d {_net(each)} -j RETURN" for each in _sorted(part.pools)),
                    "-j MASQUERADE --random-fully",  # else two connections may be given one port at once
                ),
            },
            ("POSTROUTING -j routed-nat-outgoing",),
        )
    return found


def _to_members(rules: Rules, vxlan: Iterable[str]) -> Iterator[str]:
    for interface in sorted(rules.pod_interfaces):
        yield from (f"-i {interface} {tunnel} -j {_TO_MEMBER}" for tunnel in vxlan)


def _from_pods(rules: Rules, family: Family) -> tuple[str, ...]:
    lines: list[str] = []
    for interface in sorted(rules.pod_interfaces):
        own = _sorted(s.address for s in rules.pods if s.interface == interface and Family.of(s.address) is family)
        lines.append(f"-i {interface} -p {IPIP} -j DROP")
        lines += [f"-s {_net(each)} -i {interface} -j RETURN" for each in own]
        if family is Family.IPV6:  # neighbour discovery: the kernel forwards neither of the two
            lines.append(f"-s fe80::/10 -i {interface} -j RETURN")
            lines.append(f"-s ::/128 -i {interface} -p ipv6-icmp -j RETURN")
        lines.append(f"-i {interface} -j DROP")
    return tuple(lines)


def read_saved(text: str) -> Saved:
    """What `iptables-save` printed."""
    ours: dict[str, Ours] = {}
    strangers: dict[str, None] = {}
    table = ""
    chains: dict[str, list[str]] = {}
    jumps: list[str] = []
    for line in text.splitlines():
        first, _, rest = line.partition(" ")
        if line.startswith("*"):
            table, chains, jumps = line[1:], {}, []
        elif line.startswith(f":{PREFIX}"):
            chains[first[1:]] = []
        elif first == "-A":
            chain, _, rule = _normal(rest).partition(" ")
            if chain.startswith(PREFIX):
                chains.setdefault(chain, []).append(rule)
            elif _JUMP in rule:
                jumps.append(f"{chain} {rule}")
            else:
                strangers[table] = None
        elif line == "COMMIT" and (chains or jumps):
            ours[table] = Ours({name: tuple(rules) for name, rules in chains.items()}, tuple(jumps))
    return Saved(ours, tuple(strangers))


def restoration(wanted: Mapping[str, Ours], found: Mapping[str, Ours]) -> str:
    """What `iptables-restore --noflush` has to be given to turn `found` into `wanted`; empty for nothing."""
    tables = sorted(wanted.keys() | found.keys())
    return "".join(_table(name, wanted.get(name, Ours()), found.get(name, Ours())) for name in tables)


def alike(wanted: Mapping[str, Ours], found: Mapping[str, Ours]) -> bool:
    """Whether `found` is `wanted` but for the words in which another version of iptables tells a rule."""

    def size(tables: Mapping[str, Ours]) -> object:
        return {
            name: ({chain: len(rules) for chain, rules in ours.chains.items()}, len(ours.jumps))
            for name, ours in tables.items()
        }

    return size(wanted) == size(found)


def _table(name: str, wanted: Ours, found: Ours) -> str:
    if wanted == found:
        return ""
    lines = [f"*{name}"]
    jumps_differ = wanted.jumps != found.jumps
    changed = [chain for chain in wanted.chains if wanted.chains[chain] != found.chains.get(chain)]
    gone = sorted(found.chains.keys() - wanted.chains.keys())
    lines += [f":{chain} - [0:0]" for chain in (*changed, *gone)]  # makes the chain, or empties it
    lines += [f"-D {jump}" for jump in found.jumps if jumps_differ]
    lines += [f"-A {chain} {rule}" for chain in changed for rule in wanted.chains[chain]]
    for jump in reversed(wanted.jumps) if jumps_differ else ():  # each is put before the last
        chain, _, rule = jump.partition(" ")
        lines.append(f"-I {chain} 1 {rule}")  # before what others accept
    lines += [f"-X {chain}" for chain in gone]
    return "\n".join((*lines, "COMMIT\n"))


def _sorted(values: Iterable[object]) -> list[str]:
    return sorted(map(str, values))


def _net(value: str | AnyPrefix) -> str:
    """As iptables-save shows it: an address has its length."""
    text = str(value)
    if "/" in text:
        return text
    return f"{text}/128" if ":" in text else f"{text}/32"


def _normal(rule: str) -> str:
    for named, number in _PROTOCOLS.items():
        rule = rule.replace(f"{named} ", f"{number} ")
    return rule

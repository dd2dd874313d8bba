"""The rules as one table of nftables: `inet routed`. Pure; libnftables-json(5) in and out.

    set members4, members6              who may send us protocol 4 and VXLAN
    set pod_interfaces                  the node's ends of pods' interfaces
    set pod_sources4, pod_sources6      interface and address: what a pod may send with
    set pools4, pools6, nat_pools4, nat_pools6

    chain prerouting   raw (-300)       what comes from a pod jumps to `from_pod`, before connection tracking sees it
    chain from_pod                      protocol 4, and VXLAN to members, are dropped; then the pod's own addresses
                                        pass, all others are dropped
    chain input        filter - 10      protocol 4 and VXLAN to the node itself: members only
    chain postrouting  srcnat (100)     natOutgoing; only where a pool wants it, since it makes the kernel track
                                        every connection of the node

All that differs between nodes is in the sets, so that a pod that comes or goes is one element. Nothing here accepts
what another's chain drops, and a drop here is final: in nftables `accept` ends this table's chain only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Network, ip_network
from typing import Any, cast

from routed.model.address import Family
from routed_felix.firewall.rules import IPIP, Rules

FAMILY = "inet"
NAME = "routed"
_ICMP6 = 58  # the protocol number of ICMPv6
_LINK_LOCAL = IPv6Network("fe80::/10")
_TABLE = {"family": FAMILY, "name": NAME}
_JOIN = " . "  # between the parts of an element, as `nft list` shows them

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """The table in a normal form: two of them are equal when they do the same.

    `chains` holds each chain's hook, and its rules in order, as JSON; `sets` each set's type, as JSON, and `elements`
    its elements, as `nft list` shows them.
    """

    chains: Mapping[str, tuple[str, ...]]
    sets: Mapping[str, str]
    elements: Mapping[str, frozenset[str]]

    @property
    def odd(self) -> bool:
        """Whether an element is there that no table of ours has: a range, one that times out."""
        return any(each.startswith("{") for elements in self.elements.values() for each in elements)


def table_of(rules: Rules) -> Table:
    """The table that carries out `rules`."""
    elements = _elements(rules)
    return Table(
        chains={name: tuple(map(_normal, parts)) for name, parts in _chains(rules).items()},
        sets={name: _normal(_set_type(name)) for name in elements},
        elements=elements,
    )


def read_listing(listing: Json) -> Table:
    """What `nft --json --numeric --stateless list table inet routed` tells. Raises KeyError for another form."""
    chains: dict[str, list[str]] = {}
    sets: dict[str, str] = {}
    elements: dict[str, frozenset[str]] = {}
    for entry in listing["nftables"]:
        for kind, body in entry.items():
            match kind:
                case "chain":
                    chains.setdefault(body["name"], []).append(_normal(_kept(body, ("type", "hook", "prio", "policy"))))
                case "rule":
                    chains.setdefault(body["chain"], []).append(_normal(body["expr"]))
                case "metainfo" | "table":
                    pass
                case _:  # a set, or what no table of ours has
                    sets[body["name"]] = _normal(_kept(body, ("type", "flags")) if kind == "set" else kind)
                    elements[body["name"]] = frozenset(map(_shown, body.get("elem", ())))
    return Table({name: tuple(parts) for name, parts in chains.items()}, sets, elements)


def transaction(wanted: Table, found: Table | None) -> Json | None:
    """What `nft --json --file -` has to do to turn `found` into `wanted`; None for nothing.

    Elements alone are added and removed one by one; for anything else the table is made anew, in the same transaction
    that removes it, so that no packet meets a half of it.
    """
    if wanted == found:
        return None
    if found is None or (found.chains, found.sets) != (wanted.chains, wanted.sets) or found.odd:
        return {"nftables": _made_anew(wanted)}
    commands: list[Json] = []
    for name, elements in wanted.elements.items():
        for verb, difference in (("delete", found.elements[name] - elements), ("add", elements - found.elements[name])):
            if difference:
                commands.append({verb: {"element": {**_in_table(name), "elem": _as_json(difference)}}})
    return {"nftables": commands}


def removal() -> Json:
    """What removes the table."""
    return {"nftables": [{"delete": {"table": _TABLE}}]}


# ---- the chains


def _chains(rules: Rules) -> dict[str, list[Any]]:
    """Each chain's hook, then its rules."""
    interface, protocol = _meta("iifname"), _meta("l4proto")
    vxlan = [_match(_field("udp", "dport"), rules.vxlan_port)]
    families = (("ip", "@members4"), ("ip6", "@members6"))
    chains: dict[str, list[Any]] = {
        "from_pod": [
            {},
            [_match(protocol, IPIP), _COUNT, _DROP],
            *([*vxlan, _match(_field(ip, "daddr"), to), _COUNT, _DROP] for ip, to in families if rules.vxlan_port),
            [_match(_concat(interface, _field("ip", "saddr")), "@pod_sources4"), _ACCEPT],
            [_match(_concat(interface, _field("ip6", "saddr")), "@pod_sources6"), _ACCEPT],
            # neighbour discovery: the kernel forwards neither of the two
            [_match(_field("ip6", "saddr"), _element(str(_LINK_LOCAL))), _ACCEPT],
            [_match(_field("ip6", "saddr"), "::"), _match(protocol, _ICMP6), _ACCEPT],
            [_COUNT, _DROP],
        ],
        "prerouting": [
            _hook("filter", "prerouting", -300),
            [_match(interface, "@pod_interfaces"), {"jump": {"target": "from_pod"}}],
        ],
        "input": [
            _hook("filter", "input", -10),
            *(
                [*tunnel, _match(_field(ip, "saddr"), of, "!="), _COUNT, _DROP]
                for tunnel in ([_match(protocol, IPIP)], vxlan if rules.vxlan_port else [])
                if tunnel
                for ip, of in families
            ),
        ],
    }
    if rules.nat_pools:
        chains["postrouting"] = [
            _hook("nat", "postrouting", 100),
            *(
                [
                    _match(_field(ip, "saddr"), f"@nat_pools{number}"),
                    _match(_field(ip, "daddr"), f"@pools{number}", "!="),
                    {"masquerade": {"flags": "fully-random"}},  # else two connections may be given one port at once
                ]
                for ip, number in (("ip", 4), ("ip6", 6))
            ),
        ]
    return chains


_COUNT: Json = {"counter": None}
_DROP: Json = {"drop": None}
_ACCEPT: Json = {"accept": None}


def _hook(kind: str, hook: str, priority: int) -> Json:
    return {"type": kind, "hook": hook, "prio": priority, "policy": "accept"}


def _meta(key: str) -> Json:
    return {"meta": {"key": key}}


def _field(protocol: str, name: str) -> Json:
    return {"payload": {"protocol": protocol, "field": name}}


def _concat(*parts: Json) -> Json:
    return {"concat": list(parts)}


def _match(left: Json, right: Any, operator: str = "==") -> Json:
    return {"match": {"op": operator, "left": left, "right": right}}


# ---- the sets


def _elements(rules: Rules) -> dict[str, frozenset[str]]:
    found = {"pod_interfaces": rules.pod_interfaces}
    for number, part in ((4, rules.of(Family.IPV4)), (6, rules.of(Family.IPV6))):
        found[f"members{number}"] = frozenset(map(str, part.members))
        found[f"pod_sources{number}"] = frozenset(f"{pod.interface}{_JOIN}{pod.address}" for pod in part.pods)
        found[f"pools{number}"] = frozenset(map(_prefix, part.pools))
        found[f"nat_pools{number}"] = frozenset(map(_prefix, part.nat_pools))
    return found


def _set_type(name: str) -> Json:
    address = "ipv6_addr" if name.endswith("6") else "ipv4_addr"
    match name.rstrip("46"):
        case "pod_interfaces":
            return {"type": "ifname"}
        case "pod_sources":
            return {"type": ["ifname", address]}
        case "members":
            return {"type": address}
        case _:
            return {"type": address, "flags": "interval"}


def _prefix(value: object) -> str:
    """A prefix as nftables lists it: a single address has no length."""
    network = ip_network(str(value))
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def _element(shown: str) -> Any:
    """The JSON of an element."""
    if _JOIN in shown:
        return {"concat": shown.split(_JOIN)}
    address, slash, length = shown.partition("/")
    return {"prefix": {"addr": address, "len": int(length)}} if slash else shown


def _shown(element: Any) -> str:
    """The element of that JSON; the JSON itself where it is no element of ours."""
    match element:
        case str():
            return element
        case {"prefix": {"addr": str(address), "len": int(length)}}:
            return f"{address}/{length}"
        case {"concat": [*parts]} if all(isinstance(part, str) for part in parts):
            return _JOIN.join(parts)
        case _:
            return _normal(element)


# ---- JSON


def _made_anew(wanted: Table) -> list[Json]:
    commands: list[Json] = [{verb: {"table": _TABLE}} for verb in ("add", "delete", "add")]  # the first for the second
    for name, definition in wanted.sets.items():
        body = {**_in_table(name), **json.loads(definition)}
        if "flags" in body:
            body["flags"] = [body["flags"]]  # it reads no other form
        if wanted.elements[name]:
            body["elem"] = _as_json(wanted.elements[name])
        commands.append({"add": {"set": body}})
    for name, (hook, *_) in wanted.chains.items():
        commands.append({"add": {"chain": {**_in_table(name), **json.loads(hook)}}})
    for name, (_, *rules) in wanted.chains.items():
        for rule in rules:
            body = {"family": FAMILY, "table": NAME, "chain": name, "expr": json.loads(rule)}
            commands.append({"add": {"rule": body}})
    return commands


def _in_table(name: str) -> Json:
    return {"family": FAMILY, "table": NAME, "name": name}


def _as_json(elements: Iterable[str]) -> list[Any]:
    return [_element(each) for each in sorted(elements)]


def _kept(body: Json, keys: tuple[str, ...]) -> Json:
    return {key: body[key] for key in keys if key in body}


def _normal(value: Any) -> str:
    return json.dumps(_tidy(value), sort_keys=True)


def _tidy(value: Any) -> Any:
    """A single flag as a word: nftables 1.0 lists it in brackets, 1.1 without."""
    match value:
        case {"flags": [flag], **rest}:
            return {**_tidy(rest), "flags": flag}
        case dict():
            return {key: _tidy(each) for key, each in cast("dict[str, Any]", value).items()}
        case [*parts]:
            return [_tidy(each) for each in parts]
        case _:
            return value

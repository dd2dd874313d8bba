"""The links of a topology file, in both of containerlab's notations. Pure.

    - endpoints: ["a:eth1", "b:eth1"]                     brief; `host:IF` or `mgmt-net:IF` may be one end
    - type: veth, endpoints: [{node, interface, mac}, ..]
    - type: host, host-interface: IF, endpoint: {node, interface, mac}
    - type: mgmt-net, host-interface: IF, endpoint: {..}
    - type: dummy, endpoint: {..}

All may have `mtu`, 9500 bytes by default (links/link.go), and `labels` and `vars`, which are for templates. macvlan and
vxlan links reach beyond the lab and are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import yaml

from routed_lab.topology.document import Value
from routed_lab.topology.model import DEFAULT_MTU, HOST, MANAGEMENT, Dummy, End, Kind, LabNode, Link
from routed_lab.topology.nodes import INTERFACE

_COMMON: Final = ("type", "mtu", "labels", "vars")
_TYPES: Final = ("veth", "host", "mgmt-net", "dummy")
_BEYOND: Final = ("macvlan", "vxlan", "vxlan-stitch", "veth-stitch")
_LEAST_MTU: Final = 68  # RFC 791: every link must carry as much
_MOST_MTU: Final = 65535
_MAC = re.compile(
    r"(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}|(?:[0-9a-fA-F]{2}-){5}[0-9a-fA-F]{2}|(?:[0-9a-fA-F]{4}\.){2}[0-9a-fA-F]{4}"
)


@dataclass(frozen=True, slots=True)
class Links:
    """All links of a file."""

    cables: tuple[Link, ...] = ()
    dummies: tuple[Dummy, ...] = ()


def links(value: Value, nodes: Mapping[str, LabNode], reserved: Mapping[str, str]) -> Links:
    """What stands under `links`; `reserved` are the interfaces that nodes have already, with what has them, by node.

    Raises OperatorError for a link that is none, at a node or an interface that cannot be had, or of a kind that
    reaches beyond the lab.
    """
    reader = _Reader(nodes, reserved)
    cables: list[Link] = []
    dummies: list[Dummy] = []
    for number, item in enumerate(value.named("links").list(), 1):
        link = reader.link(item.named(f"link {number}"))
        if isinstance(link, Dummy):
            dummies.append(link)
        else:
            cables.append(link)
    return Links(tuple(cables), tuple(dummies))


def mentions(value: Value, where: str) -> bool:
    """Whether a link of this type, or a brief one with such an end, stands under `links`."""
    for item in value.named("links").list():
        for key, entry in item.items():
            if key.text() == "type" and _is_text(entry) and entry.text().strip().lower() == where:
                return True
            if key.text() == "endpoints":
                texts = (end.text() for end in entry.list() if _is_text(end))
                if any(text.partition(":")[0].strip().lower() == where for text in texts):
                    return True
    return False


class _Reader:
    def __init__(self, nodes: Mapping[str, LabNode], reserved: Mapping[str, str]) -> None:
        self._nodes = nodes
        self._reserved = reserved
        self._taken: dict[tuple[str, str], tuple[End, int]] = {
            (self._place(node.name), node.bridge): (End(node.name, node.bridge), node.line)
            for node in nodes.values()
            if node.kind is Kind.BRIDGE
        }

    def link(self, value: Value) -> Link | Dummy:
        given = dict(value.items())
        kind = next((entry.text() for key, entry in given.items() if key.text() == "type" and not entry.empty), "brief")
        kind = kind.strip().lower()
        if kind in _BEYOND:
            raise value.error(
                f"{value.what} is of type {kind}, which reaches beyond the lab; this lab makes {', '.join(_TYPES)}",
                hint="connect the nodes with each other, or with the machine by a link of type host",
            )
        if kind == "brief":
            return self._brief(value)
        if kind == "veth":
            return self._veth(value)
        if kind == "dummy":
            return self._dummy(value)
        if kind in (HOST, MANAGEMENT):
            return self._to(kind, value)
        raise value.error(f'{value.what} is of type "{kind}", expected {", ".join(_TYPES)}, or none and two endpoints')

    def _brief(self, value: Value) -> Link:
        keys = value.fields((*_COMMON, "endpoints"), required=("endpoints",))
        left, right = (self._brief_end(end) for end in _two(value, keys["endpoints"]))
        return Link(left, right, _mtu(keys))

    def _veth(self, value: Value) -> Link:
        keys = value.fields((*_COMMON, "endpoints"), required=("endpoints",))
        (left, left_mac), (right, right_mac) = (self._end(end) for end in _two(value, keys["endpoints"]))
        return Link(left, right, _mtu(keys), left_mac, right_mac)

    def _to(self, where: str, value: Value) -> Link:
        keys = value.fields((*_COMMON, "host-interface", "endpoint"), required=("host-interface", "endpoint"))
        end, mac = self._end(keys["endpoint"])
        other = self._take(keys["host-interface"], where, keys["host-interface"].text())
        return Link(end, other, _mtu(keys), mac)

    def _dummy(self, value: Value) -> Dummy:
        keys = value.fields((*_COMMON, "endpoint"), required=("endpoint",))
        end, mac = self._end(keys["endpoint"])
        if self._nodes[end.node].kind is Kind.BRIDGE:
            raise value.error(f"{value.what} is a dummy at the bridge {end.node}; a dummy is an interface of a node")
        return Dummy(end, _mtu(keys), mac)

    def _brief_end(self, value: Value) -> End:
        node, colon, interface = value.text().partition(":")
        if not colon:
            raise _form(value)
        special = node.strip().lower()
        if special in _BEYOND[:1]:
            raise value.error(f"{value.what} is at {node}, which reaches beyond the lab")
        return self._take(value, special if special in (HOST, MANAGEMENT) else node, interface)

    def _end(self, value: Value) -> tuple[End, str | None]:
        keys = value.fields(("node", "interface", "mac", "vars"), required=("node", "interface"))
        if keys["node"].text() in (HOST, MANAGEMENT) and keys["node"].text() not in self._nodes:
            raise value.error(
                f"{value.what} is at {keys['node'].text()}",
                hint=f"write type: {keys['node'].text()} with host-interface and endpoint, or the brief notation",
            )
        return self._take(value, keys["node"].text(), keys["interface"].text()), _mac(keys.get("mac"))

    def _take(self, value: Value, node: str, interface: str) -> End:
        """The end `interface` of `node`, taken for this link."""
        if not INTERFACE.fullmatch(interface) or interface in (".", "..", "lo"):
            raise _form(value)
        if node not in self._nodes and node not in (HOST, MANAGEMENT):
            raise value.error(
                f'{value.what} is at node "{node}", which the topology does not have; it has {", ".join(self._nodes)}'
            )
        end = End(node, interface)
        place = self._place(node)
        if place in self._reserved and interface == "eth0":
            raise value.error(f"{value.what} is at {end}, which is {self._reserved[place]}; name it eth1 or above")
        if self._is_bridge(node) and interface == self._nodes[node].bridge:
            raise value.error(f"{value.what} is at {end}, which is the bridge itself")
        if (place, interface) in self._taken:
            other, line = self._taken[place, interface]
            because = (
                "an interface has one cable" if other == end else f"{other.node} and {node} share a network namespace"
            )
            raise value.error(f"{value.what} is at {end}, which is in use on line {line}; {because}")
        self._taken[place, interface] = (end, value.line)
        return end

    def _is_bridge(self, node: str) -> bool:
        return node in self._nodes and self._nodes[node].kind is Kind.BRIDGE

    def _place(self, node: str) -> str:
        """Where containerlab puts the interfaces of `node`: it has bridges, HOST and MANAGEMENT all on the machine.

        In this lab bridges have namespaces of their own; a file that is good here is to be good there.
        """
        while (found := self._nodes.get(node)) is not None and found.joins is not None and found.joins != HOST:
            node = found.joins
        if node in (HOST, MANAGEMENT) or self._nodes[node].joins == HOST or self._is_bridge(node):
            return HOST
        return node


def _two(link: Value, value: Value) -> tuple[Value, Value]:
    ends = value.named(link.what).list()
    if len(ends) != 2:
        told = ", ".join("a mapping" if not _is_text(end) else end.text() for end in ends) or "none"
        raise link.error(
            f"{link.what} has {len(ends)} end{'s' * (len(ends) != 1)} ({told}), expected two",
            hint='write endpoints: ["NODE:INTERFACE", "NODE:INTERFACE"]',
        )
    left, right = (end.named(f"an end of {link.what}") for end in ends)
    return left, right


def _is_text(value: Value) -> bool:
    return isinstance(value.node, yaml.ScalarNode) and not value.empty


def _form(value: Value) -> Exception:
    text = f'"{value.text()}"' if _is_text(value) else "a mapping"
    return value.error(
        f"{value.what} is {text}, expected NODE:INTERFACE with an interface name of at most 15 characters"
    )


def _mtu(keys: Mapping[str, Value]) -> int:
    if "mtu" not in keys:
        return DEFAULT_MTU
    return keys["mtu"].integer(_LEAST_MTU, _MOST_MTU)


def _mac(value: Value | None) -> str | None:
    if value is None:
        return None
    text = value.text()
    digits = re.sub(r"[:.-]", "", text).lower()
    if not _MAC.fullmatch(text) or int(digits[:2], 16) & 1 or not int(digits, 16):
        raise value.error(
            f'the mac is "{text}", expected six bytes as 02:00:00:00:00:01, of one interface and not a group'
        )
    return ":".join(digits[n : n + 2] for n in range(0, 12, 2))

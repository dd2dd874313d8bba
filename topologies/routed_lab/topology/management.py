"""The management network: who is in it, and with which addresses. Pure.

Containerlab gives every container an eth0 in a network of the container runtime. A lab of namespaces has one when its
file asks for it: by `mgmt`, by a node's `mgmt-ipv4` or `mgmt-ipv6`, or by a link to `mgmt-net`. Nodes whose
network-mode is none, host or container:X are not in it. The addresses are the node's own, else the next that is free,
in the order of the nodes' names; subnets are containerlab's unless the file says otherwise (core/config.go).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    NetmaskValueError,
    ip_address,
    ip_network,
)
from typing import Final, TypeAlias

from routed_lab.topology.document import Value
from routed_lab.topology.inheritance import Settings
from routed_lab.topology.keys import Warnings
from routed_lab.topology.model import Kind, LabNode, Management

INTERFACE: Final = "eth0"
"""A node's interface in the management network."""

_Network: TypeAlias = IPv4Network | IPv6Network
_Address: TypeAlias = IPv4Address | IPv6Address
_Interface: TypeAlias = IPv4Interface | IPv6Interface

_KEYS = (
    "network", "bridge", "ipv4-subnet", "ipv4-gw", "ipv4-range", "ipv6-subnet", "ipv6-gw", "ipv6-range", "mtu",
    "external-access", "driver", "driver-opts", "macvlan-parent", "macvlan-mode", "macvlan-aux",
)  # fmt: skip
_RUNTIME = ("external-access", "driver-opts", "macvlan-parent", "macvlan-mode", "macvlan-aux")
_DEFAULTS = {4: "172.20.20.0/24", 6: "3fff:172:20:20::/64"}
_MTU = 1500  # what Docker gives its bridges


def management(
    mgmt: Value | None, nodes: Mapping[str, LabNode], settings: Mapping[str, Settings], warnings: Warnings
) -> Management:
    """The network of a file that wants one; `mgmt` is the file's key. Raises OperatorError."""
    keys = mgmt.fields(_KEYS) if mgmt is not None else {}
    for key in _RUNTIME:
        if key in keys:
            warnings.say(f"mgmt.{key}", keys[key], "the management network is a bridge of this lab alone")
    if "driver" in keys and keys["driver"].text() != "bridge":
        raise keys["driver"].error(f'mgmt.driver is "{keys["driver"].text()}"; this lab makes only bridge')
    members = {
        name: settings[name]
        for name, node in sorted(nodes.items())
        if node.kind in (Kind.LINUX, Kind.EXTERNAL)
        and node.joins is None
        and settings[name].scalar("network-mode") != "none"
    }
    said = [number for number in (4, 6) if f"ipv{number}-subnet" in keys]
    wanted = said or (4, 6)
    for name, node in settings.items():
        for number in (4, 6):
            key = f"mgmt-ipv{number}"
            if key in node.scalars and (name not in members or number not in wanted):
                why = "is not in the management network" if name not in members else f"has no IPv{number} there"
                raise node.scalars[key].error(f"node {name} has {key} and {why}")
    given: dict[str, tuple[_Interface, ...]] = dict.fromkeys(members, ())
    gateways: list[_Interface] = []
    for number in wanted:
        gateway, addresses = _Family(number, keys).assign(members)
        gateways.append(gateway)
        given = {name: (*held, addresses[name]) for name, held in given.items()}
    return Management(
        bridge=keys["bridge"].text()[:15] if "bridge" in keys else "mgmt",
        mtu=keys["mtu"].integer(68, 65535) if "mtu" in keys else _MTU,
        gateways=tuple(gateways),
        addresses=given,
    )


class _Family:
    """The subnet of one address family, and who has which of its addresses."""

    def __init__(self, number: int, keys: Mapping[str, Value]) -> None:
        self._number = number
        self._keys = keys
        self._subnet = self._network("subnet") or ip_network(_DEFAULTS[number])
        self._range = self._network("range") or self._subnet
        if self._range.version != self._subnet.version or not _within(self._range, self._subnet):
            raise keys[f"ipv{number}-range"].error(f"mgmt.ipv{number}-range {self._range} is not in {self._subnet}")
        if self._subnet.num_addresses < 4:  # its own address, the bridge, a node, broadcast
            raise keys[f"ipv{number}-subnet"].error(f"mgmt.ipv{number}-subnet {self._subnet} has no room for a node")

    def assign(self, members: Mapping[str, Settings]) -> tuple[_Interface, Mapping[str, _Interface]]:
        """The bridge's address, and one for each of `members`."""
        gateway_key = self._keys.get(f"ipv{self._number}-gw")
        gateway = self._subnet[1] if gateway_key is None else self._address(gateway_key)
        owner: dict[_Address, str] = {gateway: "the bridge"}
        own: dict[str, _Address] = {}
        for name, settings in members.items():
            if (value := settings.scalars.get(f"mgmt-ipv{self._number}")) is not None:
                address = own[name] = self._address(value)
                if address in owner:
                    raise value.error(f"node {name} has the management address {address} of {owner[address]}")
                owner[address] = f"node {name}"
        free = self._free(owner)
        for name in members:
            if name not in own:
                try:
                    own[name] = next(free)
                except StopIteration:
                    raise self._keys[f"ipv{self._number}-subnet"].error(
                        f"mgmt: {self._range} has no address left for node {name}"
                    ) from None
        return self._interface(gateway), {name: self._interface(address) for name, address in own.items()}

    def _free(self, owner: Mapping[_Address, str]) -> Iterator[_Address]:
        outer = {self._subnet.network_address, self._subnet.broadcast_address}
        return (address for address in self._range if address not in owner and address not in outer)

    def _interface(self, address: _Address) -> _Interface:
        if isinstance(address, IPv4Address):
            return IPv4Interface((address, self._subnet.prefixlen))
        return IPv6Interface((address, self._subnet.prefixlen))

    def _network(self, what: str) -> _Network | None:
        value = self._keys.get(f"ipv{self._number}-{what}")
        if value is None or value.text() == "auto":
            return None
        try:
            network = ip_network(value.text(), strict=False)
        except ValueError:
            network = None
        if network is None or network.version != self._number:
            raise value.error(
                f'mgmt.ipv{self._number}-{what} is "{value.text()}", expected an IPv{self._number} prefix'
            )
        return network

    def _address(self, value: Value) -> _Address:
        try:
            address = ip_address(value.text().partition("/")[0])
        except (AddressValueError, NetmaskValueError, ValueError):
            address = None
        if address is None or address.version != self._number or address not in self._subnet:
            raise value.error(f'{value.what} is "{value.text()}", expected an address in {self._subnet}')
        return address


def _within(inner: _Network, outer: _Network) -> bool:
    return inner.network_address in outer and inner.prefixlen >= outer.prefixlen

"""The lab's cables, by rtnetlink: spawning `ip` costs 16 ms each inside User-mode Linux."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import TYPE_CHECKING

from routed.errors import EnvironmentFault
from routed.netlink import constants as c
from routed.netlink import message
from routed.netlink.constants import Flag, Ifa, Ifla, Msg
from routed.netlink.socket import Netlink, NetlinkError, inside

if TYPE_CHECKING:
    from routed_lab.topology import Link


def connect(links: Iterable[Link], namespaces: Mapping[str, Path]) -> None:
    """Make a veth pair per link, each end born in its node under its name, and set all links up, lo included.

    `namespaces` by node. Raises EnvironmentFault with the kernel's reason.
    """
    interfaces: dict[str, list[str]] = {node: ["lo"] for node in namespaces}
    for link in links:
        for end in link.ends:
            interfaces[end.node].append(end.interface)
        try:
            _veth(link, namespaces)
        except NetlinkError as error:
            raise EnvironmentFault(f"cannot make the link {link.left} - {link.right}: {error.strerror}") from error
    for node, names in interfaces.items():
        up(namespaces[node], names)


def up(namespace: Path, interfaces: Iterable[str]) -> None:
    """Set interfaces of a namespace up."""
    names = list(interfaces)
    body = message.IFINFO.pack(0, 0, 0, c.IFF_UP, c.IFF_UP)
    with Netlink.open_in(namespace) as kernel:
        failures = kernel.batch([(Msg.SETLINK, 0, body + message.text(Ifla.IFNAME, name)) for name in names])
    for index, number in failures.items():
        raise EnvironmentFault(f"cannot set {names[index]} in {namespace.name} up: {os.strerror(number)}")


def forward(namespace: Path) -> None:
    """Let the kernel of a namespace forward IPv4, as containers' do."""
    with inside(namespace):
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1", encoding="ascii")


def addresses(namespace: Path) -> dict[str, list[str]]:
    """The IPv4 addresses of a namespace by interface, lo left out."""
    with Netlink.open_in(namespace) as kernel:
        links = kernel.dump(Msg.GETLINK, message.IFINFO.pack(0, 0, 0, 0, 0))
        held = kernel.dump(Msg.GETADDR, message.IFADDR.pack(message.AF_INET, 0, 0, 0, 0))
    names: dict[int, str] = {}
    for link in links:
        index = message.IFINFO.unpack_from(link.body)[2]
        names[index] = message.as_text(message.attrs(link.body, message.IFINFO.size)[Ifla.IFNAME])
    found: dict[str, list[str]] = {}
    for entry in held:
        _, length, _, _, index = message.IFADDR.unpack_from(entry.body)
        attributes = message.attrs(entry.body, message.IFADDR.size)
        name = names.get(index, "lo")
        if name != "lo" and Ifa.LOCAL in attributes:
            address = IPv4Interface((IPv4Address(attributes[Ifa.LOCAL]), length))
            found.setdefault(name, []).append(str(address))
    return found


def _veth(link: Link, namespaces: Mapping[str, Path]) -> None:
    """One message makes both ends; sent from the left end's namespace, or a name there would be looked up here."""
    with namespaces[link.right.node].open("rb") as other, Netlink.open_in(namespaces[link.left.node]) as kernel:
        empty = message.IFINFO.pack(0, 0, 0, 0, 0)
        peer = message.attr(
            Ifla.VETH_INFO_PEER,
            empty + message.text(Ifla.IFNAME, link.right.interface) + message.u32(Ifla.NET_NS_FD, other.fileno()),
        )
        info = message.nest(Ifla.LINKINFO, message.text(Ifla.INFO_KIND, "veth"), message.nest(Ifla.INFO_DATA, peer))
        body = empty + message.text(Ifla.IFNAME, link.left.interface) + info
        kernel.request(Msg.NEWLINK, body, Flag.CREATE | Flag.EXCL)

"""The lab's interfaces, by rtnetlink: spawning `ip` costs 16 ms each inside User-mode Linux."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from pathlib import Path
from typing import TYPE_CHECKING

from routed.errors import ConflictError, EnvironmentFault, OperatorError
from routed.netlink import constants as c
from routed.netlink import message
from routed.netlink.constants import Flag, Ifa, Ifla, Msg
from routed.netlink.objects import AddressEntry
from routed.netlink.socket import Netlink, NetlinkError, inside
from routed_lab.topology import HOST

if TYPE_CHECKING:
    from routed_lab.topology import Dummy, Link

_EMPTY = message.IFINFO.pack(0, 0, 0, 0, 0)
_IFA_F_NODAD = 0x02  # linux/if_addr.h: a lab's addresses are unique


def connect(links: Iterable[Link], namespaces: Mapping[str, Path]) -> None:
    """Make a veth pair per link, down, each end born in its node under its name.

    `namespaces` by node, the machine (HOST) and the management network among them. Raises ConflictError when the
    machine has an interface of that name, EnvironmentFault with the kernel's reason for anything else.
    """
    for link in links:
        try:
            _veth(link, namespaces)
        except NetlinkError as error:
            if error.errno == errno.EEXIST and (ours := [end for end in link.ends if end.node == HOST]):
                raise ConflictError(
                    f"the machine has an interface {ours[0].interface} already, which is not this lab's",
                    hint="name the host's end of the link otherwise, or remove it with: ip link delete "
                    + ours[0].interface,
                ) from error
            raise EnvironmentFault(f"cannot make the link {link.left} - {link.right}: {error.strerror}") from error


def dummy(interface: Dummy, namespace: Path) -> None:
    """Make an interface that leads nowhere, down; EnvironmentFault with the kernel's reason."""
    body = _EMPTY + _named(interface.end.interface, interface.mtu, interface.mac)
    body += message.nest(Ifla.LINKINFO, message.text(Ifla.INFO_KIND, "dummy"))
    with Netlink.open_in(namespace) as kernel:
        _request(kernel, Msg.NEWLINK, body, Flag.CREATE | Flag.EXCL, f"make the dummy {interface.end}")


def bridge(name: str, ports: Iterable[str], namespace: Path) -> None:
    """Make a bridge with `ports`, interfaces that are there, and set it up; its MTU is the least of theirs."""
    with Netlink.open_in(namespace) as kernel:
        body = _EMPTY + message.text(Ifla.IFNAME, name)
        body += message.nest(Ifla.LINKINFO, message.text(Ifla.INFO_KIND, "bridge"))
        _request(kernel, Msg.NEWLINK, body, Flag.CREATE | Flag.EXCL, f"make the bridge {name}")
        index = _index(kernel, name)
        for port in ports:
            body = _EMPTY + message.text(Ifla.IFNAME, port) + message.u32(Ifla.MASTER, index)
            _request(kernel, Msg.SETLINK, body, 0, f"make {port} a port of {name}")
    up(namespace, [name])


def assign(namespace: Path, interface: str, held: Iterable[IPv4Interface | IPv6Interface]) -> None:
    """Give an interface addresses that count at once; EnvironmentFault with the kernel's reason."""
    with Netlink.open_in(namespace) as kernel:
        index = _index(kernel, interface)
        for address in held:
            body = AddressEntry(index, address).pack() + message.u32(Ifa.FLAGS, _IFA_F_NODAD)
            _request(kernel, Msg.NEWADDR, body, Flag.CREATE | Flag.EXCL, f"give {interface} the address {address}")


def mark(namespace: Path, interface: str, alias: str) -> None:
    """Write into the kernel whose interface it is."""
    with Netlink.open_in(namespace) as kernel:
        body = _EMPTY + message.text(Ifla.IFNAME, interface) + message.text(Ifla.IFALIAS, alias)
        _request(kernel, Msg.SETLINK, body, 0, f"mark {interface}")


def delete(namespace: Path, interface: str, alias: str) -> None:
    """Delete an interface that is marked with `alias`; nothing when it is gone, or another's by now."""
    with Netlink.open_in(namespace) as kernel:
        try:
            found = kernel.get(Msg.GETLINK, _EMPTY + message.text(Ifla.IFNAME, interface))
            if message.attrs(found.body, message.IFINFO.size).get(Ifla.IFALIAS, b"").rstrip(b"\0") == alias.encode():
                kernel.request(Msg.DELLINK, _EMPTY + message.text(Ifla.IFNAME, interface))
        except NetlinkError as error:
            if error.errno != errno.ENODEV:
                raise EnvironmentFault(f"cannot delete the interface {interface}: {error.strerror}") from error


def up(namespace: Path, interfaces: Iterable[str]) -> None:
    """Set interfaces of a namespace up."""
    names = list(interfaces)
    body = message.IFINFO.pack(0, 0, 0, c.IFF_UP, c.IFF_UP)
    with Netlink.open_in(namespace) as kernel:
        failures = kernel.batch([(Msg.SETLINK, 0, body + message.text(Ifla.IFNAME, name)) for name in names])
    for index, number in failures.items():
        raise EnvironmentFault(f"cannot set {names[index]} in {namespace.name} up: {os.strerror(number)}")


def switch(namespace: Path, interface: str, *, up: bool) -> None:
    """Set one interface up or down; EnvironmentFault when the kernel refuses."""
    body = message.IFINFO.pack(0, 0, 0, c.IFF_UP if up else 0, c.IFF_UP)
    with Netlink.open_in(namespace) as kernel:
        try:
            kernel.request(Msg.SETLINK, body + message.text(Ifla.IFNAME, interface))
        except NetlinkError as error:
            state = "up" if up else "down"
            raise EnvironmentFault(f"cannot set {interface} in {namespace.name} {state}: {error.strerror}") from error


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


def set_sysctls(namespace: Path, node: str, sysctls: Mapping[str, str]) -> None:
    """Set a node's sysctls, all of them below net; OperatorError for one that this kernel does not have or take."""
    for name, value in sysctls.items():
        path = Path("/proc/sys", name if "/" in name else name.replace(".", "/"))
        try:
            with inside(namespace):
                path.write_text(value, encoding="utf-8")
        except OSError as error:
            raise OperatorError(
                f'cannot set the sysctl {name} of {node} to "{value}": {error.strerror}',
                hint="correct the key sysctls; those of an interface can be set only once it is there, by exec",
            ) from error


def _veth(link: Link, namespaces: Mapping[str, Path]) -> None:
    """One message makes both ends; sent from the left end's namespace, or a name there would be looked up here."""
    left, right = link.ends
    with namespaces[right.node].open("rb") as other, Netlink.open_in(namespaces[left.node]) as kernel:
        peer = message.attr(
            Ifla.VETH_INFO_PEER,
            _EMPTY + _named(right.interface, link.mtu, link.right_mac) + message.u32(Ifla.NET_NS_FD, other.fileno()),
        )
        info = message.nest(Ifla.LINKINFO, message.text(Ifla.INFO_KIND, "veth"), message.nest(Ifla.INFO_DATA, peer))
        body = _EMPTY + _named(left.interface, link.mtu, link.left_mac) + info
        kernel.request(Msg.NEWLINK, body, Flag.CREATE | Flag.EXCL)


def _named(interface: str, mtu: int, mac: str | None) -> bytes:
    address = message.attr(Ifla.ADDRESS, bytes.fromhex(mac.replace(":", ""))) if mac is not None else b""
    return message.text(Ifla.IFNAME, interface) + message.u32(Ifla.MTU, mtu) + address


def _index(kernel: Netlink, interface: str) -> int:
    found = kernel.get(Msg.GETLINK, _EMPTY + message.text(Ifla.IFNAME, interface))
    index: int = message.IFINFO.unpack_from(found.body)[2]
    return index


def _request(kernel: Netlink, kind: Msg, body: bytes, flags: int, what: str) -> None:
    try:
        kernel.request(kind, body, flags)
    except NetlinkError as error:
        raise EnvironmentFault(f"cannot {what}: {error.strerror}") from error

"""Targets: the tunnel device and its address.

Linux makes one `tunl0` per network namespace with the ipip module (unless net.core.fb_tunnels_only_for_init_net says
otherwise; then we make it), and that one cannot be deleted. So what is ours is said in the kernel: the link's alias is
`routed:tunnel` if and only if it was us who set it up (`routed:tunnel made` if we made the device as well), and our
addresses carry our protocol number (IFA_PROTO, Linux 5.18).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from routed.model.address import Family, HostAddress
from routed.netlink import constants as c
from routed.netlink.constants import Flag, Ifla, Iptun, Msg
from routed.netlink.message import IFADDR, IFINFO, attr, nest, text, u32
from routed.netlink.objects import AF, DUMP_LINKS, AddressEntry, LinkEntry
from routed.netlink.socket import Netlink, NetlinkError
from routed.reconcile import Delta
from routed_felix.state import TUNNEL_ALIAS, TUNNEL_KIND, TUNNEL_MODULE, Conflict, Link

MADE_ALIAS = f"{TUNNEL_ALIAS} made"
_OURS = {TUNNEL_ALIAS, MADE_ALIAS}
_IPPROTO_UDP = 17
_NO_DRIVER = {errno.EOPNOTSUPP, errno.ENODEV, errno.EPERM}


def dump_links(netlink: Netlink) -> list[LinkEntry]:
    """All links of the namespace. Raises NetlinkError."""
    return [LinkEntry.unpack(m.body) for m in netlink.dump(Msg.GETLINK, DUMP_LINKS) if m.type == Msg.NEWLINK]


def dump_addresses(netlink: Netlink, family: Family = Family.IPV4, index: int = 0) -> list[AddressEntry]:
    """All addresses of the namespace in `family`; or of the link `index`, and of others where the kernel does not
    filter (Linux before 5.0). Raises NetlinkError: ENODEV when there is no such link.
    """
    body = IFADDR.pack(AF[family], 0, 0, 0, index)
    found = (AddressEntry.unpack(m.body) for m in netlink.dump(Msg.GETADDR, body) if m.type == Msg.NEWADDR)
    # a kernel that was booted without IPv6 answers with what it has
    return [entry for entry in found if Family.of(entry.address) is family]


def find_link(netlink: Netlink, name: str) -> LinkEntry | None:
    """The link called `name`, if there is one."""
    try:
        return LinkEntry.unpack(netlink.get(Msg.GETLINK, IFINFO.pack(0, 0, 0, 0, 0) + text(Ifla.IFNAME, name)).body)
    except NetlinkError as error:
        if error.errno == errno.ENODEV:
            return None
        raise


def driver_available(netlink: Netlink, device: str, *, modules: Path = Path("/lib/modules")) -> bool:
    """Whether `device` is there as a tunnel or can be made; changes nothing.

    Without the device, the module's file answers; without that, the kernel: a request that is invalid for the driver
    (a protocol it cannot carry, and no CREATE) is EINVAL from a kernel that has the driver built in or loaded, and
    something else from one that has not.
    """
    found = find_link(netlink, device)
    if found is not None:
        return found.kind == TUNNEL_KIND
    if driver_listed(TUNNEL_MODULE, modules):
        return True
    impossible = nest(Ifla.INFO_DATA, attr(Iptun.PROTO, bytes([_IPPROTO_UDP])))
    probe = nest(Ifla.LINKINFO, text(Ifla.INFO_KIND, TUNNEL_KIND), impossible)
    try:
        netlink.request(Msg.NEWLINK, IFINFO.pack(0, 0, 0, 0, 0) + text(Ifla.IFNAME, device) + probe)
    except NetlinkError as error:
        return error.errno == errno.EINVAL
    return False


def driver_listed(module: str, modules: Path) -> bool:
    """Whether the kernel's lists of modules, below `modules`, have `module`."""
    tree = modules / os.uname().release
    for listing in ("modules.dep", "modules.builtin"):
        try:
            lines = (tree / listing).read_text(errors="replace").splitlines()
        except OSError:
            continue
        if any(Path(line.split(":")[0]).name.split(".")[0] == module for line in lines if line):
            return True
    return False


class TunnelLink:
    """The tunnel device, up with its MTU. A stranger's is used as it is when `wanted`, and never set down."""

    def __init__(self, netlink: Netlink, device: str, wanted: Mapping[str, Link]) -> None:
        self._netlink = netlink
        self._device = device
        self._wanted = wanted.get(device)

    def list(self) -> Mapping[str, Link]:
        """The device, if it is ours or wanted. Raises NetlinkError."""
        found = find_link(self._netlink, self._device)
        if found is None or found.kind != TUNNEL_KIND or (self._wanted is None and found.alias not in _OURS):
            return {}
        any_mtu = self._wanted is not None and self._wanted.mtu is None
        return {self._device: Link(found.kind, None if any_mtu else found.mtu, found.administratively_up)}

    def apply(self, delta: Delta[str, Link]) -> Mapping[str, str]:
        """Make it if need be, set it up and mark it; or, if it is ours, set it down. Returns reasons by name."""
        try:
            for link in (*delta.create.values(), *delta.replace.values()):
                self._set_up(link)
            if self._device in delta.delete and (reason := self._set_down()):
                return {self._device: reason}
        except NetlinkError as error:
            if error.errno in _NO_DRIVER and find_link(self._netlink, self._device) is None:
                return {self._device: f"no IPIP driver ({os.strerror(error.errno or 0)}): modprobe {TUNNEL_MODULE}"}
            return {self._device: os.strerror(error.errno or 0)}
        return {}

    def _set_up(self, link: Link) -> None:
        found = find_link(self._netlink, self._device)
        made = False
        if found is None:
            made = self._make()
            found = find_link(self._netlink, self._device)
            if found is None:
                raise NetlinkError(errno.ENODEV, os.strerror(errno.ENODEV))
        if found.kind != TUNNEL_KIND:
            raise NetlinkError(errno.EEXIST, f"{self._device} is of kind {found.kind}")
        body = b""
        if link.mtu is not None and link.mtu != found.mtu:
            body += u32(Ifla.MTU, link.mtu)
        if not found.administratively_up:
            alias = MADE_ALIAS if made or found.alias == MADE_ALIAS else TUNNEL_ALIAS
            body += attr(Ifla.IFALIAS, alias.encode())  # no NUL, the kernel would keep it
        if body:
            self._netlink.request(Msg.SETLINK, IFINFO.pack(0, 0, found.index, c.IFF_UP, c.IFF_UP) + body)

    def _make(self) -> bool:
        """Create it like the module's own: no ends, inner DF decides. False if loading the module just brought it."""
        data = nest(Ifla.INFO_DATA, attr(Iptun.PMTUDISC, b"\0"))
        body = IFINFO.pack(0, 0, 0, 0, 0) + text(Ifla.IFNAME, self._device)
        body += nest(Ifla.LINKINFO, text(Ifla.INFO_KIND, TUNNEL_KIND), data)
        try:
            self._netlink.request(Msg.NEWLINK, body, Flag.CREATE | Flag.EXCL)
        except NetlinkError as error:
            if error.errno == errno.EEXIST:
                return False
            raise
        return True

    def _set_down(self) -> str:
        found = find_link(self._netlink, self._device)
        if found is None or found.alias not in _OURS:
            return ""
        used = [str(entry.address) for entry in dump_addresses(self._netlink) if entry.index == found.index]
        if used:
            return f"left up, because an address that is not ours is on it: {', '.join(used)}"
        if found.alias == MADE_ALIAS:
            self._netlink.request(Msg.DELLINK, IFINFO.pack(0, 0, found.index, 0, 0))
        else:
            self._netlink.request(Msg.SETLINK, IFINFO.pack(0, 0, found.index, 0, c.IFF_UP) + attr(Ifla.IFALIAS, b""))
        return ""


class TunnelAddresses:
    """Our addresses on the tunnel device. One that a stranger put there is ours to use when `wanted`, not to remove."""

    def __init__(self, netlink: Netlink, device: str, protocol: int, wanted: Collection[HostAddress] = ()) -> None:
        self._netlink = netlink
        self._device = device
        self._protocol = protocol
        self._wanted = frozenset(wanted)

    def list(self) -> Mapping[HostAddress, str]:
        """Addresses that are ours or wanted. Raises NetlinkError."""
        return {
            address: self._device
            for address, protocol in self._entries().items()
            if protocol == self._protocol or address in self._wanted
        }

    def foreign(self) -> dict[HostAddress, Conflict]:
        """Addresses that are neither."""
        return {
            address: Conflict(
                address,
                f"address {address} on {self._device} is not ours, left alone",
                f"if nothing needs it: ip address del {address} dev {self._device}",
            )
            for address, protocol in self._entries().items()
            if protocol != self._protocol and address not in self._wanted
        }

    def apply(self, delta: Delta[HostAddress, str]) -> Mapping[HostAddress, str]:
        """Add and remove. Returns reasons by address."""
        link = find_link(self._netlink, self._device)
        if link is None:
            return dict.fromkeys(delta.create, f"interface {self._device} does not exist")
        additions = list(delta.create)
        # only what is ours: the wanted one may be a stranger's, and it is wanted no more
        ours = {address for address, protocol in self._entries().items() if protocol == self._protocol}
        removals = [address for address in delta.delete if address in ours]
        messages = [
            (Msg.NEWADDR, Flag.CREATE | Flag.EXCL, AddressEntry(link.index, address, None, self._protocol).pack())
            for address in additions
        ] + [(Msg.DELADDR, 0, AddressEntry(link.index, address).pack()) for address in removals]
        settled = {errno.EEXIST, errno.EADDRNOTAVAIL}
        subjects = additions + removals
        return {
            subjects[index]: os.strerror(number)
            for index, number in self._netlink.batch(messages).items()
            if number not in settled
        }

    def _entries(self) -> dict[HostAddress, int]:
        """The IPv4 addresses of the device, with the protocol of each."""
        link = find_link(self._netlink, self._device)
        if link is None:
            return {}
        entries = (entry for entry in dump_addresses(self._netlink) if entry.index == link.index)
        return {entry.address: entry.protocol for entry in entries if isinstance(entry.address, HostAddress)}

"""Target: the VXLAN device, which is ours alone: made when it is needed, made anew when it is another, deleted after.

That it is ours is said by its alias, `routed:vxlan`. A VXLAN device of its name without any alias counts as ours where
one is needed (an agent died between making and marking it); any other interface of its name is left alone.
"""

from __future__ import annotations

import builtins  # `list` is a method here
import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from routed.model.address import Address
from routed.netlink import constants as c
from routed.netlink.constants import Flag, Ifla, IflaVxlan, Msg
from routed.netlink.message import IFINFO, as_u32, attr, attrs, ip, nest, text, u32
from routed.netlink.objects import DUMP_LINKS, LinkEntry
from routed.netlink.socket import Netlink, NetlinkError
from routed.reconcile import Delta
from routed_felix.state import VXLAN_ALIAS, VXLAN_KIND, VXLAN_MODULE, Link, Vxlan
from routed_felix.tunnel import driver_listed

_NO_DRIVER = {errno.EOPNOTSUPP, errno.ENODEV, errno.EPERM}
_ABSENT = bytes(4)
# what a device of ours has not, in words; where some kernels state it all the same, there is nothing in it
_STRANGE = {
    IflaVxlan.LEARNING: "learning",
    IflaVxlan.COLLECT_METADATA: "external",
    IflaVxlan.VNIFILTER: "vnifilter",
    IflaVxlan.GROUP: "group",
    IflaVxlan.GROUP6: "group",
    IflaVxlan.LINK: "dev",
}
_STRANGE_FLAGS = {IflaVxlan.GBP: "gbp", IflaVxlan.GPE: "gpe"}  # there or not, never with anything in them


def vxlan_available(netlink: Netlink, *, modules: Path = Path("/lib/modules")) -> bool:
    """Whether this kernel can make VXLAN devices; changes nothing.

    Where no list of modules tells, the kernel does: a device without parameters is EINVAL for the driver, and without
    CREATE something else for a kernel that has none.
    """
    if driver_listed(VXLAN_MODULE, modules):
        return True
    probe = text(Ifla.IFNAME, "routed-probe") + nest(Ifla.LINKINFO, text(Ifla.INFO_KIND, VXLAN_KIND))
    try:
        netlink.request(Msg.NEWLINK, IFINFO.pack(0, 0, 0, 0, 0) + probe)
    except NetlinkError as error:
        return error.errno == errno.EINVAL
    return False


def parameters(body: bytes) -> Vxlan:
    """Those of the VXLAN device of an RTM_NEWLINK body."""
    found = attrs(body, IFINFO.size)
    data = attrs(attrs(found.get(Ifla.LINKINFO, b"")).get(Ifla.INFO_DATA, b""))
    odd = [name for kind, name in _STRANGE.items() if any(data.get(kind, b""))]
    odd += [name for kind, name in _STRANGE_FLAGS.items() if kind in data]
    return Vxlan(
        vni=as_u32(data[IflaVxlan.ID]) if IflaVxlan.ID in data else 0,
        port=int.from_bytes(data.get(IflaVxlan.PORT, b"")),
        local=Address(data.get(IflaVxlan.LOCAL, _ABSENT)),
        mac=found.get(Ifla.ADDRESS, b"").hex(":"),
        odd=", ".join(odd),
    )


class VxlanLink:
    """See the module. `device` is its name."""

    def __init__(self, netlink: Netlink, device: str, wanted: Mapping[str, Link]) -> None:
        self._netlink = netlink
        self._device = device
        self._wanted = wanted.get(device)

    def list(self) -> Mapping[str, Link]:
        """The device, if it is ours; not yet marked, it is down. Raises NetlinkError."""
        found = self._find()
        if found is None:
            return {}
        entry, link = found
        if not is_marked(entry):
            return {}
        any_mtu = self._wanted is not None and self._wanted.mtu is None
        return {self._device: Link(link.kind, None if any_mtu else link.mtu, link.up, link.vxlan)}

    def apply(self, delta: Delta[str, Link]) -> Mapping[str, str]:
        """Make it, change it, make it anew or delete it. Returns reasons by name."""
        try:
            for link in (*delta.create.values(), *delta.replace.values()):
                self._bring(link)
            if self._device in delta.delete and (found := self._find()) is not None:
                self._delete(found[0])
        except NetlinkError as error:
            return {self._device: self._reason(error)}
        return {}

    def _bring(self, wanted: Link) -> None:
        found = self._find()
        if found is not None:
            entry, link = found
            if not is_ours(entry):
                raise NetlinkError(errno.EEXIST, os.strerror(errno.EEXIST))
            if _lasting(link) == _lasting(wanted):
                self._set_up(entry, link, wanted)
                return
            self._delete(entry)
        self._make(wanted)
        found = self._find()
        if found is None:
            raise NetlinkError(errno.ENODEV, os.strerror(errno.ENODEV))
        # if the port is taken it stays, down: to make and delete it with each try would be news of links, and a new try
        self._set_up(*found, wanted)

    def _make(self, wanted: Link) -> None:
        vxlan = wanted.vxlan
        assert vxlan is not None
        data = nest(
            Ifla.INFO_DATA,
            u32(IflaVxlan.ID, vxlan.vni),
            ip(IflaVxlan.LOCAL, vxlan.local),
            attr(IflaVxlan.PORT, vxlan.port.to_bytes(2)),
            attr(IflaVxlan.LEARNING, b"\0"),
        )
        body = IFINFO.pack(0, 0, 0, 0, 0) + text(Ifla.IFNAME, self._device) + _address(vxlan.mac)
        body += u32(Ifla.MTU, wanted.mtu) if wanted.mtu is not None else b""
        body += nest(Ifla.LINKINFO, text(Ifla.INFO_KIND, VXLAN_KIND), data)
        self._netlink.request(Msg.NEWLINK, body, Flag.CREATE | Flag.EXCL)

    def _set_up(self, entry: LinkEntry, link: Link, wanted: Link) -> None:
        """What can be changed while it stands. The alias first: it says whose device it is."""
        body = attr(Ifla.IFALIAS, VXLAN_ALIAS.encode()) if entry.alias != VXLAN_ALIAS else b""
        if wanted.mtu is not None and wanted.mtu != link.mtu:
            body += u32(Ifla.MTU, wanted.mtu)
        if wanted.vxlan is not None and link.vxlan is not None and wanted.vxlan.mac != link.vxlan.mac:
            body += _address(wanted.vxlan.mac)
        if body or not link.up:
            self._netlink.request(Msg.SETLINK, IFINFO.pack(0, 0, entry.index, c.IFF_UP, c.IFF_UP) + body)

    def _delete(self, entry: LinkEntry) -> None:
        self._netlink.request(Msg.DELLINK, IFINFO.pack(0, 0, entry.index, 0, 0))

    def _find(self) -> tuple[LinkEntry, Link] | None:
        try:
            body = self._netlink.get(Msg.GETLINK, IFINFO.pack(0, 0, 0, 0, 0) + text(Ifla.IFNAME, self._device)).body
        except NetlinkError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        entry = LinkEntry.unpack(body)
        vxlan = parameters(body) if entry.kind == VXLAN_KIND else None
        return entry, Link(entry.kind, entry.mtu, entry.administratively_up, vxlan)

    def _reason(self, error: NetlinkError) -> str:
        number, found = error.errno or errno.EIO, self._find()
        if found is not None and not is_ours(found[0]):
            theirs = _describe(found[0])
            return f"an interface of this name is not ours ({theirs}): rename it, or set another vxlan_device"
        if number in _NO_DRIVER and found is None:
            return f"no VXLAN driver ({os.strerror(number)}): modprobe {VXLAN_MODULE}"
        vxlan = self._wanted.vxlan if self._wanted is not None else None
        if number not in (errno.EEXIST, errno.EADDRINUSE) or vxlan is None:
            return os.strerror(number)
        others = ", ".join(self._rivals(vxlan.port))
        who = f"interface {others}" if others else "a program of this node"
        return (
            f"UDP port {vxlan.port} with VNI {vxlan.vni} is taken by {who}: "
            "remove that, or set another vxlan_port (on all nodes)"
        )

    def _rivals(self, port: int) -> Sequence[str]:
        """The other VXLAN devices on `port`."""
        found: builtins.list[str] = []
        for body in self._netlink.dump_bodies(Msg.GETLINK, DUMP_LINKS):
            entry = LinkEntry.unpack(body)
            if entry.kind == VXLAN_KIND and entry.name != self._device and parameters(body).port == port:
                found.append(entry.name)
        return sorted(found)


def is_marked(entry: LinkEntry) -> bool:
    """Whether an interface of our device's name says that it is ours."""
    return entry.kind == VXLAN_KIND and entry.alias == VXLAN_ALIAS


def is_ours(entry: LinkEntry) -> bool:
    """Whether it is ours where we need it: marked, or by nobody."""
    return is_marked(entry) or (entry.kind == VXLAN_KIND and not entry.alias)


def _lasting(link: Link) -> Vxlan | None:
    """What cannot be changed while the device stands."""
    return replace(link.vxlan, mac="") if link.vxlan is not None else None


def _describe(entry: LinkEntry) -> str:
    return f"kind {entry.kind or 'hardware'}" + (f", alias {entry.alias!r}" if entry.alias else "")


def _address(mac: str) -> bytes:
    return attr(Ifla.ADDRESS, bytes.fromhex(mac.replace(":", "")))

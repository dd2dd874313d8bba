"""What the kernel has of a pod's interface, read from both of its sides for CHECK.

Acts on the network namespace of the calling thread.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from ipaddress import ip_address

from routed.model.address import AnyAddress, Family
from routed.netlink import constants as c
from routed.netlink.constants import Ifa, Ifla, Msg, Nda, Rta
from routed.netlink.message import IFADDR, NDMSG, RTMSG, as_u32, attrs, ip, u32
from routed.netlink.objects import AF
from routed.netlink.socket import Netlink, NetlinkError
from routed_cni import sandbox, veths
from routed_cni.condition import End, Seen
from routed_cni.faults import CniError, Code
from routed_cni.results import GATEWAYS

_FIB_MATCH = 0x2000  # linux/rtnetlink.h: RTM_F_FIB_MATCH, the route itself and not where it leads


def inspect(path: str, interface: str, host_interface: str, addresses: Sequence[AnyAddress]) -> Seen:
    """What is there of `interface` in the sandbox `path`, and of its node's end, with regard to `addresses`.

    Raises CniError for a sandbox that is no other network namespace, or a kernel that does not answer.
    """
    try:
        with sandbox.opened(path) as namespace, Netlink() as node, Netlink.open_in(namespace) as pod:
            host, inner = _end(node, host_interface), _end(pod, interface)
            if host is None or inner is None:
                return Seen(host, inner)
            families = {Family.of(address) for address in addresses}
            gateways = {GATEWAYS[family] for family in families}
            return Seen(
                host,
                inner,
                frozenset(address for family in families for address in _addresses(pod, family, inner.index)),
                {address: _device(node, address) for address in addresses},
                {address: _neighbour(node, address, host.index) for address in addresses},
                {gateway: _neighbour(pod, gateway, inner.index) for gateway in gateways},
                frozenset(family for family in families if _has_default(pod, family, inner.index)),
            )
    except NetlinkError as error:
        raise CniError(Code.IO_FAILURE, f"cannot look at {interface} in {path}: {error.strerror}") from error


def _end(netlink: Netlink, name: str) -> End | None:
    found = veths.find(netlink, name)
    if found is None:
        return None
    index, attributes, flags = found
    peer = as_u32(attributes[Ifla.LINK]) if Ifla.LINK in attributes else 0
    mac = attributes.get(Ifla.ADDRESS, b"").hex(":")
    return End(index, bool(flags & c.IFF_UP), mac, as_u32(attributes[Ifla.MTU]), peer)


def _addresses(netlink: Netlink, family: Family, index: int) -> list[AnyAddress]:
    found: list[AnyAddress] = []
    for body in netlink.dump_bodies(Msg.GETADDR, IFADDR.pack(AF[family], 0, 0, 0, index)):
        attributes = attrs(body, IFADDR.size)
        if IFADDR.unpack_from(body)[4] == index:
            found.append(ip_address(attributes.get(Ifa.LOCAL, attributes[Ifa.ADDRESS])))
    return found


def _device(netlink: Netlink, address: AnyAddress) -> int:
    """Through which device the node sends what is for `address`, 0 for none."""
    question = RTMSG.pack(AF[Family.of(address)], address.max_prefixlen, 0, 0, 0, 0, 0, 0, _FIB_MATCH)
    try:
        answer = netlink.get(Msg.GETROUTE, question + ip(Rta.DST, address))
    except NetlinkError as error:
        if error.errno == errno.ETIMEDOUT:
            raise
        return 0
    attributes = attrs(answer.body, RTMSG.size)
    return as_u32(attributes[Rta.OIF]) if Rta.OIF in attributes else 0


def _neighbour(netlink: Netlink, address: AnyAddress, index: int) -> str:
    """The MAC that is known of `address` on the link, empty for none."""
    try:
        question = NDMSG.pack(AF[Family.of(address)], index, 0, 0, 0) + ip(Nda.DST, address)
        answer = netlink.get(Msg.GETNEIGH, question)
    except NetlinkError as error:
        if error.errno != errno.ENOENT:
            raise
        return ""
    return attrs(answer.body, NDMSG.size).get(Nda.LLADDR, b"").hex(":")


def _has_default(netlink: Netlink, family: Family, index: int) -> bool:
    filtered = RTMSG.pack(AF[family], 0, 0, 0, 0, 0, 0, 0, 0) + u32(Rta.TABLE, c.RT_TABLE_MAIN) + u32(Rta.OIF, index)
    try:
        bodies = netlink.dump_bodies(Msg.GETROUTE, filtered)
    except NetlinkError as error:
        if error.errno != errno.ENOENT:  # a table that nothing was ever put into
            raise
        return False
    for body in bodies:
        attributes = attrs(body, RTMSG.size)
        via = attributes.get(Rta.GATEWAY), as_u32(attributes.get(Rta.OIF, bytes(4)))
        if RTMSG.unpack_from(body)[1] == 0 and via == (GATEWAYS[family].packed, index):
            return True
    return False

"""The node's ends of pods' links: how they are called, found, given up and deleted.

Deleting a link takes the kernel some 20 ms, and no longer for many at once. So a pod that leaves loses its route and
its neighbour first, which takes no time and ends what can reach it, or what it can send (strict reverse path
filtering); its link is marked by the group of the doomed (`routed.netlink.links`) and goes with others'.

Calls act on the network namespace of the calling thread.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address

from routed.model.address import AnyAddress, Family
from routed.model.endpoint import ALIAS_GIVEN, POD_ALIAS
from routed.netlink import constants as c
from routed.netlink.constants import Ifla, Msg, Nda, Rta
from routed.netlink.links import DOOMED, delete_links
from routed.netlink.message import IFINFO, NDMSG, RTMSG, as_text, as_u32, attr, attrs, ip, text, u32
from routed.netlink.objects import AF
from routed.netlink.socket import Netlink, NetlinkError
from routed_cni.faults import CniError, Code

_log = logging.getLogger(__name__)

HOST_MAC = "ee:ee:ee:ee:ee:ee"  # of every pod's gateway: a pod that is moved finds the same neighbour
_ALIAS_BYTES = 255  # linux/if.h: IFALIASZ less its NUL
_NAME = re.compile(r"rtd[0-9a-f]{11}")
_OF = " of "  # in an alias, before the network of addresses that an IPAM plugin gave
_GONE = (errno.ESRCH, errno.ENOENT, errno.ENODEV)


@dataclass(frozen=True, slots=True)
class Veth:
    """A link of ours. `doomed`: given up, to be deleted. `addresses`: what an IPAM plugin gave it for `network`."""

    name: str
    doomed: bool
    container_id: str = ""
    interface: str = ""
    addresses: tuple[AnyAddress, ...] = ()
    network: str = ""


@lru_cache(4096)
def host_interface(container_id: str, interface: str) -> str:
    """The name of the node's end: the same for the same pod interface, at most 15 bytes."""
    return "rtd" + hashlib.sha256(f"{container_id}/{interface}".encode()).hexdigest()[:11]


def alias(container_id: str, interface: str, given: Sequence[AnyAddress] = (), network: str = "") -> str:
    """The alias of the node's end, from which an operator reads whose it is.

    `given` are addresses of which IPAM's blocks know nothing: the alias is their record, and that of their network.
    Raises CniError where it does not hold them.
    """
    words = f"{POD_ALIAS}{container_id}/{interface}"
    if not given:
        return words.encode()[:_ALIAS_BYTES].decode(errors="ignore")
    words += ALIAS_GIVEN + ",".join(map(str, given)) + _OF + network
    if len(words.encode()) > _ALIAS_BYTES:
        raise CniError(
            Code.INVALID_ENVIRONMENT,
            f"CNI_CONTAINERID {container_id[:40]}... is too long to be kept beside addresses of an IPAM plugin",
            f"the alias of its link has {_ALIAS_BYTES} bytes; shorten it, or let routed give the addresses",
        )
    return words


def find(netlink: Netlink, name: str) -> tuple[int, dict[int, bytes], int] | None:
    """The link `name`: its index, attributes and IFF_* flags; None if there is none."""
    try:
        answer = netlink.get(Msg.GETLINK, IFINFO.pack(0, 0, 0, 0, 0) + text(Ifla.IFNAME, name))
    except NetlinkError as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    _, _, index, flags, _ = IFINFO.unpack_from(answer.body)
    return index, attrs(answer.body, IFINFO.size), flags


def delete(netlink: Netlink, name: str) -> bool:
    """Delete the link `name` with its other end and its routes; False if it was not there."""
    try:
        netlink.request(Msg.DELLINK, IFINFO.pack(0, 0, 0, 0, 0) + text(Ifla.IFNAME, name))
    except NetlinkError as error:
        if error.errno == errno.ENODEV:
            return False
        raise
    return True


def doom(name: str, addresses: Collection[AnyAddress], *, protocol: int, metric: int) -> bool:
    """Take the node's routes and neighbours of `addresses` away and give the link up; False if it is not there.

    Raises CniError for what the kernel refuses.
    """
    with Netlink() as netlink:
        try:
            found = find(netlink, name)
            if found is None:
                return False
            index = found[0]
            messages = [(Msg.SETLINK, 0, IFINFO.pack(0, 0, index, 0, 0) + u32(Ifla.GROUP, DOOMED))]
            for address in addresses:
                family = AF[Family.of(address)]
                route = RTMSG.pack(
                    family, address.max_prefixlen, 0, 0, c.RT_TABLE_MAIN, protocol, c.RT_SCOPE_NOWHERE, c.RTN_UNICAST, 0
                )
                route += ip(Rta.DST, address) + u32(Rta.OIF, index) + u32(Rta.PRIORITY, metric)
                neighbour = NDMSG.pack(family, index, 0, 0, 0) + ip(Nda.DST, address)
                messages += [(Msg.DELROUTE, 0, route), (Msg.DELNEIGH, 0, neighbour)]
            refused = {number for number in netlink.batch(messages).values() if number not in _GONE}
        except OSError as error:
            raise CniError(Code.IO_FAILURE, f"cannot give up {name}: {error.strerror}") from error
    if refused:
        raise CniError(Code.IO_FAILURE, f"cannot give up {name}: {os.strerror(min(refused))}")
    return True


def remove(names: Collection[str]) -> dict[str, str]:
    """Delete these links together, in the time of one; those that are still there, and why."""
    with Netlink() as netlink:
        there = {name: link[0] for name in names if (link := find(netlink, name)) is not None}
        refused = delete_links(netlink, list(there.values()))
    still = list(there)
    return {still[position]: os.strerror(number) for position, number in refused.items()}


def survey() -> dict[str, Veth]:
    """All links of ours, by name."""
    with Netlink() as netlink:
        bodies = netlink.dump_bodies(
            Msg.GETLINK, IFINFO.pack(0, 0, 0, 0, 0) + u32(Ifla.EXT_MASK, c.RTEXT_FILTER_SKIP_STATS)
        )
    found: dict[str, Veth] = {}
    for body in bodies:
        attributes = attrs(body, IFINFO.size)
        name = as_text(attributes.get(Ifla.IFNAME, b""))
        # the MAC, as a link that was left half made has no alias yet
        if _NAME.fullmatch(name) and attributes.get(Ifla.ADDRESS) == mac_bytes(HOST_MAC):
            found[name] = _veth(name, attributes)
    return found


def mac_bytes(address: str) -> bytes:
    """A MAC as the kernel takes it."""
    return bytes.fromhex(address.replace(":", ""))


def alias_attribute(words: str) -> bytes:
    """An alias, as the kernel takes it."""
    return attr(Ifla.IFALIAS, words.encode())


def _veth(name: str, attributes: dict[int, bytes]) -> Veth:
    doomed = as_u32(attributes[Ifla.GROUP]) == DOOMED
    owner, _, given = as_text(attributes.get(Ifla.IFALIAS, b"")).removeprefix(POD_ALIAS).partition(ALIAS_GIVEN)
    container_id, _, interface = owner.partition("/")
    given, _, network = given.partition(_OF)
    try:
        addresses = tuple(ip_address(word) for word in given.split(",") if word)
    except ValueError:
        _log.warning("the alias of %s was changed: %s are no addresses", name, given)
        addresses = ()
    return Veth(name, doomed, container_id, interface, addresses, network)

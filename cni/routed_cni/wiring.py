"""Pods wired into the kernel: one message makes the veth pair, one batch sets up each end.

What makes this more than three messages' worth of work:

- The pod's end is born inside the sandbox, so no other name is ever taken there; the kernel says EEXIST alike for a
  name taken on either side, hence the second look.
- Nothing answers for 169.254.1.1 but a permanent neighbour entry in the pod; the node does not hold that address.
  Should a pod flush its neighbours, proxy ARP answers where the node has a route to it, without the default delay.
- The node reaches the pod by a permanent neighbour entry too: no ARP before the first packet, and no place taken
  under gc_thresh3.
- IPv6 is the same with other means: the gateway is the link-local address that the node's end has (of every pod the
  same), known beforehand to the pod as a permanent neighbour; nothing waits for duplicate address detection.
- The links exist before their route, and deleting the link deletes both ends, the route and the neighbours: one
  deletion undoes everything, at whatever point it failed.

Calls take about a millisecond, `unwire` some twenty (the kernel waits for RCU). They act on the network namespace of
the calling thread.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import struct
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from routed.model.address import AnyAddress, Family
from routed.netlink import constants as c
from routed.netlink.constants import Devconf, Flag, Ifa, Ifla, Msg, Nda, Ndta, Ndtpa, Rta
from routed.netlink.message import (
    AF_INET,
    IFADDR,
    IFINFO,
    NDMSG,
    RTMSG,
    as_u32,
    attr,
    attrs,
    ip,
    nest,
    text,
    u32,
)
from routed.netlink.objects import AF
from routed.netlink.socket import Netlink, NetlinkError, inside
from routed_cni import conntrack
from routed_cni.protocol import GATEWAYS, Attachment, CniError, Code

_log = logging.getLogger(__name__)

HOST_MAC = "ee:ee:ee:ee:ee:ee"  # of every pod's gateway: a pod that is moved finds the same neighbour
ALIAS_PREFIX = "routed:pod "
_ALIAS_BYTES = 255  # linux/if.h: IFALIASZ less its NUL
_NDTMSG = struct.Struct("=Bxxx")  # struct ndtmsg: family
_RTPROT_BOOT = 3  # linux/rtnetlink.h: what `ip route add` writes; the pod's routes are its own, not ours
_LOOPBACK = 1  # the index that every network namespace's lo has
_NODAD = u32(Ifa.FLAGS, c.IFA_F_NODAD)  # usable at once: nobody else is on the link
_Step = tuple[str, Msg, int, bytes]  # what it does in words, then a message for Netlink.batch


@dataclass(frozen=True, slots=True)
class Wire:
    """What is to be wired. `sandbox`: path of the pod's network namespace; `mtu` in bytes, of both ends.

    `addresses`: one, or one of each family. `protocol` and `metric` mark the node's routes to them as ours.
    """

    sandbox: str
    interface: str
    host_interface: str
    addresses: tuple[AnyAddress, ...]
    mtu: int
    alias: str
    protocol: int = 114
    metric: int = 1024


def host_interface(container_id: str, interface: str) -> str:
    """The name of the node's end: the same for the same pod interface, at most 15 bytes."""
    return "rtd" + hashlib.sha256(f"{container_id}/{interface}".encode()).hexdigest()[:11]


def alias(container_id: str, interface: str) -> str:
    """The alias of the node's end, from which an operator reads whose it is."""
    return f"{ALIAS_PREFIX}{container_id}/{interface}"


def wire(plan: Wire) -> Attachment:
    """Make the pod's interface and all that leads to it, or nothing.

    A link of the host interface's name left by an earlier attempt is replaced, its other end included. Raises
    CniError: for a sandbox that is no other network namespace, an interface or default route that is there already,
    and for whatever the kernel refuses.
    """
    with _sandbox(plan.sandbox) as sandbox, Netlink() as host:
        _make_pair(host, plan, sandbox)
        try:
            index, peer = _pair(host, plan.host_interface)
            if _has_ipv6(plan):
                _enable_ipv6(plan.host_interface)
            _carry_out(host, _host_steps(plan, index))
            _ignore_router_advertisements(plan.host_interface)
            for address in plan.addresses:
                _forget_connections(address)
            if _has_ipv6(plan):
                with inside(sandbox):
                    _enable_ipv6("lo", plan.interface)
            with Netlink.open_in(sandbox) as pod:
                _carry_out(pod, _pod_steps(plan, peer))
        except BaseException:
            _delete(host, plan.host_interface)
            raise
    return Attachment(
        host_interface=plan.host_interface,
        host_mac=HOST_MAC,
        interface=plan.interface,
        mac=_pod_mac(plan),
        netns=plan.sandbox,
        addresses=plan.addresses,
        mtu=plan.mtu,
    )


def unwire(name: str) -> bool:
    """Delete the host interface `name`, its other end and its routes; False if it was not there."""
    with Netlink() as host:
        try:
            return _delete(host, name)
        except OSError as error:
            raise _refused(f"delete {name}", error) from error


@contextmanager
def _sandbox(path: str) -> Generator[int]:
    """An open descriptor of the pod's network namespace."""
    try:
        # O_NONBLOCK: opening a FIFO must not wait for its writer
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise CniError(
            Code.INVALID_ENVIRONMENT, f"CNI_NETNS {path}: {reason}", "expected the path of a network namespace"
        ) from error
    try:
        try:
            kind = fcntl.ioctl(descriptor, c.NS_GET_NSTYPE)
        except OSError:
            kind = 0
        if kind != c.CLONE_NEWNET:
            raise CniError(
                Code.INVALID_ENVIRONMENT,
                f"CNI_NETNS {path} is not a network namespace",
                "expected the path of one, as /proc/PID/ns/net or a bind mount of it",
            )
        own, given = Path("/proc/thread-self/ns/net").stat(), os.fstat(descriptor)
        if (own.st_dev, own.st_ino) == (given.st_dev, given.st_ino):
            raise CniError(
                Code.INVALID_ENVIRONMENT,
                f"CNI_NETNS {path} is the node's own network namespace",
                "a pod on the host network is not to be wired",
            )
        yield descriptor
    finally:
        os.close(descriptor)


def _make_pair(host: Netlink, plan: Wire, sandbox: int) -> None:
    body = _pair_body(plan, sandbox)
    flags = Flag.CREATE | Flag.EXCL
    try:
        try:
            host.request(Msg.NEWLINK, body, flags)
        except NetlinkError as error:
            if error.errno != errno.EEXIST or not _delete(host, plan.host_interface):
                raise
            host.request(Msg.NEWLINK, body, flags)
    except NetlinkError as error:
        if error.errno == errno.EEXIST:
            raise CniError(
                Code.INVALID_ENVIRONMENT,
                f"CNI_IFNAME {plan.interface} exists already in the sandbox {plan.sandbox}",
                "another plugin made it: choose another name, or remove that plugin from the list",
            ) from error
        raise _refused(f"make {plan.host_interface} and {plan.interface} with MTU {plan.mtu}", error) from error


def _forget_connections(address: AnyAddress) -> None:
    """Before the pod can send or answer: what is left of the address's last pod would lead its packets astray."""
    try:
        conntrack.forget(address)
    except OSError as error:  # entries end by themselves; a pod that is not wired does not begin
        _log.warning("what connection tracking remembers of %s stays: %s", address, error.strerror or error)


def _pair_body(plan: Wire, sandbox: int) -> bytes:
    """The node's end, up, and the pod's inside its sandbox, which cannot be up yet."""
    common = (u32(Ifla.MTU, plan.mtu), u32(Ifla.NUM_TX_QUEUES, 1), u32(Ifla.NUM_RX_QUEUES, 1))
    peer = (
        IFINFO.pack(0, 0, 0, 0, 0),
        text(Ifla.IFNAME, plan.interface),
        u32(Ifla.NET_NS_FD, sandbox),
        attr(Ifla.ADDRESS, _mac(_pod_mac(plan))),
        *common,
    )
    return b"".join(
        (
            IFINFO.pack(0, 0, 0, c.IFF_UP, c.IFF_UP),
            text(Ifla.IFNAME, plan.host_interface),
            attr(Ifla.ADDRESS, _mac(HOST_MAC)),
            *common,
            nest(Ifla.LINKINFO, text(Ifla.INFO_KIND, "veth"), nest(Ifla.INFO_DATA, nest(Ifla.VETH_INFO_PEER, *peer))),
        )
    )


def _pair(host: Netlink, name: str) -> tuple[int, int]:
    """The index of the node's end, and that of the pod's in its own namespace."""
    link = _link(host, name)
    if link is None:
        raise CniError(Code.IO_FAILURE, f"{name} vanished while it was set up", "something else deletes links here")
    index, attributes = link
    return index, as_u32(attributes[Ifla.LINK])


def _host_steps(plan: Wire, index: int) -> list[_Step]:
    # rp_filter 1: a pod sends from its own address only. forwarding here, as input device, is all it takes for pods
    # of one node to reach one another
    settings = ((Devconf.FORWARDING, 1), (Devconf.RP_FILTER, 1), (Devconf.PROXY_ARP, 1))
    link = IFINFO.pack(0, 0, index, 0, 0) + attr(Ifla.IFALIAS, plan.alias.encode()[:_ALIAS_BYTES])
    # AF_SPEC holds an attribute per address family, and that of AF_INET one (IFLA_INET_CONF, 1) with the settings
    configured = link + nest(Ifla.AF_SPEC, nest(AF_INET, nest(1, *(u32(kind, value) for kind, value in settings))))
    table = _NDTMSG.pack(AF_INET) + text(Ndta.NAME, "arp_cache")
    delay = nest(Ndta.PARMS, u32(Ndtpa.IFINDEX, index), attr(Ndtpa.PROXY_DELAY, struct.pack("=Q", 0)))
    where = plan.host_interface
    steps: list[_Step] = [
        (f"configure {where}", Msg.SETLINK, 0, configured),
        (f"set the proxy delay of {where}", Msg.SETNEIGHTBL, 0, table + delay),
    ]
    for address in plan.addresses:
        if address.version == 6:
            steps.append(_address_step(where, index, GATEWAYS[Family.IPV6], c.RT_SCOPE_LINK))
        route = _route(Family.of(address), address.max_prefixlen, plan.protocol, on_link=True)
        attributes = ip(Rta.DST, address) + u32(Rta.OIF, index) + u32(Rta.PRIORITY, plan.metric)
        what = f"add the route {address}/{address.max_prefixlen} dev {where}"
        steps += (
            _neighbour(f"add {address} as neighbour on {where}", index, address, _pod_mac(plan)),
            (what, Msg.NEWROUTE, Flag.CREATE | Flag.REPLACE, route + attributes),
        )
    return steps


def _pod_steps(plan: Wire, index: int) -> list[_Step]:
    new = Flag.CREATE | Flag.EXCL  # a route that another interface has there is not ours to replace
    device = u32(Rta.OIF, index)
    steps: list[_Step] = [
        ("set lo up", Msg.SETLINK, 0, IFINFO.pack(0, 0, _LOOPBACK, c.IFF_UP, c.IFF_UP)),
        (f"set {plan.interface} up", Msg.SETLINK, 0, IFINFO.pack(0, 0, index, c.IFF_UP, c.IFF_UP)),
    ]
    for address in plan.addresses:
        family = Family.of(address)
        gateway = GATEWAYS[family]
        steps += (
            _address_step(plan.interface, index, address, c.RT_SCOPE_UNIVERSE),
            _neighbour(f"add {gateway} as neighbour on {plan.interface}", index, gateway, HOST_MAC),
        )
        if family is Family.IPV4:  # a link-local gateway is on the link without a route that says so
            to_gateway = _route(family, gateway.max_prefixlen, _RTPROT_BOOT, on_link=True)
            steps.append((f"add a route to {gateway}", Msg.NEWROUTE, new, to_gateway + ip(Rta.DST, gateway) + device))
        default = _route(family, 0, _RTPROT_BOOT) + ip(Rta.GATEWAY, gateway) + device
        steps.append((f"add a default route via {gateway}", Msg.NEWROUTE, new, default))
    return steps


def _route(family: Family, length: int, protocol: int, *, on_link: bool = False) -> bytes:
    scope = c.RT_SCOPE_LINK if on_link else c.RT_SCOPE_UNIVERSE
    return RTMSG.pack(AF[family], length, 0, 0, c.RT_TABLE_MAIN, protocol, scope, c.RTN_UNICAST, 0)


def _address_step(interface: str, index: int, address: AnyAddress, scope: int) -> _Step:
    body = IFADDR.pack(AF[Family.of(address)], address.max_prefixlen, 0, scope, index)
    body += ip(Ifa.LOCAL, address) + ip(Ifa.ADDRESS, address) + (_NODAD if address.version == 6 else b"")
    # the kernel may be quicker than us with a link-local address, and is to have it without waiting then too
    mode = Flag.REPLACE if scope == c.RT_SCOPE_LINK else Flag.EXCL
    return f"add {address} to {interface}", Msg.NEWADDR, Flag.CREATE | mode, body


def _neighbour(what: str, index: int, address: AnyAddress, mac: str) -> _Step:
    body = NDMSG.pack(AF[Family.of(address)], index, c.NUD_PERMANENT, 0, 0) + ip(Nda.DST, address)
    return what, Msg.NEWNEIGH, Flag.CREATE | Flag.REPLACE, body + attr(Nda.LLADDR, _mac(mac))


def _has_ipv6(plan: Wire) -> bool:
    return any(address.version == 6 for address in plan.addresses)


def _enable_ipv6(*interfaces: str) -> None:
    """Let `interfaces` have IPv6 addresses: a runtime, or the node's default, may have switched that off."""
    for interface in interfaces:
        switch = Path(f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6")
        try:
            if switch.read_bytes().strip() != b"0":
                switch.write_bytes(b"0")
        except OSError as error:
            raise _refused(f"enable IPv6 on {interface}", error) from error


def _carry_out(netlink: Netlink, steps: list[_Step]) -> None:
    failures = netlink.batch([(kind, flags, body) for _, kind, flags, body in steps])
    if failures:
        first = min(failures)
        raise _refused(steps[first][0], OSError(failures[first], os.strerror(failures[first])))


def _ignore_router_advertisements(name: str) -> None:
    """A pod must not become the node's IPv6 router (CVE-2020-13597); there is no netlink message for it."""
    try:
        Path(f"/proc/sys/net/ipv6/conf/{name}/accept_ra").write_bytes(b"0")
    except FileNotFoundError:
        pass  # a kernel without IPv6
    except OSError as error:
        raise _refused(f"write accept_ra of {name}", error) from error


def _link(netlink: Netlink, name: str) -> tuple[int, dict[int, bytes]] | None:
    try:
        answer = netlink.get(Msg.GETLINK, IFINFO.pack(0, 0, 0, 0, 0) + text(Ifla.IFNAME, name))
    except NetlinkError as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    return IFINFO.unpack_from(answer.body)[2], attrs(answer.body, IFINFO.size)


def _delete(netlink: Netlink, name: str) -> bool:
    try:
        netlink.request(Msg.DELLINK, IFINFO.pack(0, 0, 0, 0, 0) + text(Ifla.IFNAME, name))
    except NetlinkError as error:
        if error.errno == errno.ENODEV:
            return False
        raise
    return True


def _refused(what: str, error: OSError) -> CniError:
    if error.errno == errno.EPERM:
        return CniError(Code.IO_FAILURE, f"cannot {what}: not permitted", "run the agent as root (CAP_NET_ADMIN)")
    return CniError(Code.IO_FAILURE, f"cannot {what}: {error.strerror}")


def _pod_mac(plan: Wire) -> str:
    """Ours to choose, so that both neighbour entries are known beforehand; locally administered, unicast."""
    return ":".join(f"{byte:02x}" for byte in (0x02, *hashlib.sha256(plan.host_interface.encode()).digest()[:5]))


def _mac(address: str) -> bytes:
    return bytes.fromhex(address.replace(":", ""))

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
- A sandbox whose default route another interface has keeps it: ours gets a table of its own for what is sent from its
  address, or the node would refuse its answers on the other link.
- The links exist before their route, and deleting the link deletes both ends, the route and the neighbours: one
  deletion undoes everything, at whatever point it failed.

A call takes about a millisecond. It acts on the network namespace of the calling thread.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import struct
from dataclasses import dataclass
from time import monotonic, sleep

from routed.model.address import AnyAddress, Family
from routed.netlink import constants as c
from routed.netlink.constants import Devconf, Flag, Ifa, Ifla, Msg, Nda, Ndta, Ndtpa, Rta
from routed.netlink.message import (
    AF_INET,
    IFADDR,
    IFINFO,
    NDMSG,
    RTMSG,
    as_text,
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
from routed_cni import conntrack, sandbox, switches, veths
from routed_cni.faults import CniError, Code, refused
from routed_cni.results import GATEWAYS, Attachment
from routed_cni.veths import HOST_MAC, mac_bytes

_log = logging.getLogger(__name__)

_NDTMSG = struct.Struct("=Bxxx")  # struct ndtmsg: family
_RULE = struct.Struct("=BBBBBxxBI")  # struct fib_rule_hdr: family, dst_len, src_len, tos, table, action, flags
_FRA_SRC, _FRA_TABLE, _TO_TABLE = 2, 15, 1  # linux/fib_rules.h: FRA_SRC, FRA_TABLE, FR_ACT_TO_TBL
_RTPROT_BOOT = 3  # linux/rtnetlink.h: what `ip route add` writes; the pod's routes are its own, not ours
_LOOPBACK = 1  # the index that every network namespace's lo has
_OWN_TABLE = 0x72740000  # and the interface's index: of a pod's interface that has not the default route
_NODAD = u32(Ifa.FLAGS, c.IFA_F_NODAD)  # usable at once: nobody else is on the link
_OPERSTATE_UP = b"\6"  # linux/if.h: IF_OPER_UP
_CARRIER_SECONDS, _CARRIER_RETRY_SECONDS = 0.1, 0.001
_Step = tuple[str, Msg, int, bytes]  # what it does in words, then a message for Netlink.batch


@dataclass(frozen=True, slots=True)
class Pair:
    """A link by the indices of its ends, each in its own namespace: `index` on the node, `peer` in the pod."""

    index: int
    peer: int


@dataclass(frozen=True, slots=True)
class Wire:
    """What is to be wired. `sandbox`: path of the pod's network namespace; `mtu` in bytes, of both ends.

    `addresses`: one, or one of each family; none as long as only the link is made. `protocol` and `metric` mark the
    node's routes to them as ours. `mac` is the pod's, ours to choose if empty; `forwarding` whether the pod may
    forward, None to leave it.
    """

    sandbox: str
    interface: str
    host_interface: str
    addresses: tuple[AnyAddress, ...]
    mtu: int
    alias: str
    protocol: int = 114
    metric: int = 1024
    mac: str = ""
    forwarding: bool | None = None

    @property
    def ipv6(self) -> bool:
        """Whether one of the addresses is of IPv6."""
        return any(address.version == 6 for address in self.addresses)


def make(plan: Wire) -> Pair:
    """Make the pod's link, of which nobody knows yet: neither an address nor a route is needed for it.

    A link of the host interface's name left by an earlier attempt is replaced, its other end included. Raises
    CniError, with nothing made: for a sandbox that is no other network namespace, an interface that is there already,
    and for whatever the kernel refuses.
    """
    with sandbox.opened(plan.sandbox) as namespace, Netlink() as host:
        _make_pair(host, plan, namespace)
        try:
            pair = _pair(host, plan.host_interface)
            _carry_out(host, _link_steps(plan, pair.index))
            switches.ignore_router_advertisements(plan.host_interface)
        except BaseException:
            veths.delete(host, plan.host_interface)
            raise
    return pair


def wire(plan: Wire, pair: Pair) -> Attachment:
    """Put on `pair` all that leads to the pod, or delete it. Raises CniError for whatever the kernel refuses."""
    with sandbox.opened(plan.sandbox) as namespace, Netlink() as host:
        try:
            if plan.ipv6:
                switches.enable_ipv6(plan.host_interface)
            _carry_out(host, _host_steps(plan, pair.index))
            for address in plan.addresses:
                _forget_connections(address)
            if plan.ipv6 or plan.forwarding is not None:
                with inside(namespace):
                    if plan.ipv6:
                        switches.enable_ipv6("lo", plan.interface)
                    switches.set_forwarding(plan.addresses, plan.forwarding)
            with Netlink.open_in(namespace) as pod:
                default = _set_up_pod(pod, plan, pair.peer)
            _await_carrier(host, plan.host_interface)
        except BaseException:
            veths.delete(host, plan.host_interface)
            raise
    return Attachment(
        host_interface=plan.host_interface,
        host_mac=HOST_MAC,
        interface=plan.interface,
        mac=_pod_mac(plan),
        netns=plan.sandbox,
        addresses=plan.addresses,
        mtu=plan.mtu,
        default=default,
    )


def occupied(path: str) -> bool:
    """Whether a veth is in the sandbox, perhaps of a pod interface that was given up and is not gone yet."""
    with sandbox.opened(path) as namespace, Netlink.open_in(namespace) as pod:
        links = pod.dump_bodies(Msg.GETLINK, IFINFO.pack(0, 0, 0, 0, 0))
    kinds = (attrs(attrs(body, IFINFO.size).get(Ifla.LINKINFO, b"")).get(Ifla.INFO_KIND, b"") for body in links)
    return any(as_text(kind) == "veth" for kind in kinds)


def _make_pair(host: Netlink, plan: Wire, namespace: int) -> None:
    body = _pair_body(plan, namespace)
    flags = Flag.CREATE | Flag.EXCL
    try:
        try:
            host.request(Msg.NEWLINK, body, flags)
        except NetlinkError as error:
            if error.errno != errno.EEXIST or not veths.delete(host, plan.host_interface):
                raise
            host.request(Msg.NEWLINK, body, flags)
    except NetlinkError as error:
        if error.errno == errno.EEXIST:
            raise CniError(
                Code.INVALID_ENVIRONMENT,
                f"CNI_IFNAME {plan.interface} exists already in the sandbox {plan.sandbox}",
                "another plugin made it: choose another name, or remove that plugin from the list",
            ) from error
        raise refused(f"make {plan.host_interface} and {plan.interface} with MTU {plan.mtu}", error) from error


def _forget_connections(address: AnyAddress) -> None:
    """Before the pod can send or answer: what is left of the address's last pod would lead its packets astray."""
    try:
        conntrack.forget(address)
    except OSError as error:  # entries end by themselves; a pod that is not wired does not begin
        _log.warning("what connection tracking remembers of %s stays: %s", address, error.strerror or error)


def _pair_body(plan: Wire, namespace: int) -> bytes:
    """The node's end, up, and the pod's inside its sandbox, which cannot be up yet."""
    common = (u32(Ifla.MTU, plan.mtu), u32(Ifla.NUM_TX_QUEUES, 1), u32(Ifla.NUM_RX_QUEUES, 1))
    peer = (
        IFINFO.pack(0, 0, 0, 0, 0),
        text(Ifla.IFNAME, plan.interface),
        u32(Ifla.NET_NS_FD, namespace),
        attr(Ifla.ADDRESS, mac_bytes(_pod_mac(plan))),
        *common,
    )
    return b"".join(
        (
            IFINFO.pack(0, 0, 0, c.IFF_UP, c.IFF_UP),
            text(Ifla.IFNAME, plan.host_interface),
            attr(Ifla.ADDRESS, mac_bytes(HOST_MAC)),
            *common,
            nest(Ifla.LINKINFO, text(Ifla.INFO_KIND, "veth"), nest(Ifla.INFO_DATA, nest(Ifla.VETH_INFO_PEER, *peer))),
        )
    )


def _pair(host: Netlink, name: str) -> Pair:
    link = veths.find(host, name)
    if link is None:
        raise CniError(Code.IO_FAILURE, f"{name} vanished while it was set up", "something else deletes links here")
    index, attributes, _ = link
    return Pair(index, as_u32(attributes[Ifla.LINK]))


def _link_steps(plan: Wire, index: int) -> list[_Step]:
    # rp_filter 1: a pod sends from its own address only. forwarding here, as input device, is all it takes for pods
    # of one node to reach one another
    settings = ((Devconf.FORWARDING, 1), (Devconf.RP_FILTER, 1), (Devconf.PROXY_ARP, 1))
    link = IFINFO.pack(0, 0, index, 0, 0)
    # AF_SPEC holds an attribute per address family, and that of AF_INET one (IFLA_INET_CONF, 1) with the settings
    configured = link + nest(Ifla.AF_SPEC, nest(AF_INET, nest(1, *(u32(kind, value) for kind, value in settings))))
    table = _NDTMSG.pack(AF_INET) + text(Ndta.NAME, "arp_cache")
    delay = nest(Ndta.PARMS, u32(Ndtpa.IFINDEX, index), attr(Ndtpa.PROXY_DELAY, struct.pack("=Q", 0)))
    where = plan.host_interface
    return [
        (f"configure {where}", Msg.SETLINK, 0, configured),
        (f"set the proxy delay of {where}", Msg.SETNEIGHTBL, 0, table + delay),
    ]


def _host_steps(plan: Wire, index: int) -> list[_Step]:
    where = plan.host_interface
    named = IFINFO.pack(0, 0, index, 0, 0) + veths.alias_attribute(plan.alias)
    steps: list[_Step] = [(f"name {where}", Msg.SETLINK, 0, named)]
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


def _set_up_pod(pod: Netlink, plan: Wire, index: int) -> frozenset[Family]:
    """The pod's side; the families whose default route goes through the interface."""
    steps = _pod_steps(plan, index)
    families = [Family.of(address) for address in plan.addresses]
    routes = [(family, step) for family in families for step in _default_steps(plan, index, family)]
    whole = [*steps, *(step for _, step in routes)]
    failures = pod.batch([(kind, flags, body) for _, kind, flags, body in whole])
    taken = {
        routes[position - len(steps)][0]
        for position, number in failures.items()
        if position >= len(steps) and number == errno.EEXIST
    }
    # where the way to the gateway is another interface's, ours cannot be the default's either: unreachable
    _check(
        whole, {n: number for n, number in failures.items() if n < len(steps) or routes[n - len(steps)][0] not in taken}
    )
    if taken:
        own = [step for address in plan.addresses if Family.of(address) in taken for step in _own_table(index, address)]
        refused = pod.batch([(kind, flags, body) for _, kind, flags, body in own])
        _check(own, {n: number for n, number in refused.items() if number != errno.EEXIST})  # of an earlier ADD
    return frozenset(families) - taken


def _pod_steps(plan: Wire, index: int) -> list[_Step]:
    steps: list[_Step] = [
        ("set lo up", Msg.SETLINK, 0, IFINFO.pack(0, 0, _LOOPBACK, c.IFF_UP, c.IFF_UP)),
        (f"set {plan.interface} up", Msg.SETLINK, 0, IFINFO.pack(0, 0, index, c.IFF_UP, c.IFF_UP)),
    ]
    for address in plan.addresses:
        gateway = GATEWAYS[Family.of(address)]
        steps += (
            _address_step(plan.interface, index, address, c.RT_SCOPE_UNIVERSE),
            _neighbour(f"add {gateway} as neighbour on {plan.interface}", index, gateway, HOST_MAC),
        )
    return steps


def _default_steps(plan: Wire, index: int, family: Family) -> list[_Step]:
    new = Flag.CREATE | Flag.EXCL  # a route that another interface has there is not ours to replace
    gateway, device = GATEWAYS[family], u32(Rta.OIF, index)
    steps: list[_Step] = []
    if family is Family.IPV4:  # a link-local gateway is on the link without a route that says so
        to_gateway = _route(family, gateway.max_prefixlen, _RTPROT_BOOT, on_link=True)
        steps.append((f"add a route to {gateway}", Msg.NEWROUTE, new, to_gateway + ip(Rta.DST, gateway) + device))
    default = _route(family, 0, _RTPROT_BOOT) + ip(Rta.GATEWAY, gateway) + device
    steps.append((f"add a default route via {gateway} on {plan.interface}", Msg.NEWROUTE, new, default))
    return steps


def _own_table(index: int, address: AnyAddress) -> list[_Step]:
    """A default route for what is sent from `address`, and the rule that says so."""
    family, table = Family.of(address), u32(Rta.TABLE, _OWN_TABLE + index)
    default = RTMSG.pack(
        AF[family], 0, 0, 0, c.RT_TABLE_COMPAT, _RTPROT_BOOT, c.RT_SCOPE_UNIVERSE, c.RTN_UNICAST, c.RTNH_F_ONLINK
    )
    default += ip(Rta.GATEWAY, GATEWAYS[family]) + u32(Rta.OIF, index) + table
    rule = _RULE.pack(AF[family], 0, address.max_prefixlen, 0, c.RT_TABLE_COMPAT, _TO_TABLE, 0)
    rule += ip(_FRA_SRC, address) + u32(_FRA_TABLE, _OWN_TABLE + index)
    return [
        (f"add a default route for {address}", Msg.NEWROUTE, Flag.CREATE | Flag.REPLACE, default),
        (f"add a rule for {address}", Msg.NEWRULE, Flag.CREATE | Flag.EXCL, rule),
    ]


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
    return what, Msg.NEWNEIGH, Flag.CREATE | Flag.REPLACE, body + attr(Nda.LLADDR, mac_bytes(mac))


def _await_carrier(host: Netlink, name: str) -> None:
    """Return when the node's end sends: it was up before the pod's, and until the kernel takes note of that it drops
    what is for the pod.
    """
    deadline = monotonic() + _CARRIER_SECONDS
    while (link := veths.find(host, name)) is not None:  # asking is enough since Linux 6.8, which takes note then
        if link[1].get(Ifla.OPERSTATE) == _OPERSTATE_UP or monotonic() > deadline:
            return
        sleep(_CARRIER_RETRY_SECONDS)


def _carry_out(netlink: Netlink, steps: list[_Step]) -> None:
    _check(steps, netlink.batch([(kind, flags, body) for _, kind, flags, body in steps]))


def _check(steps: list[_Step], failures: dict[int, int]) -> None:
    if failures:
        first = min(failures)
        raise refused(steps[first][0], OSError(failures[first], os.strerror(failures[first])))


def _pod_mac(plan: Wire) -> str:
    """Unless it is asked for ours to choose, so that both neighbour entries are known beforehand; locally administered,
    unicast.
    """
    return plan.mac or ":".join(
        f"{byte:02x}" for byte in (0x02, *hashlib.sha256(plan.host_interface.encode()).digest()[:5])
    )

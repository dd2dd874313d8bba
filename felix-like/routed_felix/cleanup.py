"""Remove from the kernel what is ours, and nothing else: `routed node cleanup`.

Everything of ours says so in the kernel: routes and their nexthops by protocol number, pods' veths by alias, tunnel
addresses by IFA_PROTO, tunnel devices by alias. With the VXLAN device go its neighbours. Sysctls stay: nobody knows who
else needs forwarding by now.

The firewall goes last: it guards the tunnels as long as there are any. Ours are what bears its names.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass

from routed.model.address import Address, Family
from routed.model.endpoint import POD_ALIAS
from routed.model.nlri import to_prefix
from routed.netlink.constants import Msg
from routed.netlink.links import delete_links
from routed.netlink.objects import AddressEntry
from routed.netlink.socket import Netlink
from routed.reconcile import Delta
from routed_felix.firewall.backends import all_backends
from routed_felix.firewall.firewall import cleanup as firewall_cleanup
from routed_felix.nexthops import NexthopsTarget
from routed_felix.routes import RoutesTarget
from routed_felix.state import Conflict, RouteKey, Settings
from routed_felix.tunnel import TunnelAddresses, TunnelLink, dump_addresses, dump_links
from routed_felix.vxlan import VxlanLink
from routed_felix.wanted import Table


@dataclass(frozen=True, slots=True)
class Removed:
    """What was removed, by name; `left` are things of strangers' in our places, `failures` what the kernel refused.

    `vxlan` is the name of the VXLAN device, if it was there.
    """

    routes: tuple[str, ...] = ()
    veths: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    tunnel_down: bool = False
    vxlan: str = ""
    firewall: tuple[str, ...] = ()  # the backends that held some of it
    left: tuple[Conflict, ...] = ()
    failures: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        devices = self.tunnel_down or self.vxlan
        return bool(self.routes or self.veths or self.addresses or devices or self.firewall)


def cleanup(settings: Settings, namespace: str | None = None, *, addresses: Collection[Address] = ()) -> Removed:
    """Remove routes, then veths, then tunnel addresses (marked ours, or among `addresses`), tunnels, the firewall.

    Idempotent. Raises NetlinkError only when the kernel cannot be asked.
    """
    with Netlink.open_in(namespace) if namespace else Netlink() as netlink:
        failures: list[str] = []
        ours: list[RouteKey] = []
        refused: dict[RouteKey, str] = {}
        for family in Family:
            nexthops = NexthopsTarget(netlink, settings.protocol, family, wanted=False)
            routes = RoutesTarget(netlink, settings.protocol, settings.metric, family, nexthops)
            routes.relist()
            ours += sorted(routes.keys)
            routes.sync(Table())
            refused.update((RouteKey(to_prefix(n, family), settings.metric), why) for n, why in routes.failures.items())
            refused.update(routes.odd_failures)
        failures += [f"route {key}: {reason}" for key, reason in refused.items()]

        links = dump_links(netlink)
        pods = [link for link in links if link.alias.startswith(POD_ALIAS) and link.kind == "veth"]
        errors = delete_links(netlink, [link.index for link in pods])
        failures += [f"link {pods[index].name}: {os.strerror(number)}" for index, number in errors.items()]

        device = settings.tunnel_device
        index = next((link.index for link in links if link.name == device), 0)
        doomed = [
            entry
            for entry in dump_addresses(netlink)
            if entry.index == index and (entry.protocol == settings.protocol or entry.address.ip in addresses)
        ]
        errors_here = netlink.batch(
            [(Msg.DELADDR, 0, AddressEntry(entry.index, entry.address, entry.peer).pack()) for entry in doomed]
        )
        failures += [f"address {doomed[n].address}: {os.strerror(number)}" for n, number in errors_here.items()]
        left = TunnelAddresses(netlink, device, settings.protocol).foreign()
        tunnel = TunnelLink(netlink, device, {})
        ours_up = tunnel.list()
        kept = tunnel.apply(Delta(delete=ours_up))
        vxlan = VxlanLink(netlink, settings.vxlan_device, {})
        ours_here = vxlan.list()
        kept_here = vxlan.apply(Delta(delete=ours_here))
        failures += [f"link {name}: {reason}" for name, reason in {**kept, **kept_here}.items()]
        firewall, refusals = firewall_cleanup(tuple(all_backends(namespace).values()))  # the guard outlives the tunnel
        failures += refusals
        return Removed(
            routes=tuple(str(key) for key in ours if key not in refused),
            veths=tuple(sorted(link.name for n, link in enumerate(pods) if n not in errors)),
            addresses=tuple(str(entry.address) for n, entry in enumerate(doomed) if n not in errors_here),
            tunnel_down=bool(ours_up) and not kept,
            vxlan="".join(name for name in ours_here if name not in kept_here),
            firewall=firewall,
            left=tuple(left.values()),
            failures=tuple(failures),
        )

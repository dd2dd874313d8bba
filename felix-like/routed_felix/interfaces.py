"""The node's interfaces: read once, then kept by events, so that a pod that comes or goes costs one link of many."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_interface
from typing import Final

from routed.model.address import Family
from routed.model.interface import Interface
from routed.netlink.objects import AddressEntry, LinkEntry
from routed.netlink.socket import Netlink, NetlinkError
from routed_felix.monitor import Changes, of_one_link
from routed_felix.tunnel import dump_addresses, dump_links, find_link

POD_KIND: Final = "veth"
"""The kind of a pod's link; a node has hundreds."""


class Interfaces:
    """The picture of links and addresses. What it holds is the same object as long as nothing changed."""

    def __init__(self, netlink: Netlink) -> None:
        self.links: Mapping[int, LinkEntry] = {}
        self.names: Mapping[int, str] = {}
        self.by_name: Mapping[str, Interface] = {}
        self._netlink = netlink
        self._at: dict[int, Interface] = {}

    def read(self) -> frozenset[int]:
        """Read all of it. Returns the indices of links that may be others than before; raises NetlinkError."""
        before = self.links
        links = {link.index: link for link in dump_links(self._netlink)}
        addresses: dict[int, list[AddressEntry]] = {}
        for entry in (each for family in Family for each in dump_addresses(self._netlink, family)):
            addresses.setdefault(entry.index, []).append(entry)
        self._at = {index: _joined(link, addresses.get(index, ())) for index, link in links.items()}
        self._keep(links)
        return frozenset(before.keys() | links.keys())

    def hear(self, events: Sequence[Changes]) -> frozenset[int]:
        """Bring it up to date by events. Returns and raises as `read` does."""
        if any(changes.interfaces and not (changes.links or changes.addressed) for changes in events):
            return self.read()
        heard = {index: link for changes in events for index, link in changes.links.items()}
        addressed = {index for changes in events for index in changes.addressed}
        links = dict(self.links)
        for index, told in heard.items():
            # Of a link that is down the kernel does not tell a new alias, and one of the wireless extensions' messages
            # says nothing of a link but its name. Pods' links have their alias from the first, and are many.
            doubtful = told is not None and (told.kind != POD_KIND or not told.mtu)
            link = find_link(self._netlink, told.name) if told is not None and doubtful else told
            if link is None:
                links.pop(index, None)
                self._at.pop(index, None)
            else:
                links[index] = link
        for index in links.keys() & (heard.keys() | addressed):
            known = self._at.get(index)
            # of a link that was not there before it is not known which events of its addresses are still to come
            entries = self._addresses(index) if known is None or index in addressed else None
            self._at[index] = _joined(links[index], entries, known)
        if heard or addressed:
            self._keep(links)
        return frozenset(heard.keys() | addressed)

    def _addresses(self, index: int) -> list[AddressEntry]:
        """Those of one link: in the kernel's order, which says whose turn it is as a source, and events do not."""
        try:
            found = [entry for family in Family for entry in dump_addresses(self._netlink, family, index)]
        except NetlinkError as error:
            if error.errno != errno.ENODEV:  # gone: an event says so
                raise
            return []
        return [entry for entry in found if entry.index == index]

    def _keep(self, links: Mapping[int, LinkEntry]) -> None:
        if links != self.links:
            self.links = links
        names = {index: link.name for index, link in links.items()}
        if names != self.names:
            self.names = names
        by_name = {each.name: each for each in self._at.values()}
        if by_name != self.by_name:
            self.by_name = by_name


def _joined(link: LinkEntry, entries: Iterable[AddressEntry] | None, known: Interface | None = None) -> Interface:
    """A link with its addresses; without `entries` they are those of `known`."""
    if entries is None:
        addresses = known.addresses if known is not None else ()
    else:
        addresses = tuple(
            # a point-to-point address lies in no subnet of the interface's
            entry.address if entry.peer is None else ip_interface(entry.address.ip)
            for entry in entries
            if not of_one_link(entry.address.ip)
        )
    return Interface(
        name=link.name,
        index=link.index,
        mtu=link.mtu,
        up=link.carrier,
        kind=link.kind,
        alias=link.alias,
        addresses=addresses,
    )

"""Routes of ours that should not be: of a metric or TOS that we do not use, and all but one of those with one key.

An earlier life with other settings leaves the first, `ip route append` makes the second. They carry our protocol
number, so they are ours to delete.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Mapping
from dataclasses import replace

from routed.model.address import Family
from routed.model.nlri import Nlri
from routed.netlink import constants as c
from routed.netlink.constants import Msg
from routed.netlink.objects import RouteEntry
from routed.netlink.routes import ANYWHERE
from routed.netlink.socket import Netlink
from routed_felix.state import RouteKey

GONE = {errno.ESRCH, errno.ENODEV}
"""The kernel's reasons not to delete what is not there."""


class Astray:
    """See the module; those of one family. `failures` has the kernel's reason for each that could not be deleted."""

    def __init__(self, netlink: Netlink, protocol: int, family: Family) -> None:
        self._netlink = netlink
        self._protocol = protocol
        self._family = family
        self.odd: dict[RouteKey, RouteEntry] = {}
        self._copies: dict[Nlri, list[RouteEntry]] = {}
        self.failures: dict[RouteKey, str] = {}

    def __bool__(self) -> bool:
        return bool(self.odd)

    def adopt(self, odd: dict[RouteKey, RouteEntry], copies: dict[Nlri, list[RouteEntry]]) -> None:
        """Take what a dump found: routes of other keys, and beyond the first those of one."""
        self.odd, self._copies = odd, copies

    def heard(self, key: RouteKey, entry: RouteEntry, *, added: bool) -> None:
        """Another hand added or deleted one of a key that we do not use."""
        if added:
            self.odd[key] = entry
        else:
            self.odd.pop(key, None)

    def remove_copies(self, nlris: Collection[Nlri] | Mapping[Nlri, object]) -> int:
        """Leave one route of each key of `nlris`, which is then replaced or deleted: a replacement hits only the first.

        Returns how many were deleted; raises NetlinkError when the kernel does not answer.
        """
        if not self._copies:
            return 0
        doomed = [entry for nlri in self._copies.keys() & set(nlris) for entry in self._copies.pop(nlri)]
        refused = self._netlink.batch([(Msg.DELROUTE, 0, entry.pack()) for entry in doomed])
        return len(doomed) - len(refused)

    def sweep(self) -> int:
        """Delete those of keys that we do not use. Returns and raises as `remove_copies`."""
        doomed = [*self.odd.items()]
        entry = RouteEntry(ANYWHERE[self._family], protocol=self._protocol, scope=c.RT_SCOPE_NOWHERE, kind=0)
        bodies = [replace(entry, destination=key.prefix, metric=key.metric, tos=key.tos) for key, _ in doomed]
        refused = self._netlink.batch([(Msg.DELROUTE, 0, body.pack()) for body in bodies]) if doomed else {}
        self.failures = {
            doomed[index][0]: os.strerror(number) for index, number in refused.items() if number not in GONE
        }
        self.odd = {key: entry for key, entry in doomed if key in self.failures}
        return len(doomed) - len(refused)

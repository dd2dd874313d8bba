"""Names of pods' links that somebody has renamed, given back: routes, firewall and the plugin all go by them."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from routed.netlink import constants as c
from routed.netlink.constants import Ifla, Msg
from routed.netlink.message import IFINFO, text
from routed.netlink.socket import Netlink, NetlinkError
from routed.reconcile import Delta
from routed_felix.tunnel import dump_links


class PodNames:
    """A target of the reconcile loop: names by the index of the link; those in `wanted` only."""

    def __init__(self, netlink: Netlink, wanted: Mapping[int, str]) -> None:
        self._netlink = netlink
        self._wanted = wanted

    def list(self) -> Mapping[int, str]:
        """The names of now. Raises NetlinkError."""
        if not self._wanted:
            return self._wanted
        return {link.index: link.name for link in dump_links(self._netlink) if link.index in self._wanted}

    def apply(self, delta: Delta[int, str]) -> dict[int, str]:
        """Rename; what is no longer there is nobody's any more. Returns the reasons of those that failed."""
        failures: dict[int, str] = {}
        for index, name in delta.replace.items():
            try:
                self._rename(index, name)
            except NetlinkError as error:
                failures[index] = os.strerror(error.errno or errno.EIO)
        return failures

    def _rename(self, index: int, name: str) -> None:
        try:
            self._set(index, name)
        except NetlinkError as error:
            if error.errno != errno.EBUSY:
                raise
            # before Linux 6.2 only a link that is down can be renamed; its routes are put back with the next events
            self._set(index, flags=0)
            try:
                self._set(index, name)
            finally:
                self._set(index, flags=c.IFF_UP)

    def _set(self, index: int, name: str = "", *, flags: int | None = None) -> None:
        body = IFINFO.pack(0, 0, index, flags or 0, 0 if flags is None else c.IFF_UP)
        self._netlink.request(Msg.SETLINK, body + (text(Ifla.IFNAME, name) if name else b""))

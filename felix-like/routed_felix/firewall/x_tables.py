"""A cheap look at x_tables: how many rules a table has and where its hooks begin, by one getsockopt.

The kernel tells nobody when a legacy table changes, but what it answers here differs after most changes, and after
every flush. It takes some microseconds where `iptables-save` takes a process.
"""

from __future__ import annotations

import ctypes
import socket
from contextlib import nullcontext

from routed.model.address import Family
from routed.netlink.socket import inside

_libc = ctypes.CDLL(None, use_errno=True)
_GET_INFO = 64  # IPT_SO_GET_INFO, linux/netfilter_ipv4/ip_tables.h, and IP6T_SO_GET_INFO beside it
_NAME_BYTES = 32  # XT_TABLE_MAXNAMELEN
_INFO_BYTES = _NAME_BYTES + 4 + 5 * 4 + 5 * 4 + 4 + 4  # struct ipt_getinfo
_LEVELS = {
    Family.IPV4: (socket.AF_INET, socket.IPPROTO_IP),
    Family.IPV6: (socket.AF_INET6, socket.IPPROTO_IPV6),
}


class XTables:
    """The legacy tables of one network namespace; its sockets are opened when first needed."""

    def __init__(self, namespace: str | None = None) -> None:
        self._namespace = namespace
        self._sockets: dict[Family, socket.socket] = {}

    def close(self) -> None:
        """Close the sockets."""
        while self._sockets:
            self._sockets.popitem()[1].close()

    def info(self, family: Family, table: str) -> bytes:
        """The kernel's answer for `table`, which must exist: asking for one that does not would make it.

        Empty where the kernel has no such table.
        """
        level = _LEVELS[family][1]
        answer = ctypes.create_string_buffer(table.encode(), _INFO_BYTES)
        size = ctypes.c_uint32(_INFO_BYTES)
        if _libc.getsockopt(self._socket(family).fileno(), level, _GET_INFO, answer, ctypes.byref(size)):
            return b""
        return answer.raw

    def _socket(self, family: Family) -> socket.socket:
        opened = self._sockets.get(family)
        if opened is None:
            with inside(self._namespace) if self._namespace else nullcontext():
                opened = socket.socket(_LEVELS[family][0], socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW)
            self._sockets[family] = opened
        return opened

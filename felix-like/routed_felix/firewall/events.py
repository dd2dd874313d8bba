"""Changes of nf_tables, as the kernel tells them: nfnetlink's group NFNLGRP_NFTABLES."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Self

from routed.netlink import constants as c
from routed.netlink.message import as_text, attrs, unpack
from routed.netlink.socket import inside

_NETLINK_NETFILTER = 12  # linux/netlink.h
_GROUP = 1 << (7 - 1)  # NFNLGRP_NFTABLES, linux/netfilter/nfnetlink.h
_SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
_NEW_GENERATION = 15  # NFT_MSG_NEWGEN, linux/netfilter/nf_tables.h: the end of a transaction, of no table
_TABLE = 1  # NFTA_TABLE_NAME, and so NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_TABLE, NFTA_SET_ELEM_LIST_TABLE
_GENMSG = 4  # struct nfgenmsg: family, version, res_id
_DATAGRAM = 1 << 17
_BUFFER = 4 << 20  # bytes; more at once are an overflow, which costs one look

LOST = 1000
"""More transactions than anybody expects."""

Concerns = Callable[[int, str], bool]


class NftEvents:
    """A subscription in one network namespace; where the kernel has no nf_tables, or no nfnetlink, it stays silent."""

    def __init__(self, namespace: str | None = None) -> None:
        kind, group = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, _GROUP
        with inside(namespace) if namespace else nullcontext():
            try:
                self._socket = socket.socket(socket.AF_NETLINK, kind, _NETLINK_NETFILTER)
            except OSError as error:
                if error.errno != errno.EPROTONOSUPPORT:
                    raise
                self._socket, group = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE), 0
        with suppress(PermissionError):  # no CAP_NET_ADMIN in the machine's own user namespace: overflows come sooner
            self._socket.setsockopt(socket.SOL_SOCKET, c.SO_RCVBUFFORCE, _BUFFER)
        self._socket.bind((0, group))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the subscription."""
        self._socket.close()

    def fileno(self) -> int:
        """Readable when there is something to read."""
        return self._socket.fileno()

    def read(self, concerns: Concerns) -> int:
        """Take all events that are there; how many transactions `concerns` us by their family and table.

        Where some were lost that is `LOST` at least.
        """
        found = 0
        ours = False  # of the transaction that is being told
        while True:
            try:
                datagram = self._socket.recv(_DATAGRAM)
            except BlockingIOError:
                return found + ours
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                found += LOST
                continue
            for message in unpack(datagram):
                subsystem, kind = divmod(message.type, 256)
                if subsystem != _SUBSYSTEM or len(message.body) < _GENMSG:
                    continue
                if kind == _NEW_GENERATION:
                    found, ours = found + ours, False
                    continue
                table = attrs(message.body, _GENMSG).get(_TABLE)
                ours = ours or (table is not None and concerns(message.body[0], as_text(table)))

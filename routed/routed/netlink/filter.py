"""Which events a subscribed socket is given at all: a classic BPF program that the kernel runs. Pure.

An event that is left out costs nothing here. Offsets are those of struct nlmsghdr and struct ndmsg; the kernel reads a
packet's words as big-endian, the fields are of the machine's own order.
"""

from __future__ import annotations

import socket
import struct

from routed.netlink.constants import Msg

_STEP = struct.Struct("=HBBI")  # linux/filter.h: struct sock_filter
_LOAD_WORD, _LOAD_HALF, _IF_EQUAL, _RETURN = 0x20, 0x28, 0x15, 0x06
_TYPE_AT, _SENDER_AT, _INDEX_AT = 4, 12, 20
_NOTHING, _ALL = 0, 0xFFFFFFFF
_NO_PORT = 0xFFFFFFFF  # 0 is what the kernel itself does


def event_filter(*, not_from: int, neighbours_of: int) -> bytes:
    """A program that leaves out what the socket of port `not_from` caused, and neighbours of all devices but one.

    Of either 0 is none. Links are told whoever changed them: what a name stands for has to be known.
    """
    steps = [
        (_LOAD_HALF, 0, 0, _TYPE_AT),
        (_IF_EQUAL, 7, 0, socket.htons(Msg.NEWLINK)),
        (_IF_EQUAL, 6, 0, socket.htons(Msg.DELLINK)),
        (_IF_EQUAL, 1, 0, socket.htons(Msg.NEWNEIGH)),
        (_IF_EQUAL, 0, 2, socket.htons(Msg.DELNEIGH)),
        (_LOAD_WORD, 0, 0, _INDEX_AT),
        (_IF_EQUAL, 0, 3, socket.htonl(neighbours_of)),
        (_LOAD_WORD, 0, 0, _SENDER_AT),
        (_IF_EQUAL, 1, 0, socket.htonl(not_from or _NO_PORT)),
        (_RETURN, 0, 0, _ALL),
        (_RETURN, 0, 0, _NOTHING),
    ]
    return b"".join(_STEP.pack(*step) for step in steps)

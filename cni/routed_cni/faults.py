"""What a runtime is told when a call fails: specification section 5, Error. Pure."""

from __future__ import annotations

import errno
from enum import IntEnum

import msgspec


class Code(IntEnum):
    """Error codes: 1 to 99 are the specification's, from 100 on the plugin's own."""

    INCOMPATIBLE_VERSION = 1
    UNSUPPORTED_FIELD = 2
    UNKNOWN_CONTAINER = 3
    INVALID_ENVIRONMENT = 4
    IO_FAILURE = 5
    DECODE_FAILURE = 6
    INVALID_CONFIGURATION = 7
    TRY_AGAIN_LATER = 11
    NOT_AVAILABLE = 50
    LIMITED_CONNECTIVITY = 51
    BUG = 100
    NOT_AS_EXPECTED = 101
    """CHECK found the pod's network otherwise than ADD left it."""


class CniError(Exception):
    """What the runtime is told: `msg` says what is wrong, `details` what to do about it.

    `code` is one of `Code`, or the one with which an IPAM plugin failed.
    """

    def __init__(self, code: int, msg: str, details: str = "") -> None:
        super().__init__(msg)
        self.code = code
        self.msg = msg
        self.details = details


def short(value: object) -> str:
    """`value` as JSON, cut to what fits into a message."""
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 80 else f"{text[:77]}..."


def refused(what: str, error: OSError) -> CniError:
    """The error for what the kernel refused."""
    if error.errno == errno.EPERM:
        return CniError(Code.IO_FAILURE, f"cannot {what}: not permitted", "run the agent as root (CAP_NET_ADMIN)")
    return CniError(Code.IO_FAILURE, f"cannot {what}: {error.strerror}")

"""A pod's network namespace, opened once it is clear that it is one, and not the node's."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from routed.netlink import constants as c
from routed_cni.faults import CniError, Code


@contextmanager
def opened(path: str) -> Generator[int]:
    """An open descriptor of the namespace at `path`; raises CniError when that is no other network namespace."""
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

"""What a pod's wiring sets in /proc/sys, where netlink has no message for it.

Acts on the network namespace of the calling thread. Raises CniError for what the kernel refuses.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from routed.model.address import AnyAddress
from routed_cni.faults import refused


def enable_ipv6(*interfaces: str) -> None:
    """Let `interfaces` have IPv6 addresses: a runtime, or the node's default, may have switched that off."""
    for interface in interfaces:
        switch = Path(f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6")
        try:
            if switch.read_bytes().strip() != b"0":
                _write(switch, b"0")
        except OSError as error:
            raise refused(f"enable IPv6 on {interface}", error) from error


def set_forwarding(addresses: Collection[AnyAddress], forwarding: bool | None) -> None:
    """Whether a pod with `addresses` forwards, in all of it, as its own links to be will need it; None leaves that."""
    if forwarding is None:
        return
    names = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}
    for name in sorted(names[address.version] for address in addresses):
        try:
            _write(Path("/proc/sys", name), b"1" if forwarding else b"0")
        except OSError as error:
            raise refused(f"write {name} of the pod", error) from error


def ignore_router_advertisements(name: str) -> None:
    """A pod must not become the node's IPv6 router (CVE-2020-13597); there is no netlink message for it."""
    try:
        _write(Path(f"/proc/sys/net/ipv6/conf/{name}/accept_ra"), b"0")
    except FileNotFoundError:
        pass  # a kernel without IPv6
    except OSError as error:
        raise refused(f"write accept_ra of {name}", error) from error


def _write(path: Path, value: bytes) -> None:
    """Write a sysctl. Python's own files take seven system calls for it, and each gives up the interpreter."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value)
    finally:
        os.close(descriptor)

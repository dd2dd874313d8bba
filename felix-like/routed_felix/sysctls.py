"""Target: the few sysctls that forwarding needs. Set, never put back: nobody knows who else needs them."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from pathlib import Path

from routed.netlink.socket import inside
from routed.reconcile import Delta
from routed_felix.state import FORWARD_IPV6

_ROOT = Path("/proc/sys")
_OF_INTERFACE = "net/ipv4/conf/"


def device_of(key: str) -> str:
    """The interface that a sysctl is about; empty for none."""
    return key.removeprefix(_OF_INTERFACE).split("/")[0] if key.startswith(_OF_INTERFACE) else ""


class Sysctls:
    """The given keys, paths below /proc/sys, of `namespace` (None: where we are)."""

    def __init__(self, keys: Collection[str], namespace: str | None = None) -> None:
        self._keys = keys
        self._namespace = namespace

    def list(self) -> Mapping[str, str]:
        """Their values; a key that does not exist (its interface is gone) is left out."""
        found: dict[str, str] = {}
        with inside(self._namespace) if self._namespace else nullcontext():
            for key in self._keys:
                try:
                    found[key] = (_ROOT / key).read_text().strip()
                except OSError:
                    continue
        return found

    def apply(self, delta: Delta[str, str]) -> Mapping[str, str]:
        """Write those that differ. Returns reasons by key."""
        failures: dict[str, str] = {}
        with inside(self._namespace) if self._namespace else nullcontext():
            for key, value in (*delta.create.items(), *delta.replace.items()):
                try:
                    if key == FORWARD_IPV6 and value == "1":
                        _keep_routers()
                    (_ROOT / key).write_text(value)
                except OSError as error:
                    failures[key] = os.strerror(error.errno or 0)
        return failures


def _keep_routers() -> None:
    """Let interfaces that take routers' advertisements take them from a forwarding node too (accept_ra 2, not 1).

    Else the kernel drops the default routes that it learned so, the moment the node forwards.
    """
    for switch in (_ROOT / "net/ipv6/conf").glob("*/accept_ra"):
        try:
            if switch.read_text().strip() == "1":
                switch.write_text("2")
        except FileNotFoundError:  # its interface is gone
            continue

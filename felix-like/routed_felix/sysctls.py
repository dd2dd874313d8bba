"""Target: the few sysctls that forwarding needs. Set, never put back: nobody knows who else needs them."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from pathlib import Path

from routed.netlink.socket import inside
from routed.reconcile import Delta

_ROOT = Path("/proc/sys")


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
                    (_ROOT / key).write_text(value)
                except OSError as error:
                    failures[key] = os.strerror(error.errno or 0)
        return failures

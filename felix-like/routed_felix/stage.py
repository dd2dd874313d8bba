"""One target's part of an apply, in its two halves: what refers to it comes between them."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Generic, TypeVar

from routed.model.address import Address, HostAddress
from routed.netlink.socket import NetlinkError
from routed.reconcile import Delta, Target, diff
from routed_felix.state import Link, NodeState

K = TypeVar("K")
V = TypeVar("V")


class Stage(Generic[K, V]):
    """Compares when it is made; `failures` have the reasons, `changed` and `removed` count the objects written."""

    def __init__(self, target: Target[K, V], desired: Mapping[K, V]) -> None:
        self._target = target
        actual = target.list()
        self._delta: Delta[K, V] = Delta() if actual is desired else diff(actual, desired)
        self.failures: dict[K, str] = {}
        self.changed = 0
        self.removed = 0

    def add(self) -> None:
        """Creations and replacements."""
        self._run(self._delta.additions())

    def remove(self) -> None:
        """Deletions."""
        before = self.changed
        self._run(self._delta.deletions())
        self.removed = self.changed - before

    def _run(self, delta: Delta[K, V]) -> None:
        if not delta:
            return
        try:
            failed = self._target.apply(delta)
        except NetlinkError as error:  # the kernel did not answer: all of it wants a retry, and the others go on
            reason = os.strerror(error.errno or errno.EIO)
            failed = dict.fromkeys((*delta.create, *delta.replace, *delta.delete), reason)
        self.failures.update(failed)
        self.changed += len(delta) - len(failed)


def only(links: Mapping[str, Link], name: str) -> Mapping[str, Link]:
    """The link of this name, if there is one."""
    return {name: links[name]} if name in links else {}


def carried(node: NodeState, device: str) -> dict[HostAddress, str]:
    """The addresses that `device` should carry."""
    return {address: device for address, devices in node.addresses.items() if device in devices}


def nowhere(node: NodeState, stages: Mapping[str, Stage[HostAddress, str]]) -> set[Address]:
    """The addresses that are on none of the devices that should carry them."""
    return {
        address.ip
        for address, devices in node.addresses.items()
        if all(device not in stages or address in stages[device].failures for device in devices)
    }

"""Targets: permanent neighbours on the VXLAN device, and the entries of its forwarding database.

The device is ours alone, so that every permanent entry on it is ours, to keep or to sweep. What the kernel finds out by
itself (incomplete neighbours, multicast) is left alone.

The pictures come from a dump, from the acknowledgements of our own writes, and from events: of what other hands do, and
echoes of our own, which change nothing. A device that goes down or is made anew makes them be read again.
"""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from routed.model.address import Address
from routed.netlink import constants as c
from routed.netlink.constants import Flag, Msg
from routed.netlink.message import AF_BRIDGE, AF_INET
from routed.netlink.neighbours import NeighbourEntry, fdb_entry, neighbour, neighbour_filter
from routed.netlink.socket import Netlink
from routed.reconcile import Delta
from routed_felix.state import FdbKey, NeighbourKey

K = TypeVar("K")
V = TypeVar("V")
_GONE = {errno.ENOENT, errno.ENODEV}
_NONE = Address(0)


@dataclass(frozen=True, slots=True)
class NeighbourEvent:
    """What somebody made of a neighbour or of an entry of a forwarding database: `added`, or else deleted."""

    entry: NeighbourEntry
    added: bool


class _OnDevice(ABC, Generic[K, V]):
    """What the two have in common. The device's index is told by `link_is` before anything else."""

    family: int

    def __init__(self, netlink: Netlink, device: str) -> None:
        self._netlink = netlink
        self._device = device
        self._index = 0
        self._wanted: Mapping[K, V] = {}
        self._held: dict[K, V] | None = None
        self._equal = False  # whether the two were found to be

    @property
    def index(self) -> int:
        """The device's index, as last told; 0 for none."""
        return self._index

    def link_is(self, index: int) -> None:
        """Tell the device's index, 0 while it is not there."""
        if index != self._index:
            self._index = index
            self.forget()

    def want(self, wanted: Mapping[K, V]) -> None:
        """Tell what is wanted: `list` returns that very object while it is what there is, so that nobody compares."""
        if wanted is not self._wanted:
            self._wanted, self._equal = wanted, False

    def forget(self) -> None:
        """Read the kernel anew before anything else."""
        self._held, self._equal = None, False

    def heard(self, event: NeighbourEvent) -> bool:
        """Take in what happened in the kernel; whether something has to be done about it."""
        entry = event.entry
        if entry.family != self.family or entry.index != self._index:
            return False
        if self._held is None:
            return True
        key, value = self._meant(entry)
        if event.added and entry.state & c.NUD_PERMANENT:
            self._held[key] = value
            damaged = key not in self._wanted or self._wanted[key] != value
        else:
            self._held.pop(key, None)
            damaged = key in self._wanted
        self._equal = self._equal and not damaged
        return damaged

    def list(self) -> Mapping[K, V]:
        """What is there, as a value that no desired one equals where it is not quite as ours. Raises NetlinkError."""
        if self._held is None:
            self._held = self._read() if self._index else {}
        self._equal = self._equal or self._held == self._wanted
        return self._wanted if self._equal else self._held

    def apply(self, delta: Delta[K, V]) -> Mapping[K, str]:
        """Write and delete. Returns reasons by key; raises NetlinkError."""
        wanted = {**delta.create, **delta.replace}
        if not self._index:
            return dict.fromkeys(wanted, f"interface {self._device} does not exist")
        messages = [
            (Msg.NEWNEIGH, int(Flag.CREATE | Flag.REPLACE), self._entry(key, value).pack())
            for key, value in wanted.items()
        ]
        messages += [(Msg.DELNEIGH, 0, self._named(key).pack()) for key in delta.delete]
        keys = [*wanted, *delta.delete]
        held = dict(self.list())
        self.forget()  # until the kernel has answered
        refused = self._netlink.batch(messages)
        failures: dict[K, str] = {}
        for position, key in enumerate(keys):
            if position in refused and not (key in delta.delete and refused[position] in _GONE):
                failures[key] = os.strerror(refused[position])
            elif key in wanted:
                held[key] = wanted[key]
            else:
                held.pop(key, None)
        self._held = held
        return failures

    def _read(self) -> dict[K, V]:
        bodies = self._netlink.dump_bodies(Msg.GETNEIGH, neighbour_filter(self.family, self._index))
        entries = (NeighbourEntry.unpack(body) for body in bodies)
        return dict(
            self._meant(entry) for entry in entries if entry.index == self._index and entry.state & c.NUD_PERMANENT
        )

    @abstractmethod
    def _meant(self, entry: NeighbourEntry) -> tuple[K, V]:
        """What the kernel has, in our terms."""

    @abstractmethod
    def _entry(self, key: K, value: V) -> NeighbourEntry:
        """What is wanted, in the kernel's."""

    @abstractmethod
    def _named(self, key: K) -> NeighbourEntry:
        """What a deletion has to name."""


class Neighbours(_OnDevice[NeighbourKey, str]):
    """Which MAC address a member's node address has; empty where the kernel's entry is not as ours are."""

    family = AF_INET

    def _meant(self, entry: NeighbourEntry) -> tuple[NeighbourKey, str]:
        as_ours = neighbour(self._index, entry.address or _NONE, entry.mac)
        return NeighbourKey(self._device, entry.address or _NONE), entry.mac if entry == as_ours else ""

    def _entry(self, key: NeighbourKey, value: str) -> NeighbourEntry:
        return neighbour(self._index, key.address, value)

    def _named(self, key: NeighbourKey) -> NeighbourEntry:
        return neighbour(self._index, key.address, "")


class ForwardingDatabase(_OnDevice[FdbKey, Address | None]):
    """To which node address frames for a MAC address go; None where the kernel's entry is not as ours are."""

    family = AF_BRIDGE

    def _meant(self, entry: NeighbourEntry) -> tuple[FdbKey, Address | None]:
        as_ours = fdb_entry(self._index, entry.mac, entry.address)
        return FdbKey(self._device, entry.mac), entry.address if entry == as_ours else None

    def _entry(self, key: FdbKey, value: Address | None) -> NeighbourEntry:
        return fdb_entry(self._index, key.mac, value)

    def _named(self, key: FdbKey) -> NeighbourEntry:
        return fdb_entry(self._index, key.mac, None)

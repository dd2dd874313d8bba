"""Nexthop groups of ours: what makes a hundred thousand routes one object to repoint. Design section 5.

A `Group` of calc's is one group in the kernel, always a group, even of one, because the kernel never replaces a
nexthop by a group or back. Its members are one nexthop for each gateway, device and way of reaching it, and are shared.
All of ours have our protocol number; nothing else is ever changed.

The picture comes from a dump and from the acknowledgements of our own writes. Nexthops are few, so whatever another
hand does to any of them, or a link that goes down, makes it be read anew.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Collection, Mapping

from routed.model.address import Family
from routed.netlink.constants import Flag, Msg
from routed.netlink.nexthops import DUMP_NEXTHOPS, NexthopEntry, deletion
from routed.netlink.objects import HopEntry
from routed.netlink.socket import Netlink, NetlinkError
from routed_felix.state import Group, Hop

_IDS_PER_PROTOCOL = 1_000_000
_FIRST_ID = {Family.IPV4: 0, Family.IPV6: 500_000}
_IDS = 500_000
_NO_SUCH = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}  # what a kernel before 5.3 answers
_GONE = {errno.ENOENT, errno.ENODEV}


class NexthopsTarget:
    """See the module; for the routes of one family, which have ids of their own.

    `wanted` False: the node does without, and what is there of ours goes. `failures` has the kernel's reason for each
    group that is not as it should be. Interface indices are given by `links_are` before anything else.
    """

    def __init__(self, netlink: Netlink, protocol: int, family: Family = Family.IPV4, *, wanted: bool = True) -> None:
        self._family = family
        self._netlink = netlink
        self._protocol = protocol
        self._wanted = wanted
        self._possible = True  # as long as the kernel has not said otherwise
        self._index: Mapping[str, int] = {}
        self.entries: dict[int, NexthopEntry] = {}  # everybody's, by id
        self._ours: dict[int, NexthopEntry] = {}  # those of `entries` that are ours
        self._ids: dict[Group, int] = {}
        self._hops: dict[Group, tuple[Hop, ...]] = {}  # as they should be
        self._members: dict[HopEntry, int] = {}
        self._uses: Counter[int] = Counter()  # of members, by groups
        self._stale: set[Group] = set()  # may not be as they should
        self._unwanted: set[int] = set()  # groups that nothing goes by any more
        self._lonely: set[int] = set()  # members of no group
        self._last_id = self._first_id = protocol * _IDS_PER_PROTOCOL + _FIRST_ID[family]
        self.failures: dict[Group, str] = {}

    @property
    def usable(self) -> bool:
        """Whether routes go by groups."""
        return self._wanted and self._possible

    def links_are(self, index: Mapping[str, int]) -> None:
        """Tell the interfaces of now."""
        if index != self._index:
            self._index = index
            self._stale |= self._ids.keys()

    def relist(self) -> set[int]:
        """Read all nexthops from the kernel; the ids of groups of ours that have gone. Raises NetlinkError."""
        before = {number for number, entry in self._ours.items() if entry.hop is None}
        self.entries, self._ours = {}, {}
        if self._possible:
            try:
                bodies = self._netlink.dump_bodies(Msg.GETNEXTHOP, DUMP_NEXTHOPS)
            except NetlinkError as error:
                if error.errno not in _NO_SUCH:
                    raise
                self._possible = False
            else:
                self.entries = {entry.id: entry for entry in map(NexthopEntry.unpack, bodies)}
        ids = range(self._first_id, self._first_id + _IDS)
        self._ours = {n: entry for n, entry in self.entries.items() if entry.protocol == self._protocol and n in ids}
        self._members, self._uses = {}, Counter()
        for number, entry in self._ours.items():
            if entry.hop is not None and not entry.odd:
                self._members.setdefault(entry.hop, number)
            self._uses.update(entry.members)
        self._lonely = {n for n, entry in self._ours.items() if entry.hop is not None and not self._uses[n]}
        self._stale |= self._ids.keys()
        self._unwanted &= self._ours.keys()
        return before - self._ours.keys()

    # ---- what is wanted

    def all_wanted(self, groups: Mapping[Group, tuple[Hop, ...]]) -> None:
        """Exactly these are wanted. Groups of the kernel's that none of them is yet wait to be claimed, or swept."""
        for group in self._ids.keys() - groups.keys():
            del self._ids[group]
        self._hops = dict(groups)
        self._stale = set(groups)
        taken = set(self._ids.values())
        self._unwanted = {number for number, entry in self._ours.items() if entry.hop is None and number not in taken}
        self.failures = {group: why for group, why in self.failures.items() if group in groups}

    def changed(self, groups: Mapping[Group, tuple[Hop, ...]]) -> None:
        """These have other hops now; without any, nothing goes by them any more."""
        for group, hops in groups.items():
            self.failures.pop(group, None)
            if hops:
                self._hops[group] = hops
                self._stale.add(group)
                continue
            self._hops.pop(group, None)
            self._stale.discard(group)
            if (number := self._ids.pop(group, None)) is not None:
                self._unwanted.add(number)

    def claim(self, group: Group, number: int) -> None:
        """Prefixes of `group` go by the object `number` already: if it leads where it should, it is the group's."""
        entry = self._ours.get(number)
        if group in self._ids or number not in self._unwanted or entry is None or entry.odd or entry.hop is not None:
            return
        wanted = self._entries_of(self._hops.get(group, ()))
        if wanted is not None and wanted == tuple(self._leads(each) for each in entry.members):
            self._ids[group] = number
            self._unwanted.discard(number)

    def id_of(self, group: Group) -> int:
        """The id that routes name; 0 while the group is not in the kernel."""
        return self._ids.get(group, 0)

    def _leads(self, member: int) -> HopEntry | None:
        entry = self._ours.get(member)
        return entry.hop if entry is not None and not entry.odd else None

    def _entries_of(self, hops: tuple[Hop, ...]) -> tuple[HopEntry, ...] | None:
        if not hops or any(hop.device not in self._index for hop in hops):
            return None
        return tuple(HopEntry(self._index[hop.device], hop.gateway, hop.onlink) for hop in hops)

    # ---- writing

    @property
    def pending(self) -> bool:
        """Whether `bring` or `sweep` may have something to do."""
        return bool(self._stale or self._unwanted or self._lonely)

    def bring(self, groups: Mapping[Group, tuple[Hop, ...]] | None = None, *, retry: bool = False) -> int:
        """Make `groups`, and those known that are not as they should be, as they should.

        What failed before is tried again if it is in `groups`, or with `retry`. Returns how many objects were written;
        raises NetlinkError when the kernel does not answer.
        """
        for group, hops in (groups or {}).items():
            if self._hops.get(group) != hops or group not in self._ids:
                self._hops[group] = hops
                self._stale.add(group)
        if retry:
            self._stale |= self.failures.keys()
        todo: dict[Group, tuple[HopEntry, ...]] = {}
        for group in self._stale:
            entries = self._entries_of(self._hops[group])
            if entries is None:
                devices = sorted({hop.device for hop in self._hops[group]} - self._index.keys())
                self.failures[group] = f"interface {', '.join(devices) or '?'} does not exist"
                continue
            self.failures.pop(group, None)
            held = self._ours.get(self._ids.get(group, 0))
            if held is None or held.odd or tuple(self._leads(each) for each in held.members) != entries:
                todo[group] = entries
        self._stale.clear()
        return self._write_members(todo) + self._write_groups(todo) if todo else 0

    def _write_members(self, todo: Mapping[Group, tuple[HopEntry, ...]]) -> int:
        missing = [hop for hop in dict.fromkeys(h for hops in todo.values() for h in hops) if hop not in self._members]
        made = [NexthopEntry(self._new_id(), self._protocol, hop) for hop in missing]
        refused = self._send([(Flag.CREATE | Flag.EXCL, each) for each in made])
        for group, hops in todo.items():
            reasons = [refused[made[n].id] for n, hop in enumerate(missing) if hop in hops and made[n].id in refused]
            if reasons:
                self.failures[group] = reasons[0]
        return len(made) - len(refused)

    def _write_groups(self, todo: Mapping[Group, tuple[HopEntry, ...]]) -> int:
        messages: list[tuple[int, NexthopEntry]] = []
        by_id: dict[int, Group] = {}
        for group, hops in todo.items():
            if group in self.failures:
                continue
            number = self._ids.get(group, 0)
            flags = Flag.REPLACE if number in self.entries else Flag.EXCL  # whoever has taken it meanwhile
            number = number or self._new_id()
            by_id[number] = group
            members = tuple(self._members[hop] for hop in hops)
            messages.append((Flag.CREATE | flags, NexthopEntry(number, self._protocol, None, members)))
        refused = self._send(messages)
        for number, group in by_id.items():
            if number in refused:
                self.failures[group] = refused[number]
            else:
                self._ids[group] = number
        return len(messages) - len(refused)

    def _send(self, messages: list[tuple[int, NexthopEntry]]) -> dict[int, str]:
        """Write these and keep them in the picture; why not, by id."""
        answers = self._netlink.batch([(Msg.NEWNEXTHOP, flags, entry.pack(self._family)) for flags, entry in messages])
        for index, (_, entry) in enumerate(messages):
            if index in answers:
                continue
            before = self._ours.get(entry.id)
            if entry.hop is not None:
                self._members[entry.hop] = entry.id
                self._lonely.add(entry.id)
            self._uses.update(entry.members)
            self._lonely.difference_update(entry.members)
            self._release(before)
            self.entries[entry.id] = self._ours[entry.id] = entry
        return {messages[index][1].id: os.strerror(number) for index, number in answers.items()}

    def reasons(self) -> dict[str, str]:
        """The failures of groups that routes go by, by what they should lead to; others fail with their routes."""
        return {
            "next hops " + ", ".join(f"{hop.gateway or 'on'} dev {hop.device}" for hop in self._hops[group]): why
            for group, why in self.failures.items()
            if group in self._ids
        }

    def sweep(self, used: Collection[int]) -> int:
        """Delete the groups that nothing goes by, except `used`, and members of no group. Raises as `bring`.

        Routes that name a group would go with it.
        """
        doomed = [number for number in self._unwanted if number not in used]
        self._unwanted.difference_update(doomed)
        done = self._delete(doomed)
        return done + self._delete([*self._lonely])

    def _delete(self, numbers: list[int]) -> int:
        refused = self._netlink.batch([(Msg.DELNEXTHOP, 0, deletion(number)) for number in numbers]) if numbers else {}
        for index, number in enumerate(numbers):
            self._lonely.discard(number)
            if refused.get(index, errno.ENOENT) not in _GONE:
                continue
            self.entries.pop(number, None)
            entry = self._ours.pop(number, None)
            self._release(entry)
            if entry is not None and entry.hop is not None and self._members.get(entry.hop) == number:
                del self._members[entry.hop]
        return len(numbers) - len(refused)

    def _release(self, group: NexthopEntry | None) -> None:
        """`group` has its members no longer."""
        for member in group.members if group is not None else ():
            self._uses[member] -= 1
            if not self._uses[member] and member in self._ours:
                self._lonely.add(member)

    def _new_id(self) -> int:
        """An id that nobody has, as far as we know."""
        self._last_id += 1
        while self._last_id in self.entries:
            self._last_id += 1
        return self._last_id

"""`routed agent --record FILE`: every input of the core is written as it comes, one line each.

`RecordedRouting` and `RecordedProgrammer` stand in place of what they are made from, and do nothing else than that. The
clock of the recorded routing stands still between two inputs, so that the replay sees the very same times.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from routed.agent.neighbourhood import Neighbourhood
from routed.agent.programmer import Programmer
from routed.agent.recording import lines, plain
from routed.agent.routing import Routing
from routed.config import AgentConfig
from routed.errors import EnvironmentFault, RoutedError
from routed.model.address import AnyAddress, Family
from routed.model.cluster import Cluster
from routed.model.nlri import Nlri
from routed_bgp.bfd.client import Bfd
from routed_bgp.bfd.ledger import BfdChange
from routed_bgp.export import Drain
from routed_bgp.speaker import SessionEvent, Speaker
from routed_felix.dataplane import Dataplane, Kernel
from routed_felix.state import Settings
from routed_felix.view import View

_log = logging.getLogger("routed.agent")

CONFIGURED: Final = (
    "node", "bgp_hold_seconds", "bgp_restart_seconds", "bgp_sync_seconds", "bgp_member_local_pref",
    "bgp_fabric_local_pref", "bgp_stale_paths_yield", "bgp_multipath_ebgp", "bgp_multipath_ibgp",
)  # fmt: skip
"""The keys of the configuration that the core decides by."""

_CLUSTERS_KEPT = 8  # the newest, told apart by identity; one that is older is written again


class Recorder:
    """A file of lines; `moment` is the time of the last one. A file that cannot be written to ends it, and it says so.

    Each line is in the file when its input is taken in: an agent that is killed leaves all that it was told.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.monotonic) -> None:
        """Write `path` anew. Raises EnvironmentFault where that cannot be."""
        self.moment = now()
        self._path = path
        self._now = now
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EnvironmentFault(
                f"--record {path}: cannot be written: {error.strerror}", hint="name a file in a directory that is there"
            ) from None
        self._file = os.fdopen(fd, "w", buffering=1, encoding="utf-8")
        self._failed = False
        self._clusters: list[tuple[Cluster, int]] = []
        self._numbered = 0
        self._seen: dict[Family, dict[str, Any]] = {}
        self._put(msgspec.json.encode({"format": lines.FORMAT}).decode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._file.close()
        except OSError as error:  # of what was still to be written
            self._give_up(error)

    def start(self, config: AgentConfig, settings: Settings) -> None:
        """Write what the core is configured by."""
        self.write(lines.Started({name: getattr(config, name) for name in CONFIGURED}, settings))

    def write(self, line: lines.Line, at: float | None = None) -> None:
        """Write an input; `at`, or now, becomes the `moment`."""
        self.moment = self._now() if at is None else at
        self._put(lines.encode(self.moment, line))

    def number(self, cluster: Cluster) -> int:
        """The number of `cluster` in the file, which has it by then."""
        for known, number in self._clusters:
            if known is cluster:
                return number
        self._numbered += 1
        self.write(lines.Stored(self._numbered, lines.resources_of(cluster)))
        self._clusters = [*self._clusters[1 - _CLUSTERS_KEPT :], (cluster, self._numbered)]
        return self._numbered

    def view(self, view: View) -> None:
        """Write what calc is about to see."""
        seen: dict[str, Any] = plain.encode(lines.Surroundings.of(view, self.number(view.cluster)))
        before = self._seen.get(view.family, {})
        self._seen[view.family] = seen
        changed = {name: value for name, value in seen.items() if name not in before or before[name] != value}
        self.write(lines.Viewed(view.family, changed))

    def _put(self, text: str) -> None:
        if self._failed:
            return
        try:
            self._file.write(f"{text}\n")
        except OSError as error:  # the node goes on
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        if not self._failed:
            self._failed = True
            _log.error("--record %s: %s: nothing more is recorded", self._path, error.strerror)


class RecordedRouting(Routing):
    """Routing whose inputs are written before they are taken in."""

    def __init__(self, config: AgentConfig, speaker: Speaker, bfd: Bfd, recorder: Recorder) -> None:
        super().__init__(config, speaker, bfd, lambda: recorder.moment)
        self._recorder = recorder
        self._last: dict[object, lines.Line] = {}

    async def adopt(self, cluster: Cluster) -> bool:
        """Recorded: the cluster, and which passwords are missing."""
        self._recorder.write(lines.Adopted(self._recorder.number(cluster), self._missing(cluster)))
        return await super().adopt(cluster)

    async def handle(self, event: SessionEvent) -> None:
        """Recorded: the event."""
        self._recorder.write(event)
        await super().handle(event)

    async def bfd_changed(self, change: BfdChange) -> None:
        """Recorded: the change."""
        self._recorder.write(change)
        await super().bfd_changed(change)

    async def interfaces_changed(self, here: Neighbourhood) -> None:
        """Recorded: that it happened; the views of which `here` is made are written already."""
        self._recorder.write(lines.LookedAround())
        await super().interfaces_changed(here)

    async def expire(self, now: float) -> None:
        """Recorded: the time."""
        self._recorder.write(lines.Expired(), now)
        await super().expire(now)

    def assign(self, family: Family, addresses: frozenset[Nlri]) -> None:
        """Recorded: the addresses, where they are others than before."""
        self._write_new(family, lines.Assigned(family, addresses))
        super().assign(family, addresses)

    def borrow(self, addresses: frozenset[Nlri]) -> None:
        """Recorded: the addresses, where they are others than before."""
        self._write_new(lines.Borrowed, lines.Borrowed(addresses))
        super().borrow(addresses)

    def drain(self, drain: Drain) -> None:
        """Recorded: how far."""
        self._recorder.write(lines.Drained(drain))
        super().drain(drain)

    def _write_new(self, what: object, line: lines.Line) -> None:
        if self._last.get(what) != line:
            self._last[what] = line
            self._recorder.write(line)

    def _missing(self, cluster: Cluster) -> tuple[str, ...]:
        stated = [cluster.bgp.node_mesh_password, *(peer.spec.password for peer in cluster.peers.values())]
        found: list[str] = []
        for each in {password.secret_key_ref for password in stated if password is not None}:
            try:
                self._secrets(each)
            except RoutedError:
                found.append(f"{each.name}/{each.key}")
        return tuple(sorted(found))


class RecordedProgrammer(Programmer):
    """A programmer that writes what calc is given."""

    def __init__(
        self,
        dataplane: Dataplane,
        view_of: Callable[[Kernel, Family], View],
        resync_seconds: float,
        recorder: Recorder,
    ) -> None:
        def recorded(kernel: Kernel, family: Family) -> View:
            view = view_of(kernel, family)
            recorder.view(view)
            return view

        super().__init__(dataplane, recorded, resync_seconds)
        self._recorder = recorder

    def fail_over(self, lost: frozenset[AnyAddress]) -> None:
        """Recorded: the peers, if calc was asked at all."""
        before = self.views
        try:
            super().fail_over(lost)
        finally:
            if self.views is not before:
                self._recorder.write(lines.Lost(lost))

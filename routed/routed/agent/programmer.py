"""The kernel edge over time: read, calculate, apply; again when something failed, and now and then in any case."""

from __future__ import annotations

import logging
from collections.abc import Callable

from routed.agent.backoff import Backoff
from routed.errors import EnvironmentFault
from routed.model.address import HostAddress
from routed_felix import calc
from routed_felix.dataplane import Dataplane, Kernel
from routed_felix.state import Desired, Report
from routed_felix.view import View

_log = logging.getLogger("routed.agent")


class Programmer:
    """What calc decided last, and what the kernel made of it.

    `view_of` joins what the kernel holds with what else is known. `fault` is set while the kernel cannot be asked.
    """

    def __init__(self, dataplane: Dataplane, view_of: Callable[[Kernel], View], resync_seconds: float) -> None:
        self.view: View | None = None
        self.desired = Desired()
        self.report = Report()
        self.fault: EnvironmentFault | None = None
        self._dataplane = dataplane
        self._view_of = view_of
        self._resync_seconds = resync_seconds
        self._resync_at: float | None = None
        self._backoff = Backoff()

    @property
    def next_deadline(self) -> float | None:
        """When to reconcile even though nothing changed."""
        return min((time for time in (self._backoff.due, self._resync_at) if time is not None), default=None)

    def reconcile(self, now: float, *, write: bool) -> None:
        """Bring the kernel to what is wanted; unless `write`, only find out what that is."""
        self._resync_at = now + self._resync_seconds
        try:
            self._calculate()
            if write:
                self._apply()
        except EnvironmentFault as fault:
            if str(fault) != str(self.fault):
                _log.error("%s", fault)
            self.fault = fault
            self._backoff.failed(now)
            return
        self.fault = None
        if self.report.failures:
            self._backoff.failed(now)
        else:
            self._backoff.succeeded()

    def pod_mtu(self) -> int:
        """The MTU for a new pod's interface, in bytes. Raises EnvironmentFault when the kernel does not answer."""
        if self.view is None:
            self._calculate()
        assert self.view is not None
        return calc.pod_mtu(self.view)

    def require_address(self, node: str, stated: HostAddress) -> None:
        """Raise EnvironmentFault, with what there is instead, unless some interface has the address of `node`."""
        interfaces = self._read().interfaces.values()
        if not any(stated.ip == address.ip for each in interfaces for address in each.addresses):
            present = ", ".join(
                f"{a} on {each.name}" for each in interfaces for a in each.addresses if each.name != "lo"
            )
            raise EnvironmentFault(
                f"Node {node}: spec.bgp.ipv4Address {stated} is on no interface of this machine "
                f"(there is: {present or 'none'})",
                hint="correct the Node (routed apply), set `node` to this machine's Node, or add the address",
            )

    def _read(self) -> Kernel:
        try:
            return self._dataplane.read()
        except OSError as error:  # of the netlink socket: the kernel cannot even be asked
            raise _unanswered(error) from error

    def _calculate(self) -> None:
        self.view = self._view_of(self._read())
        self.desired = calc.desired(self.view)

    def _apply(self) -> None:
        before = self.report
        try:
            self.report = self._dataplane.apply(self.desired)
        except OSError as error:
            raise _unanswered(error) from error
        for key, reason in self.report.failures.items():
            if before.failures.get(key) != reason:
                _log.warning("%s: %s", key, reason)
        for conflict in self.report.conflicts:
            if conflict not in before.conflicts:
                _log.warning("%s", conflict)
        if self.report.changed:
            _log.info("kernel: %d changed, %d routes", self.report.changed, self.report.programmed)


def _unanswered(error: OSError) -> EnvironmentFault:
    reason = error.strerror or str(error)
    return EnvironmentFault(f"the kernel does not answer by netlink: {reason}", hint="it is asked again and again")

"""Answers `/explain`: gathers what the agent and the kernel know of one address."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from routed.agent.bgp_reason import Explained, explained
from routed.agent.explain import Seen, as_told, find_pod
from routed.agent.path_source import PathSource
from routed.agent.programmer import Programmer
from routed.errors import EnvironmentFault, OperatorError
from routed.ipam.allocator import Allocator
from routed.model.address import AnyAddress, Family
from routed.model.cluster import Cluster
from routed.model.nlri import Nlri, to_prefix, widened
from routed_bgp.loc_rib import Ranked
from routed_bgp.policy import host
from routed_cni.plugin import Plugin
from routed_felix.fib import FibAnswer, ask
from routed_felix.prefixes import PrefixMap
from routed_felix.state import TUNNELS, Settings

_PARAMETERS = ("address", "from")


class Explainer:
    """Sees what the agent works by at the moment when it is asked. `cluster` tells that of now."""

    def __init__(
        self,
        node: str,
        settings: Settings,
        widths: tuple[int, int],
        *,
        cluster: Callable[[], Cluster],
        paths: PathSource,
        programmer: Programmer,
        plugin: Plugin,
        allocator: Allocator,
    ) -> None:
        self._node = node
        self._settings = settings
        self._widths = widths
        self._cluster = cluster
        self._paths = paths
        self._programmer = programmer
        self._plugin = plugin
        self._allocator = allocator

    def explain(self, parameters: Mapping[str, str]) -> Mapping[str, Any]:
        """The answer to `address`, for packets of the pod `from`, if given.

        Raises OperatorError for what is neither, EnvironmentFault when the kernel does not answer.
        """
        if unknown := [name for name in parameters if name not in _PARAMETERS]:
            raise OperatorError(f"unknown parameter {unknown[0]}", hint=f"known are {', '.join(_PARAMETERS)}")
        address = parse(parameters.get("address", ""))
        pod = None
        if word := parameters.get("from"):
            names = {
                each: "/".join(held.attributes.get(part, "") for part in ("namespace", "pod"))
                for each, held in self._allocator.allocations().items()
                if held.attributes.get("pod") and each.version == address.version
            }
            pods = {each: pod for each, pod in self._plugin.endpoints().items() if each.version == address.version}
            pod = find_pod(word, pods, names)
        family = Family.of(address)
        covering = [widened(host(address), length) for length in range(family.bits, -1, -1)]
        best, cluster = self._paths.best(family), self._cluster()
        learned = next((nlri for nlri in covering if nlri in best), None)
        decisions = (self._programmer.decision_for(to_prefix(nlri, family)) for nlri in covering)
        decision = next((each for each in decisions if each is not None), None)
        pool = PrefixMap(cluster.pools_of(family), family).longest(address)
        block = PrefixMap(cluster.blocks_of(family), family).longest(address)
        tunnelled = decision is not None and decision.encapsulation in TUNNELS and decision.hops
        end = decision.hops[0].gateway if decision is not None and tunnelled else None
        failures = self._programmer.report.failures
        return as_told(
            Seen(
                node=self._node,
                address=address,
                pod=pod,
                learned=to_prefix(learned, family) if learned is not None else None,
                paths=self._explained(learned, family, best[learned]) if learned is not None else (),
                pool=pool[1].name if pool is not None else None,
                owner=block[1] if block is not None else None,
                decision=decision,
                kernel=ask_kernel(address, pod.address, pod.host_interface) if pod is not None else ask_kernel(address),
                outer=ask_kernel(end) if end is not None else None,
                failure=failures.get(decision.key) if decision is not None and decision.key is not None else None,
                settings=self._settings,
            )
        )

    def _explained(self, nlri: Nlri, family: Family, paths: Ranked) -> tuple[Explained, ...]:
        found = explained(paths, self._widths)
        if self._paths.is_stored(nlri, family):
            return tuple(replace(each, reason="from the store, since BGP is switched off") for each in found)
        return found


def parse(text: str) -> AnyAddress:
    """The address to explain. Raises OperatorError."""
    try:
        return ip_address(text)
    except ValueError:
        raise OperatorError(
            f"address: {text!r} is no address", hint="expected one of a pod or node, e.g. 10.244.1.7 or fd00:10:244::7"
        ) from None


def ask_kernel(address: AnyAddress, source: AnyAddress | None = None, interface: str = "") -> FibAnswer:
    """The kernel's own word. Raises EnvironmentFault when it has none."""
    try:
        return ask(address, source=source, interface=interface)
    except OSError as error:
        reason = error.strerror or str(error)
        raise EnvironmentFault(f"the kernel does not say how it reaches {address}: {reason}") from error

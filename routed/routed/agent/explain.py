"""`/explain`: one address from the Loc-RIB to the kernel's answer, and whether the two agree. Pure.

paths of the longest prefix -> the decision and its reason -> what we programmed | what the kernel says
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from routed.agent.bgp_reason import Explained
from routed.errors import OperatorError
from routed.model.address import AnyAddress, AnyPrefix
from routed.model.endpoint import Endpoint
from routed_felix.fib import LOCAL, MAIN, UNICAST, FibAnswer
from routed_felix.state import TUNNELS, Encapsulation, Forwarding, Hop, Settings

_ELSEWHERE = (Encapsulation.DIRECT, *TUNNELS, Encapsulation.LOCAL)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What there is to be said about `address`.

    `pod` is where the packet comes from, None for the node itself. `learned` is the longest prefix of the Loc-RIB with
    its `paths`; `decision` that of the longest prefix that is learned or ours. `failure`: why the kernel refused the
    decision's route. `outer` is the kernel's answer for the end of the tunnel, if it goes through one.
    """

    node: str
    address: AnyAddress
    pod: Endpoint | None
    learned: AnyPrefix | None
    paths: Sequence[Explained]
    pool: str | None
    owner: str | None
    decision: Forwarding | None
    kernel: FibAnswer
    outer: FibAnswer | None
    failure: str | None
    settings: Settings


@dataclass(frozen=True, slots=True)
class Conclusion:
    """Whether the kernel does what was decided (`agrees`) and the packet gets anywhere (`forwarded`); what to do."""

    agrees: bool
    forwarded: bool
    text: str
    hint: str = ""


def find_pod(word: str, endpoints: Mapping[AnyAddress, Endpoint], names: Mapping[AnyAddress, str]) -> Endpoint:
    """The pod that an operator means by `word`: an address, a container ID or its beginning, a host interface, or its
    name, `namespace/name` or `name`, as in `names`. Raises OperatorError where it is none or several."""
    found = [
        each
        for address, each in sorted(endpoints.items(), key=lambda item: int(item[0]))
        if word in (str(address), each.host_interface, names.get(address), (names.get(address) or "").partition("/")[2])
        or (len(word) >= _SHORTEST_ID and each.container_id.startswith(word))
    ]
    if len(found) == 1:
        return found[0]
    there = ", ".join(names.get(address) or str(address) for address in sorted(endpoints, key=int)) or "none"
    if not found:
        raise OperatorError(
            f"from: {word!r} is no pod of this node",
            hint=f"expected an address, a name, a container ID or a host interface; there is: {there}",
        )
    several = ", ".join(f"{each.container_id}/{each.interface}" for each in found)
    raise OperatorError(f"from: {word!r} is several pods of this node", hint=f"name one by its address: {several}")


_SHORTEST_ID = 4


def conclude(seen: Seen) -> Conclusion:
    """Compare what was decided with what the kernel says."""
    decision, kernel = seen.decision, seen.kernel
    if kernel.outcome == LOCAL:
        if decision is not None and decision.encapsulation in _ELSEWHERE:
            text = f"an interface of this node has the address itself, which is {decision.encapsulation} as decided"
            return Conclusion(False, True, text, f"find it by `ip address show to {seen.address}` and remove it there")
        return Conclusion(True, True, f"{seen.address} is an address of this node itself")
    if kernel.outcome.startswith("refused"):
        hint = "the pod's packets must come by its own interface, from its own address"
        return Conclusion(False, False, f"the kernel drops packets from there: {kernel.outcome}", hint)
    if decision is None or decision.key is None:
        return _undecided(seen)
    if decision.encapsulation is Encapsulation.BLACKHOLE:
        if kernel.outcome == "blackhole":
            return Conclusion(True, False, "no pod has this address: the kernel drops packets to it, as it should")
    elif kernel.outcome == UNICAST and _is_ours(seen) and kernel.prefix == decision.prefix:
        if {(hop.device, hop.gateway) for hop in kernel.ways} == {(hop.device, hop.gateway) for hop in decision.hops}:
            return Conclusion(True, True, f"the kernel agrees: {_way(kernel.hop)}")
        wanted = " and ".join(map(_way, decision.hops))
        return Conclusion(False, True, f"the kernel has another next hop than {wanted}", "it is about to be repaired")
    return _in_the_way(seen, decision)


def _undecided(seen: Seen) -> Conclusion:
    kernel, decision = seen.kernel, seen.decision
    if kernel.outcome != UNICAST:
        why = "nothing is learned for it" if decision is None else str(decision.because)
        return Conclusion(True, False, f"not forwarded ({kernel.outcome}): {why}", _learn(seen))
    by = f"{kernel.prefix} by {_way(kernel.hop)}, {_whose(kernel)}"
    if decision is None:
        return Conclusion(True, True, f"not ours to decide: the kernel's route is {by}")
    text = f"not programmed ({decision.because}); what is left is {by}"
    return Conclusion(False, False, text, "routed node status names the problem and what to do")


def _in_the_way(seen: Seen, decision: Forwarding) -> Conclusion:
    kernel, metric = seen.kernel, seen.settings.metric
    if seen.failure is not None:
        return Conclusion(False, False, f"the kernel refused our route: {seen.failure}", "it is tried again and again")
    if kernel.outcome != UNICAST or kernel.prefix is None:
        text = f"the kernel says {kernel.outcome} and not what was decided"
        hint = "see `ip rule` and `ip route get`: a rule or a route that is not ours takes these packets"
        return Conclusion(False, False, text, hint)
    theirs = f"{kernel.prefix} metric {kernel.metric}, {_whose(kernel)}"
    if kernel.table != MAIN:
        text = f"a policy rule sends these packets to table {kernel.table}: {theirs}"
        return Conclusion(False, True, text, f"see `ip rule` and `ip route show table {kernel.table}`")
    if kernel.prefix.prefixlen > decision.prefix.prefixlen:
        text = f"a longer route takes these packets: {theirs}"
    elif kernel.prefix == decision.prefix and kernel.metric < metric:
        text = f"a route of a lower metric takes these packets: {theirs}"
    elif kernel.prefix == decision.prefix:
        text = f"a route in the place of ours takes these packets: {theirs}"
    else:
        return Conclusion(
            False, False, f"our route is not there; what is left is {theirs}", "it is about to be put back"
        )
    command = f"ip route del {kernel.prefix} proto {kernel.protocol} metric {kernel.metric}"
    return Conclusion(False, True, text, f"if it is not meant to be there: {command}")


def _is_ours(seen: Seen) -> bool:
    kernel = seen.kernel
    return (kernel.protocol, kernel.metric) == (seen.settings.protocol, seen.settings.metric) and kernel.table == MAIN


def _learn(seen: Seen) -> str:
    if seen.decision is not None:
        return "routed node status names the problem and what to do"
    if seen.pool is None:
        return "no pool holds it: is the address right?"
    if seen.owner is None:
        return "no node's block holds it"
    return f"its block is of node {seen.owner}: is that node's session up (routed bgp status)?"


def _way(hop: Hop | None) -> str:
    if hop is None:
        return "no next hop"
    return f"{hop.device}" + (f" via {hop.gateway}" if hop.gateway is not None else "")


def _whose(kernel: FibAnswer) -> str:
    return f"protocol {kernel.protocol}"


# ---- as JSON, the shape that `routed explain` reads


def as_told(seen: Seen) -> Mapping[str, Any]:
    """All of it; keys stay, others may come."""
    conclusion = conclude(seen)
    return {
        "node": seen.node,
        "address": str(seen.address),
        "from": _pod(seen.pod),
        "pool": seen.pool,
        "owner": seen.owner,
        "learned": str(seen.learned) if seen.learned is not None else None,
        "paths": [
            {
                "next_hop": str(each.path.next_hop),
                "peer": str(each.path.peer),
                "best": each.best,
                "multipath": each.shares,
                "reason": each.reason,
            }
            for each in seen.paths
        ],
        "decision": _decision(seen.decision),
        "kernel": kernel_json(seen.kernel),
        "outer": kernel_json(seen.outer) if seen.outer is not None else None,
        "agrees": conclusion.agrees,
        "forwarded": conclusion.forwarded,
        "conclusion": conclusion.text,
        "hint": conclusion.hint,
    }


def _pod(pod: Endpoint | None) -> Mapping[str, str] | None:
    if pod is None:
        return None
    return {
        "address": str(pod.address),
        "container_id": pod.container_id,
        "interface": pod.interface,
        "host_interface": pod.host_interface,
    }


def _decision(decision: Forwarding | None) -> Mapping[str, Any] | None:
    if decision is None:
        return None
    return {
        "prefix": str(decision.prefix),
        "encapsulation": str(decision.encapsulation),
        "because": str(decision.because),
        "next_hops": [_hop(hop) for hop in decision.hops],
        "programmed": decision.key is not None,
    }


def kernel_json(answer: FibAnswer) -> Mapping[str, Any]:
    """The kernel's answer as it is told."""
    return {
        "outcome": answer.outcome,
        "prefix": str(answer.prefix) if answer.prefix is not None else None,
        "protocol": answer.protocol,
        "metric": answer.metric,
        "table": answer.table,
        "next_hops": [_hop(hop) for hop in answer.ways],
        "taken": _hop(answer.hop) if answer.hop is not None else None,
        "source": str(answer.source) if answer.source is not None else None,
    }


def _hop(hop: Hop) -> Mapping[str, Any]:
    return {"device": hop.device, "gateway": str(hop.gateway) if hop.gateway is not None else None}

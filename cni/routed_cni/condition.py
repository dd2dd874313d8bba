"""CHECK decided: what the result of ADD promised against what is there, specification section 2, CHECK. Pure.

Only what is promised, and what a pod cannot be reached without, is compared. Whatever else is there may be a later
plugin's work: more routes, more addresses, another default route than ours if the result names none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_interface
from typing import Any

import msgspec

from routed.model.address import AnyAddress, Family
from routed_cni.faults import CniError, Code
from routed_cni.results import EVERYWHERE, GATEWAYS


@dataclass(frozen=True, slots=True)
class Expected:
    """What `prevResult` says of one interface. `mac` empty and `mtu` 0 where it says nothing.

    `default`: the families whose default route is promised to go through our gateway.
    """

    interface: str
    host_interface: str
    addresses: tuple[AnyAddress, ...]
    mac: str = ""
    mtu: int = 0
    default: frozenset[Family] = frozenset()


@dataclass(frozen=True, slots=True)
class End:
    """One end of a pod's link; `peer` is the index of the other, in its own namespace."""

    index: int
    up: bool
    mac: str
    mtu: int
    peer: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What the kernel has. An end that is None is not there, and nothing that depends on it.

    `reached`: by address, the index of the device to which the node would send what is for it. `neighbours` are the
    node's, by address, `gateways` the pod's, by gateway: the MAC. `default`: the families whose default route in the
    pod's main table goes through the interface to our gateway.
    """

    host: End | None = None
    pod: End | None = None
    addresses: frozenset[AnyAddress] = frozenset()
    reached: Mapping[AnyAddress, int] = field(default_factory=dict[AnyAddress, int])
    neighbours: Mapping[AnyAddress, str] = field(default_factory=dict[AnyAddress, str])
    gateways: Mapping[AnyAddress, str] = field(default_factory=dict[AnyAddress, str])
    default: frozenset[Family] = frozenset()


def expected(result: Mapping[str, Any], interface: str, host_interface: str) -> Expected:
    """What `result` promises of `interface`; raises CniError when it is not there, or no result."""
    interfaces = _objects(result, "interfaces")
    number = next(
        (n for n, each in enumerate(interfaces) if each.get("name") == interface and each.get("sandbox")), None
    )
    if number is None:
        raise _wrong(f"prevResult has no interface {interface} in a sandbox")
    pod = interfaces[number]
    addresses: list[AnyAddress] = []
    for each in _objects(result, "ips"):
        if each.get("interface", number) != number:
            continue
        try:
            addresses.append(ip_interface(str(each.get("address"))).ip)
        except ValueError as error:
            raise _wrong(f"prevResult.ips: {error}") from None
    mac, mtu = pod.get("mac"), pod.get("mtu")
    promised = [(each.get("dst"), each.get("gw")) for each in _objects(result, "routes")]  # of anything, in JSON
    return Expected(
        interface,
        host_interface,
        tuple(addresses),
        mac.lower() if isinstance(mac, str) else "",
        mtu if type(mtu) is int else 0,
        frozenset(
            family
            for family in {Family.of(address) for address in addresses}
            if any((EVERYWHERE[family], gateway) in promised for gateway in (None, str(GATEWAYS[family])))
        ),
    )


def differences(wanted: Expected, seen: Seen, host_mac: str) -> Iterator[str]:
    """What is not as promised, in words; nothing where all is well. `host_mac`: of the node's end."""
    if seen.host is None:
        yield f"the node's interface {wanted.host_interface} is missing"
    if seen.pod is None:
        yield f"the interface {wanted.interface} is missing in the sandbox"
    if seen.host is None or seen.pod is None:
        return
    if (seen.host.peer, seen.pod.peer) != (seen.pod.index, seen.host.index):
        yield f"{wanted.interface} and {wanted.host_interface} are not the two ends of one link"
    for name, end in ((wanted.host_interface, seen.host), (wanted.interface, seen.pod)):
        if not end.up:
            yield f"{name} is down"
    if seen.host.mac != host_mac:
        yield f"{wanted.host_interface} has the MAC {seen.host.mac}, expected {host_mac}"
    if wanted.mac and seen.pod.mac != wanted.mac:
        yield f"{wanted.interface} has the MAC {seen.pod.mac}, expected {wanted.mac}"
    if wanted.mtu and seen.pod.mtu != wanted.mtu:
        yield f"{wanted.interface} has the MTU {seen.pod.mtu}, expected {wanted.mtu}"
    for address in wanted.addresses:
        if address not in seen.addresses:
            yield f"{wanted.interface} has lost its address {address}"
        if seen.reached.get(address) != seen.host.index:
            yield f"the node has no route to {address} through {wanted.host_interface}"
        if seen.neighbours.get(address) != seen.pod.mac:
            yield f"the node's neighbour {address} on {wanted.host_interface} is not {seen.pod.mac}"
        family = Family.of(address)
        gateway = GATEWAYS[family]
        if family not in wanted.default:
            continue
        if family not in seen.default:
            yield f"the pod has no default route through {gateway} on {wanted.interface}"
        if seen.gateways.get(gateway) != host_mac:
            yield f"the pod's neighbour {gateway} on {wanted.interface} is not {host_mac}"


def _objects(result: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    try:
        return msgspec.convert(result.get(name) or [], list[dict[str, Any]])
    except msgspec.ValidationError:
        raise _wrong(f"prevResult.{name} is no list of objects") from None


def _wrong(what: str) -> CniError:
    return CniError(Code.INVALID_CONFIGURATION, what, "expected the result of this interface's ADD")

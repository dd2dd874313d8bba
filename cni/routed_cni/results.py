"""What a call answers: specification section 5, Success and Version, in the format of each version. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import msgspec

from routed.model.address import AnyAddress, Family
from routed_cni.faults import CniError
from routed_cni.network import VERSIONS

GATEWAYS: dict[Family, AnyAddress] = {
    Family.IPV4: IPv4Address("169.254.1.1"),
    Family.IPV6: IPv6Address("fe80::ecee:eeff:feee:eeee"),  # RFC 4291 appendix A makes it of veths.HOST_MAC
}
"""What every pod's default routes go through."""

EVERYWHERE = {Family.IPV4: "0.0.0.0/0", Family.IPV6: "::/0"}


@dataclass(frozen=True, slots=True)
class Attachment:
    """What ADD made: one interface pair, an address of each family that the node has. `mtu` in bytes, MACs as text.

    `default`: the families whose default route goes through the interface; another one had it where a family is not
    among them. `dns` is the configuration's.
    """

    host_interface: str
    host_mac: str
    interface: str
    mac: str
    netns: str
    addresses: tuple[AnyAddress, ...]
    mtu: int
    default: frozenset[Family] = frozenset(Family)
    dns: Mapping[str, Any] = field(default_factory=dict[str, Any])


def encode_result(version: str, attachment: Attachment, previous: Mapping[str, Any] | None = None) -> bytes:
    """The result of ADD: what an earlier plugin of the list made (`previous`), then ours."""
    before = previous or {}
    interfaces = _list(before, "interfaces")
    first = len(interfaces)
    host: dict[str, str | int] = {"name": attachment.host_interface, "mac": attachment.host_mac}
    pod: dict[str, str | int] = {
        "name": attachment.interface,
        "mac": attachment.mac,
        "sandbox": attachment.netns,
    }
    if version >= "1.1.0":  # the first version with it
        host["mtu"] = pod["mtu"] = attachment.mtu
    addresses: list[dict[str, str | int]] = []
    for address in attachment.addresses:
        whole = f"{address}/{address.max_prefixlen}"
        addresses.append({"address": whole, "gateway": str(GATEWAYS[Family.of(address)]), "interface": first + 1})
        if version < "1.0.0":  # the last versions with it
            addresses[-1]["version"] = str(address.version)
    families = (Family.of(address) for address in attachment.addresses)
    routes = [{"dst": EVERYWHERE[family]} for family in families if family in attachment.default]
    return msgspec.json.encode(
        {
            **before,
            "cniVersion": version,
            "interfaces": [*interfaces, host, pod],
            "ips": [*_list(before, "ips"), *addresses],
            "routes": [*_list(before, "routes"), *routes],
            "dns": attachment.dns or before.get("dns", {}),
        }
    )


def encode_version(version: str = VERSIONS[-1]) -> bytes:
    """The answer to VERSION, section 5: Version, that was asked in `version`."""
    return msgspec.json.encode({"cniVersion": version, "supportedVersions": VERSIONS})


def encode_error(version: str, error: CniError) -> bytes:
    """A failure, section 5: Error."""
    body: dict[str, str | int] = {"cniVersion": version, "code": int(error.code), "msg": error.msg}
    if error.details:
        body["details"] = error.details
    return msgspec.json.encode(body)


def _list(result: Mapping[str, Any], name: str) -> Sequence[Any]:
    """A list of a result; an earlier plugin that wrote something else there is not ours to judge, nor to lose."""
    value = result.get(name)
    if isinstance(value, list):
        return msgspec.convert(value, list[Any])
    return [] if value is None else [value]

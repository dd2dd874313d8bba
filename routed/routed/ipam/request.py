"""From what a runtime says of a pod to what is wanted of IPAM, in the words of Calico's users. Pure.

Pools: the pod's annotations, else its namespace's, else the plugin's configuration, else all pools. Addresses by name:
what the runtime asks for by the capability `ips`, else by the argument IP, else the pod's annotation; then no others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address, ip_interface
from typing import Any

import msgspec

from routed.errors import OperatorError
from routed.ipam.wish import Wish
from routed.model.address import AnyAddress, Family
from routed.model.cluster import Cluster

CAPABILITY = "io.kubernetes.cri.pod-annotations"
"""The CNI capability by which runtimes hand on a pod's annotations."""

_PREFIX = "cni.projectcalico.org/"
_ADDRESSES = f"{_PREFIX}ipAddrs"
_POOLS = {Family.IPV4: f"{_PREFIX}ipv4pools", Family.IPV6: f"{_PREFIX}ipv6pools"}
# They ask for what this version does not do; others of the prefix are notes that Calico itself leaves on pods.
_REFUSED = (f"{_PREFIX}ipAddrsNoIpam", f"{_PREFIX}floatingIPs")
_IPAM_FIELDS = ("type", "assign_ipv4", "assign_ipv6", "ipv4_pools", "ipv6_pools")
_EXAMPLE = 'e.g. ["10.244.1.7"], one of each family at most'
_Text = tuple[str, ...]


def wish_of(configuration: Mapping[str, Any], namespace: str, cluster: Cluster, by_name: str = "") -> Wish:
    """What the pod of `namespace` (empty: none) is to have, by the network configuration that came with its ADD.

    `by_name`: addresses joined by commas, empty for none; IP of CNI_ARGS, which podman writes.

    Raises OperatorError for what cannot be understood.
    """
    annotations = pod_annotations(configuration)
    for name in _REFUSED:
        if name in annotations:
            raise OperatorError(f"pod annotation {name} is not supported by this version", hint="remove it")
    known = cluster.namespaces.get(namespace)
    inherited = known.metadata.annotations if known is not None else {}
    labels = known.metadata.labels if known is not None else {}
    ipam = _ipam(configuration)
    families = _families(ipam)
    pools: dict[Family, Sequence[str]] = {}
    said: dict[Family, str] = {}
    for family, name in _POOLS.items():
        for where, value in (("pod", annotations.get(name)), (f"namespace {namespace}", inherited.get(name))):
            if value is not None:
                said[family] = f"{where} annotation {name}"
                pools[family] = _list(said[family], value, 'e.g. ["pods"] or ["10.244.0.0/16"]')
                break
        else:
            field = "ipv4_pools" if family is Family.IPV4 else "ipv6_pools"
            if ipam.get(field) and (families is None or family in families):
                said[family] = f"ipam.{field} of the network configuration"
                pools[family] = _convert(said[family], ipam[field], _Text, "a list of pools by name or range")
    addresses = _by_runtime(configuration, by_name) or _by_annotation(annotations.get(_ADDRESSES))
    return Wish(addresses, pools, tuple(sorted(addresses)) or families, said=" and ".join(said.values()), labels=labels)


def pod_annotations(configuration: Mapping[str, Any]) -> Mapping[str, str]:
    """The pod's annotations, as far as the runtime hands them on. Raises OperatorError."""
    value: object = _runtime(configuration).get(CAPABILITY) or {}
    given: dict[str, str] = _convert(f"runtimeConfig.{CAPABILITY}", value, dict[str, str], "an object of texts")
    return given


def _runtime(configuration: Mapping[str, Any]) -> Mapping[str, Any]:
    where = "runtimeConfig of the network configuration"
    runtime: dict[str, Any] = _convert(where, configuration.get("runtimeConfig") or {}, dict[str, Any], "an object")
    return runtime


def _by_runtime(configuration: Mapping[str, Any], by_name: str) -> Mapping[Family, AnyAddress]:
    """What the runtime asks for. The length of a prefix means nothing where every address is a route."""
    where, value = "runtimeConfig.ips", _runtime(configuration).get("ips") or ()
    words: _Text = _convert(where, value, _Text, f"a list of addresses, {_EXAMPLE}")
    if not words and by_name:
        where, words = "IP in CNI_ARGS", tuple(by_name.split(","))
    return _each_family(where, words, lambda word: ip_interface(word).ip)


def _by_annotation(text: str | None) -> Mapping[Family, AnyAddress]:
    where = f"pod annotation {_ADDRESSES}"
    return _each_family(where, () if text is None else _list(where, text, _EXAMPLE), ip_address)


def _each_family(where: str, words: Sequence[str], parse: Callable[[str], AnyAddress]) -> Mapping[Family, AnyAddress]:
    found: dict[Family, AnyAddress] = {}
    for word in words:
        try:
            address = parse(word)
        except ValueError:
            raise _wrong(where, word, f"an address, {_EXAMPLE}") from None
        if Family.of(address) in found:
            raise _wrong(where, list(words), f"a list of addresses, {_EXAMPLE}")
        found[Family.of(address)] = address
    return found


def _list(where: str, text: str, example: str) -> Sequence[str]:
    try:
        words = msgspec.json.decode(text, type=_Text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        words = ()
    if not words:
        raise _wrong(where, text, f"a JSON list, {example}")
    return words


def _ipam(configuration: Mapping[str, Any]) -> Mapping[str, Any]:
    ipam: object = configuration.get("ipam") or {}
    fields: dict[str, Any] = _convert("ipam of the network configuration", ipam, dict[str, Any], "an object")
    for name in fields:
        if name not in _IPAM_FIELDS:
            raise OperatorError(
                f"ipam.{name} of the network configuration is not supported",
                hint=f"known are {', '.join(_IPAM_FIELDS)}; remove it",
            )
    return fields


def _families(ipam: Mapping[str, Any]) -> tuple[Family, ...] | None:
    """Those that are asked for; None: whatever the node has. Calico writes the switches as texts."""
    switches = {"true": True, "false": False, True: True, False: False}

    def switch(name: str) -> bool | None:
        value: object = ipam.get(name)
        if value is not None and (not isinstance(value, str | bool) or value not in switches):
            raise _wrong(f"ipam.{name} of the network configuration", value, '"true" or "false"')
        return switches[value] if isinstance(value, str | bool) else None

    four, six = switch("assign_ipv4"), switch("assign_ipv6")
    if four is False and six is False:
        raise OperatorError("ipam of the network configuration assigns neither IPv4 nor IPv6", hint="set one to true")
    if four is False:
        return (Family.IPV6,)
    if six is None:
        return None
    return (Family.IPV4, Family.IPV6) if six else (Family.IPV4,)


def _convert(where: str, value: object, kind: Any, expected: str) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        raise _wrong(where, value, expected) from None


def _wrong(where: str, value: object, expected: str) -> OperatorError:
    try:
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    except TypeError:
        text = repr(value)
    return OperatorError(f"{where} is {text[:80]!r}", hint=f"expected {expected}")

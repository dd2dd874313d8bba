"""The network configuration on stdin as a value: specification section 1, and what of it this plugin acts on. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import msgspec

from routed.ipam.request import CAPABILITY
from routed_cni.faults import CniError, Code, short

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
"""Of the specification, in their order; as text they compare in it too."""

OWN_IPAM = ("routed", "calico-ipam")
"""What an `ipam.type` may say where the addresses are to be our own; without a type they are."""

_IDENTIFIER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
_MAC = re.compile(r"[0-9a-fA-F]{2}(?:[:-][0-9a-fA-F]{2}){5}")
_MTU = range(68, 65536)  # RFC 791; a veth's largest
_DHCP = "dhcp"
_NONE: Mapping[str, str] = {}
_HARDWARE_ADDRESS = "cni.projectcalico.org/hwAddr"
_VALID = "cni.dev/valid-attachments"
_LOG_LEVELS = ("debug", "info", "warning", "error", "fatal")
# What may stand in a configuration on ADD. Everything else asks for something that this plugin does not do. Of these
# the log settings have no effect: the agent logs.
_KNOWN = frozenset({
    "args", "capabilities", "cniVersion", "cniVersions", "container_settings", "disableCheck", "disableGC", "dns",
    "ipMasq", "ipam", "log_file_max_age", "log_file_max_count", "log_file_max_size", "log_file_path", "log_level",
    "mtu", "name", "prevResult", "runtimeConfig", "type",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator, or a pod, may choose. `mtu` in bytes, 0 for what the agent says; `mac` empty for ours.

    `forwarding`: whether the pod may forward IP packets, None to leave that as the runtime has it. `delegate`: the type
    of the IPAM plugin that gives the addresses, empty for our own. `dns` is passed on into the result.
    """

    mtu: int = 0
    mac: str = ""
    forwarding: bool | None = None
    delegate: str = ""
    dns: Mapping[str, Any] = field(default_factory=dict[str, Any])


def is_identifier(text: str) -> bool:
    """Whether `text` may be a container's ID, or a network's name or type."""
    return _IDENTIFIER.fullmatch(text) is not None


def parse(stdin: bytes) -> dict[str, Any]:
    """The configuration as an object; raises CniError when it is none."""
    try:
        configuration: object = msgspec.json.decode(stdin)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CniError(
            Code.DECODE_FAILURE, f"the network configuration on stdin is not JSON: {error}", "it is one JSON object"
        ) from None
    if not _is_object(configuration):
        raise CniError(
            Code.INVALID_CONFIGURATION,
            f"the network configuration on stdin is {short(configuration)}",
            "it is one JSON object",
        )
    return configuration


def identity(configuration: Mapping[str, Any]) -> tuple[str, str]:
    """The configuration's version and name; raises CniError for wrong ones, or a wrong type."""
    version = configuration.get("cniVersion")
    if not isinstance(version, str) or version not in VERSIONS:
        told = short(version) if "cniVersion" in configuration else "missing (that is 0.1.0)"
        raise CniError(
            Code.INCOMPATIBLE_VERSION,
            f"cniVersion of the network configuration is {told}",
            f"supported: {', '.join(VERSIONS)}",
        )
    for name in ("name", "type"):
        value = configuration.get(name)
        if not isinstance(value, str) or not is_identifier(value):
            told = short(value) if name in configuration else "missing"
            raise CniError(
                Code.INVALID_CONFIGURATION,
                f"{name} of the network configuration is {told}",
                "it starts with a letter or digit, then letters, digits, '_', '.', '-' (ASCII)",
            )
    return version, configuration["name"]


def settings(configuration: Mapping[str, Any], arguments: Mapping[str, str] = _NONE) -> Settings:
    """What ADD is to act on, `arguments` being CNI_ARGS; raises CniError for what this plugin does not do, or cannot
    understand.
    """
    name = configuration["name"]
    if extra := sorted(configuration.keys() - _KNOWN):
        raise _unsupported(name, extra[0], configuration[extra[0]], "remove it from routed's plugin")
    if configuration.get("ipMasq") not in (None, False):
        raise _unsupported(name, "ipMasq", configuration["ipMasq"], "routed's node masquerades for no single network")
    mtu = configuration.get("mtu")
    if mtu is not None and (type(mtu) is not int or (mtu and mtu not in _MTU)):
        raise _wrong("mtu", mtu, f"0 for what the agent says, or {_MTU[0]} to {_MTU[-1]} bytes")
    level = configuration.get("log_level")
    if level is not None and (not isinstance(level, str) or level.lower() not in _LOG_LEVELS):
        raise _wrong("log_level", level, f"one of {', '.join(_LOG_LEVELS)}")
    return Settings(
        mtu=mtu or 0,
        mac=_hardware_address(_object(configuration, "runtimeConfig"), arguments),
        forwarding=_forwarding(_object(configuration, "container_settings"), name),
        delegate=delegate(configuration, strict=True),
        dns=_object(configuration, "dns"),
    )


def delegate(configuration: Mapping[str, Any], *, strict: bool = False) -> str:
    """The type of the IPAM plugin that gives addresses; empty for our own, and if not `strict` for a wrong one.

    `dhcp` is a wrong one: it asks by broadcast in the pod, on a link that no other machine is on. Letting it try would
    cost each pod its half minute and end in an error that says less.
    """
    ipam = configuration.get("ipam")
    if ipam is None or ipam == {}:
        return ""
    kind = ipam.get("type", OWN_IPAM[0]) if _is_object(ipam) else None
    if kind == _DHCP:
        if not strict:
            return ""
        raise CniError(
            Code.INVALID_CONFIGURATION,
            "ipam.type dhcp can give no addresses to routed pods: each pod's link ends at the node, and there is no "
            "server on it to answer",
            "leave ipam.type out for routed's own addresses, or take host-local or static",
        )
    if isinstance(kind, str) and is_identifier(kind):
        return "" if kind in OWN_IPAM else kind
    if strict:
        raise _wrong(
            "ipam", ipam, "an object whose type is the name of an IPAM plugin; none for routed's own addresses"
        )
    return ""


def previous(configuration: Mapping[str, Any]) -> dict[str, Any] | None:
    """`prevResult`, None if there is none; raises CniError for one that is no object."""
    result = configuration.get("prevResult")
    if result is None:
        return None
    if not _is_object(result):
        raise _wrong("prevResult", result, "the result of ADD, an object")
    return result


def valid_attachments(configuration: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """Which (container ID, interface) GC has to keep. Raises CniError unless they are all there: it would take pods'
    addresses away. A null is the empty list of a runtime in Go; a list that is not there may be a forgotten one.
    """
    listed = configuration.get(_VALID)
    if listed is None and _VALID in configuration:
        return frozenset()
    if not isinstance(listed, list):
        told = short(listed) if _VALID in configuration else "missing"
        raise CniError(
            Code.INVALID_CONFIGURATION, f"{_VALID} is {told}", 'expected a list of {"containerID": "", "ifname": ""}'
        )
    kept: set[tuple[str, str]] = set()
    for item in msgspec.convert(listed, list[Any]):
        pair = (item.get("containerID"), item.get("ifname")) if _is_object(item) else (None, None)
        if not (isinstance(pair[0], str) and isinstance(pair[1], str)):
            raise _wrong(_VALID, item, 'a list of {"containerID": "", "ifname": ""}')
        kept.add((pair[0], pair[1]))
    return frozenset(kept)


def _hardware_address(runtime: Mapping[str, Any], arguments: Mapping[str, str]) -> str:
    """By the runtime's capability `mac`, else its argument, else by the pod's annotation; as the kernel writes it."""
    for where, value in (
        ("runtimeConfig.mac", runtime.get("mac")),
        ("MAC in CNI_ARGS", arguments.get("MAC")),
        (f"annotation {_HARDWARE_ADDRESS}", _object(runtime, CAPABILITY).get(_HARDWARE_ADDRESS)),
    ):
        if value in (None, ""):
            continue
        if not isinstance(value, str) or not _MAC.fullmatch(value):
            raise _wrong(where, value, "six bytes, as 02:00:00:00:00:01")
        octets = bytes.fromhex(value.replace(":", "").replace("-", ""))
        if octets[0] & 1 or not any(octets):
            raise _wrong(where, value, "the address of one interface: neither multicast nor zero")
        return octets.hex(":")
    return ""


def _forwarding(container: Mapping[str, Any], network: str) -> bool | None:
    if extra := sorted(container.keys() - {"allow_ip_forwarding"}):
        raise _unsupported(network, f"container_settings.{extra[0]}", container[extra[0]], "remove it")
    value = container.get("allow_ip_forwarding")
    if value is None or isinstance(value, bool):
        return value
    raise _wrong("container_settings.allow_ip_forwarding", value, "true or false")


def _object(configuration: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = configuration.get(name)
    if value is None:
        return {}
    if not _is_object(value):
        raise _wrong(name, value, "an object")
    return value


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)  # of JSON: its keys are strings


def _wrong(name: str, value: object, expected: str) -> CniError:
    return CniError(Code.INVALID_CONFIGURATION, f"{name} is {short(value)}", f"expected {expected}")


def _unsupported(network: str, name: str, value: object, hint: str) -> CniError:
    return CniError(Code.UNSUPPORTED_FIELD, f"network {network}: unsupported field {name} = {short(value)}", hint)

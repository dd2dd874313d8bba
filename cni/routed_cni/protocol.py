"""The CNI specification as values: a request decoded, results and errors encoded. Pure.

https://www.cni.dev/docs/spec/ (1.1.0): section 2 for commands, variables and error codes, section 5 for results.
The request's bytes are those of `routed_cni.shim`: the CNI_* variables as KEY=VALUE, joined by NUL, two NULs, stdin.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import msgspec

from routed.errors import OperatorError
from routed.model.address import AnyAddress, Family

MAX_REQUEST = 1 << 20  # bytes; a runtime's configuration with prevResult is a few kilobytes
VERSIONS = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
_NEWEST = VERSIONS[-1]
_ERROR_VERSION = "1.0.0"  # of errors that answer a configuration whose version is unknown
GATEWAYS: dict[Family, AnyAddress] = {
    Family.IPV4: IPv4Address("169.254.1.1"),
    Family.IPV6: IPv6Address("fe80::ecee:eeff:feee:eeee"),  # RFC 4291 appendix A makes it of wiring.HOST_MAC
}
"""What every pod's default routes go through."""

_EVERYWHERE = {Family.IPV4: "0.0.0.0/0", Family.IPV6: "::/0"}
_VARIABLE = re.compile(r"CNI_[A-Z]+")
_IDENTIFIER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
_SOCKET_BYTES = 107  # linux/un.h: UNIX_PATH_MAX with its NUL
_INTERFACE_BYTES = 15  # linux/if.h: IFNAMSIZ with its NUL is 16
# What may stand in a configuration on ADD. Everything else asks for something that this plugin does not do.
_KNOWN_FIELDS = frozenset({"cniVersion", "name", "type", "args", "ipam", "capabilities", "runtimeConfig"})


class Code(IntEnum):
    """Error codes: 1 to 99 are the specification's, from 100 on the plugin's own."""

    INCOMPATIBLE_VERSION = 1
    UNSUPPORTED_FIELD = 2
    INVALID_ENVIRONMENT = 4
    IO_FAILURE = 5
    DECODE_FAILURE = 6
    INVALID_CONFIGURATION = 7
    TRY_AGAIN_LATER = 11
    NOT_AVAILABLE = 50
    BUG = 100


class CniError(Exception):
    """What the runtime is told: `msg` says what is wrong, `details` what to do about it."""

    def __init__(self, code: Code, msg: str, details: str = "") -> None:
        super().__init__(msg)
        self.code = code
        self.msg = msg
        self.details = details


class Command(StrEnum):
    """The commands this plugin carries out."""

    ADD = "ADD"
    DEL = "DEL"
    STATUS = "STATUS"
    VERSION = "VERSION"


@dataclass(frozen=True, slots=True)
class Request:
    """A call that is well-formed.

    `container_id` and `interface` are empty for STATUS and VERSION, `netns` may be for DEL; `arguments` are CNI_ARGS,
    `configuration` is what stands on stdin.
    """

    command: Command
    version: str
    network: str = ""
    container_id: str = ""
    interface: str = ""
    netns: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict[str, str])
    configuration: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False)


@dataclass(frozen=True, slots=True)
class Attachment:
    """What ADD made: one interface pair, an address of each family that the node has. `mtu` in bytes, MACs as text."""

    host_interface: str
    host_mac: str
    interface: str
    mac: str
    netns: str
    addresses: tuple[AnyAddress, ...]
    mtu: int


def decode(payload: bytes) -> Request:
    """The request in `payload`; raises CniError with the specification's code when it is none."""
    variables, separator, stdin = _split(payload)
    if not separator:
        raise CniError(Code.DECODE_FAILURE, "the request has no end of its variables", "reinstall the CNI plugin")
    environment = _environment(variables)
    command = _command(environment)
    if command is Command.VERSION:
        return Request(command, _NEWEST)
    # the variables first, as a wrong one also tells that the configuration may be anything
    names = _names(environment, command) if command in (Command.ADD, Command.DEL) else {}
    configuration = _configuration(stdin)
    version, network = _network(configuration)
    if command is Command.ADD and (extra := sorted(configuration.keys() - _KNOWN_FIELDS)):
        raise CniError(
            Code.UNSUPPORTED_FIELD,
            f"network {network}: unsupported field {extra[0]} = {_short(configuration[extra[0]])}",
            "remove it from routed's plugin in the network configuration; routed assigns addresses itself and is the "
            "first plugin of its list",
        )
    arguments = _arguments(environment, command)
    return Request(command, version, network, **names, arguments=arguments, configuration=configuration)


def requested_version(payload: bytes) -> str:
    """The version in which to answer `payload`, even if it is not well-formed."""
    try:
        version = _configuration(_split(payload)[2]).get("cniVersion")
    except CniError:
        return _ERROR_VERSION
    return version if isinstance(version, str) and version in VERSIONS else _ERROR_VERSION


def encode_result(version: str, attachment: Attachment) -> bytes:
    """The result of ADD, section 5: Success."""
    host: dict[str, str | int] = {"name": attachment.host_interface, "mac": attachment.host_mac}
    pod: dict[str, str | int] = {
        "name": attachment.interface,
        "mac": attachment.mac,
        "sandbox": attachment.netns,
    }
    addresses: list[dict[str, str | int]] = []
    for address in attachment.addresses:
        whole = f"{address}/{address.max_prefixlen}"
        addresses.append({"address": whole, "gateway": str(GATEWAYS[Family.of(address)]), "interface": 1})
        if version < "1.0.0":  # the last versions with it
            addresses[-1]["version"] = str(address.version)
    if version == "1.1.0":  # the first version with it
        host["mtu"] = pod["mtu"] = attachment.mtu
    return msgspec.json.encode(
        {
            "cniVersion": version,
            "interfaces": [host, pod],
            "ips": addresses,
            "routes": [{"dst": _EVERYWHERE[Family.of(address)]} for address in attachment.addresses],
            "dns": {},
        }
    )


def encode_version() -> bytes:
    """The answer to VERSION."""
    return msgspec.json.encode({"cniVersion": _NEWEST, "supportedVersions": VERSIONS})


def encode_error(version: str, error: CniError) -> bytes:
    """A failure, section 5: Error."""
    body: dict[str, str | int] = {"cniVersion": version, "code": int(error.code), "msg": error.msg}
    if error.details:
        body["details"] = error.details
    return msgspec.json.encode(body)


def is_identifier(text: str) -> bool:
    """Whether `text` may be a container's ID, or a network's name or type."""
    return _IDENTIFIER.fullmatch(text) is not None


def check_socket_path(path: Path) -> None:
    """Raise OperatorError for a path that cannot be a unix socket's address."""
    if not path.is_absolute() or len(os.fsencode(path)) > _SOCKET_BYTES or not str(path).isprintable():
        raise OperatorError(
            f"{path} cannot be the agent's socket",
            hint=f"choose a run_dir so that the path is absolute, printable and at most {_SOCKET_BYTES} bytes long",
        )


def _split(payload: bytes) -> tuple[bytes, bytes, bytes]:
    # without a variable the separator stands alone; otherwise the first two NULs are it, as no variable is empty
    return payload.partition(b"\0\0")


def _environment(variables: bytes) -> dict[str, str]:
    environment: dict[str, str] = {}
    for item in variables.split(b"\0") if variables else ():
        try:
            name, separator, value = item.decode().partition("=")
        except UnicodeDecodeError:
            raise CniError(
                Code.INVALID_ENVIRONMENT, f"{item.partition(b'=')[0].decode(errors='replace')} is not UTF-8"
            ) from None
        if not separator or not _VARIABLE.fullmatch(name):
            raise CniError(Code.INVALID_ENVIRONMENT, f"{_short(item.decode())} is no CNI variable")
        environment[name] = value
    return environment


def _command(environment: Mapping[str, str]) -> Command:
    name = environment.get("CNI_COMMAND", "")
    if not name:
        raise CniError(
            Code.INVALID_ENVIRONMENT,
            "CNI_COMMAND is missing",
            "a container runtime calls this program; see https://www.cni.dev/docs/spec/ for its environment",
        )
    try:
        return Command(name)
    except ValueError:
        raise CniError(
            Code.INVALID_ENVIRONMENT, f"CNI_COMMAND {_short(name)} is not supported, only {', '.join(Command)}"
        ) from None


def _names(environment: Mapping[str, str], command: Command) -> dict[str, str]:
    """The variables that name what is to be wired, by field of Request."""
    required = ["CNI_CONTAINERID", "CNI_IFNAME"] + (["CNI_NETNS"] if command is Command.ADD else [])
    if missing := [name for name in required if not environment.get(name)]:
        raise CniError(Code.INVALID_ENVIRONMENT, f"{command} needs {', '.join(missing)}")
    container_id, interface = environment["CNI_CONTAINERID"], environment["CNI_IFNAME"]
    if not is_identifier(container_id):
        raise CniError(
            Code.INVALID_ENVIRONMENT,
            f"CNI_CONTAINERID {_short(container_id)} is not a container ID",
            "it starts with a letter or digit, then letters, digits, '_', '.', '-' (ASCII)",
        )
    if not _is_interface_name(interface):
        raise CniError(
            Code.INVALID_ENVIRONMENT,
            f"CNI_IFNAME {_short(interface)} is not an interface name",
            f"1 to {_INTERFACE_BYTES} bytes, no '/', ':', '%', whitespace or control character, not '.' or '..'",
        )
    return {"container_id": container_id, "interface": interface, "netns": environment.get("CNI_NETNS", "")}


def _is_interface_name(name: str) -> bool:
    """As the kernel's dev_valid_name has it; '%' also not, which the kernel takes for a template to number."""
    return (
        name not in (".", "..")
        and len(name.encode()) <= _INTERFACE_BYTES
        and name.isprintable()
        and not any(character in "/:%" or character.isspace() for character in name)
    )


def _arguments(environment: Mapping[str, str], command: Command) -> dict[str, str]:
    """CNI_ARGS: KEY=VALUE joined by semicolons. Wrong ones do not keep DEL from its work."""
    arguments: dict[str, str] = {}
    for item in environment.get("CNI_ARGS", "").split(";"):
        name, separator, value = item.partition("=")
        if separator and name:
            arguments[name] = value
        elif item and command is Command.ADD:
            raise CniError(Code.INVALID_ENVIRONMENT, f"CNI_ARGS: {_short(item)} is not KEY=VALUE")
    return arguments


def _configuration(stdin: bytes) -> dict[str, Any]:
    try:
        configuration: object = msgspec.json.decode(stdin)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CniError(
            Code.DECODE_FAILURE, f"the network configuration on stdin is not JSON: {error}", "it is one JSON object"
        ) from None
    match configuration:
        case dict():
            return msgspec.convert(configuration, dict[str, Any])
        case _:
            raise CniError(
                Code.INVALID_CONFIGURATION,
                f"the network configuration on stdin is {_short(configuration)}",
                "it is one JSON object",
            )


def _network(configuration: Mapping[str, Any]) -> tuple[str, str]:
    """The configuration's version and name."""
    version = configuration.get("cniVersion")
    if not isinstance(version, str) or version not in VERSIONS:
        told = _short(version) if "cniVersion" in configuration else "missing (that is 0.1.0)"
        raise CniError(
            Code.INCOMPATIBLE_VERSION,
            f"cniVersion of the network configuration is {told}",
            f"supported: {', '.join(VERSIONS)}",
        )
    for name in ("name", "type"):
        value = configuration.get(name)
        if not isinstance(value, str) or not is_identifier(value):
            told = _short(value) if name in configuration else "missing"
            raise CniError(
                Code.INVALID_CONFIGURATION,
                f"{name} of the network configuration is {told}",
                "it starts with a letter or digit, then letters, digits, '_', '.', '-' (ASCII)",
            )
    return version, configuration["name"]


def _short(value: object) -> str:
    """`value` as JSON, cut to what fits into a message."""
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 80 else f"{text[:77]}..."

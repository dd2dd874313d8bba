"""A call of the CNI specification as a value. Pure.

https://www.cni.dev/docs/spec/ (1.1.0): section 2 for commands, variables and error codes.
The request's bytes are those of `routed_cni.shim`: the CNI_* variables as KEY=VALUE, joined by NUL, two NULs, stdin.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from routed.errors import OperatorError
from routed_cni import network as config
from routed_cni.faults import CniError, Code, short
from routed_cni.network import VERSIONS, Settings, is_identifier

MAX_REQUEST = 1 << 20  # bytes; a runtime's configuration with prevResult is a few kilobytes
_ERROR_VERSION = "1.0.0"  # of errors that answer a configuration whose version is unknown
_VARIABLE = re.compile(r"CNI_[A-Z]+")
_NO_NAME = re.compile(r"[/:%\s]")
_SOCKET_BYTES = 107  # linux/un.h: UNIX_PATH_MAX with its NUL
_INTERFACE_BYTES = 15  # linux/if.h: IFNAMSIZ with its NUL is 16


class Command(StrEnum):
    """The commands this plugin carries out."""

    ADD = "ADD"
    DEL = "DEL"
    CHECK = "CHECK"
    GC = "GC"
    STATUS = "STATUS"
    VERSION = "VERSION"


_SINCE = {Command.CHECK: "0.4.0", Command.GC: "1.1.0", Command.STATUS: "1.1.0"}
_NAMING = (Command.ADD, Command.DEL, Command.CHECK)  # the commands about one interface
_UNSET = Settings()


@dataclass(frozen=True, slots=True)
class Request:
    """A call that is well-formed.

    `container_id` and `interface` are empty for GC, STATUS and VERSION, `netns` may be for DEL; `arguments` are
    CNI_ARGS. `previous` is prevResult, `valid` what GC has to keep. `environment` and `configuration` are the call as
    it came, for an IPAM plugin that is to get the same.
    """

    command: Command
    version: str
    network: str = ""
    container_id: str = ""
    interface: str = ""
    netns: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict[str, str])
    settings: Settings = _UNSET
    previous: Mapping[str, Any] | None = None
    valid: frozenset[tuple[str, str]] = frozenset()
    environment: Mapping[str, str] = field(default_factory=dict[str, str], compare=False)
    configuration: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False)


def decode(payload: bytes) -> Request:
    """The request in `payload`; raises CniError with the specification's code when it is none."""
    variables, separator, stdin = _split(payload)
    if not separator:
        raise CniError(Code.DECODE_FAILURE, "the request has no end of its variables", "reinstall the CNI plugin")
    environment = _environment(variables)
    command = _command(environment)
    if command is Command.VERSION:
        return Request(command, requested_version(payload, VERSIONS[-1]))
    # the variables first, as a wrong one also tells that the configuration may be anything
    names = _names(environment, command) if command in _NAMING else {}
    configuration = config.parse(stdin)
    version, network = config.identity(configuration)
    if version < (since := _SINCE.get(command, "")):
        raise CniError(
            Code.INCOMPATIBLE_VERSION,
            f"{command} is not in cniVersion {version} of network {network}",
            f"write cniVersion {since} or later",
        )
    strict = command is Command.STATUS  # which says whether an ADD of this configuration can succeed
    settings, previous = Settings(delegate=config.delegate(configuration, strict=strict)), None
    valid = frozenset[tuple[str, str]]()
    arguments = _arguments(environment, command)
    if command is Command.ADD:
        settings, previous = config.settings(configuration, arguments), config.previous(configuration)
    elif command is Command.CHECK:
        previous = config.previous(configuration)
        if previous is None:
            raise CniError(Code.INVALID_CONFIGURATION, "prevResult is missing", "CHECK compares with the result of ADD")
    elif command is Command.GC:
        valid = config.valid_attachments(configuration)
    return Request(
        command,
        version,
        network,
        **names,
        arguments=arguments,
        settings=settings,
        previous=previous,
        valid=valid,
        environment=environment,
        configuration=configuration,
    )


def requested_version(payload: bytes, otherwise: str = _ERROR_VERSION) -> str:
    """The version in which to answer `payload`, well-formed or not; `otherwise` where it has none of ours."""
    try:
        version = config.parse(_split(payload)[2]).get("cniVersion")
    except CniError:
        return otherwise
    return version if isinstance(version, str) and version in VERSIONS else otherwise


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
            raise CniError(Code.INVALID_ENVIRONMENT, f"{short(item.decode())} is no CNI variable")
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
            Code.INVALID_ENVIRONMENT, f"CNI_COMMAND {short(name)} is not supported, only {', '.join(Command)}"
        ) from None


def _names(environment: Mapping[str, str], command: Command) -> dict[str, str]:
    """The variables that name what is to be wired, by field of Request."""
    required = ["CNI_CONTAINERID", "CNI_IFNAME"] + (["CNI_NETNS"] if command is not Command.DEL else [])
    if missing := [name for name in required if not environment.get(name)]:
        raise CniError(Code.INVALID_ENVIRONMENT, f"{command} needs {', '.join(missing)}")
    container_id, interface = environment["CNI_CONTAINERID"], environment["CNI_IFNAME"]
    if not is_identifier(container_id):
        raise CniError(
            Code.INVALID_ENVIRONMENT,
            f"CNI_CONTAINERID {short(container_id)} is not a container ID",
            "it starts with a letter or digit, then letters, digits, '_', '.', '-' (ASCII)",
        )
    if not _is_interface_name(interface):
        raise CniError(
            Code.INVALID_ENVIRONMENT,
            f"CNI_IFNAME {short(interface)} is not an interface name",
            f"1 to {_INTERFACE_BYTES} bytes, no '/', ':', '%', whitespace or control character, not '.' or '..'",
        )
    return {"container_id": container_id, "interface": interface, "netns": environment.get("CNI_NETNS", "")}


def _is_interface_name(name: str) -> bool:
    """As the kernel's dev_valid_name has it; '%' also not, which the kernel takes for a template to number."""
    return (
        name not in (".", "..")
        and len(name.encode()) <= _INTERFACE_BYTES
        and name.isprintable()
        and not _NO_NAME.search(name)
    )


def _arguments(environment: Mapping[str, str], command: Command) -> dict[str, str]:
    """CNI_ARGS: KEY=VALUE joined by semicolons. Wrong ones do not keep DEL from its work."""
    arguments: dict[str, str] = {}
    for item in environment.get("CNI_ARGS", "").split(";"):
        name, separator, value = item.partition("=")
        if separator and name:
            arguments[name] = value
        elif item and command is Command.ADD:
            raise CniError(Code.INVALID_ENVIRONMENT, f"CNI_ARGS: {short(item)} is not KEY=VALUE")
    return arguments

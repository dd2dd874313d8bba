"""Addresses from another IPAM plugin (`ipam.type`), called as the specification's section 4 has it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import msgspec

from routed.model.address import AnyAddress, Family
from routed_cni.faults import CniError, Code, short
from routed_cni.protocol import Command, Request

_log = logging.getLogger(__name__)
_SECONDS = 30.0  # half of what the shim waits for an answer; `dhcp` asks a server
_TEXT = 500  # bytes of a plugin's stderr that are told


class _Ip(msgspec.Struct):
    address: str


class _Result(msgspec.Struct):
    ips: list[_Ip] = []
    dns: dict[str, Any] = {}


class _Error(msgspec.Struct):
    code: int
    msg: str
    details: str = ""


@dataclass(frozen=True, slots=True)
class Given:
    """What an IPAM plugin gave: an address of one family, or of each."""

    addresses: tuple[AnyAddress, ...]
    dns: Mapping[str, Any] = field(default_factory=dict[str, Any])


async def add(request: Request) -> Given:
    """Ask for addresses; raises CniError, with nothing taken, when there are none that can be wired."""
    output = await _execute(request, Command.ADD)
    try:
        return _given(output, request.settings.delegate)
    except CniError:
        with suppress(CniError):
            await _execute(request, Command.DEL)
        raise


async def forward(request: Request, command: Command | None = None) -> None:
    """Have the IPAM plugin do what was asked of us, or `command`; raises CniError with what it answers."""
    await _execute(request, command or request.command)


def _given(output: bytes, kind: str) -> Given:
    try:
        result = msgspec.json.decode(output, type=_Result)
        addresses = sorted((ip_interface(each.address).ip for each in result.ips), key=lambda each: each.version)
    except ValueError as error:  # msgspec's errors are ValueErrors, as are ipaddress'
        raise CniError(Code.DECODE_FAILURE, f"IPAM plugin {kind} answered no result: {error}") from None
    if not addresses or len({Family.of(address) for address in addresses}) != len(addresses):
        raise CniError(
            Code.INVALID_CONFIGURATION,
            f"IPAM plugin {kind} gave {', '.join(map(str, addresses)) or 'no address'}",
            "expected one address, or one of each family: change ipam in the network configuration",
        )
    return Given(tuple(addresses), result.dns)


async def _execute(request: Request, command: Command) -> bytes:
    """The plugin's output: with the environment of the call (section 4), and its configuration on stdin."""
    kind = request.settings.delegate
    environment = {"PATH": os.defpath, **request.environment, "CNI_COMMAND": command}
    program = _program(kind, request.environment.get("CNI_PATH", ""))
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise CniError(
            Code.IO_FAILURE, f"IPAM plugin {program} cannot be executed: {error.strerror}", "install it anew"
        ) from error
    try:
        async with asyncio.timeout(_SECONDS):
            output, errors = await process.communicate(msgspec.json.encode(request.configuration))
    except TimeoutError:
        raise CniError(Code.TRY_AGAIN_LATER, f"IPAM plugin {kind} did not answer within {_SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if errors:  # section 4 wants it on our own stderr, which for an agent is its log
        _log.info("IPAM plugin %s, %s: %s", kind, command, errors[-_TEXT:].decode(errors="replace").strip())
    if process.returncode:
        raise _refusal(kind, output, errors)
    return output


def _program(kind: str, path: str) -> Path:
    for directory in filter(None, path.split(":")):
        program = Path(directory, kind)
        if program.is_file() and os.access(program, os.X_OK):
            return program
    raise CniError(
        Code.INVALID_CONFIGURATION,
        f"IPAM plugin {kind} is not in CNI_PATH {short(path)}",
        "install it beside routed's plugin, or take ipam from the network configuration",
    )


def _refusal(kind: str, output: bytes, errors: bytes) -> CniError:
    try:
        told = msgspec.json.decode(output, type=_Error)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        text = (output + errors)[:_TEXT].decode(errors="replace").strip()
        return CniError(Code.IO_FAILURE, f"IPAM plugin {kind} failed: {text or 'it says nothing'}")
    return CniError(told.code, f"IPAM plugin {kind}: {told.msg}", told.details)

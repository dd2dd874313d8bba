"""Put the plugin and its network configuration where a runtime looks for them, and take them away again.

Every file appears whole or not at all, carries our mark, and is touched only if it does. The plugin has two forms of
one behaviour: a C program, which starts at once, where set-up could compile it, and a Python script, which runs
wherever routed does.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from routed.errors import ConflictError, OperatorError
from routed.files import write_whole
from routed.ipam.request import CAPABILITY
from routed_cni import shim
from routed_cni.network import VERSIONS, is_identifier
from routed_cni.protocol import check_socket_path
from routed_cni.results import encode_version

PLUGIN = "routed-cni"
CAPABILITIES = (CAPABILITY, "ips", "mac")
"""What a runtime may hand on to our plugin: the pod's annotations, and addresses that it chooses itself."""

BEHIND: tuple[dict[str, Any], ...] = (
    {"type": "portmap", "snat": True, "capabilities": {"portMappings": True}},
    {"type": "bandwidth", "capabilities": {"bandwidth": True}},
)
"""What Calico's list has behind its plugin as well: a pod's hostPorts, and its limits by annotation."""

PREBUILT = Path(__file__).with_name("prebuilt") / PLUGIN  # where set-up puts what it compiles from cni/shim
Form = Literal["auto", "c", "python"]

# Both forms have the two marks, once, and between them what is baked in.
_MARK = b"# routed-cni: baked in\n"
_BAKED = re.compile(rb"(?<=# routed-cni: baked in\n).*?(?=# routed-cni: end\n)", re.DOTALL)
_FIELDS = struct.Struct("=x108sI")  # of the C form: the mark's NUL, sun_path, milliseconds
_SHEBANG_BYTES = 255  # linux/binfmts.h: BINPRM_BUF_SIZE
_LONGEST_CONNECT = 60.0  # seconds; runtimes give a plugin two minutes, of which the answer may take half
_BEFORE_NEGOTIATION = "1.0.0"  # the newest version that runtimes take who know no `cniVersions`
_PROBE_SECONDS = 10.0  # an answer takes a millisecond


def write_plugin(
    directory: Path,
    socket_path: Path,
    python: Path | None = None,
    *,
    connect_seconds: float = shim.CONNECT_SECONDS,
    form: Form = "auto",
) -> Path:
    """Write the executable `routed-cni` into `directory`, which is made if missing; return its path.

    It calls the agent at `socket_path`, for which it waits `connect_seconds`, 0 to 60. `form` "c" is the compiled
    program, "python" the script, and "auto" the compiled program if it is there and runs on this machine, otherwise
    the script.

    The script runs under `python`; by default this interpreter outside of its virtual environment, which the plugin
    does not need: so it starts sooner, and works from a checkout whose path no first line could name.

    Raises OperatorError for paths that cannot be written into a script's first line or a socket's address, for another
    `connect_seconds`, and for a compiled program that does not run or is not of this version; ConflictError when a
    file of that name is not ours.
    """
    check_socket_path(socket_path)
    if not 0 <= connect_seconds <= _LONGEST_CONNECT:
        raise OperatorError(
            f"the plugin cannot wait {connect_seconds} s for the agent", hint=f"choose 0 to {_LONGEST_CONNECT:g} s"
        )
    if form == "python" or (form == "auto" and _why_not_prebuilt() is not None):
        content = _script(Path(sys.executable).resolve() if python is None else python, socket_path, connect_seconds)
    else:
        content = _program(socket_path, connect_seconds)
    path = directory / PLUGIN
    _refuse_foreign(path, ours=_is_our_plugin(path))
    write_whole(path, content, mode=0o755)
    return path


def _script(interpreter: Path, socket_path: Path, connect_seconds: float) -> bytes:
    first = f"#!{interpreter} -ISE\n".encode()
    if len(first) > _SHEBANG_BYTES or re.search(r"\s", str(interpreter)) or not interpreter.is_absolute():
        raise OperatorError(
            f"{interpreter} cannot be the plugin's interpreter",
            hint=f"its path must be absolute, without whitespace, and at most {_SHEBANG_BYTES - 8} bytes long",
        )
    baked = f"SOCKET = {str(socket_path)!r}\nCONNECT_SECONDS = {float(connect_seconds)!r}\n".encode()
    _, _, body = Path(shim.__file__).read_bytes().partition(b"\n")
    return first + _BAKED.sub(lambda _: baked, body)


def _program(socket_path: Path, connect_seconds: float) -> bytes:
    if (reason := _why_not_prebuilt()) is not None:
        raise OperatorError(
            f"the compiled plugin {PREBUILT} {reason}", hint="./dev setup compiles it; the form `python` needs none"
        )
    program = PREBUILT.read_bytes()
    if [len(place) for place in _BAKED.findall(program)] != [_FIELDS.size]:
        raise OperatorError(
            f"{PREBUILT} has no single place of {_FIELDS.size} bytes for the socket's path",
            hint="it is of another version of routed: remove it and type ./dev setup",
        )
    baked = _FIELDS.pack(os.fsencode(socket_path), round(connect_seconds * 1000))
    return _BAKED.sub(lambda _: baked, program)


def _why_not_prebuilt() -> str | None:
    """What keeps the compiled program from being used here; None if nothing does."""
    if not PREBUILT.is_file():
        return "is not there"
    try:
        done = subprocess.run(
            [PREBUILT],
            env={"CNI_COMMAND": "VERSION"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except OSError as error:  # another architecture, a file system mounted noexec
        return f"does not run here: {error.strerror}"
    except subprocess.TimeoutExpired:
        return f"did not say its version within {_PROBE_SECONDS:g} s"
    if (done.returncode, done.stdout) != (0, encode_version()):
        return f"does not say this version of the protocol but, with status {done.returncode}, {done.stdout[:100]!r}"
    return None


def remove_plugin(directory: Path) -> bool:
    """Remove what `write_plugin` wrote into `directory`; False if it is not there."""
    path = directory / PLUGIN
    if not path.exists():
        return False
    _refuse_foreign(path, ours=_is_our_plugin(path))
    path.unlink()
    return True


@dataclass(frozen=True, slots=True)
class Chain:
    """What stands behind our plugin in the list, and the versions that all of it speaks; `missing` by type."""

    plugins: tuple[dict[str, Any], ...] = ()
    versions: tuple[str, ...] = VERSIONS
    missing: tuple[str, ...] = ()


_ALONE = Chain()


def chain(programs: Path) -> Chain:
    """Of `BEHIND` what the directory `programs` has.

    Each is asked for its versions, since runtimes take the highest of the list for all of it: one that an older plugin
    does not speak would fail every pod.
    """
    found = Chain()
    for plugin in BEHIND:
        spoken = _versions_of(programs / plugin["type"])
        common = tuple(version for version in found.versions if version in spoken)
        if any(version <= _BEFORE_NEGOTIATION for version in common):
            found = replace(found, plugins=(*found.plugins, plugin), versions=common)
        else:
            found = replace(found, missing=(*found.missing, plugin["type"]))
    return found


def _versions_of(program: Path) -> Sequence[str]:
    """Which versions of the specification `program` speaks, none if it does not say."""
    asked = b'{"cniVersion":"%s"}' % _BEFORE_NEGOTIATION.encode()
    try:
        done = subprocess.run(
            [program],
            env={"CNI_COMMAND": "VERSION"},
            input=asked,
            capture_output=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
        return msgspec.json.decode(done.stdout, type=_Spoken).supportedVersions
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return ()


class _Spoken(msgspec.Struct):
    supportedVersions: list[str]  # noqa: N815  as the specification writes it


def write_conflist(directory: Path, name: str = "routed", behind: Chain = _ALONE) -> Path:
    """Write the network configuration of network `name` into `directory`, which is made if missing.

    `cniVersion` at most 1.0.0 because runtimes before `cniVersions` refuse a newer one; those that know it take the
    newest version of both. Raises ConflictError when a file of that name is not ours.
    """
    if not is_identifier(name):
        raise OperatorError(
            f"{name!r} cannot be a network's name", hint="use letters, digits, '_', '.', '-', first a letter or digit"
        )
    path = _conflist(directory, name)
    _refuse_foreign(path, ours=_is_our_conflist(path))
    configuration = {
        "cniVersion": max(version for version in behind.versions if version <= _BEFORE_NEGOTIATION),
        "cniVersions": behind.versions,
        "name": name,
        "plugins": [{"type": PLUGIN, "capabilities": dict.fromkeys(CAPABILITIES, True)}, *behind.plugins],
    }
    write_whole(path, msgspec.json.format(msgspec.json.encode(configuration), indent=2) + b"\n", mode=0o644)
    return path


def remove_conflist(directory: Path, name: str = "routed") -> bool:
    """Remove what `write_conflist` wrote into `directory`; False if it is not there."""
    path = _conflist(directory, name)
    if not path.exists():
        return False
    _refuse_foreign(path, ours=_is_our_conflist(path))
    path.unlink()
    return True


def _conflist(directory: Path, name: str) -> Path:
    return directory / f"10-{name}.conflist"


def _is_our_plugin(path: Path) -> bool:
    return path.is_file() and _MARK in path.read_bytes()


class _Plugin(msgspec.Struct):
    type: str


class _Conflist(msgspec.Struct):
    plugins: list[_Plugin]


def _is_our_conflist(path: Path) -> bool:
    try:
        conflist = msgspec.json.decode(path.read_bytes(), type=_Conflist)
    except (OSError, ValueError):
        return False
    return any(plugin.type == PLUGIN for plugin in conflist.plugins)


def _refuse_foreign(path: Path, *, ours: bool) -> None:
    if not ours and (path.exists() or path.is_symlink()):
        raise ConflictError(f"{path} is there and not routed's", hint="move it away, then try again")

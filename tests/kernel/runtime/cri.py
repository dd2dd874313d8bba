"""The container runtime interface as kubelet speaks it, in the few messages that tests need.

gRPC is HTTP/2, which `curl` speaks over a unix socket; what it carries is protobuf, of which a message is a few lines
here. Field numbers are those of the interface's api.proto (runtime.v1).
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Value = int | str | bytes | Sequence["Value"] | Mapping[int, "Value"] | None
Fields = Mapping[int, Value]


class CriError(Exception):
    """The runtime refused a call: its words."""


def encode(fields: Fields) -> bytes:
    """A message: numbers as varints, the rest by length; a list is a repeated field, a mapping a message."""
    return b"".join(_field(number, value) for number, value in fields.items())


def _field(number: int, value: Value) -> bytes:
    match value:
        case None:
            return b""
        case int():
            return _varint(number << 3) + _varint(value)
        case str():
            return _bytes(number, value.encode())
        case bytes():
            return _bytes(number, value)
        case Mapping():
            return _bytes(number, encode(value))
        case _:
            return b"".join(_field(number, each) for each in value)


def _bytes(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(message: bytes) -> dict[int, list[int | bytes]]:
    """The fields of a message, each as all its values."""
    found: dict[int, list[int | bytes]] = {}
    for number, value in _fields(message):
        found.setdefault(number, []).append(value)
    return found


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    offset = 0

    def varint() -> int:
        nonlocal offset
        value = shift = 0
        while True:
            byte = message[offset]
            offset += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    while offset < len(message):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        else:
            size = {1: 8, 5: 4}.get(key & 7) or varint()
            yield key >> 3, message[offset : offset + size]
            offset += size


def _text(message: dict[int, list[int | bytes]], number: int) -> str:
    value = message.get(number, [b""])[0]
    assert isinstance(value, bytes)
    return value.decode()


def _inner(message: dict[int, list[int | bytes]], number: int) -> dict[int, list[int | bytes]]:
    value = message.get(number, [b""])[0]
    assert isinstance(value, bytes)
    return decode(value)


def _map(entries: Mapping[str, str]) -> list[Value]:
    return [{1: key, 2: value} for key, value in entries.items()]


@dataclass(frozen=True)
class Sandbox:
    """A pod's sandbox: how it was asked for, and its ID."""

    config: Fields
    id: str


class Cri:
    """A runtime's service at the unix socket `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def run_sandbox(
        self, name: str, *, ports: Mapping[int, int] | None = None, annotations: Mapping[str, str] | None = None
    ) -> Sandbox:
        """RunPodSandbox. `ports`: container's by node's."""
        config: Fields = {
            1: {1: name, 2: f"{name}-uid", 3: "default", 4: 0},
            2: name,
            3: str(self._path.parent / "logs"),
            5: [{1: 0, 2: inner, 3: outer} for outer, inner in (ports or {}).items()],
            7: _map(annotations or {}),
            8: {2: {1: {1: 0, 2: 1, 3: 0}}},  # namespace options: network and IPC of the pod, PID of the container
        }
        return Sandbox(config, _text(self._call("RunPodSandbox", {1: config}), 1))

    def stop_sandbox(self, sandbox: str) -> None:
        """StopPodSandbox."""
        self._call("StopPodSandbox", {1: sandbox})

    def remove_sandbox(self, sandbox: str) -> None:
        """RemovePodSandbox."""
        self._call("RemovePodSandbox", {1: sandbox})

    def address(self, sandbox: Sandbox) -> str:
        """The pod's address, as PodSandboxStatus tells it."""
        status = _inner(self._call("PodSandboxStatus", {1: sandbox.id}), 1)
        return _text(_inner(status, 5), 1)

    def sandboxes(self) -> list[str]:
        """ListPodSandbox: their IDs."""
        items = self._call("ListPodSandbox", {}).get(1, [])
        return [_text(decode(item), 1) for item in items if isinstance(item, bytes)]

    def run_container(self, sandbox: Sandbox, name: str, image: str, *command: str) -> str:
        """CreateContainer and StartContainer; the container's ID."""
        config: Fields = {1: {1: name, 2: 0}, 2: {1: image}, 3: list(command), 11: f"{name}.log", 15: {2: {}}}
        made = _text(self._call("CreateContainer", {1: sandbox.id, 2: config, 3: sandbox.config}), 1)
        self._call("StartContainer", {1: made})
        return made

    def execute(self, container: str, *command: str) -> tuple[int, str]:
        """ExecSync: exit status and stdout."""
        answer = self._call("ExecSync", {1: container, 2: list(command), 3: 10})
        status = answer.get(3, [0])[0]
        assert isinstance(status, int)
        return status, _text(answer, 1)

    def network_ready(self) -> bool:
        """The condition NetworkReady of Status."""
        conditions = _inner(self._call("Status", {}), 1).get(1, [])
        each = (decode(item) for item in conditions if isinstance(item, bytes))
        return any(_text(found, 1) == "NetworkReady" and found.get(2, [0])[0] == 1 for found in each)

    def _call(self, method: str, request: Fields) -> dict[int, list[int | bytes]]:
        body = encode(request)
        done = subprocess.run(
            [
                "curl", "--silent", "--show-error", "--include", "--http2-prior-knowledge", "--max-time", "60",
                "--unix-socket", str(self._path), "--header", "content-type: application/grpc",
                "--header", "te: trailers", "--data-binary", "@-", f"http://cri/runtime.v1.RuntimeService/{method}",
            ],
            input=b"\0" + len(body).to_bytes(4, "big") + body,
            capture_output=True,
            check=False,
        )  # fmt: skip
        if done.returncode:
            raise CriError(f"{method}: {done.stderr.decode()}")
        head, _, rest = done.stdout.partition(b"\r\n\r\n")
        size = int.from_bytes(rest[1:5], "big")
        trailer = head.decode() + rest[5 + size :].decode(errors="replace")
        status = dict(line.partition(": ")[::2] for line in trailer.lower().splitlines())
        if status.get("grpc-status", "0").strip() != "0":
            raise CriError(f"{method}: {trailer}")
        return decode(rest[5 : 5 + size])

"""A store's content as a file: JSON that a person can read and compare, with a digest that tells of damage."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import msgspec

from routed.errors import OperatorError

_FORMAT: Literal["routed-store-backup/1"] = "routed-store-backup/1"


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    key: str
    text: str | None = None
    base64: str | None = None  # where the value is no text


class _Format(msgspec.Struct, frozen=True):
    format: str


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    taken: str
    revision: int
    digest: str
    entries: tuple[_Entry, ...]


def encode(values: Mapping[str, bytes], revision: int, taken: datetime) -> bytes:
    """The file of `values`, which were those of `revision`."""
    entries = tuple(_entry(key, values[key]) for key in sorted(values))
    file = _File(_FORMAT, taken.isoformat(timespec="seconds"), revision, _digest(values), entries)
    return msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n"


def decode(data: bytes, name: str) -> tuple[dict[str, bytes], int]:
    """The values and their revision. Raises OperatorError, naming the file `name`, for what `encode` did not make."""
    try:
        if (found := msgspec.json.decode(data, type=_Format).format) != _FORMAT:
            raise OperatorError(
                f"{name}: format {found!r}; expected {_FORMAT!r}", hint="upgrade routed if the file is of a later one"
            )
        file = msgspec.json.decode(data, type=_File)
        values = {entry.key: _value(entry) for entry in file.entries}
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error) as error:
        raise OperatorError(f"{name}: is no backup of a store: {error}", hint=_HINT) from None
    if _digest(values) != file.digest or len(values) != len(file.entries):
        raise OperatorError(f"{name}: is damaged: its content does not match its digest", hint=_HINT)
    return values, file.revision


_HINT = "name a file that `routed store backup` wrote; nothing was changed"


def _entry(key: str, value: bytes) -> _Entry:
    try:
        return _Entry(key, text=value.decode())
    except UnicodeDecodeError:
        return _Entry(key, base64=base64.b64encode(value).decode())


def _value(entry: _Entry) -> bytes:
    if entry.base64 is not None:
        return base64.b64decode(entry.base64, validate=True)
    return (entry.text or "").encode()


def _digest(values: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for key in sorted(values):
        for part in (key.encode(), values[key]):
            digest.update(b"%d:" % len(part) + part)
    return f"sha256:{digest.hexdigest()}"

"""Values of the model as what JSON has, and back by their declared types. Pure.

Addresses and prefixes are text, octets hexadecimal, members of an enum their names; a dataclass is an object without
the fields that are as they are by default, a mapping an object where its keys are text, else a list of pairs. A field
that `repr` does not show is not written either: that is how a Session's password is marked.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence, Set
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

Plain = Any
"""None, a bool, a number, text, or a list or a dict with text as keys of the same."""

_TEXTS = (IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network)
_SCALARS = (bool, int, float, str)


def encode(value: object) -> Plain:
    """`value` as JSON has it. Raises TypeError for what the model has no such form of."""
    match value:
        case Enum():
            return value.name
        case None | bool() | int() | float() | str():
            return value
        case bytes():
            return value.hex()
        case Mapping():
            pairs = [(key, encode(each)) for key, each in cast("Mapping[object, object]", value).items()]
            if all(isinstance(key, str) for key, _ in pairs):
                return dict(pairs)
            return [[encode(key), each] for key, each in pairs]
        case Set():
            return sorted(encode(each) for each in cast("Set[object]", value))
        case Sequence():
            return [encode(each) for each in cast("Sequence[object]", value)]
        case _ if isinstance(value, _TEXTS):
            return str(value)
        case _ if is_dataclass(value):
            shown = (each for each in fields(value) if each.repr)
            pairs_ = ((each, getattr(value, each.name)) for each in shown)
            return {each.name: encode(held) for each, held in pairs_ if not _is_default(each, held)}
        case _:
            raise TypeError(f"{type(value).__name__} has no plain form")


def decode(wanted: Any, plain: Plain) -> Any:
    """The value of type `wanted` that `encode` has made `plain` of. Raises ValueError where it is none."""
    if wanted is Any:
        return plain
    if isinstance(wanted, type) and not get_args(wanted):
        return _of_class(wanted, plain)
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        return _of_union(inner, plain)
    if origin is tuple and not (len(inner) == 2 and inner[1] is ...):
        items = _list(plain)
        if len(items) != len(inner):
            raise ValueError(f"{plain!r}: expected {len(inner)} values")
        return tuple(decode(kind, each) for kind, each in zip(inner, items, strict=True))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        pairs = cast("dict[str, Plain]", plain).items() if isinstance(plain, dict) else map(_list, _list(plain))
        return {decode(inner[0], key): decode(inner[1], value) for key, value in pairs}
    if isinstance(origin, type) and issubclass(origin, Set):
        return frozenset(decode(inner[0], each) for each in _list(plain))
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return tuple(decode(inner[0], each) for each in _list(plain))
    raise ValueError(f"{wanted} has no plain form")


def _of_class(wanted: type[Any], plain: Plain) -> Any:
    if issubclass(wanted, Enum):
        if plain not in wanted.__members__:
            raise ValueError(f"{plain!r} is none of {', '.join(wanted.__members__)}")
        return wanted[plain]
    if wanted is bytes and isinstance(plain, str):
        return bytes.fromhex(plain)
    if wanted is float and type(plain) is int:
        return float(plain)
    if wanted in _SCALARS and type(plain) is wanted:
        return plain
    if wanted in _TEXTS and isinstance(plain, str):
        return wanted(plain)
    kind = cast("type[object]", wanted)
    if is_dataclass(kind) and isinstance(plain, dict):
        return _of_dataclass(kind, cast("dict[str, Plain]", plain))
    raise ValueError(f"{plain!r} is no {kind.__name__}")


def _of_dataclass(wanted: type, plain: dict[str, Plain]) -> Any:
    hints = _hints(wanted)
    if extra := plain.keys() - hints.keys():
        raise ValueError(f"{wanted.__name__} has no {min(extra)}")
    try:
        return wanted(**{name: decode(hints[name], value) for name, value in plain.items()})
    except TypeError as error:  # a field without a default is missing
        raise ValueError(f"{wanted.__name__}: {error}") from None


def _of_union(kinds: tuple[Any, ...], plain: Plain) -> Any:
    """By the first that takes it; those of the model's unions take nothing of one another's."""
    if plain is None and types.NoneType in kinds:
        return None
    for kind in kinds:
        if kind is not types.NoneType:
            try:
                return decode(kind, plain)
            except ValueError:
                continue
    raise ValueError(f"{plain!r} is none of {', '.join(str(getattr(kind, '__name__', kind)) for kind in kinds)}")


def _list(plain: Plain) -> list[Plain]:
    if isinstance(plain, list):
        return [*plain]
    raise ValueError(f"{plain!r} is no list")


def _is_default(each: Field[Any], value: object) -> bool:
    if each.default is not MISSING:
        return bool(value == each.default)
    return each.default_factory is not MISSING and bool(value == each.default_factory())


@lru_cache
def _hints(wanted: type) -> Mapping[str, Any]:
    return get_type_hints(wanted)

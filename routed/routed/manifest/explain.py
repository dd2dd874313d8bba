"""What is wrong with a value that its schema refuses, said in the words of manifests and not of Python."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface, IPv6Network

import msgspec
from msgspec import inspect

from routed.manifest.document import Path, Value
from routed.model.fields import (
    NAME_PATTERN,
    AnyAddressField,
    AnyPrefixField,
    Community,
    Duration,
    PeerAddress,
)
from routed.model.selector import Selector

_WHERE = re.compile(r"^(?P<what>.*) - at (?P<key>`key` in )?`\$(?P<path>[^`]*)`$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_FIELD = re.compile(r"^Object (contains unknown|missing required) field `(?P<name>.*)`$", re.DOTALL)
_SPEAKS_FOR_ITSELF = re.compile(r"^(?!Expected |Invalid )", re.DOTALL)  # the words of our own decode hook

_TEXTS: dict[object, str] = {
    IPv4Address: "an IPv4 address, e.g. 10.1.1.11",
    IPv4Interface: "an address with prefix length, e.g. 10.1.1.11/24",
    IPv4Network: "a prefix, e.g. 10.244.0.0/24",
    IPv6Interface: "an IPv6 address with prefix length, e.g. 2001:db8:1::11/64",
    IPv6Network: "an IPv6 prefix, e.g. 2001:db8:244::/64",
    AnyAddressField: "an address, e.g. 10.1.1.11 or 2001:db8::11",
    AnyPrefixField: "a prefix, e.g. 10.244.0.0/24 or 2001:db8:244::/64",
    PeerAddress: "an address with or without a port, e.g. 10.1.1.1, 10.1.1.1:1179 or [2001:db8::1]:1179",
    Duration: "a time, e.g. 90s",
    Community: "a community, e.g. 64512:100 or 64512:100:1",
    Selector: "a selector, e.g. rack == 'a' && has(spine)",
}


def explain(error: msgspec.ValidationError, schema: type, value: Value) -> tuple[Path, str]:
    """The place inside `value` that `schema` refused with `error`, and the message for the operator."""
    match = _WHERE.match(str(error))
    what, path = (match["what"], _path(match["path"])) if match else (str(error), ())
    if field := _FIELD.match(what):
        name = field["name"]
        known = _fields(_type_at(schema, path))
        if what.startswith("Object missing"):
            return (*path, name), f"is missing; expected {describe(_type_at(schema, (*path, name)))}"
        return (*path, name), f"unknown field; {suggest(name, known)}"
    if _SPEAKS_FOR_ITSELF.match(what):
        return path, what
    wanted = _type_at(schema, path)
    found = _value_at(value, path)
    if isinstance(wanted, inspect.DictType) and isinstance(found, dict):  # the path says `[...]`: some value of many
        for key, item in found.items():
            if not isinstance(item, str):
                return (*path, key), f"expected text, found {show(item)}; quote it"
    return path, f"expected {describe(wanted)}, found {show(found)}"


def suggest(name: str, known: Iterable[str]) -> str:
    """The nearest of `known` if one is near, else all of them."""
    names = list(known)
    folded = {candidate.casefold(): candidate for candidate in names}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.7)
    if near:
        return f"did you mean {folded[near[0]]}?"
    return f"known are {', '.join(names)}" if names else "none is known here"


def show(value: Value) -> str:
    """`value` as the operator wrote it, shortened."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case str():
            return repr(value if len(value) <= 60 else value[:57] + "...")
        case list():
            return "a list"
        case dict():
            return "fields"
        case _:
            return str(value)


def _path(text: str) -> Path:
    steps: list[str | int] = []
    for name, index in _STEP.findall(text):
        if name:
            steps.append(name)
        elif index != "...":
            steps.append(int(index))
    return tuple(steps)


def _value_at(value: Value, path: Path) -> Value:
    for step in path:
        if isinstance(value, dict) and isinstance(step, str):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int):
            value = value[step]
    return value


def _type_at(schema: type, path: Path) -> inspect.Type:
    at = _plain(inspect.type_info(schema))
    for step in path:
        match at:
            case inspect.StructType():
                fields = {field.encode_name: field.type for field in at.fields}
                if step not in fields:  # the tag, which is no field
                    return inspect.AnyType()
                at = _plain(fields[str(step)])
            case inspect.VarTupleType():
                at = _plain(at.item_type)
            case _:
                return inspect.AnyType()
    return at


def _plain(at: inspect.Type) -> inspect.Type:
    """Without annotations, and without the null of a field that may be left out."""
    while True:
        match at:
            case inspect.Metadata():
                at = at.type
            case inspect.UnionType():
                others = [option for option in at.types if not isinstance(option, inspect.NoneType)]
                if len(others) != 1:
                    return at
                at = others[0]
            case _:
                return at


def _fields(at: inspect.Type) -> list[str]:
    return [field.encode_name for field in at.fields] if isinstance(at, inspect.StructType) else []


def describe(kind: inspect.Type) -> str:
    """What is expected of a value of the type `kind`, in words."""
    at = _plain(kind)
    match at:
        case inspect.IntType():
            if at.ge is not None and at.le is not None:
                return f"a whole number from {at.ge} to {at.le}"
            return "a whole number"
        case inspect.BoolType():
            return "true or false"
        case inspect.StrType():
            if at.pattern == NAME_PATTERN:
                return "a name of lower-case letters, digits, - and ., which starts and ends with a letter or digit"
            if at.pattern is not None:
                return "a file name of letters, digits, -, _ and ., which does not start with ."
            return "text"
        case inspect.LiteralType():
            return _choice([show(value) for value in at.values])
        case inspect.EnumType():
            return _choice([show(member.value) for member in at.cls])
        case inspect.CustomType():
            return _TEXTS.get(at.cls, at.cls.__name__)
        case inspect.VarTupleType():
            return f"a list{_size(at)}, each element {describe(at.item_type)}"
        case inspect.StructType():
            return f"the fields {', '.join(_fields(at))}"
        case inspect.DictType():
            return "fields with text"
        case _:
            return "another value"


def _size(at: inspect.VarTupleType) -> str:
    low, high = at.min_length or 0, at.max_length
    if high is None:
        return f" of {low} elements or more" if low else ""
    if low == high:
        return " of one element" if low == 1 else f" of {low} elements"
    return f" of {low} to {high} elements" if low else f" of at most {high} elements"


def _choice(values: list[str]) -> str:
    if len(values) == 1:
        return f"{values[0]} (this version supports no other)"
    return f"{', '.join(values[:-1])} or {values[-1]}"

"""Resources to and from JSON, and the keys under which the store holds them.

The types of `ipaddress` go through the two hooks here, strictly: what is read is what is meant, so `10.1.1.7/24` is no
prefix (host bits) and `10.1.1.7` is no node address (no length).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

import msgspec

from routed.errors import EnvironmentFault
from routed.model.resources import AnyResource

RESOURCES = "/routed/v1/resources/"
"""Prefix of every resource's key: `<RESOURCES><Kind>/<name>`."""


def resource_key(kind: str, name: str) -> str:
    """The store's key of the resource `kind`/`name`."""
    return f"{RESOURCES}{kind}/{name}"


def decode_hook(wanted: type, value: object) -> object:
    """Read `wanted`, one of the address types, from its text. Raises ValueError that says what is expected."""
    if wanted is IPv4Network:
        return _prefix(value)
    if wanted is IPv4Interface:
        return _host_address(value)
    if wanted is IPv4Address:
        return _address(value)
    raise NotImplementedError(wanted)


def encode_hook(value: object) -> str:
    """The text of an address, a prefix or an address with its length."""
    if isinstance(value, IPv4Address | IPv4Network):
        return str(value)
    raise NotImplementedError(type(value))


def encode_json(resource: AnyResource) -> bytes:
    """The store's form of `resource`."""
    return msgspec.json.encode(builtins(resource))


def decode_json(data: bytes, *, key: str = "") -> AnyResource:
    """Read the store's form. Raises EnvironmentFault, naming `key`, when it is not what `encode_json` writes."""
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EnvironmentFault(
            f"store: key {key}: cannot read this resource: {error}",
            hint="it was written by another version of routed or by hand: upgrade, or delete it and apply it again",
        ) from error


def builtins(resource: AnyResource) -> dict[str, Any]:
    """`resource` as dicts, lists and scalars, in the order apiVersion, kind, metadata, spec; defaults left out."""
    fields: dict[str, Any] = msgspec.to_builtins(resource, enc_hook=encode_hook, builtin_types=())
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": fields["metadata"],
        "spec": fields.get("spec", {}),
    }


def _address(value: object) -> IPv4Address:
    try:
        return IPv4Address(_text(value))
    except ValueError:
        raise ValueError(f"{value!r} is no IPv4 address, e.g. 10.1.1.11") from None


def _host_address(value: object) -> IPv4Interface:
    try:
        return IPv4Interface(_with_length(value))
    except ValueError:
        raise ValueError(f"{value!r} is no address with prefix length, e.g. 10.1.1.11/24") from None


def _prefix(value: object) -> IPv4Network:
    try:
        wanted = IPv4Network(_with_length(value), strict=False)
    except ValueError:
        raise ValueError(f"{value!r} is no prefix, e.g. 10.244.0.0/24") from None
    if str(wanted) != value:
        raise ValueError(f"{value!r} is no prefix: did you mean {wanted}?")
    return wanted


def _with_length(value: object) -> str:
    text = _text(value)
    _, slash, length = text.partition("/")
    if not slash or not length.isascii() or not length.isdecimal():  # ipaddress would also take a netmask
        raise ValueError(text)
    return text


def _text(value: object) -> str:
    if not isinstance(value, str):  # ipaddress would take an integer as an address
        raise ValueError(value)  # noqa: TRY004  the callers turn it into their message
    return value


_DECODER: msgspec.json.Decoder[AnyResource] = msgspec.json.Decoder(AnyResource, dec_hook=decode_hook)

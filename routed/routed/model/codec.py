"""Resources to and from JSON, and the keys under which the store holds them.

The types of `ipaddress` and those of `fields` go through the two hooks here, strictly: what is read is what is meant,
so `10.1.1.7/24` is no prefix (host bits) and `10.1.1.7` is no node address (no length).
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
)
from typing import Any

import msgspec

from routed.errors import EnvironmentFault
from routed.model.fields import AnyAddressField, AnyPrefixField, Community, Duration, PeerAddress, Text
from routed.model.resources import AnyResource
from routed.model.selector import Selector

RESOURCES = "/routed/v1/resources/"
"""Prefix of every resource's key: `<RESOURCES><Kind>/<name>`."""


def resource_key(kind: str, name: str) -> str:
    """The store's key of the resource `kind`/`name`."""
    return f"{RESOURCES}{kind}/{name}"


def decode_hook(wanted: type, value: object) -> object:
    """Read `wanted`, one of the text types, from its text. Raises ValueError that says what is expected."""
    reader = _READERS.get(wanted)
    if reader is None:
        raise NotImplementedError(wanted)
    return reader(value)


def encode_hook(value: object) -> str:
    """The text of an address, a prefix or another of the text types."""
    if isinstance(value, IPv4Address | IPv4Network | IPv6Address | IPv6Network | Text):
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


def _any_address(value: object) -> IPv4Address | IPv6Address:
    try:
        # without the name of an interface behind %, which means something on one node only
        return ip_address(_text(value).replace("%", "/"))
    except ValueError:
        raise ValueError(f"{value!r} is no address, e.g. 10.1.1.11 or 2001:db8::11") from None


def _host_address(value: object) -> IPv4Interface:
    try:
        return IPv4Interface(_with_length(value))
    except ValueError:
        raise ValueError(f"{value!r} is no address with prefix length, e.g. 10.1.1.11/24") from None


def _host_address6(value: object) -> IPv6Interface:
    try:
        return IPv6Interface(_with_length(value))
    except ValueError:
        raise ValueError(f"{value!r} is no IPv6 address with prefix length, e.g. 2001:db8:1::11/64") from None


def _prefix(value: object) -> IPv4Network:
    try:
        wanted = IPv4Network(_with_length(value), strict=False)
    except ValueError:
        raise ValueError(f"{value!r} is no prefix, e.g. 10.244.0.0/24") from None
    if str(wanted) != value:
        raise ValueError(f"{value!r} is no prefix: did you mean {wanted}?")
    return wanted


def _prefix6(value: object) -> IPv6Network:
    try:
        wanted = IPv6Network(_with_length(value), strict=False)
        address = IPv6Address(_with_length(value).partition("/")[0])
    except ValueError:
        raise ValueError(f"{value!r} is no IPv6 prefix, e.g. 2001:db8:244::/64") from None
    if wanted.network_address != address:  # compared as a number: an IPv6 address has many spellings
        raise ValueError(f"{value!r} is no prefix: did you mean {wanted}?")
    return wanted


def _any_prefix(value: object) -> IPv4Network | IPv6Network:
    if isinstance(value, str) and ":" in value:
        return _prefix6(value)
    return _prefix(value)


def _with_length(value: object) -> str:
    text = _text(value)
    _, slash, length = text.partition("/")
    # ipaddress would also take a netmask, and the name of an interface behind %
    if not slash or not length.isascii() or not length.isdecimal() or "%" in text:
        raise ValueError(text)
    return text


def _text(value: object) -> str:
    if not isinstance(value, str):  # ipaddress would take an integer as an address
        raise ValueError(value)  # noqa: TRY004  the callers turn it into their message
    return value


def _written(kind: type[Duration | PeerAddress | Community | Selector]) -> Callable[[object], object]:
    def read(value: object) -> object:
        if not isinstance(value, str):
            raise ValueError(f"Expected text, found {value!r}")  # noqa: TRY004  msgspec takes ValueError
        return kind.parse(value)

    return read


_READERS: dict[object, Callable[[object], object]] = {
    IPv4Address: _address,
    IPv4Interface: _host_address,
    IPv4Network: _prefix,
    IPv6Interface: _host_address6,
    IPv6Network: _prefix6,
    AnyAddressField: _any_address,
    AnyPrefixField: _any_prefix,
    Duration: _written(Duration),
    PeerAddress: _written(PeerAddress),
    Community: _written(Community),
    Selector: _written(Selector),
}
_DECODER: msgspec.json.Decoder[AnyResource] = msgspec.json.Decoder(AnyResource, dec_hook=decode_hook)
